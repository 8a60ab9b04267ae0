//! Slices of ordinary memory, for the queues that run on this processor.

use half::{bf16, f16};

use super::{Read, Source, SourceMut, Write};
use crate::{HostQueue, StatusRecord};

/// Types of which every bit pattern is a value.
pub trait Plain: Copy + 'static {}
macro_rules! plain {
    ($($type:ty),*) => { $(impl Plain for $type {})* };
}
plain!(f64, f32, f16, bf16, u8, u16, i32, u64, StatusRecord);

// SAFETY: the slice is borrowed for 'a.
unsafe impl<'a, T: Copy + 'static, Q: HostQueue> Read<'a, Q> for &'a [T] {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        // SAFETY: the slice is borrowed for 'a.
        unsafe { Source::from_address(self.as_ptr() as u64, self.len()) }
    }
}

// SAFETY: the vector is borrowed for 'a.
unsafe impl<'a, T: Copy + 'static, Q: HostQueue> Read<'a, Q> for &'a Vec<T> {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        self.as_slice().source()
    }
}

// SAFETY: the array is borrowed for 'a.
unsafe impl<'a, T: Copy + 'static, Q: HostQueue, const N: usize> Read<'a, Q> for &'a [T; N] {
    type Element = T;
    fn source(self) -> Source<'a, Q> {
        self.as_slice().source()
    }
}

// SAFETY: the slice is borrowed exclusively for 'a, and every bit pattern is a T.
unsafe impl<'a, T: Plain, Q: HostQueue> Write<'a, Q> for &'a mut [T] {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        // SAFETY: the slice is borrowed exclusively for 'a.
        unsafe { SourceMut::from_address(self.as_mut_ptr() as u64, self.len()) }
    }
}

// SAFETY: the vector is borrowed exclusively for 'a, and every bit pattern is a T.
unsafe impl<'a, T: Plain, Q: HostQueue> Write<'a, Q> for &'a mut Vec<T> {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        self.as_mut_slice().source_mut()
    }
}

// SAFETY: the array is borrowed exclusively for 'a, and every bit pattern is a T.
unsafe impl<'a, T: Plain, Q: HostQueue, const N: usize> Write<'a, Q> for &'a mut [T; N] {
    type Element = T;
    fn source_mut(self) -> SourceMut<'a, Q> {
        self.as_mut_slice().source_mut()
    }
}
