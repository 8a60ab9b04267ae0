//! `lora.forward`: each layer with a dense base, and once more in one of the other ways.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::{Cpu, ElementType, Layout, Mat, MatMut, Result, Vector, Workspace, lora, reference};

use super::formulas;
use super::{Factors, MARGIN, PlacedFactors, heading, parts, with_margins, with_types, without_margins};
use crate::check::case::{Case, Choice, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Count};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

/// How a layer is called.
#[derive(Clone, Copy)]
pub enum Variant<'a> {
    /// Base, bias and an adapter of rank 16.
    Dense,
    /// The stored matrix is [k, n]: the layer reads what it usually writes. No copy is made.
    Transposed,
    /// Two layers that share x.
    Shared(&'a Layer),
    /// The base is in y.
    InY,
    /// Each row has an adapter of its own, or none.
    Table,
}

impl<'a> Variant<'a> {
    /// Another variant for each layer of a file, in turn.
    pub fn of_layer(subjects: &'a Subjects, index: usize) -> Self {
        let layer = &subjects.layers[index];
        let like = |other: &&Layer| (other.n, other.k, other.stored) == (layer.n, layer.k, layer.stored);
        match index % 4 {
            0 => Self::Transposed,
            1 => Self::Shared(subjects.layers[index + 1..].iter().find(like).unwrap_or(layer)),
            2 => Self::InY,
            _ => Self::Table,
        }
    }

    /// The ranks of each target's adapters.
    fn ranks(self) -> &'static [&'static [usize]] {
        match self {
            Self::Dense => &[&[16]],
            Self::Transposed => &[&[7]],
            Self::Shared(_) => &[&[8], &[64]],
            Self::InY => &[&[8]],
            Self::Table => &[&[16, 7, 64]],
        }
    }
}

pub struct ForwardCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub variant: Variant<'a>,
    pub types: [ElementType; 2],
    pub choice: Choice,
}

impl Case for ForwardCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.forward"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let ([n, k], m) = (self.extents(), self.rows());
        let columns = self.columns(queue);
        let slab = if columns < n { format!("[{m}, {columns}] of ") } else { String::new() };
        let variant = match self.variant {
            Variant::Dense => "rank 16",
            Variant::Transposed => "rank 7, W transposed",
            Variant::Shared(_) => "ranks 8 and 64, 2 targets",
            Variant::InY => "rank 8, base in y",
            Variant::Table => "ranks 16, 7, 64 by row",
        };
        format!("{slab}[{m}, {n}] x {k}, {variant}")
    }
    fn runs_on(&self, queue: &OpenQueue) -> bool {
        self.choice.runs_on(queue)
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl ForwardCase<'_> {
    /// [n, k] of the call.
    fn extents(&self) -> [usize; 2] {
        match self.variant {
            Variant::Transposed => [self.layer.k, self.layer.n],
            _ => [self.layer.n, self.layer.k],
        }
    }

    /// m of the call.
    fn rows(&self) -> usize {
        self.subjects.rows(self.extents()[1]).min(self.choice.rows)
    }

    /// Columns of y that a queue computes.
    fn columns(&self, queue: &OpenQueue) -> usize {
        let [n, k] = self.extents();
        queue.affordable(n, self.rows() * k * self.variant.ranks().len()).min(self.choice.columns)
    }

    fn inputs<T: Value, P: Value>(&self) -> Inputs<'_, T, P> {
        let [n, k] = self.extents();
        let m = self.rows();
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let layers = match self.variant {
            Variant::Shared(other) => vec![self.layer, other],
            _ => vec![self.layer],
        };
        let target = |(layer, ranks): (&&Layer, &&[usize])| InputTarget {
            base: match self.variant {
                Variant::InY => Base::InY(random.uniform(m * n, 1.0)),
                _ => Base::Dense(self.subjects.weights(layer)),
            },
            // A transposed layer has its bias on the other side.
            bias: if matches!(self.variant, Variant::Transposed) { None } else { self.subjects.bias(layer) },
            adapters: ranks.iter().map(|&rank| Factors::random(random, [n, k], rank)).collect(),
        };
        let targets = layers.iter().zip(self.variant.ranks()).map(target).collect();
        // Unsorted, with all adapters and none.
        let rows =
            matches!(self.variant, Variant::Table).then(|| (0..m).map(|_| (random.next() % 4) as i32 - 1).collect());
        let transposed = matches!(self.variant, Variant::Transposed);
        let (x, algorithm) = (self.subjects.activations(k), self.choice.algorithm);
        Inputs { x, m, n, k, transposed, targets, rows, algorithm }
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let inputs = self.inputs::<T, P>();
        let runs: Vec<Run<T>> = queues
            .iter()
            .map(|queue| {
                let columns = self.columns(queue);
                on_queue!(queue, memory => inputs.run(memory, columns))
            })
            .collect();
        let comparisons = inputs.compare(&runs);
        let outcome = |(run, comparison): (Run<T>, Result<Comparison>)| {
            let work = Work::Flops(inputs.flops(run.columns));
            let comparison = run.outputs.and(comparison);
            vec![Outcome { kernel: run.kernel, seconds: run.seconds, work, counters: run.counters, comparison }]
        };
        runs.into_iter().zip(comparisons).map(outcome).collect()
    }
}

