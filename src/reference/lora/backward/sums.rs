//! Gradients that are sums over rows.

use super::{Output, weighed};
use crate::Element;
use crate::lora::BackwardProblem;
use crate::reference::Number;
use crate::reference::lora::tile;
use crate::reference::product::{TILE, Tile, View, for_each};

/// The gradient of one target's bias.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn bias<T: Element, N: Number>(
    problem: &BackwardProblem,
    number: usize,
    weights: Option<&[f64]>,
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) {
    let target = &problem.targets[number];
    let dy = View::<T>::new(&target.dy);
    // SAFETY: the caller's.
    let dy = |row, column| unsafe { dy.value([row / problem.m, row % problem.m, column]) };
    let one = |row: usize, _: usize| weighed(weights, N::new(1.0), row);
    let sums = Sums { output: Output::Bias(number), extents: [1, target.n], scale: 1.0, rows: None };
    // SAFETY: the caller's.
    unsafe { summed_rows::<T, N>(problem, sums, one, dy, Some, write) };
}

/// Writes `scale·Σ terms(row, i)`, over the rows of a batch or of all where the gradient is one for all, to the place of i in a gradient.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn summed_terms<G: Element, N: Number>(
    problem: &BackwardProblem,
    output: Output,
    count: usize,
    scale: f64,
    terms: impl Fn(usize, usize) -> N,
    place: impl Fn(usize) -> Option<[usize; 2]>,
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) {
    let Some(gradient) = output.of(problem) else { return };
    let view = View::<G>::new(&gradient.elements);
    let groups = gradient.elements.extents[0];
    let depth = if groups == 1 { problem.batches * problem.m } else { problem.m };
    for (group, i) in (0..groups).flat_map(|group| (0..count).map(move |i| (group, i))) {
        let Some([row, column]) = place(i) else { continue };
        let mut sum = N::default();
        (group * depth..(group + 1) * depth).for_each(|of_all| sum.add(terms(of_all, i)));
        let mut value = N::default();
        value.add_product(sum, scale);
        if gradient.accumulate {
            // SAFETY: an index within the gradient's extents.
            value.add(N::new(unsafe { view.value([group, row, column]) }));
        }
        write(output, [group, row, column], value);
    }
}

/// A gradient that is `scale` times sums over rows: [rows, columns] of them.
pub(super) struct Sums<'a> {
    pub output: Output,
    pub extents: [usize; 2],
    pub scale: f64,
    /// Those that an adapter of a table has, of all batches. Without any, sums have no scale.
    pub rows: Option<&'a [usize]>,
}

/// Writes `scale·Σ left(row, i)·right(row, j)`, over the rows of a batch, of all where the gradient is one for all, or of an adapter, to element (rank of i, j) of a gradient; of B's to (j, rank
/// of i), where a row scale multiplies the sum over the rows that have it, not its terms: of an infinite scale another number.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn summed_rows<G: Element, N: Number>(
    problem: &BackwardProblem,
    Sums { output, extents: [rows, columns], scale, rows: list }: Sums<'_>,
    left: impl Fn(usize, usize) -> N + Sync,
    right: impl Fn(usize, usize) -> f64 + Sync,
    rank_of: impl Fn(usize) -> Option<usize> + Sync,
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) {
    let Some(gradient) = output.of(problem) else { return };
    let view = View::<G>::new(&gradient.elements);
    let groups = gradient.elements.extents[0];
    let of_group = if groups == 1 { problem.batches * problem.m } else { problem.m };
    let row_scale = match output {
        Output::B(target) => problem.targets[target].row_scale.as_ref().filter(|_| problem.batches > 0),
        _ => None,
    };
    let scale_of = |batch, column| {
        // SAFETY: an index within its extents.
        row_scale.map_or(1.0, |scale| unsafe { View::<f32>::new(scale).value([batch, 0, column]) })
    };
    // Of one gradient for all batches each batch, where it has a row scale of its own.
    let by_batch = groups == 1 && row_scale.is_some_and(|scale| scale.strides[0] != 0);
    let parts = if by_batch { problem.batches } else { 1 };
    let depth = list.map_or(of_group / parts, <[usize]>::len);
    let row_of = |group: usize, d: usize| list.map_or(group * of_group + d, |list| list[d]);
    let without_rows = list.is_some_and(<[usize]>::is_empty);
    let (row_tiles, column_tiles) = (rows.div_ceil(TILE), columns.div_ceil(TILE));
    let operations = (groups * rows * columns).saturating_mul(parts * depth);
    let state = || (Tile::<N>::new(), vec![N::default(); TILE * TILE]);
    for_each(groups * row_tiles * column_tiles, operations, state, |(product, sums), work| {
        let group = work / (row_tiles * column_tiles);
        let (rows, columns) = (tile(work / column_tiles % row_tiles, rows), tile(work % column_tiles, columns));
        sums.fill(N::default());
        for part in 0..parts {
            let first = part * depth;
            product.product(
                [rows.len(), columns.len(), depth],
                |i, d| left(row_of(group, first + d), rows.start + i),
                |j, d| right(row_of(group, first + d), columns.start + j),
            );
            for i in 0..rows.len() {
                for j in 0..columns.len() {
                    sums[i * TILE + j].add_product(product.get(i, j), scale_of(group + part, columns.start + j));
                }
            }
        }
        for (i, row) in rows.clone().enumerate() {
            let Some(row) = rank_of(row) else { continue };
            for (j, column) in columns.clone().enumerate() {
                let by_column = matches!(output, Output::B(_) | Output::TableB(..));
                let index = if by_column { [group, column, row] } else { [group, row, column] };
                // SAFETY: an index within the gradient's extents.
                let old = gradient.accumulate.then(|| N::new(unsafe { view.value(index) }));
                if without_rows {
                    write(output, index, old.unwrap_or_default());
                    continue;
                }
                let mut value = N::default();
                value.add_product(sums[i * TILE + j], scale);
                old.into_iter().for_each(|old| value.add(old));
                write(output, index, value);
            }
        }
    });
}
