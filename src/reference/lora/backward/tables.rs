//! Targets with a table of adapters: each row with its own.

use std::ops::Range;

use super::sums::{Sums, summed_rows};
use super::{Output, kept_x, saved, scaled_dy, weighed};
use crate::Element;
use crate::lora::{AdapterProblem, BackwardProblem, TableProblem};
use crate::reference::Number;
use crate::reference::lora::{SharedRows, entry, factor, tile};
use crate::reference::product::{TILE, Tile, View, for_each};

/// Which adapter each row of all batches has, and which rows each adapter has.
pub(super) struct TableRows {
    adapters: Vec<Option<usize>>,
    lists: Vec<Vec<usize>>,
}

impl TableRows {
    /// An index that the table does not have is the base alone.
    pub fn new(table: &TableProblem, indices: &[Option<i32>]) -> Self {
        let known = |index: &Option<i32>| {
            let index = index.filter(|&index| entry(&table.adapters, index).is_some())?;
            usize::try_from(index).ok()
        };
        let adapters: Vec<_> = indices.iter().map(known).collect();
        let mut lists = vec![Vec::new(); table.adapters.len()];
        for (row, adapter) in adapters.iter().enumerate() {
            adapter.iter().for_each(|&adapter| lists[adapter].push(row));
        }
        Self { adapters, lists }
    }
}

/// `left·rightᵀ` for each row with its adapter, [batches·m, max_rank]; zeros beyond the adapter's rank.
fn products<N: Number>(
    table: &TableProblem,
    rows: &TableRows,
    depth: usize,
    left: impl Fn(usize, usize) -> N + Sync,
    right: impl Fn(&AdapterProblem, usize, usize) -> f64 + Sync,
) -> Vec<N> {
    let mut result = vec![N::default(); rows.adapters.len() * table.max_rank];
    let shared = SharedRows { address: result.as_mut_ptr(), pitch: table.max_rank };
    for (adapter, list) in table.adapters.iter().zip(&rows.lists) {
        let rank = adapter.rank();
        let (row_tiles, rank_tiles) = (list.len().div_ceil(TILE), rank.div_ceil(TILE));
        let operations = (list.len() * rank).saturating_mul(depth);
        for_each(row_tiles * rank_tiles, operations, Tile::<N>::new, |sums, work| {
            let (rows, ranks) = (&list[tile(work / rank_tiles, list.len())], tile(work % rank_tiles, rank));
            sums.product(
                [rows.len(), ranks.len(), depth],
                |i, d| left(rows[i], d),
                |j, d| right(adapter, ranks.start + j, d),
            );
            for (i, &row) in rows.iter().enumerate() {
                for (j, rank) in ranks.clone().enumerate() {
                    // SAFETY: within the result; each element belongs to one adapter and tile.
                    unsafe { shared.set(row, rank, sums.get(i, j)) };
                }
            }
        });
    }
    result
}

/// The gradients of every adapter's A and B; returns dH.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn parameters<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    number: usize,
    table: &TableProblem,
    rows: &TableRows,
    weights: Option<&[f64]>,
    write: &(impl Fn(Output, [usize; 3], N) + Sync),
) -> Vec<N> {
    let (target, max_rank) = (&problem.targets[number], table.max_rank);
    let of_row = |row: usize| [row / problem.m, row % problem.m];
    // SAFETY: the caller's.
    let u = |row: usize, i| unsafe { scaled_dy::<T>(target, [of_row(row)[0], of_row(row)[1], i]) };
    // SAFETY: the caller's.
    let x = |row: usize, i| unsafe { kept_x::<T>(problem, row, i) };
    // SAFETY: an adapter's indices, as the caller says.
    let b = |adapter: &AdapterProblem, rank, i| unsafe { View::<P>::new(&adapter.b).value([0, i, rank]) };
    // SAFETY: as above.
    let a = |adapter: &AdapterProblem, rank, i| unsafe { View::<P>::new(&adapter.a).value([0, rank, i]) };
    let dh = products(table, rows, target.n, |row, i| N::new(u(row, i)), b);
    let Some(gradients) = &target.table_gradients else { return dh };
    let h = match &target.h {
        _ if gradients.gradients.iter().all(|[_, b]| b.is_none()) => Vec::new(),
        None => products(table, rows, problem.k, |row, i| N::new(x(row, i)), a),
        Some(h) => {
            let mut all = vec![N::default(); rows.adapters.len() * max_rank];
            for (adapter, list) in table.adapters.iter().zip(&rows.lists) {
                for (&row, rank) in list.iter().flat_map(|row| (0..adapter.rank()).map(move |rank| (row, rank))) {
                    // SAFETY: the caller's: of such rows and ranks forward has saved it.
                    all[row * max_rank + rank] = unsafe { saved::<T, N>(problem, h, row, rank) };
                }
            }
            all
        }
    };
    for (i, (adapter, list)) in table.adapters.iter().zip(&rows.lists).enumerate() {
        let scale = f64::from(adapter.scale) * factor(problem.dropout.as_ref());
        let sums = |output, columns| Sums { output, extents: [adapter.rank(), columns], scale, rows: Some(list) };
        let of_ranks = |list: &[N], row: usize, rank: usize| weighed(weights, list[row * max_rank + rank], row);
        // SAFETY: the caller's.
        unsafe {
            let left = |row: usize, rank: usize| of_ranks(&dh, row, rank);
            summed_rows::<P, N>(problem, sums(Output::TableA(number, i), problem.k), left, x, Some, write);
            let left = |row: usize, rank: usize| of_ranks(&h, row, rank);
            summed_rows::<P, N>(problem, sums(Output::TableB(number, i), target.n), left, u, Some, write);
        }
    }
    dh
}

/// Adds `s'·dH·A` of each row's adapter to the sums of a tile of dX.
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn add_branch<P: Element, N: Number>(
    problem: &BackwardProblem,
    table: &TableProblem,
    of_rows: &TableRows,
    dh: &[N],
    (batch, rows, columns): (usize, Range<usize>, Range<usize>),
    product: &mut Tile<N>,
    branch: &mut [N],
) {
    let first_of_batch = batch * problem.m;
    let adapter_of = |row: usize| of_rows.adapters[first_of_batch + row];
    let mut first = rows.start;
    while first < rows.end {
        let index = adapter_of(first);
        let last = (first..rows.end).find(|&row| adapter_of(row) != index).unwrap_or(rows.end);
        if let Some(adapter) = index.map(|index| &table.adapters[index]).filter(|adapter| adapter.rank() > 0) {
            let a = View::<P>::new(&adapter.a);
            product.product(
                [last - first, columns.len(), adapter.rank()],
                |i, rank| dh[(first_of_batch + first + i) * table.max_rank + rank],
                // SAFETY: an index within the extents of A, as the caller says.
                |j, rank| unsafe { a.value([0, rank, columns.start + j]) },
            );
            let scale = f64::from(adapter.scale) * factor(problem.dropout.as_ref());
            for i in 0..last - first {
                for j in 0..columns.len() {
                    branch[(first - rows.start + i) * TILE + j].add_product(product.get(i, j), scale);
                }
            }
        }
        first = last;
    }
}
