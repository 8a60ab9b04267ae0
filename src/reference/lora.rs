//! The reference of [`crate::lora`].

use std::ops::Range;
use std::sync::Mutex;

use super::product::{TILE, Tile, View, for_each};
use super::{Number, Terms, quantize};
use crate::lora::{
    AdapterChoice, AdapterProblem, BaseKind, Dropout, Forward, ForwardProblem, RowChoice, TableProblem, TargetProblem,
};
use crate::{Cpu, Element, ElementType, Result, StatusRecord, ffi};

mod backward;
mod double_backward;
mod magnitude_gradient;
mod merge;
mod middle;
mod samples;

pub(crate) use backward::backward;
pub use backward::{GradientTerms, TargetGradientTerms, backward_terms};
pub(crate) use double_backward::double_backward;
pub use double_backward::{DoubleBackwardTerms, double_backward_terms};
pub(crate) use magnitude_gradient::magnitude_gradient;
pub use magnitude_gradient::magnitude_gradient_terms;
pub(super) use merge::each_delta;
pub(crate) use merge::merge;
pub use merge::merge_terms;
use middle::Middle;
pub(crate) use samples::{add_noise, clip_weights, sample_norms};
pub use samples::{add_noise_terms, sample_norms_terms};

/// Value and Σ|terms| of every element that [`crate::lora::forward`] would write: for each target [batches, m, n] in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::forward`].
pub fn forward_terms<T: Element, P: Element>(call: &Forward<'_, T, P, Cpu>) -> Result<Vec<Vec<Terms>>> {
    let mut guards = Vec::new();
    let problem = call.problem(Some(&Cpu), &mut guards)?;
    let extent = |target: &TargetProblem| problem.batches * problem.m * target.n;
    let results: Vec<_> =
        problem.targets.iter().map(|target| Mutex::new(vec![Terms::default(); extent(target)])).collect();
    // SAFETY: the call's views were proven, and nothing is written to them.
    unsafe {
        let nowhere = |_: usize, _: [usize; 3], _: Terms| {};
        run_forward::<T, P, _>(
            &problem,
            &mut StatusRecord::default(),
            nowhere,
            |target, [batch, rows, columns], tile| {
                let n = problem.targets[target].n;
                let mut result = results[target].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                for row in rows.clone() {
                    for column in columns.clone() {
                        result[(batch.start * problem.m + row) * n + column] = tile(row, column);
                    }
                }
            },
        );
    }
    Ok(results.into_iter().map(|result| result.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).collect())
}

/// What [`crate::lora::forward`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from everything else.
pub(crate) unsafe fn forward<T: Element, P: Element>(problem: &ForwardProblem, record: &mut StatusRecord) {
    // SAFETY: the caller's; every element of y is written by one tile, after it was read.
    unsafe {
        let save = |target: usize, index, h| match &problem.targets[target].saved_h {
            None => {}
            Some((view, ElementType::F32)) => View::<f32>::new(view).set(index, f32::from_f64(h)),
            Some((view, _)) => View::<T>::new(view).set(index, T::from_f64(h)),
        };
        run_forward::<T, P, f64>(problem, record, save, |target, [batch, rows, columns], tile| {
            let y = View::<T>::new(&problem.targets[target].y);
            for row in rows.clone() {
                for column in columns.clone() {
                    y.set([batch.start, row, column], T::from_f64(tile(row, column)));
                }
            }
        });
    }
}

/// Rows, in their batch, that share an adapter.
struct Run<'a> {
    rows: Range<usize>,
    adapter: Option<&'a AdapterProblem>,
}

/// The adapter of each row of all batches, as an index into the targets' lists; `None` is the base alone.
///
/// # Safety
/// The row choice is in ordinary memory.
unsafe fn row_indices(choice: &RowChoice, rows: usize) -> Vec<Option<i32>> {
    match *choice {
        // No target has a table, so nobody asks.
        RowChoice::Same => Vec::new(),
        RowChoice::Index { address, .. } => (0..rows)
            // SAFETY: the caller's.
            .map(|row| unsafe { (address as *const i32).add(row).read() })
            .map(|index| (index != -1).then_some(index))
            .collect(),
        RowChoice::Segments { address, count } => {
            let mut indices = vec![None; rows];
            for i in 0..count {
                // SAFETY: the caller's.
                let segment = unsafe { (address as *const ffi::pk_lora_segment).add(i).read() };
                let clamp = |row: i64| row.clamp(0, rows as i64) as usize;
                let rows = clamp(segment.row_begin)..clamp(segment.row_end);
                if !rows.is_empty() {
                    indices[rows].fill((segment.adapter != -1).then_some(segment.adapter));
                }
            }
            indices
        }
    }
}

/// The adapter of a table with this index, if it has one.
fn entry(adapters: &[AdapterProblem], index: i32) -> Option<&AdapterProblem> {
    adapters.get(usize::try_from(index).ok()?)
}