enum Base<'a, T: Copy> {
    Dense(Cow<'a, [T]>),
    InY(Vec<T>),
}

struct InputTarget<'a, T: Copy, P> {
    base: Base<'a, T>,
    bias: Option<Vec<T>>,
    adapters: Vec<Factors<P>>,
}

struct Inputs<'a, T: Copy, P> {
    /// [m or more, k]
    x: Cow<'a, [T]>,
    m: usize,
    n: usize,
    k: usize,
    transposed: bool,
    targets: Vec<InputTarget<'a, T, P>>,
    /// The adapter of each row, where targets have several.
    rows: Option<Vec<i32>>,
    algorithm: i32,
}

/// What a queue made of the first `columns` columns of every target.
struct Run<T> {
    columns: usize,
    kernel: Option<peft_kernels::Kernel>,
    seconds: f64,
    counters: Vec<Count>,
    outputs: Result<Vec<Vec<T>>>,
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn flops(&self, columns: usize) -> f64 {
        let rank_of_row = |target: &InputTarget<T, P>, row: usize| match &self.rows {
            None => target.adapters[0].rank,
            Some(rows) => usize::try_from(rows[row]).map_or(0, |index| target.adapters[index].rank),
        };
        let products: usize = (0..self.m)
            .flat_map(|row| self.targets.iter().map(move |target| (row, target)))
            .map(|(row, target)| {
                let base = if matches!(target.base, Base::Dense(_)) { self.k * columns } else { 0 };
                base + rank_of_row(target, row) * (self.k + columns)
            })
            .sum();
        2.0 * products as f64
    }

    /// What its reads and writes follow from.
    fn sizes(&self, columns: usize) -> formulas::Forward {
        let target = |target: &InputTarget<T, P>| formulas::Target {
            n: columns,
            dense: matches!(target.base, Base::Dense(_)),
            bias: target.bias.is_some(),
            rank: target.adapters[0].rank,
        };
        let targets = self.targets.iter().map(target).collect();
        let (t, p) = (size_of::<T>(), size_of::<P>());
        formulas::Forward { m: self.m, k: self.k, targets, by_row: self.rows.is_some(), t, p }
    }

    /// For each target y, for the operation to write: with the base in it, or NaN.
    fn outputs(&self, columns: &Range<usize>) -> Vec<Vec<T>> {
        let output = |target: &InputTarget<T, P>| {
            let elements = (0..self.m * columns.len()).map(|i| match &target.base {
                Base::Dense(_) => T::NAN,
                Base::InY(y) => y[i / columns.len() * self.n + columns.start + i % columns.len()],
            });
            with_margins(elements)
        };
        self.targets.iter().map(output).collect()
    }

    /// Calls `call` with the descriptor for some columns of y, on operands in the queue's memory.
    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        columns: &Range<usize>,
        outputs: &mut [Owned<M, T>],
        call: impl FnOnce(lora::Forward<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let (m, n, k) = (self.m, self.n, self.k);
        let x = memory.place((&self.x[..m * k]).into())?;
        let rows = self.rows.as_ref().map(|rows| memory.place(rows.into())).transpose()?;
        let mut weights = Vec::new();
        let mut biases = Vec::new();
        let mut factors = Vec::new();
        for target in &self.targets {
            weights.push(match &target.base {
                Base::Dense(w) => Some(memory.place((&w[..]).into())?),
                Base::InY(_) => None,
            });
            biases.push(target.bias.as_ref().map(|bias| memory.place(bias[columns.clone()].into())).transpose()?);
            let place = |factors| PlacedFactors::<P, M>::new(memory, factors, columns, k);
            factors.push(target.adapters.iter().map(place).collect::<Result<Vec<_>>>()?);
        }
        let adapters = factors
            .iter()
            .map(|factors| factors.iter().map(PlacedFactors::adapter).collect::<Result<Vec<_>>>())
            .collect::<Result<Vec<_>>>()?;
        let tables = adapters
            .iter()
            .map(|adapters| lora::AdapterTable::new(memory.queue(), adapters))
            .collect::<Result<Vec<_>>>()?;
        let entries = tables
            .iter()
            .map(|table| memory.place(Cow::Owned(table.entries().to_vec())))
            .collect::<Result<Vec<_>>>()?;

        let mut forward = lora::Forward::new(Mat::new(M::read(&x), m, k)?);
        for (i, output) in outputs.iter_mut().enumerate() {
            let extents = [m, columns.len()];
            let layout = Layout { offset: MARGIN, extents, strides: [columns.len(), 1] };
            let y = MatMut::with_layout(M::write(&mut output.0), layout)?;
            let mut target = match &weights[i] {
                None => lora::Target::accumulate(y),
                Some(w) => {
                    let w = M::read(w);
                    let w = if self.transposed { Mat::new(w, k, n)?.t() } else { Mat::new(w, n, k)? };
                    lora::Target::dense(w.narrow(0, columns.clone())?, y)
                }
            };
            if let Some(bias) = &biases[i] {
                target = target.bias(Vector::whole(M::read(bias)));
            }
            target = if rows.is_some() {
                // SAFETY: the entries were just copied from the table.
                unsafe { target.table_on_device(&tables[i], Vector::whole(M::read(&entries[i]))) }
            } else {
                let Factors { rank, scale, .. } = self.targets[i].adapters[0];
                let placed = &factors[i][0];
                let a = Mat::new(M::read(&placed.a), rank, k)?;
                target.adapter(a, Mat::new(M::read(&placed.b), columns.len(), rank)?, scale)
            };
            forward = forward.target(target);
        }
        if let Some(rows) = &rows {
            forward = forward.row_adapter(Vector::whole(M::read(rows)));
        }
        call(forward)
    }

