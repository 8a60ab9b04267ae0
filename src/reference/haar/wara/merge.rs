//! `W' = W ± ΔW`.

use std::ops::Range;

use super::coefficients::{Band, Level, Product, block, of_level};
use super::{branch, for_each_tile, groups, ranks, row_major};
use crate::haar::{MergeProblem, WaraMerge, WaraProblem};
use crate::reference::haar::lanes::{Numbers, Sum};
use crate::reference::haar::stage::Sheet;
use crate::reference::haar::{Sums, kernel, pairs};
use crate::reference::product::{View, for_each};
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Kernel, Result};

/// Rows and columns of a tile, if the levels do not need more; and the rows of W that are read and written at a time.
const ROWS: usize = 16;
const COLUMNS: usize = 2048;

/// Value and Σ|terms| of every element that [`crate::haar::wara_merge`] (`direction` 1) or [`crate::haar::wara_unmerge`] (−1) would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::haar::wara_merge`].
pub fn wara_merge_terms<T: Element, P: Element>(call: &WaraMerge<'_, T, P, Cpu>, direction: f64) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("haar::wara_merge_terms", Some(&Cpu), &mut guards)?;
    let mut result = vec![Terms::default(); problem.destination.extents.iter().product()];
    let (view, source) =
        (View::<Terms>::new(&row_major(&mut result, problem.destination.extents)), View::<T>::new(&problem.source));
    let groups = groups::<P>(&problem.adapter);
    let factor = direction * f64::from(problem.adapter.scale);
    for_each_tile::<Terms>(problem.adapter.shape, ranks(&groups), |[sums, _], rows, columns| {
        // Which group's rank it is, with the group's gain.
        // SAFETY: indices within the extents.
        let left = |row: usize, rank: usize| unsafe {
            let group = &groups[groups.partition_point(|group| group.first <= rank) - 1];
            Terms::new(group.gain * group.b(row, rank - group.first))
        };
        // SAFETY: indices within the extents.
        branch(&groups, sums, [&rows, &columns], left, |group, column, rank| unsafe { group.a(rank, column) });
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                // SAFETY: an index within the extents, of an element of the result that this thread alone writes.
                unsafe {
                    let mut terms = Terms::new(source.value([0, row, column]));
                    terms.add_product(sums.get(i, j), factor);
                    view.set([0, row, column], terms);
                }
            }
        }
    });
    Ok(result)
}

/// What [`crate::haar::wara_merge`] (`direction` 1) and [`crate::haar::wara_unmerge`] (−1) do on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its destination is disjoint from the inputs, or the source itself.
pub(crate) unsafe fn wara_merge<T: Element, P: Element>(problem: &MergeProblem, direction: f64) {
    match Sums::of::<T>() {
        // SAFETY: the caller's.
        Sums::F32 => unsafe { merge_in::<T, P, f32>(problem, direction) },
        // SAFETY: the caller's.
        Sums::F64 => unsafe { merge_in::<T, P, f64>(problem, direction) },
    }
}

/// What the CPU queue runs for a merge.
pub(crate) fn wara_merge_kernel<T: Element>(problem: &MergeProblem) -> Kernel {
    kernel::<T>(rank(&problem.adapter) + problem.adapter.levels as usize)
}

/// Of the band that has the most.
fn rank(adapter: &WaraProblem) -> usize {
    adapter.factors.iter().map(|[a, _]| a.extents[1]).max().unwrap_or(0)
}

/// # Safety
/// As [`wara_merge`].
unsafe fn merge_in<T: Element, P: Element, N: Sum>(problem: &MergeProblem, direction: f64) {
    let adapter = &problem.adapter;
    let (source, destination) = (View::<T>::new(&problem.source), View::<T>::new(&problem.destination));
    // By columns, where those are contiguous: the transpose of all.
    let transposed = !destination.is_row_major();
    let ([source, destination], [rows, columns]) = match (transposed, adapter.shape) {
        (false, shape) => ([source, destination], shape),
        (true, [n, k]) => ([source.transposed(), destination.transposed()], [k, n]),
    };
    let mut bands: Vec<_> = groups::<P>(adapter).iter().map(|group| Band::<N>::new(group, transposed)).collect();
    if transposed {
        // Details along rows come before those along columns.
        bands[1..].chunks_exact_mut(3).for_each(|level| level.swap(0, 1));
    }
    let levels = adapter.levels;
    // Whole blocks of every band.
    let tile_rows = ROWS.max(1 << levels).min(rows.next_multiple_of(1 << levels));
    let tile_columns = COLUMNS.max(block::<N>() << levels).min(columns.next_multiple_of(block::<N>() << levels));
    let tiles = [rows.div_ceil(tile_rows), columns.div_ceil(tile_columns)];
    let scale = N::from_f64(direction * f64::from(adapter.scale));
    let merge = Merge { bands, scale, levels, tile: [tile_rows, tile_columns], source, destination };
    let operations = (rows * columns).saturating_mul(4 + rank(adapter));
    // Blocks of columns stay in a core's cache from tile to tile.
    for_each(
        tiles[0] * tiles[1],
        operations,
        || merge.room(),
        |room, work| {
            let [row, column] = [work % tiles[0] * tile_rows, work / tiles[0] * tile_columns];
            let (rows, columns) = (row..rows.min(row + tile_rows), column..columns.min(column + tile_columns));
            // SAFETY: the caller's; a tile is one thread's.
            unsafe { merge.tile(rows, columns, room) };
        },
    );
}

