//! Sums of f64 in a register of AVX-512.

use std::arch::x86_64::*;

use super::{Lanes, Register};
use crate::{Element, ElementType};

/// Eight numbers, which are elements of f32 or f64. Everything is inlined where AVX-512's F, BW, DQ and VL are enabled, as [`super::super::pairs`] does.
#[derive(Clone, Copy)]
pub struct Eight(__m512d);

#[inline(always)]
unsafe fn widened(values: __m256i) -> Eight {
    // SAFETY: the caller's.
    Eight(unsafe { _mm512_cvtps_pd(_mm256_castsi256_ps(values)) })
}

#[inline(always)]
unsafe fn rounded(values: Eight) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_castps_si256(_mm512_cvtpd_ps(values.0)) }
}

/// Sums and differences of the lanes of `of` that are 2^(`LEVEL` − 1) apart; the others as they are.
#[inline(always)]
unsafe fn neighbours<const LEVEL: u32>(values: __m512d, of: __mmask8) -> __m512d {
    let negative = [0b1010_1010, 0b1100_1100, 0b1111_0000][LEVEL as usize - 1];
    // SAFETY: the caller's. Times 1 or −1 and added, each is what a sum or a difference would be.
    unsafe {
        let signs = _mm512_mask_blend_pd(negative, _mm512_set1_pd(1.0), _mm512_set1_pd(-1.0));
        let others = match LEVEL {
            1 => _mm512_permute_pd::<0b0101_0101>(values),
            2 => _mm512_permutex_pd::<0b0100_1110>(values),
            _ => _mm512_shuffle_f64x2::<0b0100_1110>(values, values),
        };
        _mm512_mask_fmadd_pd(values, of, signs, others)
    }
}

/// The multiples of 2^(`level` − 1).
const fn lanes_of(level: u32) -> __mmask8 {
    [0b1111_1111, 0b0101_0101, 0b0001_0001][level as usize - 1]
}

/// Eight pairs.
#[inline(always)]
unsafe fn zipped(even: __m256i, odd: __m256i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_or_si512(_mm512_cvtepu32_epi64(even), _mm512_slli_epi64::<32>(_mm512_cvtepu32_epi64(odd))) }
}

fn narrow<T: Element>() -> ! {
    unreachable!("elements of {} are added up in f32", T::TYPE)
}

impl Lanes for Eight {
    type Sum = f64;
    const COUNT: usize = 8;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        // SAFETY: the type is used where the processor has the registers; so below.
        Self(unsafe { _mm512_set1_pd(value) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_add_pd(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_sub_pd(self.0, other.0) })
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_mul_pd(self.0, other.0) })
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_fmadd_pd(a.0, b.0, self.0) })
    }

    #[inline(always)]
    unsafe fn load<T: Element>(row: &[T], i: usize) -> Self {
        // SAFETY: the caller's; the type of T is what it says.
        unsafe {
            let from = row.as_ptr().add(i);
            match T::TYPE {
                ElementType::F64 => Self(_mm512_loadu_pd(from.cast())),
                ElementType::F32 => widened(_mm256_loadu_si256(from.cast())),
                ElementType::F16 | ElementType::BF16 => narrow::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn store<T: Element>(self, row: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            let to = row.as_mut_ptr().add(i);
            match T::TYPE {
                ElementType::F64 => _mm512_storeu_pd(to.cast(), self.0),
                ElementType::F32 => _mm256_storeu_si256(to.cast(), rounded(self)),
                ElementType::F16 | ElementType::BF16 => narrow::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_pairs<T: Element>(row: &[T], i: usize) -> [Self; 2] {
        // SAFETY: as above.
        unsafe {
            match T::TYPE {
                ElementType::F64 => {
                    let (first, second) = (Self::load(row, 2 * i).0, Self::load(row, 2 * i + 8).0);
                    let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
                    let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
                    [
                        Self(_mm512_permutex2var_pd(first, even, second)),
                        Self(_mm512_permutex2var_pd(first, odd, second)),
                    ]
                }
                ElementType::F32 => {
                    let pairs = _mm512_loadu_si512(row.as_ptr().add(2 * i).cast());
                    let odd = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(pairs));
                    [widened(_mm512_cvtepi64_epi32(pairs)), widened(odd)]
                }
                ElementType::F16 | ElementType::BF16 => narrow::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pairs<T: Element>([even, odd]: [Self; 2], row: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            match T::TYPE {
                ElementType::F64 => {
                    let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
                    let second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
                    Self(_mm512_permutex2var_pd(even.0, first, odd.0)).store(row, 2 * i);
                    Self(_mm512_permutex2var_pd(even.0, second, odd.0)).store(row, 2 * i + 8);
                }
                ElementType::F32 => {
                    let to = row.as_mut_ptr().add(2 * i);
                    _mm512_storeu_si512(to.cast(), zipped(rounded(even), rounded(odd)));
                }
                ElementType::F16 | ElementType::BF16 => narrow::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn zip<T: Element>(even: &[T], odd: &[T], both: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            match T::TYPE {
                ElementType::F64 => Self::store_pairs([Self::load(even, i), Self::load(odd, i)], both, i),
                ElementType::F32 => {
                    let even = _mm256_loadu_si256(even.as_ptr().add(i).cast());
                    let odd = _mm256_loadu_si256(odd.as_ptr().add(i).cast());
                    _mm512_storeu_si512(both.as_mut_ptr().add(2 * i).cast(), zipped(even, odd));
                }
                ElementType::F16 | ElementType::BF16 => narrow::<T>(),
            }
        }
    }
}

impl Register for Eight {
    #[inline(always)]
    fn walsh_hadamard(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let own = neighbours::<1>(self.0, u8::MAX);
            let own = neighbours::<2>(own, u8::MAX);
            Self(neighbours::<3>(own, u8::MAX))
        }
    }

    #[inline(always)]
    fn level<const LEVEL: u32>(self) -> Self {
        // SAFETY: as above.
        Self(unsafe { neighbours::<LEVEL>(self.0, lanes_of(LEVEL)) })
    }

    #[inline(always)]
    fn pair_of_level<const LEVEL: u32>(self, other: Self) -> [Self; 2] {
        let of = lanes_of(LEVEL);
        // SAFETY: as above.
        unsafe {
            [
                Self(_mm512_mask_add_pd(self.0, of, self.0, other.0)),
                Self(_mm512_mask_sub_pd(other.0, of, self.0, other.0)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_eighths(self, row: &mut [f64], i: usize) {
        // SAFETY: the caller's.
        unsafe { _mm_store_sd(row.as_mut_ptr().add(i), _mm512_castpd512_pd128(self.0)) }
    }

    #[inline(always)]
    unsafe fn with_eighths(self, row: &[f64], i: usize) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_mask_expandloadu_pd(self.0, 0b1, row.as_ptr().add(i)) })
    }
}
