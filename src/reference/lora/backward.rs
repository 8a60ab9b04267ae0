//! The reference of [`crate::lora::backward`].

use std::sync::Mutex;

use super::middle::Middle;
use super::{SharedRows, factor, kept, report_bad_row, row_indices, tile};
use crate::lora::{Backward, BackwardProblem, BackwardTargetProblem, BaseKind, GradientProblem};
use crate::reference::product::{TILE, Tile, View, for_each};
use crate::reference::{Number, Terms, quantize};
use crate::tensor::Elements;
use crate::{Cpu, Element, ElementType, Result, StatusRecord};

mod tables;

use tables::TableRows;

/// Value and Σ|terms| of every element of the gradients that [`crate::lora::backward`] would write, in row-major order; empty where one is not asked for.
#[derive(Clone, Debug, Default)]
pub struct GradientTerms {
    /// [batches, m, k]
    pub x: Vec<Terms>,
    /// One for each target of the call.
    pub targets: Vec<TargetGradientTerms>,
}

/// Those of one target's parameters.
#[derive(Clone, Debug, Default)]
pub struct TargetGradientTerms {
    /// [batches or 1, rank, k]
    pub a: Vec<Terms>,
    /// [batches or 1, n, rank]
    pub b: Vec<Terms>,
    /// [batches or 1, 1, n]
    pub bias: Vec<Terms>,
    /// Of the middle's λ, [batches or 1, 1, rank].
    pub scale: Vec<Terms>,
    /// Of its gate, [batches, m, rank].
    pub gate: Vec<Terms>,
    /// Of its core, [batches or 1, r_b, r_a].
    pub core: Vec<Terms>,
    /// Of A, [rank, k], and of B, [n, rank], of each adapter of a table.
    pub table: Vec<[Vec<Terms>; 2]>,
}

/// A gradient of a call.
#[derive(Clone, Copy)]
enum Output {
    X,
    A(usize),
    B(usize),
    Bias(usize),
    Scale(usize),
    Gate(usize),
    Core(usize),
    /// Of a target and an adapter of its table.
    TableA(usize, usize),
    TableB(usize, usize),
}

impl Output {
    fn of<'p>(self, problem: &'p BackwardProblem) -> Option<&'p GradientProblem> {
        let of_table = |target: usize, adapter: usize, which: usize| {
            problem.targets[target].table_gradients.as_ref()?.gradients[adapter][which].as_ref()
        };
        match self {
            Output::X => problem.dx.as_ref(),
            Output::A(target) => problem.targets[target].a.as_ref(),
            Output::B(target) => problem.targets[target].b.as_ref(),
            Output::Bias(target) => problem.targets[target].bias.as_ref(),
            Output::Scale(target) => problem.targets[target].scale.as_ref(),
            Output::Gate(target) => problem.targets[target].gate.as_ref(),
            Output::Core(target) => problem.targets[target].core.as_ref(),
            Output::TableA(target, adapter) => of_table(target, adapter, 0),
            Output::TableB(target, adapter) => of_table(target, adapter, 1),
        }
    }
}

