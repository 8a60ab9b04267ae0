//! Slices, views and streams of `cudarc`.

use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr};

use super::{Acquire, Guard, Read, Source, SourceMut, Write};
use crate::{Error, Place, Queue, Result};

// SAFETY: the stream lives as long as the value, on its context's device.
unsafe impl Queue for CudaStream {
    fn place(&self) -> Place {
        Place::Cuda { device: self.context().ordinal() as i32, stream: self.cu_stream() as u64 }
    }
}

// SAFETY: the stream lives as long as the value, on its context's device.
unsafe impl Queue for Arc<CudaStream> {
    fn place(&self) -> Place {
        self.as_ref().place()
    }
}

/// Both `CudaStream` and `Arc<CudaStream>` are queues: what the framework holds.
pub trait Stream: Queue {
    fn stream(&self) -> &CudaStream;
}
impl Stream for CudaStream {
    fn stream(&self) -> &CudaStream {
        self
    }
}
impl Stream for Arc<CudaStream> {
    fn stream(&self) -> &CudaStream {
        self
    }
}

fn same_device(storage: &CudaStream, queue: &CudaStream) -> Result<()> {
    let (got, expected) = (storage.context().ordinal(), queue.context().ordinal());
    if got == expected { Ok(()) } else { Err(Error::Device { operation: "storage::cudarc", expected, got }) }
}

/// The owner's stream, which `cudarc` keeps in every slice and view.
trait OwnerStream {
    fn owner(&self) -> &CudaStream;
}
impl<T> OwnerStream for CudaSlice<T> {
    fn owner(&self) -> &CudaStream {
        self.stream()
    }
}
impl<T> OwnerStream for CudaView<'_, T> {
    fn owner(&self) -> &CudaStream {
        cudarc::driver::DeviceSlice::stream(self)
    }
}

// SAFETY: `device_ptr` makes the stream wait for earlier writes, and its guard records the read when it is dropped.
unsafe impl<T, Q: Stream> Acquire<Q> for CudaSlice<T> {
    fn acquire<'s>(&'s self, queue: &'s Q) -> Result<(u64, Guard<'s>)> {
        same_device(self.owner(), queue.stream())?;
        let (address, guard) = self.device_ptr(queue.stream());
        Ok((address, Guard::holding(guard)))
    }
}

// SAFETY: as above.
unsafe impl<T, Q: Stream> Acquire<Q> for CudaView<'_, T> {
    fn acquire<'s>(&'s self, queue: &'s Q) -> Result<(u64, Guard<'s>)> {
        same_device(self.owner(), queue.stream())?;
        let (address, guard) = self.device_ptr(queue.stream());
        Ok((address, Guard::holding(guard)))
    }
}

/// A view to be written, of which disjoint parts may be acquired side by side.
struct Shared<'a, T>(CudaViewMut<'a, T>);

// SAFETY: `view_ptr_mut` makes the stream wait for earlier reads and writes, and its guard records the write when it is dropped.
unsafe impl<T, Q: Stream> Acquire<Q> for Shared<'_, T> {
    fn acquire<'s>(&'s self, queue: &'s Q) -> Result<(u64, Guard<'s>)> {
        same_device(cudarc::driver::DeviceSlice::stream(&self.0), queue.stream())?;
        // SAFETY: a CudaViewMut is an address and shared references, and has no Drop: a copy of it is what `split_at_mut` would have given, and the parts that the crate's views write
        // through the copies are disjoint.
        let copy = unsafe { std::ptr::read(&self.0) };
        let (address, guard) = copy.view_ptr_mut(queue.stream());
        Ok((address, Guard::holding(guard)))
    }
}

// SAFETY: a slice of `len` elements, borrowed for 'a.
unsafe impl<'a, T: Copy + 'static, Q: Stream> Read<'a, Q> for &'a CudaSlice<T> {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        Source::guarded(self, self.len())
    }
}

// SAFETY: a view of `len` elements, borrowed for 'a.
unsafe impl<'a, T: Copy + 'static, Q: Stream> Read<'a, Q> for &'a CudaView<'a, T> {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        Source::guarded(self, self.len())
    }
}

// SAFETY: a slice of `len` elements, borrowed exclusively for 'a.
unsafe impl<'a, T: Copy + 'static, Q: Stream> Write<'a, Q> for &'a mut CudaSlice<T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        self.as_view_mut().source_mut()
    }
}

// SAFETY: a view of `len` elements that is exclusive for 'a.
unsafe impl<'a, T: Copy + 'static, Q: Stream> Write<'a, Q> for CudaViewMut<'a, T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        let length = self.len();
        SourceMut::guarded(Rc::new(Shared(self)), length)
    }
}
