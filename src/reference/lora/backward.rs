//! The reference of [`crate::lora::backward`].

use std::sync::Mutex;

use super::middle::Middle;
use super::{kept, report_bad_row, row_indices};
use crate::lora::{Backward, BackwardProblem, BackwardTargetProblem, GradientProblem};
use crate::reference::product::View;
use crate::reference::{Number, Terms};
use crate::tensor::Elements;
use crate::{Cpu, Element, ElementType, Result, StatusRecord};

mod input;
mod parameters;
mod sums;
mod tables;

use input::Intermediate;
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
            sums::bias::<T, N>(problem, number, weights.as_deref(), &write);
            if let Some(table) = &target.table {
                report_bad_row(&table.adapters, &indices, record);
                let rows = TableRows::new(table, &indices);
                let dh = tables::parameters::<T, P, N>(problem, number, table, &rows, weights.as_deref(), &write);
                intermediates.push(Intermediate { middle, dh, rows: Some(rows) });
                continue;
            }
            let dh = parameters::parameters::<T, P, N>(problem, number, &middle, weights.as_deref(), &write);
            intermediates.push(Intermediate { middle, dh, rows: None });
        }
    }
    if problem.dx.is_some() {
        // SAFETY: the caller's.
        unsafe { input::input::<T, P, N>(problem, &intermediates, &write) };
    }
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
