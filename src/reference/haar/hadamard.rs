//! The Walsh–Hadamard transform, a row at a time: what is right, with every element's terms, and the same sums faster.

use super::lanes::{Lanes, Numbers, Sum};
#[cfg(target_arch = "x86_64")]
use super::registers;
use super::{Sums, pairs};
use crate::haar::{Hadamard, HadamardProblem};
use crate::reference::product::{View, for_each};
use crate::reference::{Number, Terms};
use crate::tensor::Elements;
use crate::{Cpu, Element, Result};

/// What the elements of a row are multiplied by.
pub struct Factors<N> {
    /// Of all.
    scale: N,
    /// Of each, scale included.
    diagonal: Option<Vec<N>>,
}

impl<N: Element> Factors<N> {
    /// # Safety
    /// The diagonal is in ordinary memory.
    unsafe fn new<T: Element>(diagonal: &Option<Elements<3>>, scale: f64) -> Self {
        let scaled = |elements| {
            let view = View::<T>::new(elements);
            // SAFETY: the caller's; an index within the extents.
            (0..elements.extents[2]).map(|i| N::from_f64(scale * unsafe { view.value([0, 0, i]) })).collect()
        };
        Self { scale: N::from_f64(scale), diagonal: diagonal.as_ref().map(scaled) }
    }

    /// How many of so many elements have one.
    pub fn count(&self, elements: usize) -> usize {
        self.diagonal.as_ref().map_or(elements, |diagonal| diagonal.len().min(elements))
    }

    /// Whether they are ones.
    #[cfg(target_arch = "x86_64")]
    pub fn is_one(&self) -> bool {
        self.diagonal.is_none() && self.scale == N::from_f64(1.0)
    }

    /// # Safety
    /// As [`Lanes::load`].
    #[inline(always)]
    pub unsafe fn lanes<V: Lanes<Sum = N>>(&self, i: usize) -> V
    where
        N: Sum,
    {
        match &self.diagonal {
            // SAFETY: the caller's.
            Some(diagonal) => unsafe { V::load(diagonal, i) },
            None => V::splat(self.scale),
        }
    }

    fn of(&self, i: usize) -> f64 {
        self.diagonal.as_ref().map_or(self.scale, |diagonal| diagonal[i]).to_f64()
    }
}

/// Those at first, and those at last.
///
/// # Safety
/// The problem's diagonals are in ordinary memory.
unsafe fn factors<T: Element, N: Element>(problem: &HadamardProblem) -> [Factors<N>; 2] {
    let n = problem.source.extents[2];
    let scale = if problem.normalized { (n as f64).sqrt().recip() } else { 1.0 };
    // SAFETY: the caller's.
    unsafe { [Factors::new::<T>(&problem.before, 1.0), Factors::new::<T>(&problem.after, scale)] }
}

/// Calls `write([batch, row, column], value)` for every element of the result.
///
/// # Safety
/// The problem's inputs are in ordinary memory, and a row is written to by its own `write` alone, if at all.
unsafe fn run<T: Element, N: Number>(problem: &HadamardProblem, write: impl Fn([usize; 3], N) + Sync) {
    let [batches, rows, n] = problem.source.extents;
    let source = View::<T>::new(&problem.source);
    // SAFETY: the caller's.
    let [before, after] = unsafe { factors::<T, f64>(problem) };
    let scaled = |value: N, factor: f64| {
        let mut product = N::default();
        product.add_product(value, factor);
        product
    };
    let operations = (batches * rows * n).saturating_mul(4 + n.ilog2() as usize);
    for_each(
        batches * rows,
        operations,
        || vec![N::default(); n],
        |values, work| {
            let (batch, row) = (work / rows, work % rows);
            for (i, value) in values.iter_mut().enumerate() {
                // SAFETY: an index within the extents.
                *value = scaled(N::new(unsafe { source.value([batch, row, i]) }), before.of(i));
            }
            for half in (0..n.ilog2()).map(|bit| 1usize << bit) {
                for block in values.chunks_exact_mut(2 * half) {
                    let (left, right) = block.split_at_mut(half);
                    for (a, b) in left.iter_mut().zip(right) {
                        let (mut sum, mut difference) = (*a, *a);
                        sum.add(*b);
                        difference.add_product(*b, -1.0);
                        (*a, *b) = (sum, difference);
                    }
                }
            }
            for (i, &value) in values.iter().enumerate() {
                write([batch, row, i], scaled(value, after.of(i)));
            }
        },
    );
}

/// Value and Σ|terms| of every element that [`crate::haar::hadamard`] would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::haar::hadamard`].
pub fn hadamard_terms<T: Element>(call: &Hadamard<'_, T, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("haar::hadamard_terms", Some(&Cpu), &mut guards)?;
    let mut result = vec![Terms::default(); problem.destination.extents.iter().product()];
    let view = View::<Terms>::new(&super::row_major(&mut result, problem.destination.extents));
    // SAFETY: the call's views were proven; every element of the result is written by one thread.
    unsafe { run::<T, Terms>(&problem, |index, terms| view.set(index, terms)) };
    Ok(result)
}

