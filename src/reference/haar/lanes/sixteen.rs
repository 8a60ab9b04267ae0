//! Sums of f32 in a register of AVX-512.

use std::arch::x86_64::*;

use super::{Lanes, Register};
use crate::{Element, ElementType};

/// Sixteen numbers, which are elements of f16, bf16 or f32. Everything is inlined where AVX-512's F, BW, DQ and VL are enabled, as [`super::super::pairs`] does.
#[derive(Clone, Copy)]
pub struct Sixteen(__m512);

/// Of f16.
#[inline(always)]
unsafe fn half(bits: __m256i) -> Sixteen {
    // SAFETY: the caller's.
    Sixteen(unsafe { _mm512_cvtph_ps(bits) })
}

#[inline(always)]
unsafe fn to_half(values: Sixteen) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(values.0) }
}

/// Of bf16 in the upper halves.
#[inline(always)]
unsafe fn brain(bits: __m512i) -> Sixteen {
    // SAFETY: the caller's.
    Sixteen(unsafe { _mm512_castsi512_ps(bits) })
}

/// bf16 in the upper halves, anything in the lower ones.
#[inline(always)]
unsafe fn to_brain(values: Sixteen) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let bits = _mm512_castps_si512(values.0);
        let last = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values.0, values.0);
        _mm512_mask_or_epi32(rounded, is_nan, bits, _mm512_set1_epi32(0x0040_0000))
    }
}

/// The bits of what is in the upper halves.
#[inline(always)]
unsafe fn upper(bits: __m512i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000_u32 as i32)) }
}

/// Sums and differences of the lanes of `of` that are 2^(`LEVEL` − 1) apart; the others as they are.
#[inline(always)]
unsafe fn neighbours<const LEVEL: u32>(values: __m512, of: __mmask16) -> __m512 {
    let negative = [0b1010_1010_1010_1010, 0b1100_1100_1100_1100, 0b1111_0000_1111_0000, 0b1111_1111_0000_0000];
    // SAFETY: the caller's. Times 1 or −1 and added, each is what a sum or a difference would be.
    unsafe {
        let signs = _mm512_mask_blend_ps(negative[LEVEL as usize - 1], _mm512_set1_ps(1.0), _mm512_set1_ps(-1.0));
        let others = match LEVEL {
            1 => _mm512_permute_ps::<0b1011_0001>(values),
            2 => _mm512_permute_ps::<0b0100_1110>(values),
            3 => _mm512_shuffle_f32x4::<0b1011_0001>(values, values),
            _ => _mm512_shuffle_f32x4::<0b0100_1110>(values, values),
        };
        _mm512_mask_fmadd_ps(values, of, signs, others)
    }
}

/// The multiples of 2^(`level` − 1).
const fn lanes_of(level: u32) -> __mmask16 {
    [0b1111_1111_1111_1111, 0b0101_0101_0101_0101, 0b0001_0001_0001_0001][level as usize - 1]
}

/// Sixteen pairs.
#[inline(always)]
unsafe fn zipped(even: __m256i, odd: __m256i) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_or_si512(_mm512_cvtepu16_epi32(even), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(odd))) }
}

fn wide<T: Element>() -> ! {
    unreachable!("elements of {} are added up in f64", T::TYPE)
}

