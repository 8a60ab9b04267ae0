//! The Walsh–Hadamard transform with AVX-512, whose 32 registers hold four distances at a time: the compiler makes nothing as good of [`super::pairs`].
#![cfg(target_arch = "x86_64")]

use std::ops::Range;

use super::hadamard::Factors;
use super::lanes::{Lanes, Register, Sum, prefetch};
use crate::Element;

/// Bytes of a row's sums that the nearest cache holds.
const NEAR: usize = 1 << 14;

/// How many elements before they are read they are fetched. What is written last, line by line far apart, is fetched as the row is read: the processor foresees neither.
const AHEAD: usize = 1024;

/// Registers of a pass, at most.
const LINES: usize = 16;

/// Sums and differences of lines that are `$distance` apart, the first of which are `$i`.
macro_rules! pairs {
    ($lines:ident, $($distance:literal: $($i:literal)*);*) => {{
        $($(
            [$lines[$i], $lines[$i + $distance]] = $lines[$i].pair($lines[$i + $distance]);
        )*)*
    }};
}

/// How many sums the nearest cache holds.
const fn near<N>() -> usize {
    NEAR / size_of::<N>()
}

/// Whether rows of so many elements are for [`walsh_hadamard`].
pub fn hold<N: Sum>(elements: usize) -> bool {
    elements.is_power_of_two() && (N::Widest::COUNT..=LINES * near::<N>()).contains(&elements)
}

/// Of a row: where its elements are before and after, and its sums meanwhile.
struct Row<'r, T, N> {
    source: &'r [T],
    destination: &'r mut [T],
    values: &'r mut [N],
    before: &'r Factors<N>,
    after: &'r Factors<N>,
}

/// As [`pairs::walsh_hadamard`](super::pairs::walsh_hadamard), with the factors of [`pairs::unscale_each`](super::pairs::unscale_each) before and of
/// [`pairs::scale_each`](super::pairs::scale_each) after it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn walsh_hadamard<T: Element, N: Sum>(
    source: &[T],
    destination: &mut [T],
    values: &mut [N],
    before: &Factors<N>,
    after: &Factors<N>,
) {
    let n = source.len();
    assert!(hold::<N>(n) && destination.len() == n && values.len() == n && before.count(n) == n && after.count(n) == n);
    let (near, mut row) = (near::<N>().min(n), Row { source, destination, values, before, after });
    for begin in (0..n).step_by(near) {
        let mut half = N::Widest::COUNT;
        // SAFETY: the row's parts have n elements each.
        unsafe {
            half *= row.pass::<true>(begin..begin + near, half);
            while half < near {
                half *= row.pass::<false>(begin..begin + near, half);
            }
        }
    }
    if near < n {
        // SAFETY: as above.
        unsafe { row.pass::<false>(0..n, near) };
    }
}

impl<T: Element, N: Sum> Row<'_, T, N> {
    /// One pass over a range whose lines are `half` apart; returns how many of them it takes together. The first one also sums up what is in a register, the last one writes the result.
    ///
    /// # Safety
    /// The row's parts have as many elements each, and the range lies within.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline]
    unsafe fn pass<const IS_FIRST: bool>(&mut self, range: Range<usize>, half: usize) -> usize {
        // SAFETY: the caller's.
        unsafe {
            match self.source.len() / half {
                1 => self.lines::<IS_FIRST, true, 1>(range, half),
                2 => self.lines::<IS_FIRST, true, 2>(range, half),
                4 => self.lines::<IS_FIRST, true, 4>(range, half),
                8 => self.lines::<IS_FIRST, true, 8>(range, half),
                LINES => self.lines::<IS_FIRST, true, LINES>(range, half),
                _ => self.lines::<IS_FIRST, false, LINES>(range, half),
            }
        }
    }

    /// # Safety
    /// As [`Row::pass`].
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn lines<const IS_FIRST: bool, const IS_LAST: bool, const RADIX: usize>(
        &mut self,
        range: Range<usize>,
        half: usize,
    ) -> usize {
        let plain = self.before.is_one();
        for block in range.step_by(RADIX * half) {
            for first in (block..block + half).step_by(N::Widest::COUNT) {
                let mut lines = [N::Widest::splat(N::default()); LINES];
                for (i, line) in lines.iter_mut().take(RADIX).enumerate() {
                    let at = first + i * half;
                    if IS_FIRST {
                        prefetch(self.source.as_ptr().wrapping_add(at + AHEAD));
                        prefetch(self.destination.as_ptr().wrapping_add(at));
                    }
                    // SAFETY: the caller's.
                    *line = unsafe {
                        match IS_FIRST {
                            false => N::Widest::load(self.values, at),
                            // That zeros have no sign is for the last pass to see to.
                            true if plain => N::Widest::load(self.source, at).walsh_hadamard(),
                            true => N::Widest::load(self.source, at).times(self.before.lanes(at)).walsh_hadamard(),
                        }
                    };
                }
                match RADIX {
                    1 => {}
                    2 => pairs!(lines, 1: 0),
                    4 => pairs!(lines, 1: 0 2; 2: 0 1),
                    8 => pairs!(lines, 1: 0 2 4 6; 2: 0 1 4 5; 4: 0 1 2 3),
                    _ => {
                        pairs!(lines, 1: 0 2 4 6 8 10 12 14; 2: 0 1 4 5 8 9 12 13; 4: 0 1 2 3 8 9 10 11; 8: 0 1 2 3 4 5 6 7)
                    }
                }
                for (i, &sums) in lines.iter().take(RADIX).enumerate() {
                    let at = first + i * half;
                    // SAFETY: the caller's.
                    unsafe {
                        match IS_LAST {
                            false => sums.store(self.values, at),
                            true => sums.scaled(self.after.lanes(at)).store(self.destination, at),
                        }
                    }
                }
            }
        }
        RADIX
    }
}