/// What [`crate::haar::hadamard`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its destination is disjoint from its inputs, or its source.
pub(crate) unsafe fn hadamard<T: Element>(problem: &HadamardProblem) {
    match Sums::of::<T>() {
        // SAFETY: the caller's.
        Sums::F32 => unsafe { hadamard_in::<T, f32>(problem) },
        // SAFETY: the caller's.
        Sums::F64 => unsafe { hadamard_in::<T, f64>(problem) },
    }
}

/// # Safety
/// As [`hadamard`].
unsafe fn hadamard_in<T: Element, N: Sum>(problem: &HadamardProblem) {
    /// Of the rows that a core takes at a time.
    const ELEMENTS: usize = 1 << 14;
    let [batches, rows, n] = problem.source.extents;
    let (source, destination) = (View::<T>::new(&problem.source), View::<T>::new(&problem.destination));
    // SAFETY: the caller's.
    let [before, after] = unsafe { factors::<T, N>(problem) };
    let (all, at_once) = (batches * rows, (ELEMENTS / n).max(1));
    let operations = (all * n).saturating_mul(1 + n.ilog2() as usize);
    let lines = || [(); 2].map(|()| vec![T::default(); n]);
    for_each(
        all.div_ceil(at_once),
        operations,
        || (Numbers::zeros(n), lines()),
        |(values, [from, to]), work| {
            for row in work * at_once..all.min((work + 1) * at_once) {
                let first = [row / rows, row % rows, 0];
                let in_place = source.pointer(first) == destination.pointer(first);
                // SAFETY: the caller's; a row is read before it is written, by the one thread that does both. A row that is written is borrowed by nobody else.
                unsafe {
                    let from = match source.is_row_major() && !in_place {
                        true => source.sheet(first).row(0, n),
                        false => {
                            source.read_row(first, from);
                            &*from
                        }
                    };
                    match destination.is_row_major() {
                        true => walsh_hadamard(from, destination.sheet(first).row_mut(0, n), values, &before, &after),
                        false => {
                            walsh_hadamard(from, to, values, &before, &after);
                            destination.write_row(first, to);
                        }
                    }
                }
            }
        },
    );
}

/// Sums and differences of what is 1, 2, 4, … apart, with factors before and after them.
fn walsh_hadamard<T: Element, N: Sum>(
    source: &[T],
    destination: &mut [T],
    values: &mut [N],
    before: &Factors<N>,
    after: &Factors<N>,
) {
    #[cfg(target_arch = "x86_64")]
    if pairs::has_avx512() && registers::hold::<N>(source.len()) {
        // SAFETY: the processor has AVX-512.
        return unsafe { registers::walsh_hadamard(source, destination, values, before, after) };
    }
    pairs::unscale_each(source, values, before);
    pairs::walsh_hadamard(values);
    pairs::scale_each(values, destination, after);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn bits_are_those_of_any_processor<T: Element, N: Sum>(n: usize, diagonals: [bool; 2]) {
        let value = |i: usize| ((i * 37 % 1009) as f64 - 504.0) / 7.0;
        let factors = |scale: f64, diagonal: bool| Factors {
            scale: N::from_f64(scale),
            diagonal: diagonal.then(|| (0..n).map(|i| N::from_f64(scale * value(i + 5))).collect()),
        };
        let (before, after) = (factors(1.0, diagonals[0]), factors(0.3, diagonals[1]));
        let source: Vec<T> = (0..n).map(|i| T::from_f64(value(i))).collect();
        let (mut got, mut expected) = (vec![T::default(); n], vec![T::default(); n]);
        let mut values = vec![N::default(); n];
        // SAFETY: the processor has AVX-512.
        unsafe { registers::walsh_hadamard(&source, &mut got, &mut values, &before, &after) };
        let scaled = |value: N, factors: &Factors<N>, i| value.scaled(N::from_f64(factors.of(i)));
        (0..n).for_each(|i| values[i] = scaled(N::from_f64(source[i].to_f64()), &before, i));
        pairs::walsh_hadamard(&mut values);
        (0..n).for_each(|i| expected[i] = T::from_f64(scaled(values[i], &after, i).to_f64()));
        assert_eq!(got, expected, "{n} {diagonals:?}");
    }

    #[test]
    fn registers_have_the_bits_of_any_processor() {
        if !pairs::has_avx512() {
            println!("not run: this processor has no AVX-512");
            return;
        }
        for diagonals in [[false, false], [false, true], [true, false], [true, true]] {
            for n in (0..=16).map(|levels| 1usize << levels) {
                if registers::hold::<f64>(n) {
                    bits_are_those_of_any_processor::<f32, f64>(n, diagonals);
                    bits_are_those_of_any_processor::<f64, f64>(n, diagonals);
                }
                if registers::hold::<f32>(n) {
                    bits_are_those_of_any_processor::<f16, f32>(n, diagonals);
                    bits_are_those_of_any_processor::<bf16, f32>(n, diagonals);
                }
            }
        }
    }
}