struct Merge<T, N> {
    bands: Vec<Band<N>>,
    scale: N,
    levels: u32,
    /// Rows and columns of a tile.
    tile: [usize; 2],
    source: View<T>,
    destination: View<T>,
}

/// Where a core keeps a tile.
struct Room<T, N> {
    /// Coefficients of the bands, but for the details of the first level.
    bands: Vec<Numbers<N>>,
    /// Approximations of the levels from the first to the last but one.
    planes: Vec<Numbers<N>>,
    /// A strip of W, where it is not rows of memory.
    staged: Vec<T>,
}

impl<T: Element, N: Sum> Merge<T, N> {
    fn room(&self) -> Room<T, N> {
        let [rows, columns] = self.tile;
        let numbers = |level: u32| Numbers::zeros((rows >> level) * (columns >> level));
        Room {
            bands: self.bands[..self.bands.len() - 3].iter().map(|band| numbers(band.level)).collect(),
            planes: (1..self.levels).map(numbers).collect(),
            staged: vec![T::default(); rows.min(ROWS) * columns],
        }
    }

    /// # Safety
    /// The tile of the destination is nobody else's, and nobody else writes that of the source.
    unsafe fn tile(&self, rows: Range<usize>, columns: Range<usize>, room: &mut Room<T, N>) {
        // Whose details come last, and are made where they are used.
        let first_level = room.bands.len();
        for (band, output) in self.bands.iter().zip(&mut room.bands) {
            Product { factors: band.of(&rows, &columns), output, stride: self.tile[1] >> band.level }.run();
        }
        let (approximations, details) = room.bands.split_first().expect("the band of approximations");
        for (level, details) in (2..=self.levels).rev().zip(details.chunks_exact(3)) {
            let (finer, coarser) = room.planes.split_at_mut(level as usize - 1);
            let (input, output) = (coarser.first().unwrap_or(approximations), &mut finer[level as usize - 2]);
            let (width, count) = (self.tile[1] >> level, of_level(&columns, level).len());
            for i in 0..of_level(&rows, level).len() {
                let [a, h, v, d] =
                    [input, &details[0], &details[1], &details[2]].map(|band| &band[i * width..][..count]);
                let (upper, lower) = output[i * 4 * width..][..4 * width].split_at_mut(2 * width);
                pairs::inverse_both(upper, lower, a, h, v, d, N::from_f64(1.0));
            }
        }
        let stride = self.tile[1] / 2;
        let approximations = room.planes.first().unwrap_or(approximations);
        for first in rows.clone().step_by(ROWS) {
            let strip = first..rows.end.min(first + ROWS);
            let level = Level {
                approximations: &approximations[(first - rows.start) / 2 * stride..],
                stride,
                details: [0, 1, 2].map(|kind| self.bands[first_level + kind].of(&strip, &columns)),
                scale: self.scale,
            };
            // SAFETY: the caller's.
            unsafe { self.last_level(&level, strip, &columns, &mut room.staged) };
        }
    }

    /// # Safety
    /// As [`Merge::tile`].
    unsafe fn last_level(&self, level: &Level<N>, rows: Range<usize>, columns: &Range<usize>, staged: &mut [T]) {
        let is_whole = rows.len().is_multiple_of(2) && columns.len().is_multiple_of(2 * block::<N>());
        if is_whole && self.source.is_row_major() && self.destination.is_row_major() {
            let sheet = |view: &View<T>| view.sheet([0, rows.start, columns.start]);
            // SAFETY: the caller's.
            return unsafe { level.add_to(sheet(&self.source), sheet(&self.destination)) };
        }
        let staged = Sheet::new(staged, self.tile[1]);
        // SAFETY: the caller's; the room has the rows of the strip.
        unsafe {
            for (i, row) in rows.clone().enumerate() {
                self.source.read_row([0, row, columns.start], staged.row_mut(i, columns.len()));
            }
            level.add_to(staged, staged);
            for (i, row) in rows.enumerate() {
                self.destination.write_row([0, row, columns.start], staged.row(i, columns.len()));
            }
        }
    }
}
