//! The library itself: what was built, what was found, and loading kernels ahead of time.

use crate::{Place, Queue, Result, ffi};

/// Whether the kernels for the emulator were compiled in.
pub const HAS_EMULATOR: bool = cfg!(feature = "emulator");

/// Whether the kernels for GPUs were compiled in.
pub const HAS_CUDA: bool = cfg!(feature = "cuda");

/// The version of the C interface.
pub const ABI_VERSION: i32 = ffi::PK_ABI_VERSION;

/// How many CUDA devices there are.
///
/// # Errors
/// [`crate::Error::NotBuilt`] without the feature `cuda`; [`crate::Error::NoDevice`] without a driver or a device, with what to do about it.
pub fn device_count() -> Result<usize> {
    let operation = "device_count";
    Place::Cuda { device: 0, stream: 0 }.descriptor(operation)?;
    let mut count = 0;
    ffi::call!(operation, pk_device_count(&mut count))?;
    Ok(count as usize)
}

/// Loads every kernel on the queue's device, so that a first call inside a graph capture loads nothing. Does nothing on [`crate::Cpu`] and [`crate::Emulator`].
///
/// # Errors
/// [`crate::Error::NotBuilt`], [`crate::Error::NoDevice`], [`crate::Error::Cuda`].
pub fn prepare<Q: Queue>(queue: &Q) -> Result<()> {
    if queue.place() == Place::Cpu {
        return Ok(());
    }
    let descriptor = queue.place().descriptor("prepare")?;
    ffi::call!("prepare", pk_prepare(&descriptor))
}
