//! `haar.wara_forward`, `haar.wara_backward` and `haar.wara_merge`: an adapter of a layer's weights in the wavelet domain, or of its activations as a grid of tokens.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::haar::{self, Boundary, Wara, WaraBackward, WaraForward, WaraMerge};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, ElementType, Kernel, Layout, Mat, MatMut, Result, Workspace};

use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::check::output::{MARGIN, heading, with_margins, without_margins};
use crate::check::with_types;
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANK: usize = 8;
/// Rows of x, at most.
const ROWS: usize = 16;
/// Tokens of a grid, along both axes.
const GRID: [usize; 2] = [2, 4];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Weight,
    Activation,
}

pub struct WaraCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
    pub mode: Mode,
}

impl Case for WaraCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        match self.mode {
            Mode::Weight => &["haar.wara_forward", "haar.wara_backward", "haar.wara_merge"],
            Mode::Activation => &["haar.wara_forward", "haar.wara_backward"],
        }
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let [m, n, k] = self.extents(queue);
        let mode = match self.mode {
            Mode::Weight => "weights".into(),
            Mode::Activation => format!("grids {} x {}", GRID[0], GRID[1]),
        };
        format!("[{m}, {n}] x {k}, rank {RANK}, {mode}")
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl WaraCase<'_> {
    /// [m, n, k] of the call: as many rows of the weights as a queue affords.
    fn extents(&self, queue: &OpenQueue) -> [usize; 3] {
        // Each product comes from shared memory, and there are three operations.
        const COST: usize = 64;
        let Layer { n, k, .. } = *self.layer;
        let m = self.subjects.rows(k).min(ROWS);
        let m = if self.mode == Mode::Weight { m } else { m / 8 * 8 };
        [m, queue.affordable(n, COST * k * (ROWS + RANK)), k]
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let (x, weights) = (self.subjects.activations::<T>(self.layer.k), self.subjects.weights::<T>(self.layer));
        let outcomes = |queue: &&OpenQueue| {
            let extents @ [m, n, k] = self.extents(queue);
            let random = &mut Random::new(self.subjects.seed, &self.layer.name);
            // Odd extents have a coefficient more.
            let [rows, columns] = match self.mode {
                Mode::Weight => [n, k].map(|extent| haar::coefficient_extent(extent, 1, haar::Bands::Mallat)),
                Mode::Activation => [n, k],
            };
            let inputs: Inputs<T, P> = Inputs {
                x: &x[..m * k],
                weights: &weights[..n * k],
                dy: random.uniform(m * n, 1.0),
                a: random.uniform(RANK * columns, 1.0 / (k as f64).sqrt()),
                b: random.uniform(rows * RANK, 0.02),
                extents,
                factors: [rows, columns],
                mode: self.mode,
            };
            on_queue!(queue, memory => inputs.outcomes(memory))
        };
        queues.iter().map(outcomes).collect()
    }
}

struct Inputs<'a, T, P> {
    /// [m, k]
    x: &'a [T],
    /// [n, k]
    weights: &'a [T],
    /// [m, n]
    dy: Vec<T>,
    a: Vec<P>,
    b: Vec<P>,
    /// [m, n, k]
    extents: [usize; 3],
    /// Rows of B and columns of A.
    factors: [usize; 2],
    mode: Mode,
}

/// The inputs in a queue's memory.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    x: M::Buffer<'h, T>,
    weights: M::Buffer<'h, T>,
    dy: M::Buffer<'h, T>,
    a: M::Buffer<'h, P>,
    b: M::Buffer<'h, P>,
}

/// How an operation went, whatever came out.
#[derive(Default)]
struct Measured {
    kernel: Option<Kernel>,
    seconds: f64,
}

fn nothing<T: Value>(elements: usize) -> Vec<T> {
    with_margins((0..elements).map(|_| T::NAN))
}

