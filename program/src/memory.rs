//! A queue's memory: what the checks need to run on any queue, whosever memory it works on.

use std::borrow::Cow;

use peft_kernels::storage::{Read, SourceMut, Write};
use peft_kernels::{HostQueue, Result};

/// A queue and its memory.
pub trait Memory: 'static {
    type Queue: peft_kernels::Queue;
    /// Elements in the queue's memory.
    type Buffer<'h, T: Copy + 'static>;

    fn queue(&self) -> &Self::Queue;
    /// Puts elements into the queue's memory; leaves them where they are if they can be read there.
    fn place<'h, T: Copy + 'static>(&self, elements: Cow<'h, [T]>) -> Result<Self::Buffer<'h, T>>;
    fn read<'b, T: Copy + 'static>(
        buffer: &'b Self::Buffer<'_, T>,
    ) -> impl Read<'b, Self::Queue, Element = T> + use<'b, Self, T>;
    /// Every bit pattern must be a `T`.
    fn write<'b, T: Copy + 'static>(
        buffer: &'b mut Self::Buffer<'_, T>,
    ) -> impl Write<'b, Self::Queue, Element = T> + use<'b, Self, T>;
    /// Waits until the queue has run what it was given.
    fn wait(&self) -> Result<()>;
    /// Elements of a buffer, once the queue has run.
    fn fetch<T: Copy + 'static>(&self, buffer: &Self::Buffer<'_, T>) -> Result<Vec<T>>;
}

/// Elements in the queue's memory that are nobody else's.
pub struct Owned<M: Memory, T: Copy + 'static>(pub M::Buffer<'static, T>);

impl<M: Memory, T: Copy + 'static> Owned<M, T> {
    pub fn new(memory: &M, elements: Vec<T>) -> Result<Self> {
        Ok(Self(memory.place(Cow::Owned(elements))?))
    }
}

/// A queue that works on ordinary memory.
pub struct Host<Q>(pub Q);

impl<Q: HostQueue + 'static> Memory for Host<Q> {
    type Queue = Q;
    type Buffer<'h, T: Copy + 'static> = Cow<'h, [T]>;

    fn queue(&self) -> &Q {
        &self.0
    }
    fn place<'h, T: Copy + 'static>(&self, elements: Cow<'h, [T]>) -> Result<Cow<'h, [T]>> {
        Ok(elements)
    }
    fn read<'b, T: Copy + 'static>(buffer: &'b Cow<'_, [T]>) -> impl Read<'b, Q, Element = T> + use<'b, Q, T> {
        &buffer[..]
    }
    fn write<'b, T: Copy + 'static>(buffer: &'b mut Cow<'_, [T]>) -> impl Write<'b, Q, Element = T> + use<'b, Q, T> {
        Slots(buffer.to_mut())
    }
    fn wait(&self) -> Result<()> {
        Ok(())
    }
    fn fetch<T: Copy + 'static>(&self, buffer: &Cow<'_, [T]>) -> Result<Vec<T>> {
        Ok(buffer.to_vec())
    }
}

/// Elements to be written, of a type of which every bit pattern is a value (see [`Memory::write`]).
struct Slots<'b, T>(&'b mut [T]);

// SAFETY: the slice is borrowed exclusively for 'b, and every bit pattern is a T.
unsafe impl<'b, T: Copy + 'static, Q: HostQueue> Write<'b, Q> for Slots<'b, T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'b, Q> {
        // SAFETY: as above.
        unsafe { SourceMut::from_address(self.0.as_mut_ptr() as u64, self.0.len()) }
    }
}
