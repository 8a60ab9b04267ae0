//! The Walsh–Hadamard transform in f64, a row at a time: what is right, with every element's terms, and the same sums faster.

use super::pairs;
use crate::haar::{Hadamard, HadamardProblem};
use crate::reference::product::{View, for_each};
use crate::reference::{Number, Terms};
use crate::tensor::Elements;
use crate::{Cpu, Element, Result};

/// What every element of a row is multiplied by at first, and at last.
///
/// # Safety
/// The problem's diagonals are in ordinary memory.
unsafe fn factors<T: Element>(problem: &HadamardProblem) -> [Vec<f64>; 2] {
    let n = problem.source.extents[2];
    let diagonal = |elements: &Option<Elements<3>>, scale: f64| match elements {
        None => vec![scale; n],
        Some(elements) => {
            let view = View::<T>::new(elements);
            // SAFETY: a diagonal has n elements.
            (0..n).map(|i| scale * unsafe { view.value([0, 0, i]) }).collect()
        }
    };
    let scale = if problem.normalized { (n as f64).sqrt().recip() } else { 1.0 };
    [diagonal(&problem.before, 1.0), diagonal(&problem.after, scale)]
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
                *value = scaled(N::new(unsafe { source.value([batch, row, i]) }), before[i]);
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
                write([batch, row, i], scaled(value, after[i]));
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
    let state = || (vec![0.0; n], vec![T::default(); n]);
    for_each(all.div_ceil(at_once), operations, state, |(values, line), work| {
        for row in work * at_once..all.min((work + 1) * at_once) {
            let first = [row / rows, row % rows, 0];
            // SAFETY: the caller's; a row is read before it is written, by the one thread that does both.
            unsafe {
                source.read_row(first, line);
                pairs::unscale_each(line, values, &before);
                walsh_hadamard(values);
                pairs::scale_each(values, line, &after);
                destination.write_row(first, line);
            }
        }
    });
}

/// Sums and differences of what is 1, 2, 4, … apart.
fn walsh_hadamard(values: &mut [f64]) {
    #[cfg(target_arch = "x86_64")]
    if values.len() >= 8 && std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512.
        return unsafe { super::registers::walsh_hadamard(values) };
    }
    pairs::walsh_hadamard(values);
}