/// What [`crate::lora::backward`] would write, with magnitudes; zeros for ranks that a list leaves out. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::backward`].
pub fn backward_terms<T: Element, P: Element>(call: &Backward<'_, T, P, Cpu>) -> Result<GradientTerms> {
    let mut guards = Vec::new();
    let problem = call.problem(Some(&Cpu), &mut guards)?;
    let empty = |output: Output| {
        let elements = output.of(&problem).map_or(0, |gradient| gradient.elements.extents.iter().product());
        vec![Terms::default(); elements]
    };
    let targets = (0..problem.targets.len()).map(|target| TargetGradientTerms {
        a: empty(Output::A(target)),
        b: empty(Output::B(target)),
        bias: empty(Output::Bias(target)),
        scale: empty(Output::Scale(target)),
        gate: empty(Output::Gate(target)),
        core: empty(Output::Core(target)),
        table: (0..problem.targets[target].table.as_ref().map_or(0, |table| table.adapters.len()))
            .map(|adapter| [empty(Output::TableA(target, adapter)), empty(Output::TableB(target, adapter))])
            .collect(),
    });
    let terms = Mutex::new(GradientTerms { x: empty(Output::X), targets: targets.collect() });
    // SAFETY: the call's views were proven, and nothing is written to them.
    unsafe {
        run::<T, P, Terms>(&problem, &mut StatusRecord::default(), |output, [batch, row, column], value| {
            let mut terms = terms.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let Some(gradient) = output.of(&problem) else { return };
            let [_, rows, columns] = gradient.elements.extents;
            let list = match output {
                Output::X => &mut terms.x,
                Output::A(target) => &mut terms.targets[target].a,
                Output::B(target) => &mut terms.targets[target].b,
                Output::Bias(target) => &mut terms.targets[target].bias,
                Output::Scale(target) => &mut terms.targets[target].scale,
                Output::Gate(target) => &mut terms.targets[target].gate,
                Output::Core(target) => &mut terms.targets[target].core,
                Output::TableA(target, adapter) => &mut terms.targets[target].table[adapter][0],
                Output::TableB(target, adapter) => &mut terms.targets[target].table[adapter][1],
            };
            list[(batch * rows + row) * columns + column] = value;
        });
    }
    Ok(terms.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// What [`crate::lora::backward`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from everything else.
pub(crate) unsafe fn backward<T: Element, P: Element>(problem: &BackwardProblem, record: &mut StatusRecord) {
    // SAFETY: the caller's; every element is written once, by one thread, after it was read.
    unsafe {
        run::<T, P, f64>(problem, record, |output, index, value| {
            let Some(gradient) = output.of(problem) else { return };
            match output {
                Output::X | Output::Bias(_) => View::<T>::new(&gradient.elements).set(index, T::from_f64(value)),
                Output::Gate(_) => View::<f32>::new(&gradient.elements).set(index, f32::from_f64(value)),
                _ => View::<P>::new(&gradient.elements).set(index, P::from_f64(value)),
            }
        });
    }
}

/// Calls `write(output, [batch, row, column], value)` for every element of every gradient that is asked for, what accumulates added.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them but `write`, to the element it is called for.
unsafe fn run<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    record: &mut StatusRecord,
    write: impl Fn(Output, [usize; 3], N) + Sync,
) {
    let mut intermediates = Vec::new();
    // SAFETY: the caller's.
    let indices = unsafe { row_indices(&problem.rows, problem.batches * problem.m) };
    // SAFETY: the caller's.
    let weights = problem.weights.as_ref().map(|(samples, weights)| unsafe { samples.row_weights(*weights) });
    for (number, target) in problem.targets.iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let ranks = target.adapter.as_ref().map_or([0, 0], |adapter| [adapter.rank(), adapter.b.extents[2]]);
            let middle = Middle::<P>::new(target.middle.as_ref(), problem.m, ranks, record);
            bias::<T, N>(problem, number, weights.as_deref(), &write);
            if let Some(table) = &target.table {
                report_bad_row(&table.adapters, &indices, record);
                let rows = TableRows::new(table, &indices);
                let dh = tables::parameters::<T, P, N>(problem, number, table, &rows, weights.as_deref(), &write);
                intermediates.push(Intermediate { middle, dh, rows: Some(rows) });
                continue;
            }
            // dH' = U·B, [batches·m, after]; dH of it
            let b = target.adapter.as_ref().map(|adapter| View::<P>::new(&adapter.b));
            let u = |batch, row, i| scaled_dy::<T>(target, [batch, row, i]);
            let b = |batch, i, column| match (b, middle.rank_of(i)) {
                (Some(b), Some(rank)) => b.value([batch, column, rank]),
                _ => 0.0,
            };
            let after = rows::<N>(problem, middle.after, target.n, u, b);
            let dh = parameters::<T, P, N>(problem, number, &middle, after, weights.as_deref(), &write);
            intermediates.push(Intermediate { middle, dh, rows: None });
        }
    }
    if problem.dx.is_some() {
        // SAFETY: the caller's.
        unsafe { input::<T, P, N>(problem, &intermediates, &write) };
    }
}

/// What the gradient of x takes of a target.
struct Intermediate<P, N> {
    middle: Middle<P>,
    /// [batches·m, the middle's columns], or with a table [batches·m, its largest rank].
    dh: Vec<N>,
    /// Of a target with a table.
    rows: Option<TableRows>,
}

/// A number times the weight of its row, where rows have weights.
fn weighed<N: Number>(weights: Option<&[f64]>, value: N, row: usize) -> N {
    let Some(weights) = weights else { return value };
    let mut weighed = N::default();
    weighed.add_product(value, weights[row]);
    weighed
}

