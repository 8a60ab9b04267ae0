//! Elements side by side, as the sums of whole rows take them: one, of which the compiler makes vectors that any processor has, or the eight of a register of AVX-512.

use std::ops::{Deref, DerefMut};

use crate::Element;

/// Numbers that begin where a line of the cache does, so that no register's numbers are on two of them.
#[derive(Clone)]
pub struct Numbers {
    lines: Vec<Line>,
    count: usize,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "it is read as one of many")] [f64; 8]);

impl Numbers {
    pub fn zeros(count: usize) -> Self {
        Self { lines: vec![Line([0.0; 8]); count.div_ceil(8)], count }
    }
}

impl Deref for Numbers {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        // SAFETY: the lines are as many numbers, without gaps.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.count) }
    }
}

impl DerefMut for Numbers {
    fn deref_mut(&mut self) -> &mut [f64] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.count) }
    }
}

/// So many numbers of f64, which are elements of some type in memory. Their bits are those of [`Element::to_f64`] and [`Element::from_f64`].
pub trait Lanes: Copy {
    const COUNT: usize;

    fn splat(value: f64) -> Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    /// Elements `i`, `i + 1`, …
    ///
    /// # Safety
    /// There are so many; this holds for all functions here, and the processor has the registers.
    unsafe fn load<T: Element>(row: &[T], i: usize) -> Self;
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn store<T: Element>(self, row: &mut [T], i: usize);
    /// Elements `2·i`, `2·i + 2`, …, and those after each of them.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load_pairs<T: Element>(row: &[T], i: usize) -> [Self; 2];
    /// Takes [`Lanes::load_pairs`] back.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn store_pairs<T: Element>(pair: [Self; 2], row: &mut [T], i: usize);
    /// Elements of two rows, as they are, to pairs.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn zip<T: Element>(even: &[T], odd: &[T], both: &mut [T], i: usize);

    #[inline(always)]
    fn pair(self, other: Self) -> [Self; 2] {
        [self.plus(other), self.minus(other)]
    }

    /// As [`crate::reference::Number::add_product`] to nothing: a zero has no sign.
    #[inline(always)]
    fn scaled(self, factor: Self) -> Self {
        Self::splat(0.0).plus(self.times(factor))
    }
}

impl Lanes for f64 {
    const COUNT: usize = 1;

    #[inline(always)]
    fn splat(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self + other
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self - other
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self * other
    }

    #[inline(always)]
    unsafe fn load<T: Element>(row: &[T], i: usize) -> Self {
        // SAFETY: the caller's.
        unsafe { row.get_unchecked(i) }.to_f64()
    }

    #[inline(always)]
    unsafe fn store<T: Element>(self, row: &mut [T], i: usize) {
        // SAFETY: the caller's.
        unsafe { *row.get_unchecked_mut(i) = T::from_f64(self) }
    }

    #[inline(always)]
    unsafe fn load_pairs<T: Element>(row: &[T], i: usize) -> [Self; 2] {
        // SAFETY: the caller's.
        unsafe { [Self::load(row, 2 * i), Self::load(row, 2 * i + 1)] }
    }

    #[inline(always)]
    unsafe fn store_pairs<T: Element>([even, odd]: [Self; 2], row: &mut [T], i: usize) {
        // SAFETY: the caller's.
        unsafe {
            even.store(row, 2 * i);
            odd.store(row, 2 * i + 1);
        }
    }

    #[inline(always)]
    unsafe fn zip<T: Element>(even: &[T], odd: &[T], both: &mut [T], i: usize) {
        // SAFETY: the caller's.
        unsafe {
            *both.get_unchecked_mut(2 * i) = *even.get_unchecked(i);
            *both.get_unchecked_mut(2 * i + 1) = *odd.get_unchecked(i);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub use avx512::Eight;

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::Lanes;
    use crate::{Element, ElementType};

    /// Eight numbers in a register. Everything is inlined where AVX-512's F, BW, DQ and VL are enabled, as [`super::super::pairs`] does.
    #[derive(Clone, Copy)]
    pub struct Eight(pub __m512d);

    /// The bits of every second number of f32 in the upper halves of pairs.
    const UPPER: i32 = 0xffff_0000_u32 as i32;

    #[inline(always)]
    unsafe fn widened(values: __m256i) -> Eight {
        // SAFETY: the caller's.
        Eight(unsafe { _mm512_cvtps_pd(_mm256_castsi256_ps(values)) })
    }

    /// Of f16.
    #[inline(always)]
    unsafe fn half(bits: __m128i) -> Eight {
        // SAFETY: the caller's.
        Eight(unsafe { _mm512_cvtps_pd(_mm256_cvtph_ps(bits)) })
    }

    /// The numbers of f32 that are nearest to them among those with an odd last digit, if they are none themselves: rounded to fewer digits they are what the numbers themselves would be.
    #[inline(always)]
    unsafe fn to_odd(values: Eight) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let nearer_zero = _mm512_cvt_roundpd_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(values.0);
            let differs = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(_mm512_cvtps_pd(nearer_zero), values.0);
            let bits = _mm256_castps_si256(nearer_zero);
            _mm256_mask_or_epi32(bits, differs, bits, _mm256_set1_epi32(1))
        }
    }

