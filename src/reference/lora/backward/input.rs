//! The gradient of x.

use super::tables::{self, TableRows};
use super::{Output, scaled_dy};
use crate::Element;
use crate::lora::{BackwardProblem, BaseKind};
use crate::reference::lora::middle::Middle;
use crate::reference::lora::{factor, tile};
use crate::reference::product::{TILE, Tile, View, for_each};
use crate::reference::{Number, quantize};

/// What the gradient of x takes of a target.
pub(super) struct Intermediate<P, N> {
    pub middle: Middle<P>,
    /// [batches·m, the middle's columns], or with a table [batches·m, its largest rank].
    pub dh: Vec<N>,
    /// Of a target with a table.
    pub rows: Option<TableRows>,
}

/// The gradient of x, of every target's dH.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn input<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    intermediates: &[Intermediate<P, N>],
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) {
    let Some(gradient) = &problem.dx else { return };
    let (batches, m, k) = (problem.batches, problem.m, problem.k);
    let view = View::<T>::new(&gradient.elements);
    let (row_tiles, column_tiles) = (m.div_ceil(TILE), k.div_ceil(TILE));
    let depth: usize = problem.targets.iter().map(|target| target.n).sum();
    let state = || (Tile::<N>::new(), vec![N::default(); TILE * TILE], vec![N::default(); TILE * TILE]);
    let operations = (batches * m * k).saturating_mul(depth.max(1));
    for_each(batches * row_tiles * column_tiles, operations, state, |(product, base, branch), work| {
        let batch = work / (row_tiles * column_tiles);
        let (rows, columns) = (tile(work / column_tiles % row_tiles, m), tile(work % column_tiles, k));
        let extents = |depth| [rows.len(), columns.len(), depth];
        base.fill(N::default());
        branch.fill(N::default());
        let add = |sums: &mut [N], product: &Tile<N>, scale: f64| {
            for i in 0..rows.len() {
                for j in 0..columns.len() {
                    sums[i * TILE + j].add_product(product.get(i, j), scale);
                }
            }
        };
        for (target, Intermediate { middle, dh, rows: of_rows }) in problem.targets.iter().zip(intermediates) {
            // SAFETY: indices within the extents of dY, W and A.
            unsafe {
                let u = |i, d| N::new(scaled_dy::<T>(target, [batch, rows.start + i, d]));
                match &target.base {
                    BaseKind::None | BaseKind::InY => {}
                    BaseKind::Dense(w) => {
                        let w = View::<T>::new(w);
                        product.product(extents(target.n), u, |j, d| w.value([batch, d, columns.start + j]));
                        add(base, product, 1.0);
                    }
                    BaseKind::Quantized(w) => {
                        let w = |j, d| quantize::weight::<T>(w, d * k + columns.start + j);
                        product.product(extents(target.n), u, w);
                        add(base, product, 1.0);
                    }
                }
                if let Some(adapter) = target.adapter.as_ref().filter(|_| middle.columns > 0) {
                    let a = View::<P>::new(&adapter.a);
                    let dh = |i, column| dh[(batch * m + rows.start + i) * middle.columns + column];
                    let a = |j, column| {
                        middle.rank_of(column).map_or(0.0, |rank| a.value([batch, rank, columns.start + j]))
                    };
                    product.product(extents(middle.columns), dh, a);
                    add(branch, product, f64::from(adapter.scale) * factor(problem.dropout.as_ref()));
                }
                if let (Some(table), Some(of_rows)) = (&target.table, of_rows) {
                    let tile = (batch, rows.clone(), columns.clone());
                    tables::add_branch::<P, N>(problem, table, of_rows, dh, tile, product, branch);
                }
            }
        }
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                let mut value = base[i * TILE + j];
                if problem.dropout.as_ref().is_none_or(|dropout| dropout.keeps(batch * m + row, column)) {
                    value.add(branch[i * TILE + j]);
                }
                if gradient.accumulate {
                    // SAFETY: an index within the gradient's extents.
                    value.add(N::new(unsafe { view.value([batch, row, column]) }));
                }
                write(Output::X, [batch, row, column], value);
            }
        }
    });
}
