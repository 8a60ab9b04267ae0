//! Queues: where an operation runs.

/// Where a [`Queue`] leads, for the operations' dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The reference, on this processor.
    Cpu,
    /// The shipped kernels, on this processor.
    Emulator {
        /// The chip to imitate: compute capability times ten.
        compute_capability: i32,
        /// The seed of its schedules.
        seed: u64,
    },
    /// A CUDA stream.
    Cuda {
        /// The device's ordinal.
        device: i32,
        /// The `cudaStream_t`.
        stream: u64,
    },
}

/// Where an operation is enqueued: [`Cpu`], [`Emulator`], or a CUDA stream ([`RawStream`], `cudarc::driver::CudaStream`, `cust::stream::Stream`).
///
/// # Safety
/// A [`Place::Cuda`] must name a stream that lives as long as the queue, on the device of that ordinal. What implements [`crate::storage::Read`] and [`crate::storage::Write`] for the
/// queue must be memory of the place that it leads to.
pub unsafe trait Queue: Send + Sync {
    /// Where this queue leads.
    fn place(&self) -> Place;
}

/// A queue whose memory is ordinary memory and whose operations are complete when they return.
///
/// # Safety
/// It leads to [`Place::Cpu`] or [`Place::Emulator`], always: slices are its storage.
pub unsafe trait HostQueue: Queue {}

/// Runs the reference: plain Rust, f64 inside (f32 in Haar transforms and WaRA's merges of f16 and bf16), on all cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu;

// SAFETY: names no stream.
unsafe impl Queue for Cpu {
    fn place(&self) -> Place {
        Place::Cpu
    }
}
// SAFETY: it leads to the reference.
unsafe impl HostQueue for Cpu {}

/// Runs the shipped kernels and launchers on this processor, one schedule of threads per seed. Needs the feature `emulator`.
#[derive(Clone, Copy, Debug)]
pub struct Emulator {
    seed: u64,
    compute_capability: i32,
}

impl Emulator {
    /// An emulator of a chip of compute capability 9.0. Seed 0 runs threads in order; any other seed is a schedule of its own.
    pub const fn new(seed: u64) -> Self {
        Self { seed, compute_capability: 90 }
    }

    /// With another schedule of threads.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Imitates the limits of another chip: its compute capability times ten, one of 80, 86, 89, 90, 100, 120.
    pub const fn compute_capability(mut self, compute_capability: i32) -> Self {
        self.compute_capability = compute_capability;
        self
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new(0)
    }
}

// SAFETY: names no stream.
unsafe impl Queue for Emulator {
    fn place(&self) -> Place {
        Place::Emulator { compute_capability: self.compute_capability, seed: self.seed }
    }
}
// SAFETY: it leads to the emulator.
unsafe impl HostQueue for Emulator {}

/// A CUDA stream by its handle: the stable door for frameworks, which shares no crate version with them. Needs the feature `cuda`.
#[derive(Clone, Copy, Debug)]
pub struct RawStream {
    device: i32,
    stream: u64,
}

impl RawStream {
    /// The stream `stream` (a `cudaStream_t` or `CUstream`) of the device with this ordinal.
    ///
    /// # Safety
    /// The stream must belong to that device and stay alive until every operation enqueued through this value has run.
    pub const unsafe fn from_raw(device: i32, stream: u64) -> Self {
        Self { device, stream }
    }

    /// The legacy default stream of the device.
    pub const fn legacy(device: i32) -> Self {
        Self { device, stream: 1 }
    }

    /// The default stream of the calling thread on the device.
    pub const fn per_thread(device: i32) -> Self {
        Self { device, stream: 2 }
    }
}

// SAFETY: `from_raw` asks for it; the named streams live as long as the process.
unsafe impl Queue for RawStream {
    fn place(&self) -> Place {
        Place::Cuda { device: self.device, stream: self.stream }
    }
}
