//! WaRA in f64: bands as groups of ranks, whose factors are read with rows and columns repeated. Only a merge on [`crate::Cpu`] makes each coefficient once, and transforms it back.

use std::ops::Range;

use super::row_major;
use crate::Element;
use crate::haar::{Bands, WaraProblem, band, coefficient_extent};
use crate::reference::Number;
use crate::reference::product::{TILE, Tile, View, for_each};

mod backward;
mod coefficients;
mod forward;
mod merge;
mod tokens;

pub(crate) use backward::wara_backward;
pub use backward::{WaraGradients, wara_backward_terms};
pub(crate) use forward::wara_forward;
pub use forward::wara_forward_terms;
pub use merge::wara_merge_terms;
pub(crate) use merge::{wara_merge, wara_merge_kernel};

/// The ranks of a band of coefficients, or in activation mode those that some bands of tokens share.
struct Group<P> {
    a: View<P>,
    b: View<P>,
    rank: usize,
    /// Where they begin among those of all groups.
    first: usize,
    /// The pair of factors.
    factor: usize,
    level: u32,
    /// Whether the second half of every `2^level` rows (columns) is negative.
    details: [bool; 2],
    /// The factors' rows (columns) that are the band's.
    places: [Range<usize>; 2],
    gain: f64,
    /// Activation mode: the bands of tokens.
    bands: Range<usize>,
}

impl<P: Element> Group<P> {
    fn sign(&self, axis: usize, index: usize) -> f64 {
        if self.details[axis] && index >> (self.level - 1) & 1 == 1 { -1.0 } else { 1.0 }
    }

    /// # Safety
    /// The factors are in ordinary memory, and the indices within the layer's extents.
    unsafe fn a(&self, rank: usize, column: usize) -> f64 {
        // SAFETY: the caller's.
        self.sign(1, column) * unsafe { self.a.value([0, rank, self.places[1].start + (column >> self.level)]) }
    }

    /// # Safety
    /// As [`Group::a`].
    unsafe fn b(&self, row: usize, rank: usize) -> f64 {
        // SAFETY: the caller's.
        self.sign(0, row) * unsafe { self.b.value([0, self.places[0].start + (row >> self.level), rank]) }
    }
}

fn groups<P: Element>(problem: &WaraProblem) -> Vec<Group<P>> {
    let bands = 3 * problem.levels as usize + 1;
    let count = if problem.grid.is_some() { problem.factors.len() } else { bands };
    let mut first = 0;
    (0..count)
        .map(|number| {
            let factor = if problem.per_band() { number } else { 0 };
            let [a, b] = problem.factors[factor];
            let rank = a.extents[1];
            first += rank;
            let plain = problem.grid.is_some();
            let (level, details) = if plain { (0, [false; 2]) } else { band(problem.levels, number) };
            let places = [0, 1].map(|axis: usize| {
                let extent = problem.shape[axis];
                let count = extent.div_ceil(1 << level);
                // The details of a level follow what the deeper levels take.
                let deeper = || coefficient_extent(extent, problem.levels, Bands::Mallat) - details_to(extent, level);
                let begin = if details[axis] && !problem.per_band() { deeper() } else { 0 };
                begin..begin + count
            });
            let gain = if plain { 1.0 } else { f64::from(problem.gains[number]) / f64::from(1u32 << level) };
            let bands = if problem.per_band() { number..number + 1 } else { 0..bands };
            let (a, b) = (View::new(&a), View::new(&b));
            Group { a, b, rank, first: first - rank, factor, level, details, places, gain, bands }
        })
        .collect()
}

/// Details of the levels from 1 to `level`.
fn details_to(extent: usize, level: u32) -> usize {
    (1..=level).map(|level| extent.div_ceil(1 << level)).sum()
}

fn ranks<P>(groups: &[Group<P>]) -> usize {
    groups.iter().map(|group| group.rank).sum()
}

fn tile(index: usize, extent: usize) -> Range<usize> {
    index * TILE..extent.min((index + 1) * TILE)
}

/// `[m, ranks]`: each group's `factor·Σ source(row, d)·right(group, rank, d)`.
fn shrink<P: Element, N: Number>(
    groups: &[Group<P>],
    [m, depth]: [usize; 2],
    source: impl Fn(usize, usize) -> f64 + Sync,
    right: impl Fn(&Group<P>, usize, usize) -> f64 + Sync,
    factor: impl Fn(&Group<P>) -> f64 + Sync,
) -> Vec<N> {
    let ranks = ranks(groups);
    let mut result = vec![N::default(); m * ranks];
    let view = View::<N>::new(&row_major(&mut result, [1, m, ranks]));
    let parts: Vec<_> = groups
        .iter()
        .flat_map(|group| (0..group.rank.div_ceil(TILE)).map(move |part| (group, tile(part, group.rank))))
        .collect();
    let operations = (m * ranks).saturating_mul(depth);
    for_each(m.div_ceil(TILE) * parts.len(), operations, Tile::<N>::new, |sums, work| {
        let (rows, (group, columns)) = (tile(work / parts.len(), m), &parts[work % parts.len()]);
        sums.product(
            [rows.len(), columns.len(), depth],
            |i, d| N::new(source(rows.start + i, d)),
            |j, d| right(group, columns.start + j, d),
        );
        for (i, row) in rows.clone().enumerate() {
            for (j, rank) in columns.clone().enumerate() {
                let mut value = N::default();
                value.add_product(sums.get(i, j), factor(group));
                // SAFETY: an element of the result, which this thread alone writes.
                unsafe { view.set([0, row, group.first + rank], value) };
            }
        }
    });
    result
}

/// Runs `work` for every tile of [rows, columns], with two tiles of sums.
fn for_each_tile<N: Number>(
    [rows, columns]: [usize; 2],
    depth: usize,
    work: impl Fn([&mut Tile<N>; 2], Range<usize>, Range<usize>) + Sync,
) {
    let column_tiles = columns.div_ceil(TILE);
    let state = || (Tile::<N>::new(), Tile::<N>::new());
    let operations = (rows * columns).saturating_mul(depth + 1);
    for_each(rows.div_ceil(TILE) * column_tiles, operations, state, |(first, second), i| {
        work([first, second], tile(i / column_tiles, rows), tile(i % column_tiles, columns));
    });
}

/// The sums of all groups: `Σ left(row, rank of all)·right(group, column, rank)`.
fn branch<P: Element, N: Number>(
    groups: &[Group<P>],
    sums: &mut Tile<N>,
    [rows, columns]: [&Range<usize>; 2],
    left: impl Fn(usize, usize) -> N,
    right: impl Fn(&Group<P>, usize, usize) -> f64,
) {
    // Which group has a rank, and which of its own it is.
    let of = |rank: usize| {
        let group = &groups[groups.partition_point(|group| group.first <= rank) - 1];
        (group, rank - group.first)
    };
    sums.product(
        [rows.len(), columns.len(), ranks(groups)],
        |i, rank| left(rows.start + i, rank),
        |j, rank| {
            let (group, rank) = of(rank);
            right(group, columns.start + j, rank)
        },
    );
}
