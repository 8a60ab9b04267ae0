//! The Walsh–Hadamard transform with AVX-512, whose 32 registers hold four distances at a time: the compiler makes nothing as good of [`super::pairs`].
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::*;

use super::hadamard::Factors;
use super::lanes::{Eight, Lanes};
use crate::Element;

/// Elements of a row that the nearest cache holds.
const NEAR: usize = 2048;

/// Sums and differences of lines that are `$distance` apart, the first of which are `$i`.
macro_rules! pairs {
    ($lines:ident, $($distance:literal: $($i:literal)*);*) => {{
        $($(
            [$lines[$i], $lines[$i + $distance]] = $lines[$i].pair($lines[$i + $distance]);
        )*)*
    }};
}

/// Lines of a pass, at most.
const LINES: usize = 16;

/// Whether rows of so many elements are for [`walsh_hadamard`].
pub fn hold(elements: usize) -> bool {
    elements.is_power_of_two() && (Eight::COUNT..=LINES * NEAR).contains(&elements)
}

/// As [`pairs::walsh_hadamard`](super::pairs::walsh_hadamard), with the factors of [`pairs::unscale_each`](super::pairs::unscale_each) before and of
/// [`pairs::scale_each`](super::pairs::scale_each) after it. Every element goes through `values`, which are as many.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub fn walsh_hadamard<T: Element>(row: &mut [T], values: &mut [f64], before: &Factors, after: &Factors) {
    let n = row.len();
    assert!(hold(n) && values.len() == n && before.count(n) == n && after.count(n) == n);
    // SAFETY: indices below n, which all of them have.
    let finish = |row: &mut [T], i: usize, sums: Eight| unsafe { sums.scaled(after.lanes(i)).store(row, i) };
    for (block, begin) in values.chunks_mut(NEAR).zip((0..).step_by(NEAR)) {
        for i in (0..block.len()).step_by(Eight::COUNT) {
            // SAFETY: as above.
            unsafe { neighbours(Eight::load(row, begin + i).scaled(before.lanes(begin + i))).store(block, i) };
        }
        lines(block, Eight::COUNT, |block, i, sums| {
            // SAFETY: an index of the block.
            unsafe { sums.store(block, i) };
        });
    }
    if n > NEAR {
        lines(values, NEAR, |_, i, sums| finish(row, i, sums));
    } else {
        for i in (0..n).step_by(Eight::COUNT) {
            // SAFETY: as above.
            finish(row, i, unsafe { Eight::load(values, i) });
        }
    }
}

/// What is 1, 2 and 4 apart.
#[target_feature(enable = "avx512f")]
#[inline]
fn neighbours(Eight(mut own): Eight) -> Eight {
    let other = _mm512_permute_pd::<0b0101_0101>(own);
    own = _mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1010_1010, other, own);
    let other = _mm512_permutex_pd::<0b0100_1110>(own);
    own = _mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1100_1100, other, own);
    let other = _mm512_shuffle_f64x2::<0b0100_1110>(own, own);
    Eight(_mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1111_0000, other, own))
}

/// What is `first`, twice as far, … apart; the sums of each pass go to `store`, with the index of the first.
#[target_feature(enable = "avx512f")]
#[inline]
fn lines(values: &mut [f64], first: usize, mut store: impl FnMut(&mut [f64], usize, Eight)) {
    let mut half = first;
    while 2 * half <= values.len() {
        half *= match values.len() / half {
            2 => pass::<2>(values, half, &mut store),
            4 => pass::<4>(values, half, &mut store),
            8 => pass::<8>(values, half, &mut store),
            _ => pass::<LINES>(values, half, &mut store),
        };
    }
}

/// `RADIX` lines at a time, which are `half` apart; returns how many that is.
#[target_feature(enable = "avx512f")]
#[inline]
fn pass<const RADIX: usize>(
    values: &mut [f64],
    half: usize,
    store: &mut impl FnMut(&mut [f64], usize, Eight),
) -> usize {
    for block in (0..values.len()).step_by(RADIX * half) {
        for first in (block..block + half).step_by(Eight::COUNT) {
            let mut lines = [Eight::splat(0.0); LINES];
            for (i, line) in lines.iter_mut().take(RADIX).enumerate() {
                // SAFETY: elements of the block, of which there are RADIX · half.
                *line = unsafe { Eight::load(values, first + i * half) };
            }
            match RADIX {
                2 => pairs!(lines, 1: 0),
                4 => pairs!(lines, 1: 0 2; 2: 0 1),
                8 => pairs!(lines, 1: 0 2 4 6; 2: 0 1 4 5; 4: 0 1 2 3),
                _ => {
                    pairs!(lines, 1: 0 2 4 6 8 10 12 14; 2: 0 1 4 5 8 9 12 13; 4: 0 1 2 3 8 9 10 11; 8: 0 1 2 3 4 5 6 7)
                }
            }
            for (i, &sums) in lines.iter().take(RADIX).enumerate() {
                store(values, first + i * half, sums);
            }
        }
    }
    RADIX
}