/// Reports the first row that names an adapter which a table lacks.
fn report_bad_row(adapters: &[AdapterProblem], indices: &[Option<i32>], record: &mut StatusRecord) {
    if let Some(row) = indices.iter().position(|index| index.is_some_and(|index| entry(adapters, index).is_none())) {
        record.add(ffi::PK_FAILURE_ADAPTER_INDEX, row);
    }
}

/// Splits rows of a batch where the adapter changes. An index that no table has is the base alone.
fn runs<'a>(target: &'a TargetProblem, indices: &[Option<i32>], first: usize, rows: Range<usize>) -> Vec<Run<'a>> {
    let adapters = match &target.adapters {
        AdapterChoice::None => return vec![Run { rows, adapter: None }],
        AdapterChoice::One(adapter) => return vec![Run { rows, adapter: Some(adapter) }],
        AdapterChoice::Table(TableProblem { adapters, .. }) => adapters,
    };
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut previous = None;
    for row in rows {
        let index = indices[first + row];
        match runs.last_mut() {
            Some(run) if previous == Some(index) => run.rows.end = row + 1,
            _ => {
                let adapter = index.and_then(|index| entry(adapters, index));
                runs.push(Run { rows: row..row + 1, adapter });
            }
        }
        previous = Some(index);
    }
    runs
}

/// The tiles of a matrix, by number.
fn tile(index: usize, extent: usize) -> Range<usize> {
    index * TILE..extent.min((index + 1) * TILE)
}

/// Calls `save(target, [batch, row, rank], value)` for every element of every H, and `write(target, [batch, rows, columns], value)` for every tile of every y.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them but `write`, to the elements it is called for.
unsafe fn run_forward<T: Element, P: Element, N: Number>(
    problem: &ForwardProblem,
    record: &mut StatusRecord,
    save: impl Fn(usize, [usize; 3], N) + Sync,
    write: impl Fn(usize, [Range<usize>; 3], &dyn Fn(usize, usize) -> N) + Sync,
) {
    let (batches, m, k) = (problem.batches, problem.m, problem.k);
    let x = View::<T>::new(&problem.x);
    // SAFETY: the caller's.
    let indices = unsafe { row_indices(&problem.rows, batches * m) };
    let row_tiles = m.div_ceil(TILE);

    for (number, target) in problem.targets.iter().enumerate() {
        if let AdapterChoice::Table(TableProblem { adapters, .. }) = &target.adapters {
            report_bad_row(adapters, &indices, record);
        }
        let max_rank = target.max_rank;
        let ranks = match &target.adapters {
            AdapterChoice::One(adapter) => [adapter.rank(), adapter.b.extents[2]],
            _ => [max_rank; 2],
        };
        // SAFETY: the caller's.
        let middle = unsafe { Middle::<P>::new(target.middle.as_ref(), m, ranks, record) };
        if target.n == 0 && target.saved_h.is_none() {
            continue;
        }
        // Those that an adapter has of H, and of what the middle makes of it.
        let has_middle = target.middle.is_some();
        let columns = |adapter: &AdapterProblem| if has_middle { middle.columns } else { adapter.rank() };
        let after = |adapter: &AdapterProblem| if has_middle { middle.after } else { adapter.rank() };

        // h = x·Aᵀ, [batches·m, max_rank]
        let rank_tiles = max_rank.div_ceil(TILE);
        let mut h = vec![N::default(); batches * m * max_rank];
        let h_rows = SharedRows { address: h.as_mut_ptr(), pitch: max_rank };
        for_each(
            batches * row_tiles * rank_tiles,
            (batches * m * max_rank).saturating_mul(k),
            Tile::<N>::new,
            |sums, work| {
                let (batch, row_tile, rank_tile) =
                    (work / (row_tiles * rank_tiles), work / rank_tiles % row_tiles, work % rank_tiles);
                for run in runs(target, &indices, batch * m, tile(row_tile, m)) {
                    let Some(adapter) = run.adapter else { continue };
                    let a = View::<P>::new(&adapter.a);
                    let ranks = tile(rank_tile, columns(adapter));
                    if ranks.start >= ranks.end {
                        continue;
                    }
                    // SAFETY: indices within the extents of x and A; each element of h belongs to one tile and run.
                    unsafe {
                        sums.product(
                            [run.rows.len(), ranks.len(), k],
                            |i, k| N::new(kept(&x, problem.dropout.as_ref(), m, [batch, run.rows.start + i, k])),
                            |j, k| middle.rank_of(ranks.start + j).map_or(0.0, |rank| a.value([batch, rank, k])),
                        );
                        for (i, row) in run.rows.clone().enumerate() {
                            for (j, rank) in ranks.clone().enumerate() {
                                save(number, [batch, row, rank], sums.get(i, j));
                                h_rows.set(batch * m + row, rank, sums.get(i, j));
                            }
                        }
                    }
                }
            },
        );

        let pitch = if has_middle { middle.after } else { max_rank };
        let mut h = if has_middle { middle.apply(h) } else { h };
        // Of no ranks a core makes zeros.
        h.resize(batches * m * pitch, N::default());
        let h_rows = SharedRows { address: h.as_mut_ptr(), pitch };

        // y = row scale ⊙ (base + scale·mid(h)·Bᵀ) + bias
        let column_tiles = target.n.div_ceil(TILE);
        let state = || (Tile::<N>::new(), Tile::<N>::new());
        for_each(
            batches * row_tiles * column_tiles,
            (batches * m * target.n).saturating_mul(k.max(1)),
            state,
            |(base, branch), work| {
                let (batch, row_tile, column_tile) =
                    (work / (row_tiles * column_tiles), work / column_tiles % row_tiles, work % column_tiles);
                let (rows, columns) = (tile(row_tile, m), tile(column_tile, target.n));
                let extents = [rows.len(), columns.len(), k];
                // SAFETY: indices within the extents of x and W.
                let x = |i, k| N::new(unsafe { x.value([batch, rows.start + i, k]) });
                match &target.base {
                    BaseKind::None | BaseKind::InY => {}
                    BaseKind::Dense(w) => {
                        let w = View::<T>::new(w);
                        // SAFETY: as above.
                        base.product(extents, x, |j, k| unsafe { w.value([batch, columns.start + j, k]) });
                    }
                    BaseKind::Quantized(w) => {
                        // SAFETY: as above.
                        let w = |j, depth| unsafe { quantize::weight::<T>(w, (columns.start + j) * k + depth) };
                        base.product(extents, x, w);
                    }
                }
                for run in runs(target, &indices, batch * m, rows.clone()) {
                    if let Some(adapter) = run.adapter.filter(|adapter| after(adapter) > 0) {
                        let b = View::<P>::new(&adapter.b);
                        // SAFETY: indices within the extents of h and B.
                        unsafe {
                            branch.product(
                                [run.rows.len(), columns.len(), after(adapter)],
                                |i, rank| h_rows.get(batch * m + run.rows.start + i, rank),
                                |j, i| middle.rank_of(i).map_or(0.0, |rank| b.value([batch, columns.start + j, rank])),
                            );
                        }
                    }
                    write(number, [batch..batch + 1, run.rows.clone(), columns.clone()], &|row, column| {
                        let mut value = match &target.base {
                            BaseKind::None => N::default(),
                            BaseKind::Dense(_) | BaseKind::Quantized(_) => {
                                base.get(row - rows.start, column - columns.start)
                            }
                            // SAFETY: an index within the extents of y.
                            BaseKind::InY => unsafe { N::new(View::<T>::new(&target.y).value([batch, row, column])) },
                        };
                        if let Some(adapter) = run.adapter.filter(|adapter| after(adapter) > 0) {
                            let product = branch.get(row - run.rows.start, column - columns.start);
                            value.add_product(product, f64::from(adapter.scale) * factor(problem.dropout.as_ref()));
                        }
                        if let Some(scale) = &target.row_scale {
                            // SAFETY: an index within the extents of the row scale.
                            let scale = unsafe { View::<f32>::new(scale).value([batch, 0, column]) };
                            value = value.times(scale);
                        }
                        if let Some(bias) = &target.bias {
                            // SAFETY: an index within the extents of the bias.
                            value.add(N::new(unsafe { View::<T>::new(bias).value([batch, 0, column]) }));
                        }
                        value
                    });
                }
            },
        );
    }
}

