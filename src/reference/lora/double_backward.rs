//! The reference of [`crate::lora::double_backward`].

use std::sync::Mutex;

use super::tile;
use crate::lora::{DoubleBackward, DoubleBackwardProblem, GradientProblem};
use crate::reference::product::{TILE, Tile, View, for_each};
use crate::reference::{Number, Terms};
use crate::tensor::Elements;
use crate::{Cpu, Element, Result};

/// Value and Σ|terms| of every element that [`crate::lora::double_backward`] would write, in row-major order; empty where a gradient is not asked for.
#[derive(Clone, Debug, Default)]
pub struct DoubleBackwardTerms {
    /// [batches, m, n]
    pub dy: Vec<Terms>,
    /// [batches, m, k]
    pub x: Vec<Terms>,
    /// [batches or 1, rank, k]
    pub a: Vec<Terms>,
    /// [batches or 1, n, rank]
    pub b: Vec<Terms>,
}

/// A gradient of a call.
#[derive(Clone, Copy)]
enum Output {
    Dy,
    X,
    A,
    B,
}

impl Output {
    fn of(self, problem: &DoubleBackwardProblem) -> Option<&GradientProblem> {
        match self {
            Output::Dy => problem.of_dy.as_ref(),
            Output::X => problem.of_x.as_ref(),
            Output::A => problem.of_a.as_ref(),
            Output::B => problem.of_b.as_ref(),
        }
    }
}

/// What [`crate::lora::double_backward`] would write, with magnitudes. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::double_backward`].
pub fn double_backward_terms<T: Element, P: Element>(
    call: &DoubleBackward<'_, T, P, Cpu>,
) -> Result<DoubleBackwardTerms> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::double_backward_terms", Some(&Cpu), &mut guards)?;
    let empty = |output: Output| {
        let elements = output.of(&problem).map_or(0, |gradient| gradient.elements.extents.iter().product());
        vec![Terms::default(); elements]
    };
    let terms =
        DoubleBackwardTerms { dy: empty(Output::Dy), x: empty(Output::X), a: empty(Output::A), b: empty(Output::B) };
    let terms = Mutex::new(terms);
    // SAFETY: the call's views were proven, and nothing is written to them.
    unsafe {
        run::<T, P, Terms>(&problem, |output, [batch, row, column], value| {
            let mut terms = terms.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let Some(gradient) = output.of(&problem) else { return };
            let [_, rows, columns] = gradient.elements.extents;
            let list = match output {
                Output::Dy => &mut terms.dy,
                Output::X => &mut terms.x,
                Output::A => &mut terms.a,
                Output::B => &mut terms.b,
            };
            list[(batch * rows + row) * columns + column] = value;
        });
    }
    Ok(terms.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// What [`crate::lora::double_backward`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from everything else.
pub(crate) unsafe fn double_backward<T: Element, P: Element>(problem: &DoubleBackwardProblem) {
    // SAFETY: the caller's; every element is written once, by one thread, after it was read.
    unsafe {
        run::<T, P, f64>(problem, |output, index, value| {
            let Some(gradient) = output.of(problem) else { return };
            match output {
                Output::Dy | Output::X => View::<T>::new(&gradient.elements).set(index, T::from_f64(value)),
                Output::A | Output::B => View::<P>::new(&gradient.elements).set(index, P::from_f64(value)),
            }
        });
    }
}

/// `factor·Σ left([group, i, d])·right([group, j, d])` over d.
struct Product<'a, N> {
    depth: usize,
    factor: f64,
    left: &'a (dyn Fn([usize; 3]) -> N + Sync),
    right: &'a (dyn Fn([usize; 3]) -> f64 + Sync),
}

