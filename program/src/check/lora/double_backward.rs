//! `lora.double_backward`: all second derivatives of a layer, of all cotangents.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::{Cpu, ElementType, Kernel, Layout, Mat, MatMut, Result, Workspace, lora, reference};

use super::backward::compare_gradient;
use super::formulas;
use super::{Factors, MARGIN, heading, with_margins, with_types};
use crate::check::case::{Case, Choice, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters;
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANK: usize = 16;

pub struct DoubleBackwardCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
    pub choice: Choice,
}

impl Case for DoubleBackwardCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.double_backward"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let (Layer { n, k, .. }, m) = (self.layer, self.rows());
        let columns = self.columns(queue);
        let slab = if columns < *k { format!("[{m}, {columns}] of ") } else { String::new() };
        format!("{slab}[{m}, {k}] x {n}, rank {RANK}")
    }
    fn runs_on(&self, queue: &OpenQueue) -> bool {
        self.choice.runs_on(queue)
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl DoubleBackwardCase<'_> {
    fn rows(&self) -> usize {
        self.subjects.rows(self.layer.k).min(self.choice.rows)
    }

    /// Columns of x that a queue's layer has.
    fn columns(&self, queue: &OpenQueue) -> usize {
        queue.affordable(self.layer.k, self.rows() * self.layer.n).min(self.choice.columns)
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let (Layer { n, k, .. }, m) = (self.layer, self.rows());
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let inputs: Inputs<T, P> = Inputs {
            x: self.subjects.activations(*k),
            w: self.subjects.weights(self.layer),
            dy: random.uniform(m * n, 0.01),
            factors: Factors::random(random, [*n, *k], RANK),
            ux: random.uniform(m * k, 0.01),
            cotangents: Factors::random(random, [*n, *k], RANK),
            extents: [m, *n, *k],
            algorithm: self.choice.algorithm,
        };
        let outcome = |queue: &&OpenQueue| {
            let columns = self.columns(queue);
            vec![on_queue!(queue, memory => inputs.outcome(memory, columns))]
        };
        queues.iter().map(outcome).collect()
    }
}

struct Inputs<'a, T: Copy, P> {
    /// [m or more, k]
    x: Cow<'a, [T]>,
    /// [n, k]
    w: Cow<'a, [T]>,
    /// [m, n]
    dy: Vec<T>,
    factors: Factors<P>,
    /// [m, k]
    ux: Vec<T>,
    /// Those of A and B.
    cotangents: Factors<P>,
    /// m, n, k
    extents: [usize; 3],
    algorithm: i32,
}

/// The gradients, between margins.
struct Outputs<X, A> {
    dy: X,
    x: X,
    a: A,
    b: A,
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn outputs<M: Memory>(&self, memory: &M, columns: usize) -> Result<Outputs<Owned<M, T>, Owned<M, P>>> {
        fn output<M: Memory, E: Value>(memory: &M, elements: usize) -> Result<Owned<M, E>> {
            Owned::new(memory, with_margins((0..elements).map(|_| E::NAN)))
        }
        let [m, n, _] = self.extents;
        Ok(Outputs {
            dy: output(memory, m * n)?,
            x: output(memory, m * columns)?,
            a: output(memory, RANK * columns)?,
            b: output(memory, n * RANK)?,
        })
    }

