//! What the tests of the emulator share: its C interface, the device that some run on too, and random data.

use std::cell::Cell;
use std::ffi::{CStr, c_char};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub const ERROR_NO_DEVICE: i32 = -6;
pub const ERROR_CUDA: i32 = -7;
pub const ERROR_EMULATOR: i32 = -8;

const EMULATOR: i32 = 1;
const CUDA: i32 = 2;
const STREAM_LEGACY: u64 = 1;

thread_local! {
    static ON_DEVICE: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, the queues that this thread makes are the first device's.
pub struct Session(#[allow(dead_code)] MutexGuard<'static, ()>);

impl Session {
    pub fn begin() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let session = Self(ONE.lock().unwrap_or_else(PoisonError::into_inner));
        ON_DEVICE.set(true);
        session
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        ON_DEVICE.set(false);
    }
}

/// Declares kernels of both builds, and functions that run them on the queue they are given.
#[macro_export]
macro_rules! kernels {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?);)*) => {
        /// # Safety
        /// All arrays must have the extents that the kernel has.
        #[allow(clippy::too_many_arguments, clippy::missing_safety_doc)]
        mod kernels {
            use $crate::Queue;

            mod emulator {
                use $crate::Queue;
                unsafe extern "C" {$(
                    #[link_name = concat!("emulator_test_", stringify!($name))]
                    pub fn $name(queue: &Queue, $($argument: $type),*) -> i32;
                )*}
            }

            #[cfg(feature = "cuda")]
            mod device {
                use $crate::Queue;
                unsafe extern "C" {$(
                    #[link_name = concat!("device_test_", stringify!($name))]
                    pub fn $name(queue: &Queue, $($argument: $type),*) -> i32;
                )*}
            }

            $(pub unsafe fn $name(queue: &Queue, $($argument: $type),*) -> i32 {
                #[cfg(feature = "cuda")]
                if queue.is_device() {
                    // SAFETY: the caller's to see to
                    return unsafe { device::$name(queue, $($argument),*) };
                }
                // SAFETY: the caller's to see to
                unsafe { emulator::$name(queue, $($argument),*) }
            })*
        }
    };
}

kernels! {
    fn compute_capability(capability: *mut i32);
}

/// The compute capability of the first device, times ten, or why there is none.
pub fn device() -> Result<i32, String> {
    if cfg!(not(feature = "cuda")) {
        return Err("needs the feature `cuda`".into());
    }
    let _session = Session::begin();
    let mut capability = 0;
    // SAFETY: it writes one number
    match outcome(unsafe { kernels::compute_capability(&Queue::new(0), &mut capability) }) {
        Ok(()) => Ok(capability),
        Err(_) => Err("needs a CUDA device".into()),
    }
}

/// `pk_queue` of an emulator, or of the first device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    size: u64,
    kind: i32,
    device: i32, // compute capability times ten; 0 is 90
    seed: u64,   // of a device the stream
}

impl Queue {
    /// The emulator's, or in a `Session` the device's, to which the seed means nothing.
    pub fn new(seed: u64) -> Self {
        match ON_DEVICE.get() {
            true => Self { kind: CUDA, seed: STREAM_LEGACY, ..Self::of_chip(0, 0) },
            false => Self::of_chip(0, seed),
        }
    }

    pub fn is_device(&self) -> bool {
        self.kind == CUDA
    }

    pub fn of_chip(device: i32, seed: u64) -> Self {
        Self { size: size_of::<Self>() as u64, kind: EMULATOR, device, seed }
    }
}

unsafe extern "C" {
    fn emulator_test_last_error() -> *const c_char;
}

/// The status of a launch and, of a failed one, its text.
pub fn outcome(status: i32) -> Result<(), (i32, String)> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: a zero-terminated text of this thread, which stays as it is until its next launch
    let text = unsafe { CStr::from_ptr(emulator_test_last_error()) };
    Err((status, text.to_string_lossy().into_owned()))
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn bits32(&mut self) -> u32 {
        (self.bits() >> 32) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.bits32() % bound
    }

    /// In -1 .. 1.
    pub fn float(&mut self) -> f32 {
        self.bits32() as i32 as f32 / 2_147_483_648.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}
