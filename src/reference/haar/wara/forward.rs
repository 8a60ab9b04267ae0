//! `y = x·(W + ΔW)ᵀ`.

use super::tokens::filtered;
use super::{Group, branch, for_each_tile, groups, ranks, row_major, shrink};
use crate::haar::{Base, ForwardProblem, WaraForward};
use crate::reference::product::View;
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Result};

/// Calls `write(row, column, value)` for every element of y.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them but `write`, to the elements of y that it is called for.
unsafe fn run_forward<T: Element, P: Element, N: Number>(
    problem: &ForwardProblem,
    write: impl Fn(usize, usize, N) + Sync,
) {
    let adapter = &problem.adapter;
    let ([_, m, k], [n, _]) = (problem.x.extents, adapter.shape);
    let (x, y, groups) = (View::<T>::new(&problem.x), View::<T>::new(&problem.y), groups::<P>(adapter));
    // SAFETY: indices within the extents.
    let x = |row, column| unsafe { x.value([0, row, column]) };
    // SAFETY: indices within the extents.
    let h = shrink::<P, N>(&groups, [m, k], x, |group, rank, d| unsafe { group.a(rank, d) }, |group| group.gain);
    let h = filtered(adapter, &groups, h, false);
    let ranks = ranks(&groups);
    for_each_tile::<N>([m, n], k + ranks, |[base, sums], rows, columns| {
        // SAFETY: indices within the extents.
        let b = |group: &Group<P>, column, rank| unsafe { group.b(column, rank) };
        branch(&groups, sums, [&rows, &columns], |row, rank| h[row * ranks + rank], b);
        if let Base::Dense(w) = &problem.base {
            let w = View::<T>::new(w);
            let extents = [rows.len(), columns.len(), k];
            base.product(
                extents,
                |i, d| N::new(x(rows.start + i, d)),
                // SAFETY: indices within the extents.
                |j, d| unsafe { w.value([0, columns.start + j, d]) },
            );
        }
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                let mut value = match &problem.base {
                    Base::None => N::default(),
                    Base::Dense(_) => base.get(i, j),
                    // SAFETY: indices within the extents.
                    Base::InY => N::new(unsafe { y.value([0, row, column]) }),
                };
                value.add_product(sums.get(i, j), f64::from(adapter.scale));
                write(row, column, value);
            }
        }
    });
}

/// Value and Σ|terms| of every element that [`crate::haar::wara_forward`] would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::haar::wara_forward`].
pub fn wara_forward_terms<T: Element, P: Element>(call: &WaraForward<'_, T, P, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("haar::wara_forward_terms", Some(&Cpu), &mut guards)?;
    let mut result = vec![Terms::default(); problem.y.extents.iter().product()];
    let view = View::<Terms>::new(&row_major(&mut result, problem.y.extents));
    // SAFETY: the call's views were proven; every element of the result is written by one thread.
    unsafe { run_forward::<T, P, Terms>(&problem, |row, column, terms| view.set([0, row, column], terms)) };
    Ok(result)
}

/// What [`crate::haar::wara_forward`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and y is disjoint from everything else.
pub(crate) unsafe fn wara_forward<T: Element, P: Element>(problem: &ForwardProblem) {
    let y = View::<T>::new(&problem.y);
    // SAFETY: the caller's; an element of y is read before it is written, by the one thread that does both.
    unsafe { run_forward::<T, P, f64>(problem, |row, column, value| y.set([0, row, column], T::from_f64(value))) };
}