    #[inline(always)]
    unsafe fn to_half(values: Eight) -> __m128i {
        // SAFETY: the caller's.
        unsafe { _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_castsi256_ps(to_odd(values))) }
    }

    /// bf16 in the upper halves, anything in the lower ones.
    #[inline(always)]
    unsafe fn to_brain(values: Eight) -> __m256i {
        // SAFETY: the caller's.
        unsafe {
            let bits = to_odd(values);
            let last = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), last);
            let is_nan = _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(values.0, values.0);
            _mm256_mask_or_epi32(rounded, is_nan, bits, _mm256_set1_epi32(0x0040_0000))
        }
    }

    /// Eight pairs of 16 bits.
    #[inline(always)]
    unsafe fn zipped(even: __m128i, odd: __m128i) -> __m256i {
        // SAFETY: the caller's.
        unsafe { _mm256_or_si256(_mm256_cvtepu16_epi32(even), _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(odd))) }
    }

    /// Eight pairs of 32 bits.
    #[inline(always)]
    unsafe fn zipped_wide(even: __m256i, odd: __m256i) -> __m512i {
        // SAFETY: the caller's.
        unsafe { _mm512_or_si512(_mm512_cvtepu32_epi64(even), _mm512_slli_epi64::<32>(_mm512_cvtepu32_epi64(odd))) }
    }

    impl Lanes for Eight {
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
        unsafe fn load<T: Element>(row: &[T], i: usize) -> Self {
            // SAFETY: the caller's; the type of T is what it says.
            unsafe {
                let from = row.as_ptr().add(i);
                match T::TYPE {
                    ElementType::F64 => Self(_mm512_loadu_pd(from.cast())),
                    ElementType::F32 => widened(_mm256_loadu_si256(from.cast())),
                    ElementType::F16 => half(_mm_loadu_si128(from.cast())),
                    ElementType::BF16 => {
                        widened(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()))))
                    }
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
                    ElementType::F32 => _mm256_storeu_ps(to.cast(), _mm512_cvtpd_ps(self.0)),
                    ElementType::F16 => _mm_storeu_si128(to.cast(), to_half(self)),
                    ElementType::BF16 => {
                        let bits = _mm256_srli_epi32::<16>(to_brain(self));
                        _mm_storeu_si128(to.cast(), _mm256_cvtepi32_epi16(bits));
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn load_pairs<T: Element>(row: &[T], i: usize) -> [Self; 2] {
            // SAFETY: as above.
            unsafe {
                let from = row.as_ptr().add(2 * i);
                match T::TYPE {
                    ElementType::F64 => {
                        let (first, second) = (Self::load(row, 2 * i).0, Self::load(row, 2 * i + 8).0);
                        let even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
                        let odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
                        let (even, odd) =
                            (_mm512_permutex2var_pd(first, even, second), _mm512_permutex2var_pd(first, odd, second));
                        [Self(even), Self(odd)]
                    }
                    ElementType::F32 => {
                        let pairs = _mm512_loadu_si512(from.cast());
                        let odd = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(pairs));
                        [widened(_mm512_cvtepi64_epi32(pairs)), widened(odd)]
                    }
                    ElementType::F16 => {
                        let pairs = _mm256_loadu_si256(from.cast());
                        let odd = _mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(pairs));
                        [half(_mm256_cvtepi32_epi16(pairs)), half(odd)]
                    }
                    ElementType::BF16 => {
                        let pairs = _mm256_loadu_si256(from.cast());
                        let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(UPPER));
                        [widened(_mm256_slli_epi32::<16>(pairs)), widened(odd)]
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn store_pairs<T: Element>([even, odd]: [Self; 2], row: &mut [T], i: usize) {
            // SAFETY: as above.
            unsafe {
                let to = row.as_mut_ptr().add(2 * i);
                match T::TYPE {
                    ElementType::F64 => {
                        let first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
                        let second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
                        Self(_mm512_permutex2var_pd(even.0, first, odd.0)).store(row, 2 * i);
                        Self(_mm512_permutex2var_pd(even.0, second, odd.0)).store(row, 2 * i + 8);
                    }
                    ElementType::F32 => {
                        let even = _mm256_castps_si256(_mm512_cvtpd_ps(even.0));
                        let odd = _mm256_castps_si256(_mm512_cvtpd_ps(odd.0));
                        _mm512_storeu_si512(to.cast(), zipped_wide(even, odd));
                    }
                    ElementType::F16 => {
                        _mm256_storeu_si256(to.cast(), zipped(to_half(even), to_half(odd)));
                    }
                    ElementType::BF16 => {
                        let odd = _mm256_and_si256(to_brain(odd), _mm256_set1_epi32(UPPER));
                        let even = _mm256_srli_epi32::<16>(to_brain(even));
                        _mm256_storeu_si256(to.cast(), _mm256_or_si256(even, odd));
                    }
                }
            }
        }

        #[inline(always)]
        unsafe fn zip<T: Element>(even: &[T], odd: &[T], both: &mut [T], i: usize) {
            // SAFETY: as above.
            unsafe {
                let to = both.as_mut_ptr().add(2 * i);
                match T::TYPE {
                    ElementType::F16 | ElementType::BF16 => {
                        let (even, odd) = (even.as_ptr().add(i), odd.as_ptr().add(i));
                        let (even, odd) = (_mm_loadu_si128(even.cast()), _mm_loadu_si128(odd.cast()));
                        _mm256_storeu_si256(to.cast(), zipped(even, odd));
                    }
                    ElementType::F32 => {
                        let (even, odd) = (even.as_ptr().add(i), odd.as_ptr().add(i));
                        let (even, odd) = (_mm256_loadu_si256(even.cast()), _mm256_loadu_si256(odd.cast()));
                        _mm512_storeu_si512(to.cast(), zipped_wide(even, odd));
                    }
                    ElementType::F64 => Self::store_pairs([Self::load(even, i), Self::load(odd, i)], both, i),
                }
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::{bf16, f16};

    use super::super::pairs::has_avx512;
    use super::*;

    /// Numbers of every exponent, between and beside those of fewer digits.
    fn numbers() -> Vec<f64> {
        let special = [0.0, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, f64::from(f32::MAX), 65504.0, 65519.9, 65520.0];
        let digits = [0u64, 1, 1 << 28, 1 << 29, 3 << 28, 1 << 41, 1 << 44, (1 << 44) + 1, 3 << 44, (1 << 52) - 1];
        let exponents = (1023 - 160)..(1023 + 140);
        let numbers = exponents.flat_map(|exponent| digits.map(|digits| f64::from_bits(exponent << 52 | digits)));
        let mut numbers: Vec<f64> = special.into_iter().chain(numbers).flat_map(|value| [value, -value]).collect();
        numbers.extend([f64::NAN, f64::from_bits(f64::INFINITY.to_bits() | ((1 << 52) - 1))]);
        numbers.resize(numbers.len().next_multiple_of(2 * Eight::COUNT), 1.0);
        numbers
    }

    /// What lanes `V` make of numbers: stored and loaded one by one and in pairs, and in turns.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn by<V: Lanes, T: Element>(numbers: &[f64]) -> [Vec<T>; 3] {
        let (n, mut results) = (numbers.len(), [(); 3].map(|()| vec![T::default(); numbers.len()]));
        let [single, pairs, turns] = &mut results;
        for i in (0..n).step_by(V::COUNT) {
            // SAFETY: indices below n.
            unsafe { V::load(numbers, i).store(single, i) };
        }
        let (even, odd) = single.split_at(n / 2);
        for i in (0..n / 2).step_by(V::COUNT) {
            // SAFETY: as above.
            unsafe {
                let [first, second] = V::load_pairs(single, i);
                V::store_pairs([second, first], pairs, i);
                V::zip(even, odd, turns, i);
            }
        }
        results
    }

    fn bits_are_those_of_any_processor<T: Element>() {
        let numbers = numbers();
        // SAFETY: the processor has AVX-512.
        let (got, expected) = unsafe { (by::<Eight, T>(&numbers), by::<f64, T>(&numbers)) };
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            let (got, expected) = (got.to_f64(), expected.to_f64());
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{got:e}, not {expected:e}"
            );
        }
    }

    #[test]
    fn eight_lanes_have_the_bits_of_any_processor() {
        if !has_avx512() {
            println!("not run: this processor has no AVX-512");
            return;
        }
        bits_are_those_of_any_processor::<f32>();
        bits_are_those_of_any_processor::<f16>();
        bits_are_those_of_any_processor::<bf16>();
        bits_are_those_of_any_processor::<f64>();
    }
}
