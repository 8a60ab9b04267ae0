//! The gradients of x and of the factors.

use super::tokens::filtered;
use super::{Group, branch, for_each_tile, groups, ranks, row_major, shrink, tile};
use crate::haar::{BackwardProblem, WaraBackward};
use crate::reference::product::{TILE, View, for_each};
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Result};

/// Which output of a backward call.
#[derive(Clone, Copy)]
enum Output {
    Dx,
    /// Of a pair of factors.
    Da(usize),
    Db(usize),
}

/// Calls `write(output, row, column, value)` for every element of every output.
///
/// # Safety
/// The problem's inputs are in ordinary memory, and nobody writes to them.
unsafe fn run_backward<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    write: impl Fn(Output, usize, usize, N) + Sync,
) {
    let adapter = &problem.adapter;
    let ([_, m, k], [n, _]) = (problem.x.extents, adapter.shape);
    let groups = groups::<P>(adapter);
    let (x, dy) = (View::<T>::new(&problem.x), View::<T>::new(&problem.dy));
    // SAFETY: indices within the extents.
    let x = |row, column| unsafe { x.value([0, row, column]) };
    // SAFETY: indices within the extents.
    let dy = |row, column| unsafe { dy.value([0, row, column]) };
    // SAFETY: indices within the extents.
    let a = |group: &Group<P>, rank, d| unsafe { group.a(rank, d) };
    // SAFETY: indices within the extents.
    let b = |group: &Group<P>, rank, d| unsafe { group.b(d, rank) };
    let h = filtered(adapter, &groups, shrink::<P, N>(&groups, [m, k], x, a, |group| group.gain), false);
    let scale = f64::from(adapter.scale);
    let t = shrink::<P, N>(&groups, [m, n], dy, b, |group| group.gain * scale);
    let t = filtered(adapter, &groups, t, true);
    let ranks = ranks(&groups);
    for (factor, [da, db]) in problem.gradients.iter().enumerate() {
        let [_, rank, places] = da.extents;
        gradient(&groups, factor, 1, [places, rank], [m, k], x, &t, |place, rank, value| {
            write(Output::Da(factor), rank, place, value);
        });
        let [_, places, rank] = db.extents;
        gradient(&groups, factor, 0, [places, rank], [m, n], dy, &h, |place, rank, sum: N| {
            let mut value = N::default();
            value.add_product(sum, scale);
            write(Output::Db(factor), place, rank, value);
        });
    }
    if problem.dx.is_none() {
        return;
    }
    for_each_tile::<N>([m, k], n + ranks, |[base, sums], rows, columns| {
        branch(
            &groups,
            sums,
            [&rows, &columns],
            |row, rank| t[row * ranks + rank],
            |group, column, rank| a(group, rank, column),
        );
        if let Some(w) = &problem.w {
            let w = View::<T>::new(w);
            let extents = [rows.len(), columns.len(), n];
            base.product(
                extents,
                |i, d| N::new(dy(rows.start + i, d)),
                // SAFETY: indices within the extents.
                |j, d| unsafe { w.value([0, d, columns.start + j]) },
            );
        }
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                let mut value = if problem.w.is_some() { base.get(i, j) } else { N::default() };
                value.add(sums.get(i, j));
                write(Output::Dx, row, column, value);
            }
        }
    });
}