    fn run<M: Memory>(&self, memory: &M, columns: usize) -> Run<T> {
        let mut run = Run { columns, kernel: None, seconds: 0.0, counters: Vec::new(), outputs: Ok(Vec::new()) };
        run.outputs = self.run_into(memory, columns, &mut run.kernel, &mut run.seconds);
        let kernel = run.kernel.as_ref().map_or("", |kernel| kernel.name.as_str());
        run.counters = counters::take(&self.sizes(columns).formulas(kernel));
        run
    }

    fn run_into<M: Memory>(
        &self,
        memory: &M,
        columns: usize,
        kernel: &mut Option<peft_kernels::Kernel>,
        seconds: &mut f64,
    ) -> Result<Vec<Vec<T>>> {
        let columns = 0..columns;
        let outputs = self.outputs(&columns);
        let mut outputs = outputs.into_iter().map(|output| Owned::new(memory, output)).collect::<Result<Vec<_>>>()?;
        self.with_call(memory, &columns, &mut outputs, |call| {
            let (queue, call) = (memory.queue(), call.algorithm(self.algorithm));
            *kernel = Some(lora::forward_kernel(queue, &call)?);
            let mut scratch = Owned::new(memory, vec![0u8; lora::forward_workspace(queue, &call)?])?;
            let begin = Instant::now();
            lora::forward(queue, call, Workspace::new(M::write(&mut scratch.0)))?;
            memory.wait()?;
            *seconds = begin.elapsed().as_secs_f64();
            Ok(())
        })?;
        outputs.iter().map(|output| memory.fetch(&output.0)).collect()
    }

    /// Every element of every run against the reference, which is computed once for all of them.
    fn compare(&self, runs: &[Run<T>]) -> Vec<Result<Comparison>> {
        let mut comparisons: Vec<_> = runs.iter().map(|_| Ok(Comparison::default())).collect();
        let computed = runs.iter().filter(|run| run.outputs.is_ok()).map(|run| run.columns).max().unwrap_or(0);
        for columns in parts(computed, self.m * self.targets.len()) {
            let mut outputs: Vec<_> =
                self.outputs(&columns).into_iter().map(|output| Owned(Cow::Owned(output))).collect();
            let terms =
                self.with_call(&Host(Cpu), &columns, &mut outputs, |call| reference::lora::forward_terms(&call));
            for (run, comparison) in runs.iter().zip(&mut comparisons) {
                match (&terms, comparison.as_mut(), &run.outputs) {
                    (Err(error), ..) => *comparison = Err(error.clone()),
                    (Ok(terms), Ok(comparison), Ok(outputs)) => {
                        self.compare_part(&columns, terms, run, outputs, comparison)
                    }
                    _ => {}
                }
            }
        }
        comparisons
    }

    fn compare_part(
        &self,
        columns: &Range<usize>,
        terms: &[Vec<reference::Terms>],
        run: &Run<T>,
        outputs: &[Vec<T>],
        comparison: &mut Comparison,
    ) {
        let rounding_steps = run.kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        for (index, (terms, output)) in terms.iter().zip(outputs).enumerate() {
            let (y, margins) = without_margins(output);
            margins.into_iter().for_each(|margin| comparison.untouched(margin));
            for row in 0..self.m {
                for column in columns.start..columns.end.min(run.columns) {
                    let terms = &terms[row * columns.len() + column - columns.start];
                    comparison.element(y[row * run.columns + column], terms, rounding_steps, || {
                        let target = if self.targets.len() > 1 { format!(" of target {index}") } else { String::new() };
                        format!("y[{row}, {column}]{target}")
                    });
                }
            }
        }
    }
}
