//! Storage: whose memory an operation works on.
//!
//! A view ([`crate::Tensor`], [`crate::TensorMut`]) is made of anything that implements [`Read`] or [`Write`] for the queue's type: host slices on [`crate::Cpu`] and [`crate::Emulator`],
//! [`RawSlice`] everywhere, `cudarc` slices and views on a `cudarc` stream, `cust` buffers on a `cust` stream. A framework's own buffers become storage by implementing the two traits.

mod host;
#[cfg(test)]
pub(crate) use host::Plain;
mod raw;

#[cfg(feature = "cudarc")]
mod cudarc;
#[cfg(feature = "cust")]
mod cust;

#[cfg(feature = "cust")]
pub use self::cust::{CustBf16, CustF16};
pub use raw::{RawSlice, RawSliceMut};

use std::rc::Rc;

use crate::{Queue, Result};

/// What must stay alive until the operation is enqueued, such as a guard that records an event when it is dropped.
pub struct Guard<'a> {
    _held: Option<Box<dyn Held + 'a>>,
}

trait Held {}
impl<T> Held for T {}

impl<'a> Guard<'a> {
    /// Nothing to hold.
    pub const fn none() -> Self {
        Self { _held: None }
    }

    /// Drops `value` once the operation is enqueued.
    pub fn holding(value: impl Sized + 'a) -> Self {
        Self { _held: Some(Box::new(value)) }
    }
}

/// Storage whose address is asked for with each operation, because the owner keeps book of who uses it.
///
/// # Safety
/// The address must be that of as many elements as the view was told of, usable by operations on the queue until the guard is dropped.
pub unsafe trait Acquire<Q: Queue> {
    /// The address of the first element, and what to hold until the operation is enqueued.
    fn acquire<'s>(&'s self, queue: &'s Q) -> Result<(u64, Guard<'s>)>;
}

/// Where the elements of a view to be read are.
pub struct Source<'a, Q> {
    pub(crate) place: SourcePlace<'a, Q>,
    pub(crate) length: usize,
}

pub(crate) enum SourcePlace<'a, Q> {
    Address(u64),
    Guarded(&'a dyn Acquire<Q>),
}

impl<Q> Clone for SourcePlace<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Q> Copy for SourcePlace<'_, Q> {}

impl<'a, Q: Queue> Source<'a, Q> {
    /// `length` elements at a fixed address.
    ///
    /// # Safety
    /// They must be readable by operations on the queue for the lifetime `'a`.
    pub const unsafe fn from_address(address: u64, length: usize) -> Self {
        Self { place: SourcePlace::Address(address), length }
    }

    /// `length` elements whose address is asked for with each operation.
    pub const fn guarded(storage: &'a dyn Acquire<Q>, length: usize) -> Self {
        Self { place: SourcePlace::Guarded(storage), length }
    }
}

/// Where the elements of a view to be written are.
pub struct SourceMut<'a, Q> {
    pub(crate) place: SourceMutPlace<'a, Q>,
    pub(crate) length: usize,
}

pub(crate) enum SourceMutPlace<'a, Q> {
    Address(u64),
    Guarded(Rc<dyn Acquire<Q> + 'a>),
}

impl<Q> Clone for SourceMutPlace<'_, Q> {
    fn clone(&self) -> Self {
        match self {
            Self::Address(address) => Self::Address(*address),
            Self::Guarded(storage) => Self::Guarded(Rc::clone(storage)),
        }
    }
}

impl<'a, Q: Queue> SourceMut<'a, Q> {
    /// `length` elements at a fixed address.
    ///
    /// # Safety
    /// They must be readable and writable by operations on the queue for the lifetime `'a`, and by nobody else.
    pub const unsafe fn from_address(address: u64, length: usize) -> Self {
        Self { place: SourceMutPlace::Address(address), length }
    }

    /// `length` elements whose address is asked for with each operation. (Disjoint views of one storage share it.)
    pub fn guarded(storage: Rc<dyn Acquire<Q> + 'a>, length: usize) -> Self {
        Self { place: SourceMutPlace::Guarded(storage), length }
    }
}

/// Storage that an operation on a queue of type `Q` may read.
///
/// # Safety
/// The source must keep its promise for elements of type `Element`.
pub unsafe trait Read<'a, Q: Queue> {
    /// What the storage holds.
    type Element: Copy + 'static;
    /// Where it is.
    fn source(self) -> Source<'a, Q>;
}

/// Storage that an operation on a queue of type `Q` may write.
///
/// # Safety
/// The source must keep its promise for elements of type `Element`, for which every bit pattern must be a value.
pub unsafe trait Write<'a, Q: Queue> {
    /// What the storage holds.
    type Element: Copy + 'static;
    /// Where it is.
    fn source_mut(self) -> SourceMut<'a, Q>;
}