/// Calls `write(place, rank, value)` for every element of a factor's gradient, `places` along the axis: `Σ ± source(token, i)·intermediate(token, rank)` over tokens, and all i of the place.
#[allow(clippy::too_many_arguments)]
fn gradient<P: Element, N: Number>(
    groups: &[Group<P>],
    factor: usize,
    axis: usize,
    [places, rank]: [usize; 2],
    [m, extent]: [usize; 2],
    source: impl Fn(usize, usize) -> f64 + Sync,
    intermediate: &[N],
    write: impl Fn(usize, usize, N) + Sync,
) {
    let ranks = ranks(groups);
    let operations = (m * extent).saturating_mul(rank * groups.len());
    for_each(
        places.div_ceil(TILE),
        operations,
        || vec![N::default(); TILE * rank],
        |sums, work| {
            let places = tile(work, places);
            sums.fill(N::default());
            for group in groups.iter().filter(|group| group.factor == factor) {
                let of_group = &group.places[axis];
                let shared = places.start.max(of_group.start)..places.end.min(of_group.end);
                for (token, place) in (0..m).flat_map(|token| shared.clone().map(move |place| (token, place))) {
                    let first = (place - of_group.start) << group.level;
                    for i in first..extent.min(first + (1 << group.level)) {
                        let value = group.sign(axis, i) * source(token, i);
                        let begin = (place - places.start) * rank;
                        let intermediate = &intermediate[token * ranks + group.first..][..rank];
                        for (sum, &of_rank) in sums[begin..begin + rank].iter_mut().zip(intermediate) {
                            sum.add_product(of_rank, value);
                        }
                    }
                }
            }
            for (i, place) in places.clone().enumerate() {
                for j in 0..rank {
                    write(place, j, sums[i * rank + j]);
                }
            }
        },
    );
}

/// Values and Σ|terms| of what [`crate::haar::wara_backward`] would write, each in row-major order.
#[derive(Debug, Default)]
pub struct WaraGradients {
    /// [m, k]; empty where it was not asked for.
    pub dx: Vec<Terms>,
    /// `[dA, dB]` of each pair of factors; empty where they were not asked for.
    pub factors: Vec<[Vec<Terms>; 2]>,
}

/// Values and Σ|terms| of every element that [`crate::haar::wara_backward`] would write. Writes nothing.
///
/// # Errors
/// Those of [`crate::haar::wara_backward`].
pub fn wara_backward_terms<T: Element, P: Element>(call: &WaraBackward<'_, T, P, Cpu>) -> Result<WaraGradients> {
    let mut guards = Vec::new();
    let problem = call.problem("haar::wara_backward_terms", Some(&Cpu), &mut guards)?;
    let terms = |elements: &crate::tensor::Elements<3>| vec![Terms::default(); elements.extents.iter().product()];
    let mut result = WaraGradients {
        dx: problem.dx.iter().flat_map(terms).collect(),
        factors: problem.gradients.iter().map(|gradients| gradients.each_ref().map(terms)).collect(),
    };
    let view = |terms: &mut Vec<Terms>, extents| View::<Terms>::new(&row_major(terms, extents));
    let dx = problem.dx.map(|dx| view(&mut result.dx, dx.extents));
    let factors: Vec<_> = std::iter::zip(&mut result.factors, &problem.gradients)
        .map(|([a, b], [da, db])| [view(a, da.extents), view(b, db.extents)])
        .collect();
    // SAFETY: the call's views were proven; every element of the results is written by one thread.
    unsafe {
        run_backward::<T, P, Terms>(&problem, |output, row, column, terms| {
            let view = match output {
                Output::Dx => dx.as_ref(),
                Output::Da(factor) => Some(&factors[factor][0]),
                Output::Db(factor) => Some(&factors[factor][1]),
            };
            view.into_iter().for_each(|view| view.set([0, row, column], terms));
        });
    }
    Ok(result)
}

/// What [`crate::haar::wara_backward`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from each other and from the inputs.
pub(crate) unsafe fn wara_backward<T: Element, P: Element>(problem: &BackwardProblem) {
    let dx = problem.dx.as_ref().map(View::<T>::new);
    let factors: Vec<_> = problem.gradients.iter().map(|gradients| gradients.each_ref().map(View::<P>::new)).collect();
    // SAFETY: the caller's; every element is written by one thread.
    unsafe {
        run_backward::<T, P, f64>(problem, |output, row, column, value| {
            let index = [0, row, column];
            match output {
                Output::Dx => dx.iter().for_each(|dx| dx.set(index, T::from_f64(value))),
                Output::Da(factor) => factors[factor][0].set(index, P::from_f64(value)),
                Output::Db(factor) => factors[factor][1].set(index, P::from_f64(value)),
            }
        });
    }
}