fn if_there<N>(there: bool, product: Product<'_, N>) -> Option<Product<'_, N>> {
    there.then_some(product)
}

/// Calls `write([group, i, j], the sum of the products)` for every element.
fn each_sum<N: Number>(
    [groups, rows, columns]: [usize; 3],
    products: &[Option<Product<'_, N>>],
    write: impl Fn([usize; 3], N) + Sync,
) {
    let (row_tiles, column_tiles) = (rows.div_ceil(TILE), columns.div_ceil(TILE));
    let depth: usize = products.iter().flatten().map(|product| product.depth).sum();
    let operations = (groups * rows * columns).saturating_mul(depth.max(1));
    let state = || (Tile::<N>::new(), vec![N::default(); TILE * TILE]);
    for_each(groups * row_tiles * column_tiles, operations, state, |(one, sums), work| {
        let group = work / (row_tiles * column_tiles);
        let (rows, columns) = (tile(work / column_tiles % row_tiles, rows), tile(work % column_tiles, columns));
        sums.fill(N::default());
        for Product { depth, factor, left, right } in products.iter().flatten() {
            one.product(
                [rows.len(), columns.len(), *depth],
                |i, d| left([group, rows.start + i, d]),
                |j, d| right([group, columns.start + j, d]),
            );
            for i in 0..rows.len() {
                for j in 0..columns.len() {
                    sums[i * TILE + j].add_product(one.get(i, j), *factor);
                }
            }
        }
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                write([group, row, column], sums[i * TILE + j]);
            }
        }
    });
}