/// An element of x as the adapters see it, of a row of all batches.
///
/// # Safety
/// As [`run`], with an index within x's extents.
unsafe fn kept_x<T: Element>(problem: &BackwardProblem, row: usize, column: usize) -> f64 {
    let (x, index) = (View::<T>::new(&problem.x), [row / problem.m, row % problem.m, column]);
    // SAFETY: the caller's.
    unsafe { kept(&x, problem.dropout.as_ref(), problem.m, index) }
}

/// An element of a saved H, of a row of all batches.
///
/// # Safety
/// As [`run`], with an index within its extents.
unsafe fn saved<T: Element, N: Number>(
    problem: &BackwardProblem,
    (view, element_type): &(Elements<3>, ElementType),
    row: usize,
    column: usize,
) -> N {
    let index = [row / problem.m, row % problem.m, column];
    // SAFETY: the caller's.
    N::new(unsafe {
        match element_type {
            ElementType::F32 => View::<f32>::new(view).value(index),
            _ => View::<T>::new(view).value(index),
        }
    })
}

/// The gradient of one target's bias.
///
/// # Safety
/// As [`run`].
unsafe fn bias<T: Element, N: Number>(
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

/// An element of U: of dY, times its column's row scale.
///
/// # Safety
/// As [`run`], with an index within dY's extents.
unsafe fn scaled_dy<T: Element>(target: &BackwardTargetProblem, index: [usize; 3]) -> f64 {
    // SAFETY: the caller's.
    unsafe {
        let dy = View::<T>::new(&target.dy).value(index);
        target.row_scale.as_ref().map_or(dy, |scale| dy * View::<f32>::new(scale).value([index[0], 0, index[2]]))
    }
}

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

/// The gradients of one target's A, B and middle, of dH' [batches·m, after]; returns dH.
///
/// # Safety
/// As [`run`].
unsafe fn parameters<T: Element, P: Element, N: Number>(
    problem: &BackwardProblem,
    number: usize,
    middle: &Middle<P>,
    after: Vec<N>,
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
            let u = |row, column| scaled_dy::<T>(target, [of_row(row)[0], of_row(row)[1], column]);
            summed_rows::<P, N>(
                problem,
                Sums { output: Output::B(number), extents: [middle.after, target.n], scale, rows: None },
                h,
                u,
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
/// As [`run`].
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

/// Writes `scale·Σ terms(row, i)`, over the rows of a batch or of all where the gradient is one for all, to the place of i in a gradient.
///
/// # Safety
/// As [`run`].
unsafe fn summed_terms<G: Element, N: Number>(
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
struct Sums<'a> {
    output: Output,
    extents: [usize; 2],
    scale: f64,
    /// Those that an adapter of a table has, of all batches. Without any, sums have no scale.
    rows: Option<&'a [usize]>,
}

/// Writes `scale·Σ left(row, i)·right(row, j)`, over the rows of a batch, of all where the gradient is one for all, or of an adapter, to element (rank of i, j) of a gradient; of B's to (j, rank
/// of i).
///
/// # Safety
/// As [`run`].
unsafe fn summed_rows<G: Element, N: Number>(
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
    let depth = list.map_or(of_group, <[usize]>::len);
    let row_of = |group: usize, d: usize| list.map_or(group * of_group + d, |list| list[d]);
    let without_rows = list.is_some_and(<[usize]>::is_empty);
    let (row_tiles, column_tiles) = (rows.div_ceil(TILE), columns.div_ceil(TILE));
    let operations = (groups * rows * columns).saturating_mul(depth);
    for_each(groups * row_tiles * column_tiles, operations, Tile::<N>::new, |sums, work| {
        let group = work / (row_tiles * column_tiles);
        let (rows, columns) = (tile(work / column_tiles % row_tiles, rows), tile(work % column_tiles, columns));
        sums.product(
            [rows.len(), columns.len(), depth],
            |i, d| left(row_of(group, d), rows.start + i),
            |j, d| right(row_of(group, d), columns.start + j),
        );
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
                value.add_product(sums.get(i, j), scale);
                old.into_iter().for_each(|old| value.add(old));
                write(output, index, value);
            }
        }
    });
}

/// The gradient of x, of every target's dH.
///
/// # Safety
/// As [`run`].
unsafe fn input<T: Element, P: Element, N: Number>(
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