/// A matrix between margins.
fn framed<M: Memory, T: Value>(
    buffer: &mut Owned<M, T>,
    [rows, columns]: [usize; 2],
) -> Result<MatMut<'_, T, M::Queue>> {
    MatMut::with_layout(
        M::write(&mut buffer.0),
        Layout { offset: MARGIN, extents: [rows, columns], strides: [columns, 1] },
    )
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        Ok(Placed {
            x: memory.place(self.x.into())?,
            weights: memory.place(self.weights.into())?,
            dy: memory.place((&self.dy).into())?,
            a: memory.place((&self.a).into())?,
            b: memory.place((&self.b).into())?,
        })
    }

    fn adapter<'p, M: Memory>(&self, placed: &'p Placed<'_, T, P, M>) -> Result<Wara<'p, P, M::Queue>> {
        let [rows, columns] = self.factors;
        let (a, b) = (Mat::new(M::read(&placed.a), RANK, columns)?, Mat::new(M::read(&placed.b), rows, RANK)?);
        let adapter = Wara::new(a, b, 2.0).boundary(Boundary::Zero).gains(&[1.0, 0.5, 0.75, 1.25]);
        Ok(if self.mode == Mode::Weight { adapter } else { adapter.activations(GRID) })
    }

    fn outcomes<M: Memory>(&self, memory: &M) -> Vec<Outcome> {
        let [m, n, k] = self.extents;
        let products = 2.0 * (m * n * k) as f64;
        const EXPAND: &str = "haar_wara_expand_simt";
        const GRADIENT: &str = "haar_wara_gradient_simt";
        let [rows, columns] = self.factors;
        let forward = [
            Formula(EXPAND, Kind::GlobalRead, "x", n.div_ceil(64) * m * k * size_of::<T>()),
            Formula(EXPAND, Kind::GlobalRead, "w", m.div_ceil(64) * n * k * size_of::<T>()),
            Formula(EXPAND, Kind::GlobalWrite, "y", m * n * size_of::<T>()),
        ];
        let backward = [
            Formula(EXPAND, Kind::GlobalWrite, "dx", m * k * size_of::<T>()),
            Formula(GRADIENT, Kind::GlobalWrite, "da", RANK * columns * size_of::<P>()),
            Formula(GRADIENT, Kind::GlobalWrite, "db", rows * RANK * size_of::<P>()),
        ];
        let mut outcomes = vec![
            self.outcome(memory, Work::Flops(products), &forward, Self::forward, |inputs, output: &Vec<T>, steps| {
                inputs.compare_forward(output, steps)
            }),
            self.outcome(memory, Work::Flops(products), &backward, Self::backward, Self::compare_backward),
        ];
        if self.mode == Mode::Weight {
            let bytes = n * k * size_of::<T>();
            let moved = [("source", Kind::GlobalRead), ("destination", Kind::GlobalWrite)];
            let formulas = ["haar_wara_merge_simt", "haar_wara_merge_tile"]
                .into_iter()
                .flat_map(|kernel| moved.iter().map(move |&(operand, kind)| Formula(kernel, kind, operand, bytes)));
            let formulas: Vec<_> = formulas.collect();
            let work = Work::Bytes(2.0 * bytes as f64);
            outcomes.push(self.outcome(memory, work, &formulas, Self::merge, |inputs, output: &Vec<T>, steps| {
                inputs.compare_merge(output, steps)
            }));
        }
        outcomes
    }

    fn outcome<M: Memory, O>(
        &self,
        memory: &M,
        work: Work,
        formulas: &[Formula],
        run: impl FnOnce(&Self, &M, &mut Measured) -> Result<O>,
        compare: impl FnOnce(&Self, &O, usize) -> Result<Comparison>,
    ) -> Outcome {
        let mut measured = Measured::default();
        let output = run(self, memory, &mut measured);
        let counters = counters::take(formulas);
        let Measured { kernel, seconds } = measured;
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| compare(self, &output, steps));
        Outcome { kernel, seconds, work, counters, comparison }
    }

    fn forward<M: Memory>(&self, memory: &M, measured: &mut Measured) -> Result<Vec<T>> {
        let [m, n, _] = self.extents;
        let placed = self.place(memory)?;
        let mut y = Owned::new(memory, nothing::<T>(m * n))?;
        {
            let call = self.forward_call::<M>(&placed, framed(&mut y, [m, n])?)?;
            let bytes = haar::wara_forward_workspace(memory.queue(), &call)?;
            let mut scratch = Owned::new(memory, vec![0u8; bytes])?;
            measured.kernel = Some(haar::wara_forward_kernel(memory.queue(), &call)?);
            let begin = Instant::now();
            haar::wara_forward(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)))?;
            memory.wait()?;
            measured.seconds = begin.elapsed().as_secs_f64();
        }
        memory.fetch(&y.0)
    }

    fn forward_call<'p, M: Memory>(
        &self,
        placed: &'p Placed<'_, T, P, M>,
        y: MatMut<'p, T, M::Queue>,
    ) -> Result<WaraForward<'p, T, P, M::Queue>> {
        let [m, n, k] = self.extents;
        let call = WaraForward::new(Mat::new(M::read(&placed.x), m, k)?, y, self.adapter(placed)?);
        Ok(call.weights(Mat::new(M::read(&placed.weights), n, k)?))
    }

    fn compare_forward(&self, output: &[T], steps: usize) -> Result<Comparison> {
        let [m, n, _] = self.extents;
        let (memory, mut y) = (Host(Cpu), Owned::<Host<Cpu>, T>(Cow::Owned(nothing(m * n))));
        let placed = self.place(&memory)?;
        let terms =
            reference::haar::wara_forward_terms(&self.forward_call::<Host<Cpu>>(&placed, framed(&mut y, [m, n])?)?)?;
        let mut comparison = Comparison::default();
        compare(&mut comparison, output, &terms, steps, n, "y");
        Ok(comparison)
    }

    fn backward<M: Memory>(&self, memory: &M, measured: &mut Measured) -> Result<(Vec<T>, [Vec<P>; 2])> {
        let ([m, _, k], [rows, columns]) = (self.extents, self.factors);
        let placed = self.place(memory)?;
        let mut dx = Owned::new(memory, nothing::<T>(m * k))?;
        let mut da = Owned::new(memory, nothing::<P>(RANK * columns))?;
        let mut db = Owned::new(memory, nothing::<P>(rows * RANK))?;
        {
            let factors = [framed(&mut da, [RANK, columns])?, framed(&mut db, [rows, RANK])?];
            let call = self.backward_call::<M>(&placed, framed(&mut dx, [m, k])?, factors)?;
            let bytes = haar::wara_backward_workspace(memory.queue(), &call)?;
            let mut scratch = Owned::new(memory, vec![0u8; bytes])?;
            measured.kernel = Some(haar::wara_backward_kernel(memory.queue(), &call)?);
            let begin = Instant::now();
            haar::wara_backward(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)))?;
            memory.wait()?;
            measured.seconds = begin.elapsed().as_secs_f64();
        }
        Ok((memory.fetch(&dx.0)?, [memory.fetch(&da.0)?, memory.fetch(&db.0)?]))
    }

    fn backward_call<'p, M: Memory>(
        &self,
        placed: &'p Placed<'_, T, P, M>,
        dx: MatMut<'p, T, M::Queue>,
        [da, db]: [MatMut<'p, P, M::Queue>; 2],
    ) -> Result<WaraBackward<'p, T, P, M::Queue>> {
        let [m, n, k] = self.extents;
        let (x, dy) = (Mat::new(M::read(&placed.x), m, k)?, Mat::new(M::read(&placed.dy), m, n)?);
        let call = WaraBackward::new(x, dy, self.adapter(placed)?).weights(Mat::new(M::read(&placed.weights), n, k)?);
        Ok(call.input_gradient(dx).factor_gradients(da, db))
    }

    fn compare_backward(&self, (dx, factors): &(Vec<T>, [Vec<P>; 2]), steps: usize) -> Result<Comparison> {
        let ([m, _, k], [rows, columns]) = (self.extents, self.factors);
        let memory = Host(Cpu);
        let placed = self.place(&memory)?;
        let mut unused = Owned::<Host<Cpu>, T>(Cow::Owned(nothing(m * k)));
        let mut unused_a = Owned::<Host<Cpu>, P>(Cow::Owned(nothing(RANK * columns)));
        let mut unused_b = Owned::<Host<Cpu>, P>(Cow::Owned(nothing(rows * RANK)));
        let factors_of = [framed(&mut unused_a, [RANK, columns])?, framed(&mut unused_b, [rows, RANK])?];
        let call = self.backward_call::<Host<Cpu>>(&placed, framed(&mut unused, [m, k])?, factors_of)?;
        let terms = reference::haar::wara_backward_terms(&call)?;
        let mut comparison = Comparison::default();
        compare(&mut comparison, dx, &terms.dx, steps, k, "dx");
        let [da, db] = &terms.factors[0];
        compare(&mut comparison, &factors[0], da, steps, columns, "dA");
        compare(&mut comparison, &factors[1], db, steps, RANK, "dB");
        Ok(comparison)
    }

    fn merge<M: Memory>(&self, memory: &M, measured: &mut Measured) -> Result<Vec<T>> {
        let [_, n, k] = self.extents;
        let placed = self.place(memory)?;
        let mut merged = Owned::new(memory, nothing::<T>(n * k))?;
        {
            let call = self.merge_call::<M>(&placed, framed(&mut merged, [n, k])?)?;
            measured.kernel = Some(haar::wara_merge_kernel(memory.queue(), &call)?);
            let begin = Instant::now();
            haar::wara_merge(memory.queue(), call)?;
            memory.wait()?;
            measured.seconds = begin.elapsed().as_secs_f64();
        }
        memory.fetch(&merged.0)
    }

    fn merge_call<'p, M: Memory>(
        &self,
        placed: &'p Placed<'_, T, P, M>,
        destination: MatMut<'p, T, M::Queue>,
    ) -> Result<WaraMerge<'p, T, P, M::Queue>> {
        let [_, n, k] = self.extents;
        Ok(WaraMerge::new(Mat::new(M::read(&placed.weights), n, k)?, destination, self.adapter(placed)?))
    }

    fn compare_merge(&self, output: &[T], steps: usize) -> Result<Comparison> {
        let [_, n, k] = self.extents;
        let (memory, mut unused) = (Host(Cpu), Owned::<Host<Cpu>, T>(Cow::Owned(nothing(n * k))));
        let placed = self.place(&memory)?;
        let call = self.merge_call::<Host<Cpu>>(&placed, framed(&mut unused, [n, k])?)?;
        let terms = reference::haar::wara_merge_terms(&call, 1.0)?;
        let mut comparison = Comparison::default();
        compare(&mut comparison, output, &terms, steps, k, "W");
        Ok(comparison)
    }
}

/// Every element of an output between margins.
fn compare<E: Value>(
    comparison: &mut Comparison,
    output: &[E],
    terms: &[Terms],
    steps: usize,
    columns: usize,
    name: &str,
) {
    let (output, margins) = without_margins(output);
    margins.into_iter().for_each(|margin| comparison.untouched(margin));
    for (i, (terms, &got)) in terms.iter().zip(output).enumerate() {
        comparison.element(got, terms, steps, || format!("{name}[{}, {}]", i / columns, i % columns));
    }
}
