//! Buffers and streams of `cust` 0.3.
//!
//! `cust` knows `half` 1 only, so that `half` 2 numbers go through [`CustF16`] and [`CustBf16`], which have the same bits.

use cust::memory::{DeviceBuffer, DeviceCopy};
use cust::stream::Stream;
use half::{bf16, f16};

use super::{Read, Source, SourceMut, Write};
use crate::{Place, Queue};

// SAFETY: the stream lives as long as the value. Its device is that of the thread's current context, which `cust` keeps as the stream's own.
unsafe impl Queue for Stream {
    fn place(&self) -> Place {
        let device = cust::context::CurrentContext::get_device().map_or(-1, |device| device.as_raw());
        Place::Cuda { device, stream: self.as_inner() as u64 }
    }
}

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident, $half:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        #[repr(transparent)]
        pub struct $name(pub $half);
        // SAFETY: sixteen bits, no pointer.
        unsafe impl DeviceCopy for $name {}
        impl Stored for $name {
            type Element = $half;
        }
    };
}

/// What a `cust` buffer holds, and what it counts as.
pub trait Stored: DeviceCopy {
    type Element: Copy + 'static;
}

newtype!(
    /// An `f16` of `half` 2 in a `cust` buffer.
    CustF16, f16
);
newtype!(
    /// A `bf16` of `half` 2 in a `cust` buffer.
    CustBf16, bf16
);

macro_rules! same {
    ($($type:ty),*) => { $(impl Stored for $type { type Element = $type; })* };
}
same!(f32, f64, u8, u16, i32, u64);

// SAFETY: a buffer of `len` elements, borrowed for 'a.
unsafe impl<'a, T: Stored> Read<'a, Stream> for &'a DeviceBuffer<T> {
    type Element = T::Element;
    fn source(self) -> Source<'a, Stream> {
        // SAFETY: as above; the element and its newtype have the same bits.
        unsafe { Source::from_address(self.as_device_ptr().as_raw(), self.len()) }
    }
}

// SAFETY: a buffer of `len` elements, borrowed exclusively for 'a.
unsafe impl<'a, T: Stored> Write<'a, Stream> for &'a mut DeviceBuffer<T> {
    type Element = T::Element;
    fn source_mut(self) -> SourceMut<'a, Stream> {
        // SAFETY: as above.
        unsafe { SourceMut::from_address(self.as_device_ptr().as_raw(), self.len()) }
    }
}