impl Lanes for Sixteen {
    type Sum = f32;
    const COUNT: usize = 16;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        // SAFETY: the type is used where the processor has the registers; so below.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
    }

    #[inline(always)]
    unsafe fn load<T: Element>(row: &[T], i: usize) -> Self {
        // SAFETY: the caller's; the type of T is what it says.
        unsafe {
            let from = row.as_ptr().add(i);
            match T::TYPE {
                ElementType::F32 => Self(_mm512_loadu_ps(from.cast())),
                ElementType::F16 => half(_mm256_loadu_si256(from.cast())),
                ElementType::BF16 => {
                    brain(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()))))
                }
                ElementType::F64 => wide::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn store<T: Element>(self, row: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            let to = row.as_mut_ptr().add(i);
            match T::TYPE {
                ElementType::F32 => _mm512_storeu_ps(to.cast(), self.0),
                ElementType::F16 => _mm256_storeu_si256(to.cast(), to_half(self)),
                ElementType::BF16 => {
                    let bits = _mm512_srli_epi32::<16>(to_brain(self));
                    _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(bits));
                }
                ElementType::F64 => wide::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_pairs<T: Element>(row: &[T], i: usize) -> [Self; 2] {
        // SAFETY: as above.
        unsafe {
            let from = row.as_ptr().add(2 * i);
            match T::TYPE {
                ElementType::F32 => {
                    let (first, second) = (Self::load(row, 2 * i).0, Self::load(row, 2 * i + 16).0);
                    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
                    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
                    [
                        Self(_mm512_permutex2var_ps(first, even, second)),
                        Self(_mm512_permutex2var_ps(first, odd, second)),
                    ]
                }
                ElementType::F16 => {
                    let pairs = _mm512_loadu_si512(from.cast());
                    let odd = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(pairs));
                    [half(_mm512_cvtepi32_epi16(pairs)), half(odd)]
                }
                ElementType::BF16 => {
                    let pairs = _mm512_loadu_si512(from.cast());
                    [brain(_mm512_slli_epi32::<16>(pairs)), brain(upper(pairs))]
                }
                ElementType::F64 => wide::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pairs<T: Element>([even, odd]: [Self; 2], row: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            let to = row.as_mut_ptr().add(2 * i);
            match T::TYPE {
                ElementType::F32 => {
                    let first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
                    let second = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
                    Self(_mm512_permutex2var_ps(even.0, first, odd.0)).store(row, 2 * i);
                    Self(_mm512_permutex2var_ps(even.0, second, odd.0)).store(row, 2 * i + 16);
                }
                ElementType::F16 => _mm512_storeu_si512(to.cast(), zipped(to_half(even), to_half(odd))),
                ElementType::BF16 => {
                    let even = _mm512_srli_epi32::<16>(to_brain(even));
                    _mm512_storeu_si512(to.cast(), _mm512_or_si512(even, upper(to_brain(odd))));
                }
                ElementType::F64 => wide::<T>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn zip<T: Element>(even: &[T], odd: &[T], both: &mut [T], i: usize) {
        // SAFETY: as above.
        unsafe {
            match T::TYPE {
                ElementType::F32 => Self::store_pairs([Self::load(even, i), Self::load(odd, i)], both, i),
                ElementType::F16 | ElementType::BF16 => {
                    let even = _mm256_loadu_si256(even.as_ptr().add(i).cast());
                    let odd = _mm256_loadu_si256(odd.as_ptr().add(i).cast());
                    _mm512_storeu_si512(both.as_mut_ptr().add(2 * i).cast(), zipped(even, odd));
                }
                ElementType::F64 => wide::<T>(),
            }
        }
    }
}

impl Register for Sixteen {
    #[inline(always)]
    fn walsh_hadamard(self) -> Self {
        // SAFETY: as above.
        unsafe {
            let own = neighbours::<1>(self.0, u16::MAX);
            let own = neighbours::<2>(own, u16::MAX);
            let own = neighbours::<3>(own, u16::MAX);
            Self(neighbours::<4>(own, u16::MAX))
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
                Self(_mm512_mask_add_ps(self.0, of, self.0, other.0)),
                Self(_mm512_mask_sub_ps(other.0, of, self.0, other.0)),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_eighths(self, row: &mut [f32], i: usize) {
        // SAFETY: the caller's.
        unsafe {
            _mm_store_ss(row.as_mut_ptr().add(i), _mm512_castps512_ps128(self.0));
            _mm_store_ss(row.as_mut_ptr().add(i + 1), _mm512_extractf32x4_ps::<2>(self.0));
        }
    }

    #[inline(always)]
    unsafe fn with_eighths(self, row: &[f32], i: usize) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { _mm512_mask_expandloadu_ps(self.0, 0b1_0000_0001, row.as_ptr().add(i)) })
    }
}