/// The sums in row-major order.
fn sums<N: Number>([groups, rows, columns]: [usize; 3], products: &[Option<Product<'_, N>>]) -> Vec<N> {
    let result = Mutex::new(vec![N::default(); groups * rows * columns]);
    each_sum([groups, rows, columns], products, |[group, row, column], value| {
        let mut result = result.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        result[(group * rows + row) * columns + column] = value;
    });
    result.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Elements of an operand, or zeros where there is none.
///
/// # Safety
/// The operand is in ordinary memory while the function is used, with indices within its extents.
unsafe fn values<E: Element>(elements: Option<&Elements<3>>) -> impl Fn([usize; 3]) -> f64 + Sync + '_ {
    let view = elements.map(View::<E>::new);
    // SAFETY: the caller's.
    move |index| view.as_ref().map_or(0.0, |view| unsafe { view.value(index) })
}

/// Calls `write(output, [batch, row, column], value)` for every element of every gradient that is asked for, what accumulates added.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them but `write`, to the element it is called for.
unsafe fn run<T: Element, P: Element, N: Number>(
    problem: &DoubleBackwardProblem,
    write: impl Fn(Output, [usize; 3], N) + Sync,
) {
    let DoubleBackwardProblem { batches, m, n, k, .. } = *problem;
    let (rank, s) = problem.adapter.as_ref().map_or((0, 0.0), |adapter| (adapter.rank(), f64::from(adapter.scale)));
    let adapter = problem.adapter.as_ref();
    // SAFETY: the caller's; the products below keep to the extents.
    let (x, dy, w, ux) = unsafe {
        (
            values::<T>(Some(&problem.x)),
            values::<T>(Some(&problem.dy)),
            values::<T>(problem.w.as_ref()),
            values::<T>(problem.ux.as_ref()),
        )
    };
    // SAFETY: as above.
    let (a, b, ua, ub) = unsafe {
        (
            values::<P>(adapter.map(|adapter| &adapter.a)),
            values::<P>(adapter.map(|adapter| &adapter.b)),
            values::<P>(problem.ua.as_ref()),
            values::<P>(problem.ub.as_ref()),
        )
    };
    // Of no ranks there is no branch, whatever its scale.
    let (has_ux, branch) = (problem.ux.is_some(), rank > 0);
    let (has_ua, has_ub) = (branch && problem.ua.is_some(), branch && problem.ub.is_some());
    let has_h1 = branch && (has_ux || has_ua);
    let [x_n, dy_n, ux_n] =
        [&x as &(dyn Fn([usize; 3]) -> f64 + Sync), &dy, &ux].map(|of| move |index| N::new(of(index)));
    let swapped = |[group, i, j]: [usize; 3]| [group, j, i];
    let (b_columns, ub_columns) = (|index| b(swapped(index)), |index| ub(swapped(index)));

    // [batches·m, rank]: H1 = u_x·Aᵀ + x·u_aᵀ, H0 = x·Aᵀ, D0 = dY·B, D1 = dY·u_b.
    let rows = [batches, m, rank];
    let of = |depth, left, right| Product { depth, factor: 1.0, left, right };
    let h1 = sums(rows, &[if_there(has_ux, of(k, &ux_n, &a)), if_there(has_ua, of(k, &x_n, &ua))]);
    let h0 = sums(rows, &[if_there(has_ub, of(k, &x_n, &a))]);
    let d0 = sums(rows, &[if_there(has_h1, of(n, &dy_n, &b_columns))]);
    let d1 = sums(rows, &[if_there(has_ub, of(n, &dy_n, &ub_columns))]);
    let [h1, h0, d0, d1] = [&h1, &h0, &d0, &d1];
    let at = |[batch, row, rank_index]: [usize; 3]| (batch * m + row) * rank + rank_index;

    // An element with what it is added to.
    let finish = |output: Output, index: [usize; 3], value: N| {
        let Some(gradient) = output.of(problem) else { return };
        let mut value = value;
        if gradient.accumulate {
            // SAFETY: an index within the gradient's extents.
            value.add(N::new(unsafe {
                match output {
                    Output::Dy | Output::X => View::<T>::new(&gradient.elements).value(index),
                    Output::A | Output::B => View::<P>::new(&gradient.elements).value(index),
                }
            }));
        }
        write(output, index, value);
    };

    if problem.of_dy.is_some() {
        let (h1, h0) = (|index| h1[at(index)], |index| h0[at(index)]);
        let products = [
            if_there(has_ux && problem.w.is_some(), Product { depth: k, factor: 1.0, left: &ux_n, right: &w }),
            if_there(has_h1, Product { depth: rank, factor: s, left: &h1, right: &b }),
            if_there(has_ub, Product { depth: rank, factor: s, left: &h0, right: &ub }),
        ];
        each_sum([batches, m, n], &products, |index, value| finish(Output::Dy, index, value));
    }
    if problem.of_x.is_some() {
        let (d1, d0) = (|index| d1[at(index)], |index| d0[at(index)]);
        let (a, ua) = (|index| a(swapped(index)), |index| ua(swapped(index)));
        let products = [
            if_there(has_ub, Product { depth: rank, factor: s, left: &d1, right: &a }),
            if_there(has_ua, Product { depth: rank, factor: s, left: &d0, right: &ua }),
        ];
        each_sum([batches, m, k], &products, |index, value| finish(Output::X, index, value));
    }
    // Over the rows of a batch, or of all where the gradient is one for all: index d is of those.
    let rows_of = |gradient: &GradientProblem| {
        let groups = gradient.elements.extents[0];
        (groups, if groups == 1 { batches * m } else { m })
    };
    let place = |group: usize, depth: usize, row: usize, column: usize| {
        let of_all = group * depth + row;
        [of_all / m, of_all % m, column]
    };
    if let Some(gradient) = &problem.of_a {
        let (groups, depth) = rows_of(gradient);
        let left = |of: &'_ [N], [group, i, d]: [usize; 3]| of[at(place(group, depth, d, i))];
        let (d0, d1) = (|index| left(d0, index), |index| left(d1, index));
        let (ux, x) = (
            |[group, j, d]: [usize; 3]| ux(place(group, depth, d, j)),
            |[group, j, d]: [usize; 3]| x(place(group, depth, d, j)),
        );
        let products = [
            if_there(has_ux, Product { depth, factor: s, left: &d0, right: &ux }),
            if_there(has_ub, Product { depth, factor: s, left: &d1, right: &x }),
        ];
        each_sum([groups, rank, k], &products, |index, value| finish(Output::A, index, value));
    }
    if let Some(gradient) = &problem.of_b {
        let (groups, depth) = rows_of(gradient);
        let h1 = |[group, i, d]: [usize; 3]| h1[at(place(group, depth, d, i))];
        let dy = |[group, j, d]: [usize; 3]| dy(place(group, depth, d, j));
        let products = [if_there(has_h1, Product { depth, factor: s, left: &h1, right: &dy })];
        each_sum([groups, rank, n], &products, |index, value| finish(Output::B, swapped(index), value));
    }
}
