//! The memory of a CUDA device, through cudarc.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DriverError};
use peft_kernels::storage::{Read, Source, SourceMut, Write};
use peft_kernels::{Error, Result};

use crate::memory::Memory;

/// The first device, and a stream of its own.
pub struct Device(Arc<CudaStream>);

/// Elements in the device's memory, and their address.
pub struct Elements<T> {
    bytes: CudaSlice<u8>,
    address: u64,
    length: usize,
    _elements: PhantomData<T>,
}

/// An address and a length: all work is on one stream, so that nothing has to be waited for.
pub struct Place<T> {
    address: u64,
    length: usize,
    _elements: PhantomData<T>,
}

pub fn failed(error: DriverError) -> Error {
    Error::Cuda { operation: "device", message: error.to_string() }
}

impl Device {
    /// To be called only where the library has counted at least one device: without a driver, cudarc panics.
    pub fn open() -> Result<Self> {
        Ok(Self(CudaContext::new(0).and_then(|context| context.new_stream()).map_err(failed)?))
    }

    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.0
    }
}

impl<T> Elements<T> {
    fn place(&self) -> Place<T> {
        Place { address: self.address, length: self.length, _elements: PhantomData }
    }
}

impl Memory for Device {
    type Queue = Arc<CudaStream>;
    type Buffer<'h, T: Copy + 'static> = Elements<T>;

    fn queue(&self) -> &Self::Queue {
        &self.0
    }
    fn place<'h, T: Copy + 'static>(&self, elements: Cow<'h, [T]>) -> Result<Elements<T>> {
        let size = size_of_val(&elements[..]);
        // SAFETY: the bytes of the elements.
        let host = unsafe { std::slice::from_raw_parts(elements.as_ptr().cast::<u8>(), size) };
        // An allocation of nothing is refused.
        let bytes =
            if host.is_empty() { self.0.clone_htod(&[0u8]) } else { self.0.clone_htod(host) }.map_err(failed)?;
        let address = bytes.device_ptr(&self.0).0;
        Ok(Elements { bytes, address, length: elements.len(), _elements: PhantomData })
    }
    fn read<'b, T: Copy + 'static>(buffer: &'b Elements<T>) -> impl Read<'b, Self::Queue, Element = T> + use<'b, T> {
        buffer.place()
    }
    fn write<'b, T: Copy + 'static>(
        buffer: &'b mut Elements<T>,
    ) -> impl Write<'b, Self::Queue, Element = T> + use<'b, T> {
        buffer.place()
    }
    fn wait(&self) -> Result<()> {
        self.0.synchronize().map_err(failed)
    }
    fn fetch<T: Copy + 'static>(&self, buffer: &Elements<T>) -> Result<Vec<T>> {
        let bytes = self.0.clone_dtoh(&buffer.bytes).map_err(failed)?;
        // SAFETY: as many bytes as the elements have, which were placed there as such or written by an operation on them.
        Ok((0..buffer.length).map(|i| unsafe { bytes.as_ptr().cast::<T>().add(i).read_unaligned() }).collect())
    }
}

// SAFETY: the elements are borrowed for 'b, and all work is on the queue's stream.
unsafe impl<'b, T: Copy + 'static> Read<'b, Arc<CudaStream>> for Place<T> {
    type Element = T;
    fn source(self) -> Source<'b, Arc<CudaStream>> {
        // SAFETY: as above.
        unsafe { Source::from_address(self.address, self.length) }
    }
}

// SAFETY: the elements are borrowed exclusively for 'b, all work is on the queue's stream, and every bit pattern is a T (see `Memory::write`).
unsafe impl<'b, T: Copy + 'static> Write<'b, Arc<CudaStream>> for Place<T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'b, Arc<CudaStream>> {
        // SAFETY: as above.
        unsafe { SourceMut::from_address(self.address, self.length) }
    }
}
