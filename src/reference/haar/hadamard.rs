//! The Walsh–Hadamard transform in f64, a row at a time: what is right, with every element's terms, and the same sums faster.

use super::lanes::{Lanes, Numbers};
use super::pairs;
#[cfg(target_arch = "x86_64")]
use super::registers;
use crate::haar::{Hadamard, HadamardProblem};
use crate::reference::product::{View, for_each};
use crate::reference::{Number, Terms};
use crate::tensor::Elements;
use crate::{Cpu, Element, Result};

/// What the elements of a row are multiplied by.
pub struct Factors {
    /// Of all.
    scale: f64,
    /// Of each, scale included.
    diagonal: Option<Vec<f64>>,
}

impl Factors {
    /// # Safety
    /// The diagonal is in ordinary memory.
    unsafe fn new<T: Element>(diagonal: &Option<Elements<3>>, scale: f64) -> Self {
        let scaled = |elements| {
            let view = View::<T>::new(elements);
            // SAFETY: the caller's; an index within the extents.
            (0..elements.extents[2]).map(|i| scale * unsafe { view.value([0, 0, i]) }).collect()
        };
        Self { scale, diagonal: diagonal.as_ref().map(scaled) }
    }

    /// How many of so many elements have one.
    pub fn count(&self, elements: usize) -> usize {
        self.diagonal.as_ref().map_or(elements, |diagonal| diagonal.len().min(elements))
    }

    /// # Safety
    /// As [`Lanes::load`].
    #[inline(always)]
    pub unsafe fn lanes<V: Lanes>(&self, i: usize) -> V {
        match &self.diagonal {
            // SAFETY: the caller's.
            Some(diagonal) => unsafe { V::load(diagonal, i) },
            None => V::splat(self.scale),
        }
    }

    fn of(&self, i: usize) -> f64 {
        self.diagonal.as_ref().map_or(self.scale, |diagonal| diagonal[i])
    }
}

/// Those at first, and those at last.
///
/// # Safety
/// The problem's diagonals are in ordinary memory.
unsafe fn factors<T: Element>(problem: &HadamardProblem) -> [Factors; 2] {
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
    let [before, after] = unsafe { factors::<T>(problem) };
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
    /// Of the rows that a core takes at a time.
    const ELEMENTS: usize = 1 << 14;
    let [batches, rows, n] = problem.source.extents;
    let (source, destination) = (View::<T>::new(&problem.source), View::<T>::new(&problem.destination));
    // SAFETY: the caller's.
    let [before, after] = unsafe { factors::<T>(problem) };
    let (all, at_once) = (batches * rows, (ELEMENTS / n).max(1));
    let operations = (all * n).saturating_mul(1 + n.ilog2() as usize);
    let state = || (Numbers::zeros(n), vec![T::default(); n]);
    for_each(all.div_ceil(at_once), operations, state, |(values, line), work| {
        for row in work * at_once..all.min((work + 1) * at_once) {
            let first = [row / rows, row % rows, 0];
            // SAFETY: the caller's; a row is read before it is written, by the one thread that does both.
            unsafe {
                source.read_row(first, line);
                walsh_hadamard(line, values, &before, &after);
                destination.write_row(first, line);
            }
        }
    });
}

/// Sums and differences of what is 1, 2, 4, … apart, with factors before and after them.
fn walsh_hadamard<T: Element>(row: &mut [T], values: &mut [f64], before: &Factors, after: &Factors) {
    #[cfg(target_arch = "x86_64")]
    if pairs::has_avx512() && registers::hold(row.len()) {
        // SAFETY: the processor has AVX-512.
        return unsafe { registers::walsh_hadamard(row, values, before, after) };
    }
    pairs::unscale_each(row, values, before);
    pairs::walsh_hadamard(values);
    pairs::scale_each(values, row, after);
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use half::{bf16, f16};

    use super::*;

    fn bits_are_those_of_any_processor<T: Element>(n: usize, diagonal: bool) {
        let value = |i: usize| ((i * 37 % 1009) as f64 - 504.0) / 7.0;
        let factors =
            |scale| Factors { scale, diagonal: diagonal.then(|| (0..n).map(|i| scale * value(i + 5)).collect()) };
        let (before, after) = (factors(1.0), factors(0.3));
        let row: Vec<T> = (0..n).map(|i| T::from_f64(value(i))).collect();
        let (mut got, mut expected, mut values) = (row.clone(), row, vec![0.0; n]);
        // SAFETY: the processor has AVX-512.
        unsafe { registers::walsh_hadamard(&mut got, &mut values, &before, &after) };
        for (value, &element) in values.iter_mut().zip(&expected) {
            *value = element.to_f64();
        }
        (0..n).for_each(|i| values[i] = 0.0 + values[i] * before.of(i));
        pairs::walsh_hadamard(&mut values);
        (0..n).for_each(|i| expected[i] = T::from_f64(0.0 + values[i] * after.of(i)));
        assert_eq!(got, expected, "{n} {diagonal}");
    }

    #[test]
    fn registers_have_the_bits_of_any_processor() {
        if !pairs::has_avx512() {
            println!("not run: this processor has no AVX-512");
            return;
        }
        for n in (0..=16).map(|levels| 1usize << levels).filter(|&n| registers::hold(n)) {
            for diagonal in [false, true] {
                bits_are_those_of_any_processor::<f32>(n, diagonal);
                bits_are_those_of_any_processor::<f16>(n, diagonal);
                bits_are_those_of_any_processor::<bf16>(n, diagonal);
                bits_are_those_of_any_processor::<f64>(n, diagonal);
            }
        }
    }
}
