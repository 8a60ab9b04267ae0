//! Raw pointers: the stable door, which shares no crate version with the framework.

use std::marker::PhantomData;

use super::{Read, Source, SourceMut, Write};
use crate::{Cpu, Emulator, Queue, RawStream};

/// `length` elements at an address, to be read.
#[derive(Clone, Copy, Debug)]
pub struct RawSlice<'a, T> {
    address: u64,
    length: usize,
    _elements: PhantomData<&'a [T]>,
}

impl<T: Copy + 'static> RawSlice<'_, T> {
    /// `length` elements of type `T` at `address`: device memory for a [`RawStream`], ordinary memory for [`Cpu`] and [`Emulator`].
    ///
    /// # Safety
    /// Until every operation that was given this value has run: the memory is valid on the queue's device, and nobody writes to the elements that the operations' views name (ordered on
    /// the queue's stream is enough). Elements that no view names are never touched, and need not exist.
    pub const unsafe fn from_raw(address: u64, length: usize) -> Self {
        Self { address, length, _elements: PhantomData }
    }
}

/// `length` elements at an address, to be written.
#[derive(Debug)]
pub struct RawSliceMut<'a, T> {
    address: u64,
    length: usize,
    _elements: PhantomData<&'a mut [T]>,
}

impl<T: Copy + 'static> RawSliceMut<'_, T> {
    /// `length` elements of type `T` at `address`: device memory for a [`RawStream`], ordinary memory for [`Cpu`] and [`Emulator`].
    ///
    /// # Safety
    /// As for [`RawSlice::from_raw`], and nobody else reads or writes those elements either; every bit pattern is a `T`.
    pub const unsafe fn from_raw(address: u64, length: usize) -> Self {
        Self { address, length, _elements: PhantomData }
    }
}

/// The queues whose memory is named by an address alone.
pub trait RawQueue: Queue {}
impl RawQueue for Cpu {}
impl RawQueue for Emulator {}
impl RawQueue for RawStream {}

// SAFETY: `from_raw` asks for it.
unsafe impl<'a, T: Copy + 'static, Q: RawQueue> Read<'a, Q> for RawSlice<'a, T> {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        // SAFETY: `from_raw` asks for it.
        unsafe { Source::from_address(self.address, self.length) }
    }
}

// SAFETY: `from_raw` asks for it.
unsafe impl<'a, T: Copy + 'static, Q: RawQueue> Write<'a, Q> for RawSliceMut<'a, T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        // SAFETY: `from_raw` asks for it.
        unsafe { SourceMut::from_address(self.address, self.length) }
    }
}