/// An element of x as the adapters see it, before the factor of dropout.
///
/// # Safety
/// As [`View::get`].
unsafe fn kept<T: Element>(x: &View<T>, dropout: Option<&Dropout>, m: usize, index: [usize; 3]) -> f64 {
    let [batch, row, column] = index;
    match dropout {
        Some(dropout) if !dropout.keeps(batch * m + row, column) => 0.0,
        // SAFETY: the caller's.
        _ => unsafe { x.value(index) },
    }
}

/// What dropout multiplies the branch by.
fn factor(dropout: Option<&Dropout>) -> f64 {
    dropout.map_or(1.0, Dropout::factor)
}

/// Rows of the intermediate, of which each core writes its own elements.
#[derive(Clone, Copy)]
struct SharedRows<N> {
    address: *mut N,
    pitch: usize,
}

// SAFETY: the users write disjoint elements, and read only after all are written.
unsafe impl<N: Send> Sync for SharedRows<N> {}

impl<N: Copy> SharedRows<N> {
    /// # Safety
    /// The index is within the allocation, and nobody else uses the element.
    unsafe fn set(&self, row: usize, column: usize, value: N) {
        // SAFETY: the caller's.
        unsafe { self.address.add(row * self.pitch + column).write(value) }
    }

    /// # Safety
    /// The index is within the allocation, and nobody writes to the element.
    unsafe fn get(&self, row: usize, column: usize) -> N {
        // SAFETY: the caller's.
        unsafe { self.address.add(row * self.pitch + column).read() }
    }
}
