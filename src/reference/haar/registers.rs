//! The Walsh–Hadamard transform with AVX-512, whose 32 registers hold four distances at a time: the compiler makes nothing as good of [`super::pairs`].
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::*;

/// Elements of a register.
const LANES: usize = 8;
/// Elements of a row that the nearest cache holds.
const NEAR: usize = 2048;

/// Sums and differences of lines that are `$distance` apart, the first of which are `$i`.
macro_rules! pairs {
    ($lines:ident, $($distance:literal: $($i:literal)*);*) => {{
        $($(
            let (a, b) = ($lines[$i], $lines[$i + $distance]);
            ($lines[$i], $lines[$i + $distance]) = (_mm512_add_pd(a, b), _mm512_sub_pd(a, b));
        )*)*
    }};
}

/// As [`pairs::walsh_hadamard`](super::pairs::walsh_hadamard), of at least 8 elements.
#[target_feature(enable = "avx512f")]
pub fn walsh_hadamard(values: &mut [f64]) {
    for block in values.chunks_mut(NEAR) {
        neighbours(block);
        lines(block, LANES);
    }
    lines(values, NEAR);
}

/// What is 1, 2 and 4 apart.
#[target_feature(enable = "avx512f")]
fn neighbours(values: &mut [f64]) {
    for eight in values.as_chunks_mut::<LANES>().0 {
        // SAFETY: eight elements.
        let mut own = unsafe { _mm512_loadu_pd(eight.as_ptr()) };
        let other = _mm512_permute_pd::<0b0101_0101>(own);
        own = _mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1010_1010, other, own);
        let other = _mm512_permutex_pd::<0b0100_1110>(own);
        own = _mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1100_1100, other, own);
        let other = _mm512_shuffle_f64x2::<0b0100_1110>(own, own);
        own = _mm512_mask_sub_pd(_mm512_add_pd(own, other), 0b1111_0000, other, own);
        // SAFETY: eight elements.
        unsafe { _mm512_storeu_pd(eight.as_mut_ptr(), own) };
    }
}

/// What is `first`, twice as far, … apart.
#[target_feature(enable = "avx512f")]
fn lines(values: &mut [f64], first: usize) {
    let mut half = first;
    while 2 * half <= values.len() {
        half *= match values.len() / half {
            2 => pass::<2>(values, half),
            4 => pass::<4>(values, half),
            8 => pass::<8>(values, half),
            _ => pass::<16>(values, half),
        };
    }
}

/// `RADIX` lines at a time, which are `half` apart; returns how many that is.
#[target_feature(enable = "avx512f")]
#[inline]
fn pass<const RADIX: usize>(values: &mut [f64], half: usize) -> usize {
    for block in values.chunks_exact_mut(RADIX * half) {
        for first in (0..half).step_by(LANES) {
            let mut lines = [_mm512_setzero_pd(); 16];
            for i in 0..RADIX {
                // SAFETY: eight elements.
                lines[i] = unsafe { _mm512_loadu_pd(block[i * half + first..][..LANES].as_ptr()) };
            }
            match RADIX {
                2 => pairs!(lines, 1: 0),
                4 => pairs!(lines, 1: 0 2; 2: 0 1),
                8 => pairs!(lines, 1: 0 2 4 6; 2: 0 1 4 5; 4: 0 1 2 3),
                _ => {
                    pairs!(lines, 1: 0 2 4 6 8 10 12 14; 2: 0 1 4 5 8 9 12 13; 4: 0 1 2 3 8 9 10 11; 8: 0 1 2 3 4 5 6 7)
                }
            }
            for i in 0..RADIX {
                // SAFETY: eight elements.
                unsafe { _mm512_storeu_pd(block[i * half + first..][..LANES].as_mut_ptr(), lines[i]) };
            }
        }
    }
    RADIX
}

#[cfg(test)]
mod tests {
    use super::super::pairs;

    #[test]
    fn the_bits_are_those_of_any_processor() {
        if !std::arch::is_x86_feature_detected!("avx512f") {
            println!("not run: this processor has no AVX-512");
            return;
        }
        for n in (3..=15).map(|levels| 1usize << levels) {
            let values: Vec<_> = (0..n).map(|i| ((i * 37 % 1009) as f64 - 504.0) / 7.0).collect();
            let (mut got, mut expected) = (values.clone(), values);
            // SAFETY: the processor has AVX-512.
            unsafe { super::walsh_hadamard(&mut got) };
            pairs::walsh_hadamard(&mut expected);
            assert_eq!(got, expected, "{n}");
        }
    }
}
