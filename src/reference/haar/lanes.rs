//! Elements side by side, as the sums of whole rows take them: one, of which the compiler makes vectors that any processor has, or those of a register of AVX-512.

use std::marker::PhantomData;
use std::ops::{Add, Deref, DerefMut, Mul, Sub};

use crate::Element;

#[cfg(target_arch = "x86_64")]
mod eight;
#[cfg(target_arch = "x86_64")]
mod sixteen;

/// What is added up, as [`super::Sums`] says.
pub trait Sum: Element + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// Of a register.
    #[cfg(target_arch = "x86_64")]
    type Widest: Register<Sum = Self>;
}

impl Sum for f64 {
    #[cfg(target_arch = "x86_64")]
    type Widest = eight::Eight;
}

impl Sum for f32 {
    #[cfg(target_arch = "x86_64")]
    type Widest = sixteen::Sixteen;
}

/// Numbers that begin where a line of the cache does, so that no register's numbers are on two of them.
pub struct Numbers<N> {
    lines: Vec<Line>,
    count: usize,
    _number: PhantomData<N>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "it is read as numbers")] [u8; 64]);

impl<N: Sum> Numbers<N> {
    pub fn zeros(count: usize) -> Self {
        let lines = vec![Line([0; 64]); (count * size_of::<N>()).div_ceil(size_of::<Line>())];
        Self { lines, count, _number: PhantomData }
    }
}

impl<N: Sum> Deref for Numbers<N> {
    type Target = [N];

    fn deref(&self) -> &[N] {
        // SAFETY: the lines are at least as many numbers, without gaps, whose bits may be any.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.count) }
    }
}

impl<N: Sum> DerefMut for Numbers<N> {
    fn deref_mut(&mut self) -> &mut [N] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.count) }
    }
}

/// Fetches the line of an element that is wanted soon, where the processor can be told to.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
pub fn prefetch<T>(element: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        // SAFETY: every processor of this kind has it, and any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(element.cast()) };
    }
}

/// So many sums, which are elements of some type in memory: those of 16 bits for f32, others for f64, and sums themselves. Their bits are those of [`Element::to_f64`] and [`Element::from_f64`].
pub trait Lanes: Copy {
    type Sum: Sum;
    const COUNT: usize;

    fn splat(value: Self::Sum) -> Self;
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

    /// Rounded once where the registers can.
    #[inline(always)]
    fn plus_product(self, a: Self, b: Self) -> Self {
        self.plus(a.times(b))
    }

    #[inline(always)]
    fn pair(self, other: Self) -> [Self; 2] {
        [self.plus(other), self.minus(other)]
    }

    /// As [`crate::reference::Number::add_product`] to nothing: a zero has no sign.
    #[inline(always)]
    fn scaled(self, factor: Self) -> Self {
        Self::splat(Self::Sum::default()).plus(self.times(factor))
    }
}

/// Lanes that add up what is in one register.
#[cfg(target_arch = "x86_64")]
pub trait Register: Lanes {
    /// Sums and differences of what is 1, 2, 4, … apart.
    fn walsh_hadamard(self) -> Self;
    /// Sums and differences of those multiples of 2^(`LEVEL` − 1) that are as far apart, in their places; `LEVEL` is 1, 2 or 3.
    fn level<const LEVEL: u32>(self) -> Self;
    /// As [`Lanes::pair`], of the multiples of 2^(`LEVEL` − 1) alone.
    fn pair_of_level<const LEVEL: u32>(self, other: Self) -> [Self; 2];
    /// Every eighth number, to `i`, `i + 1`, …
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn store_eighths(self, row: &mut [Self::Sum], i: usize);
    /// Takes [`Register::store_eighths`] back.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn with_eighths(self, row: &[Self::Sum], i: usize) -> Self;
}

impl<N: Sum> Lanes for N {
    type Sum = N;
    const COUNT: usize = 1;

    #[inline(always)]
    fn splat(value: N) -> Self {
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
        N::from_f64(unsafe { row.get_unchecked(i) }.to_f64())
    }

    #[inline(always)]
    unsafe fn store<T: Element>(self, row: &mut [T], i: usize) {
        // SAFETY: the caller's.
        unsafe { *row.get_unchecked_mut(i) = T::from_f64(self.to_f64()) }
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::{bf16, f16};

    use super::super::pairs::has_avx512;
    use super::*;

    /// Numbers of every exponent, between and beside those of fewer digits.
    fn numbers<N: Sum>() -> Vec<N> {
        let special = [0.0, f64::INFINITY, f64::MAX, f64::MIN_POSITIVE, f64::from(f32::MAX), 65504.0, 65519.9, 65520.0];
        let digits =
            [0u64, 1, 1 << 28, 1 << 29, 3 << 28, 1 << 41, 1 << 44, (1 << 44) + (1 << 29), 3 << 44, (1 << 52) - 1];
        let exponents = (1023 - 160)..(1023 + 140);
        let numbers = exponents.flat_map(|exponent| digits.map(|digits| f64::from_bits(exponent << 52 | digits)));
        let mut numbers: Vec<f64> = special.into_iter().chain(numbers).flat_map(|value| [value, -value]).collect();
        numbers.extend([f64::NAN, f64::from_bits(f64::INFINITY.to_bits() | ((1 << 52) - 1))]);
        numbers.resize(numbers.len().next_multiple_of(2 * N::Widest::COUNT), 1.0);
        numbers.into_iter().map(N::from_f64).collect()
    }

    /// What lanes `V` make of numbers: stored and loaded one by one and in pairs, and in turns.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn by<V: Lanes, T: Element>(numbers: &[V::Sum]) -> [Vec<T>; 3] {
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

    fn bits_are_those_of_any_processor<T: Element, N: Sum>() {
        let numbers = numbers::<N>();
        // SAFETY: the processor has AVX-512.
        let (got, expected) = unsafe { (by::<N::Widest, T>(&numbers), by::<N, T>(&numbers)) };
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            let (got, expected) = (got.to_f64(), expected.to_f64());
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{got:e}, not {expected:e}"
            );
        }
    }

    #[test]
    fn registers_have_the_bits_of_any_processor() {
        if !has_avx512() {
            println!("not run: this processor has no AVX-512");
            return;
        }
        bits_are_those_of_any_processor::<f32, f64>();
        bits_are_those_of_any_processor::<f64, f64>();
        bits_are_those_of_any_processor::<f16, f32>();
        bits_are_those_of_any_processor::<bf16, f32>();
        bits_are_those_of_any_processor::<f32, f32>();
    }
}