    /// Calls `call` with the descriptor for the layer's first columns.
    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        columns: usize,
        outputs: &mut Outputs<Owned<M, T>, Owned<M, P>>,
        call: impl FnOnce(lora::DoubleBackward<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let [m, n, k] = self.extents;
        let Factors { a, b, scale, .. } = &self.factors;
        let (x, ux) = (memory.place((&self.x[..m * k]).into())?, memory.place((&self.ux).into())?);
        let (w, dy) = (memory.place((&self.w[..]).into())?, memory.place((&self.dy).into())?);
        let (a, b) = (memory.place(a.into())?, memory.place(b.into())?);
        let (ua, ub) = (memory.place((&self.cotangents.a).into())?, memory.place((&self.cotangents.b).into())?);
        let layout = |rows, columns| Layout { offset: MARGIN, extents: [rows, columns], strides: [columns, 1] };
        let of_dy = MatMut::with_layout(M::write(&mut outputs.dy.0), layout(m, n))?;
        let of_x = MatMut::with_layout(M::write(&mut outputs.x.0), layout(m, columns))?;
        let of_a = MatMut::with_layout(M::write(&mut outputs.a.0), layout(RANK, columns))?;
        let of_b = MatMut::with_layout(M::write(&mut outputs.b.0), layout(n, RANK))?;
        let x = Mat::new(M::read(&x), m, k)?.narrow(1, 0..columns)?;
        let double = lora::DoubleBackward::new(x, Mat::new(M::read(&dy), m, n)?)
            .dense(Mat::new(M::read(&w), n, k)?.narrow(1, 0..columns)?)
            .adapter(Mat::new(M::read(&a), RANK, k)?.narrow(1, 0..columns)?, Mat::new(M::read(&b), n, RANK)?, *scale)
            .x_cotangent(Mat::new(M::read(&ux), m, k)?.narrow(1, 0..columns)?)
            .a_cotangent(Mat::new(M::read(&ua), RANK, k)?.narrow(1, 0..columns)?)
            .b_cotangent(Mat::new(M::read(&ub), n, RANK)?)
            .dy_gradient(lora::Gradient::overwrite(of_dy))
            .x_gradient(lora::Gradient::overwrite(of_x))
            .a_gradient(lora::Gradient::overwrite(of_a))
            .b_gradient(lora::Gradient::overwrite(of_b));
        call(double)
    }

    fn outcome<M: Memory>(&self, memory: &M, columns: usize) -> Outcome {
        let (mut kernel, mut seconds) = (None, 0.0);
        let comparison = self.run(memory, columns, &mut kernel, &mut seconds);
        let [m, n, _] = self.extents;
        let name = kernel.as_ref().map_or("", |kernel: &Kernel| kernel.name.as_str());
        let counters = counters::take(&formulas::double_backward(name, [m, n, columns], size_of::<T>()));
        let comparison = comparison.and_then(|outputs| self.compare(columns, &outputs, kernel.as_ref()));
        let work = Work::Flops((2 * m * n * columns + m * RANK * (14 * columns + 10 * n)) as f64);
        Outcome { kernel, seconds, work, counters, comparison }
    }

    fn run<M: Memory>(
        &self,
        memory: &M,
        columns: usize,
        kernel: &mut Option<Kernel>,
        seconds: &mut f64,
    ) -> Result<Outputs<Vec<T>, Vec<P>>> {
        let mut outputs = self.outputs(memory, columns)?;
        self.with_call(memory, columns, &mut outputs, |call| {
            let (queue, call) = (memory.queue(), call.algorithm(self.algorithm));
            *kernel = Some(lora::double_backward_kernel(queue, &call)?);
            let mut scratch = Owned::new(memory, vec![0u8; lora::double_backward_workspace(queue, &call)?])?;
            let begin = Instant::now();
            lora::double_backward(queue, call, Workspace::new(M::write(&mut scratch.0)))?;
            memory.wait()?;
            *seconds = begin.elapsed().as_secs_f64();
            Ok(())
        })?;
        let Outputs { dy, x, a, b } = &outputs;
        let (dy, x) = (memory.fetch(&dy.0)?, memory.fetch(&x.0)?);
        Ok(Outputs { dy, x, a: memory.fetch(&a.0)?, b: memory.fetch(&b.0)? })
    }

    /// Every element against the reference.
    fn compare(
        &self,
        columns: usize,
        outputs: &Outputs<Vec<T>, Vec<P>>,
        kernel: Option<&Kernel>,
    ) -> Result<Comparison> {
        let steps = kernel.map_or(0, |kernel| kernel.rounding_steps);
        let host = Host(Cpu);
        let mut unused = self.outputs(&host, columns)?;
        let terms =
            self.with_call(&host, columns, &mut unused, |call| reference::lora::double_backward_terms(&call))?;
        let mut comparison = Comparison::default();
        let [_, n, _] = self.extents;
        compare_gradient(&mut comparison, "of dy", n, &outputs.dy, &terms.dy, steps);
        compare_gradient(&mut comparison, "of x", columns, &outputs.x, &terms.x, steps);
        compare_gradient(&mut comparison, "of a", columns, &outputs.a, &terms.a, steps);
        compare_gradient(&mut comparison, "of b", RANK, &outputs.b, &terms.b, steps);
        Ok(comparison)
    }
}
