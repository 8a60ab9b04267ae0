//! A CUDA device, where one was built for and is there: buffers in memory that the host reaches too, one stream, one trial after the other.

use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use peft_kernels::lora::{AdapterTable, BackwardTarget, GradientTable, Target};
use peft_kernels::storage::{RawSlice, RawSliceMut, Read, Write};
use peft_kernels::{Element, RawStream, Vector};

use crate::memory::Memory;
use crate::queues::Runner;

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's buffers and calls are the device's.
pub fn is_active() -> bool {
    ACTIVE.get()
}

/// Why there is no device, or nothing where there is one.
pub fn missing() -> Option<String> {
    if !peft_kernels::HAS_CUDA {
        return Some("needs the feature `cuda`".into());
    }
    // `peft-kernels info` says why there is none.
    (count() == 0).then(|| "needs a CUDA device".into())
}

/// Devices that are there.
pub fn count() -> usize {
    peft_kernels::device_count().unwrap_or(0)
}

/// While it lives, this thread's buffers and calls are the device's.
pub struct Active(bool);

impl Active {
    pub fn begin() -> Self {
        Self(ACTIVE.replace(true))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        ACTIVE.set(self.0);
    }
}

/// The one thread at a time that works on the device, and those that it starts.
pub struct Session(#[allow(dead_code)] Active, #[allow(dead_code)] MutexGuard<'static, ()>);

impl Session {
    pub fn begin() -> Self {
        // The host may not touch managed memory while a kernel of another trial runs.
        static ONE: Mutex<()> = Mutex::new(());
        let session = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Active::begin(), session)
    }
}

#[cfg(feature = "cuda")]
mod runtime {
    use std::ffi::c_void;

    unsafe extern "C" {
        fn cudaMallocManaged(pointer: *mut *mut c_void, bytes: usize, flags: u32) -> i32;
        fn cudaFree(pointer: *mut c_void) -> i32;
        fn cudaDeviceSynchronize() -> i32;
    }

    pub fn allocate(bytes: usize) -> usize {
        let mut pointer = std::ptr::null_mut();
        // SAFETY: the runtime writes the pointer; 1 attaches the memory to all streams.
        let status = unsafe { cudaMallocManaged(&mut pointer, bytes.max(1), 1) };
        assert_eq!(status, 0, "cudaMallocManaged of {bytes} bytes");
        pointer as usize
    }

    pub fn free(address: usize) {
        // SAFETY: what `allocate` returned, once.
        unsafe { cudaFree(address as *mut c_void) };
    }

    pub fn synchronize() -> i32 {
        // SAFETY: no argument.
        unsafe { cudaDeviceSynchronize() }
    }
}

#[cfg(not(feature = "cuda"))]
mod runtime {
    const REASON: &str = "no trial asks for a device where none was built for";

    pub fn allocate(_: usize) -> usize {
        unreachable!("{REASON}")
    }
    pub fn free(_: usize) {}
    pub fn synchronize() -> i32 {
        unreachable!("{REASON}")
    }
}

pub use runtime::{allocate, free};

/// Entries of a table, which are plain numbers and addresses, in memory of the device that lives for ever.
fn copied<'a, T: Copy + 'static>(queue: &RawStream, entries: &[T]) -> Vector<'a, T, RawStream> {
    // SAFETY: plain numbers and addresses.
    let bytes = unsafe { std::slice::from_raw_parts(entries.as_ptr().cast::<u8>(), size_of_val(entries)) };
    let copy: &'static Memory = Box::leak(Box::new(Memory::new(bytes.len())));
    copy.restore(bytes);
    Vector::whole(queue.source_at(copy.address() as u64, entries.len()))
}

impl Runner for RawStream {
    fn source_at<'a, T: Copy + 'static>(&self, address: u64, length: usize) -> impl Read<'a, Self, Element = T> {
        // SAFETY: buffers outlive the calls of these tests, and no call writes to an input.
        unsafe { RawSlice::<'a, T>::from_raw(address, length) }
    }

    fn sink_at<'a, T: Copy + 'static>(&self, address: u64, length: usize) -> impl Write<'a, Self, Element = T> {
        // SAFETY: as above, and a buffer's views are disjoint or refused.
        unsafe { RawSliceMut::<'a, T>::from_raw(address, length) }
    }

    fn with_table<'a, T: Element, P: Element>(
        &self,
        target: Target<'a, T, P, Self>,
        table: &'a AdapterTable<'a, P, Self>,
    ) -> Target<'a, T, P, Self> {
        // SAFETY: the copy lives for ever and is never changed.
        unsafe { target.table_on_device(table, copied(self, table.entries())) }
    }

    fn with_gradients<'a, T: Element, P: Element>(
        &self,
        target: BackwardTarget<'a, T, P, Self>,
        table: &'a AdapterTable<'a, P, Self>,
        gradients: Option<GradientTable<'a, P, Self>>,
    ) -> BackwardTarget<'a, T, P, Self> {
        // SAFETY: as above.
        let target = unsafe { target.table_on_device(table, copied(self, table.entries())) };
        let Some(gradients) = gradients else { return target };
        let copy = copied(self, gradients.entries());
        // SAFETY: as above.
        unsafe { target.table_gradients_on_device(gradients, copy) }
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn finish(&self) -> Result<(), String> {
        match runtime::synchronize() {
            0 => Ok(()),
            code => Err(format!("cudaDeviceSynchronize: {code}")),
        }
    }
}
