//! The gradients of a target with one adapter.

use super::sums::{Sums, summed_rows, summed_terms};
use super::{Output, kept_x, saved, scaled_dy, weighed};
use crate::Element;
use crate::lora::{BackwardProblem, BackwardTargetProblem};
use crate::reference::Number;
use crate::reference::lora::middle::Middle;
use crate::reference::lora::{SharedRows, factor, kept, tile};
use crate::reference::product::{TILE, Tile, View, for_each};

/// `left·rightᵀ` for the rows of all batches, [batches·m, rank].
fn rows<N: Number>(
    problem: &BackwardProblem,
    rank: usize,
    depth: usize,
    left: impl Fn(usize, usize, usize) -> f64 + Sync,
    right: impl Fn(usize, usize, usize) -> f64 + Sync,
) -> Vec<N> {
    let (batches, m) = (problem.batches, problem.m);
    let mut result = vec![N::default(); batches * m * rank];
    let shared = SharedRows { address: result.as_mut_ptr(), pitch: rank };
    let (row_tiles, rank_tiles) = (m.div_ceil(TILE), rank.div_ceil(TILE));
    let operations = (batches * m * rank).saturating_mul(depth);
    for_each(batches * row_tiles * rank_tiles, operations, Tile::<N>::new, |sums, work| {
        let batch = work / (row_tiles * rank_tiles);
        let (rows, ranks) = (tile(work / rank_tiles % row_tiles, m), tile(work % rank_tiles, rank));
        sums.product(
            [rows.len(), ranks.len(), depth],
            |i, d| N::new(left(batch, rows.start + i, d)),
            |j, d| right(batch, ranks.start + j, d),
        );
        for (i, row) in rows.clone().enumerate() {
            for (j, rank) in ranks.clone().enumerate() {
                // SAFETY: within the result; each element belongs to one tile.
                unsafe { shared.set(batch * m + row, rank, sums.get(i, j)) };
            }
        }
    });
    result
}

/// The gradients of one target's A, B and middle; returns dH.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn parameters<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    number: usize,
    middle: &Middle<P>,
    weights: Option<&[f64]>,
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) -> Vec<N> {
    let target = &problem.targets[number];
    let (k, columns, all_rows) = (problem.k, middle.columns, problem.batches * problem.m);
    let dropout = problem.dropout.as_ref();
    let scale = target.adapter.as_ref().map_or(0.0, |adapter| f64::from(adapter.scale)) * factor(dropout);
    let of_row = |row: usize| [row / problem.m, row % problem.m];
    let weighed = |value: N, row: usize| weighed(weights, value, row);
    // SAFETY: the caller's.
    let x = |row, column| unsafe { kept_x::<T>(problem, row, column) };
    // SAFETY: the caller's.
    unsafe {
        // dH' = U·B, [batches·m, after]
        let b = target.adapter.as_ref().map(|adapter| View::<P>::new(&adapter.b));
        let u = |batch, row, i| scaled_dy::<T>(target, [batch, row, i]);
        let b = |batch, i, column| match (b, middle.rank_of(i)) {
            (Some(b), Some(rank)) => b.value([batch, column, rank]),
            _ => 0.0,
        };
        let after = rows::<N>(problem, middle.after, target.n, u, b);
        let needs_h = target.b.is_some() || target.scale.is_some() || target.gate.is_some() || target.core.is_some();
        let h = if needs_h { intermediate::<T, P, N>(problem, target, middle) } else { Vec::new() };
        // The core's is a sum of products of dH' as it is.
        if target.core.is_some() {
            let inner = |row, i| middle.before_core(row, i, h[row * columns + i]);
            let terms = |row: usize, i: usize| {
                let (inner, weighed) = (&inner, weighed(after[row * middle.after + i / columns], row));
                weighed.multiplied(inner(row, i % columns))
            };
            let place = |i: usize| Some([i / columns, i % columns]);
            summed_terms::<P, N>(problem, Output::Core(number), middle.after * columns, scale, terms, place, write);
        }
        let f = middle.through_core(all_rows, after);
        if target.scale.is_some() {
            let terms = |row: usize, i: usize| {
                let at = row * columns + i;
                weighed(middle.gradient_of_scale(row, i, f[at], h[at]), row)
            };
            let place = |i: usize| middle.rank_of(i).map(|rank| [0, rank]);
            summed_terms::<P, N>(problem, Output::Scale(number), columns, scale, terms, place, write);
        }
        if let Some(gradient) = &target.gate {
            let view = View::<f32>::new(&gradient.elements);
            for (at, (&f, &h)) in f.iter().zip(&h).enumerate() {
                let (row, column) = (at / columns, at % columns);
                let Some(rank) = middle.rank_of(column) else { continue };
                let [batch, of_batch] = of_row(row);
                let mut value = N::default();
                value.add_product(middle.gradient_of_gate(row, column, f, h), scale);
                if gradient.accumulate {
                    value.add(N::new(view.value([batch, of_batch, rank])));
                }
                write(Output::Gate(number), [batch, of_batch, rank], value);
            }
        }
        let dh: Vec<N> =
            f.iter().enumerate().map(|(at, &f)| middle.gradient_of_h(at / columns, at % columns, f)).collect();
        let rank_of = |i: usize| middle.rank_of(i);
        if target.a.is_some() {
            let dh = |row: usize, column: usize| weighed(dh[row * columns + column], row);
            summed_rows::<P, N>(
                problem,
                Sums { output: Output::A(number), extents: [columns, k], scale, rows: None },
                dh,
                x,
                rank_of,
                write,
            );
        }
        if target.b.is_some() {
            let mut h = middle.apply(h);
            // Of no ranks a core makes zeros.
            h.resize(all_rows * middle.after, N::default());
            let h = |row: usize, column: usize| weighed(h[row * middle.after + column], row);
            let dy = View::<T>::new(&target.dy);
            let dy = |row, column| dy.value([of_row(row)[0], of_row(row)[1], column]);
            summed_rows::<P, N>(
                problem,
                Sums { output: Output::B(number), extents: [middle.after, target.n], scale, rows: None },
                h,
                dy,
                rank_of,
                write,
            );
        }
        dh
    }
}

/// H of a target, [batches·m, rank], as it was saved or made again.
///
/// # Safety
/// As [`super::run`].
unsafe fn intermediate<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    target: &BackwardTargetProblem,
    middle: &Middle<P>,
) -> Vec<N> {
    let rank = middle.columns;
    if let Some(h) = &target.h {
        // SAFETY: the caller's.
        let value = |i: usize| unsafe { saved::<T, N>(problem, h, i / rank, i % rank) };
        return (0..problem.batches * problem.m * rank).map(value).collect();
    }
    let (x, a) = (View::<T>::new(&problem.x), target.adapter.as_ref().map(|adapter| View::<P>::new(&adapter.a)));
    rows(
        problem,
        rank,
        problem.k,
        // SAFETY: the caller's.
        |batch, row, i| unsafe { kept(&x, problem.dropout.as_ref(), problem.m, [batch, row, i]) },
        |batch, column, i| match (a, middle.rank_of(column)) {
            // SAFETY: the caller's.
            (Some(a), Some(rank)) => unsafe { a.value([batch, rank, i]) },
            _ => 0.0,
        },
    )
}
