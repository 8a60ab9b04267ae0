//! WaRA in f64: bands as groups of ranks, whose factors are read with rows and columns repeated.

use std::ops::Range;

use super::{Axis, row_major};
use crate::haar::{
    BackwardProblem, Bands, Base, ForwardProblem, MergeProblem, WaraBackward, WaraForward, WaraMerge, WaraProblem,
    band, coefficient_extent,
};
use crate::reference::product::{TILE, Tile, View, for_each};
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Result};

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

/// One axis of the grid: of each element, what a band of it is made of, as indices and factors.
type Projector = Vec<Vec<(usize, f64)>>;

/// D⁻¹ of the approximations (details) of a level alone, of D.
fn projector(axis: &Axis, level: u32, detail: bool) -> Projector {
    let sign = |position: usize| if detail && position >> (level - 1) & 1 == 1 { -1.0 } else { 1.0 };
    let of = |element: usize| {
        let begin = element >> level << level;
        let positions = begin..begin + (1 << level);
        let factor = sign(element) / f64::from(1u32 << level);
        positions.filter_map(|position| Some((axis.extended(position)?, factor * sign(position)))).collect()
    };
    (0..axis.extent).map(of).collect()
}

fn transposed(projector: &Projector) -> Projector {
    let mut result = vec![Vec::new(); projector.len()];
    for (row, entries) in projector.iter().enumerate() {
        entries.iter().for_each(|&(column, factor)| result[column].push((row, factor)));
    }
    result
}

/// `h` [m, ranks] with the bands of tokens times their gains, or the adjoint of that; as it is in weight mode.
fn filtered<P: Element, N: Number>(problem: &WaraProblem, groups: &[Group<P>], h: Vec<N>, adjoint: bool) -> Vec<N> {
    let Some(grid @ [_, columns]) = problem.grid else { return h };
    let (ranks, tokens) = (ranks(groups), grid.iter().product::<usize>());
    let axes =
        grid.map(|extent| Axis { extent, levels: problem.levels, offsets: Vec::new(), boundary: problem.boundary });
    let projectors: Vec<_> = (0..3 * problem.levels as usize + 1)
        .map(|number| {
            let (level, details) = band(problem.levels, number);
            [0, 1].map(|axis: usize| {
                let projector = projector(&axes[axis], level, details[axis]);
                if adjoint { transposed(&projector) } else { projector }
            })
        })
        .collect();
    let mut result = vec![N::default(); h.len()];
    let rows = result.len() / ranks.max(1);
    let view = View::<N>::new(&row_major(&mut result, [1, rows, ranks]));
    let work = (h.len()).saturating_mul(1 << (2 * problem.levels));
    for_each(
        rows,
        work,
        || (),
        |(), row| {
            let (first, token) = (row / tokens * tokens, row % tokens);
            for (group, channel) in groups.iter().flat_map(|group| (0..group.rank).map(move |i| (group, i))) {
                let channel = group.first + channel;
                let mut sum = N::default();
                for number in group.bands.clone() {
                    let [of_row, of_column] = &projectors[number];
                    for &(i, row_factor) in &of_row[token / columns] {
                        for &(j, column_factor) in &of_column[token % columns] {
                            let factor = f64::from(problem.gains[number]) * row_factor * column_factor;
                            sum.add_product(h[(first + i * columns + j) * ranks + channel], factor);
                        }
                    }
                }
                // SAFETY: an element of the result, which this thread alone writes.
                unsafe { view.set([0, row, channel], sum) };
            }
        },
    );
    result
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

/// Calls `write(row, column, W + direction·ΔW)` for every element.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them but `write`, to the elements that it is called for.
unsafe fn run_merge<T: Element, P: Element, N: Number>(
    problem: &MergeProblem,
    direction: f64,
    write: impl Fn(usize, usize, N) + Sync,
) {
    let groups = groups::<P>(&problem.adapter);
    let source = View::<T>::new(&problem.source);
    let factor = direction * f64::from(problem.adapter.scale);
    for_each_tile::<N>(problem.adapter.shape, ranks(&groups), |[sums, _], rows, columns| {
        // Which group's rank it is, with the group's gain.
        // SAFETY: indices within the extents.
        let left = |row: usize, rank: usize| unsafe {
            let group = &groups[groups.partition_point(|group| group.first <= rank) - 1];
            N::new(group.gain * group.b(row, rank - group.first))
        };
        // SAFETY: indices within the extents.
        branch(&groups, sums, [&rows, &columns], left, |group, column, rank| unsafe { group.a(rank, column) });
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                // SAFETY: an index within the extents.
                let mut value = N::new(unsafe { source.value([0, row, column]) });
                value.add_product(sums.get(i, j), factor);
                write(row, column, value);
            }
        }
    });
}

/// Value and Σ|terms| of every element that [`crate::haar::wara_merge`] (`direction` 1) or [`crate::haar::wara_unmerge`] (−1) would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::haar::wara_merge`].
pub fn wara_merge_terms<T: Element, P: Element>(call: &WaraMerge<'_, T, P, Cpu>, direction: f64) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("haar::wara_merge_terms", Some(&Cpu), &mut guards)?;
    let mut result = vec![Terms::default(); problem.destination.extents.iter().product()];
    let view = View::<Terms>::new(&row_major(&mut result, problem.destination.extents));
    // SAFETY: the call's views were proven; every element of the result is written by one thread.
    unsafe { run_merge::<T, P, Terms>(&problem, direction, |row, column, terms| view.set([0, row, column], terms)) };
    Ok(result)
}

/// What [`crate::haar::wara_merge`] (`direction` 1) and [`crate::haar::wara_unmerge`] (−1) do on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its destination is disjoint from the inputs, or the source itself.
pub(crate) unsafe fn wara_merge<T: Element, P: Element>(problem: &MergeProblem, direction: f64) {
    let view = View::<T>::new(&problem.destination);
    // SAFETY: the caller's; an element is read before it is written, by the one thread that does both.
    unsafe {
        run_merge::<T, P, f64>(problem, direction, |row, column, value| view.set([0, row, column], T::from_f64(value)))
    };
}
