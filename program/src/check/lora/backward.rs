//! `lora.backward`: all gradients of a layer, with H made again and with dropout; or with a row scale.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::reference::Terms;
use peft_kernels::{
    Cpu, ElementType, Kernel, Layout, Mat, MatMut, Result, TensorMut, Vector, Workspace, lora, reference,
};

use super::formulas;
use super::{Factors, MARGIN, heading, with_margins, with_types, without_margins};
use crate::check::case::{Case, Choice, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters;
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANK: usize = 16;

pub struct BackwardCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
    pub choice: Choice,
    pub scaled: bool,
}

impl Case for BackwardCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.backward"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let (Layer { n, k, .. }, m) = (self.layer, self.rows());
        let columns = self.columns(queue);
        let slab = if columns < *k { format!("[{m}, {columns}] of ") } else { String::new() };
        format!("{slab}[{m}, {k}] x {n}, rank {RANK}, dropout{}", if self.scaled { ", row scale" } else { "" })
    }
    fn runs_on(&self, queue: &OpenQueue) -> bool {
        self.choice.runs_on(queue)
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl BackwardCase<'_> {
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
            scale: if self.scaled {
                random.uniform::<f32>(*n, 0.5).into_iter().map(|value| 1.0 + value).collect()
            } else {
                Vec::new()
            },
            extents: [m, *n, *k],
            seed: self.subjects.seed,
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
    /// `[n]`, or nothing
    scale: Vec<f32>,
    /// m, n, k
    extents: [usize; 3],
    seed: u64,
    algorithm: i32,
}

/// The gradients, between margins.
struct Outputs<X, A> {
    dx: X,
    da: A,
    db: A,
    dbias: X,
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn outputs<M: Memory>(&self, memory: &M, columns: usize) -> Result<Outputs<Owned<M, T>, Owned<M, P>>> {
        fn output<M: Memory, E: Value>(memory: &M, elements: usize) -> Result<Owned<M, E>> {
            Owned::new(memory, with_margins((0..elements).map(|_| E::NAN)))
        }
        let [m, n, _] = self.extents;
        Ok(Outputs {
            dx: output(memory, m * columns)?,
            da: output(memory, RANK * columns)?,
            db: output(memory, n * RANK)?,
            dbias: output(memory, n)?,
        })
    }

    /// Calls `call` with the descriptor for the layer's first columns.
    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        columns: usize,
        outputs: &mut Outputs<Owned<M, T>, Owned<M, P>>,
        call: impl FnOnce(lora::Backward<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let [m, n, k] = self.extents;
        let Factors { a, b, scale, .. } = &self.factors;
        let (x, w, dy) = (
            memory.place((&self.x[..m * k]).into())?,
            memory.place((&self.w[..]).into())?,
            memory.place((&self.dy).into())?,
        );
        let (a, b) = (memory.place(a.into())?, memory.place(b.into())?);
        let row_scale = memory.place((&self.scale).into())?;
        let layout = |rows, columns| Layout { offset: MARGIN, extents: [rows, columns], strides: [columns, 1] };
        let Outputs { dx, da, db, dbias } = outputs;
        let dx = MatMut::with_layout(M::write(&mut dx.0), layout(m, columns))?;
        let da = MatMut::with_layout(M::write(&mut da.0), layout(RANK, columns))?;
        let db = MatMut::with_layout(M::write(&mut db.0), layout(n, RANK))?;
        let dbias = TensorMut::with_layout(M::write(&mut dbias.0), layout(1, n))?;
        let target = lora::BackwardTarget::new(Mat::new(M::read(&dy), m, n)?)
            .dense(Mat::new(M::read(&w), n, k)?.narrow(1, 0..columns)?)
            .adapter(Mat::new(M::read(&a), RANK, k)?.narrow(1, 0..columns)?, Mat::new(M::read(&b), n, RANK)?, *scale)
            .a_gradient(lora::Gradient::overwrite(da))
            .b_gradient(lora::Gradient::overwrite(db))
            .bias_gradient(lora::Gradient::overwrite(dbias));
        let target = if self.scale.is_empty() { target } else { target.row_scale(Vector::whole(M::read(&row_scale))) };
        let x = Mat::new(M::read(&x), m, k)?.narrow(1, 0..columns)?;
        let backward = lora::Backward::new(x).target(target).x_gradient(lora::Gradient::overwrite(dx));
        call(backward.dropout(lora::Dropout::new(0.1, self.seed, 1)?))
    }

    fn outcome<M: Memory>(&self, memory: &M, columns: usize) -> Outcome {
        let (mut kernel, mut seconds) = (None, 0.0);
        let comparison = self.run(memory, columns, &mut kernel, &mut seconds);
        let [m, n, _] = self.extents;
        let name = kernel.as_ref().map_or("", |kernel: &Kernel| kernel.name.as_str());
        let counters = counters::take(&formulas::backward(name, [m, n, columns], size_of::<T>()));
        let comparison = comparison.and_then(|outputs| self.compare(columns, &outputs, kernel.as_ref()));
        let work = Work::Flops((2 * m * n * columns + 6 * m * RANK * (n + columns)) as f64);
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
            *kernel = Some(lora::backward_kernel(queue, &call)?);
            let mut scratch = Owned::new(memory, vec![0u8; lora::backward_workspace(queue, &call)?])?;
            let begin = Instant::now();
            lora::backward(queue, call, Workspace::new(M::write(&mut scratch.0)))?;
            memory.wait()?;
            *seconds = begin.elapsed().as_secs_f64();
            Ok(())
        })?;
        let Outputs { dx, da, db, dbias } = &outputs;
        let (dx, dbias) = (memory.fetch(&dx.0)?, memory.fetch(&dbias.0)?);
        Ok(Outputs { dx, da: memory.fetch(&da.0)?, db: memory.fetch(&db.0)?, dbias })
    }

    /// Every element against the reference.
    fn compare(
        &self,
        columns: usize,
        outputs: &Outputs<Vec<T>, Vec<P>>,
        kernel: Option<&Kernel>,
    ) -> Result<Comparison> {
        let rounding_steps = kernel.map_or(0, |kernel| kernel.rounding_steps);
        let host = Host(Cpu);
        let mut unused = self.outputs(&host, columns)?;
        let terms = self.with_call(&host, columns, &mut unused, |call| reference::lora::backward_terms(&call))?;
        let mut comparison = Comparison::default();
        let [_, n, _] = self.extents;
        let of = &terms.targets[0];
        // The product of a row scale and W is rounded to W's type.
        let unit = match T::TYPE {
            ElementType::F16 => 1 << 12,
            ElementType::BF16 => 1 << 15,
            _ => 0,
        };
        let steps_of_x = rounding_steps + if self.scale.is_empty() { 0 } else { unit };
        compare_gradient(&mut comparison, "dx", columns, &outputs.dx, &terms.x, steps_of_x);
        compare_gradient(&mut comparison, "da", columns, &outputs.da, &of.a, rounding_steps);
        compare_gradient(&mut comparison, "db", RANK, &outputs.db, &of.b, rounding_steps);
        compare_gradient(&mut comparison, "dbias", n, &outputs.dbias, &of.bias, rounding_steps);
        Ok(comparison)
    }
}

pub fn compare_gradient<E: Value>(
    comparison: &mut Comparison,
    name: &str,
    columns: usize,
    output: &[E],
    terms: &[Terms],
    rounding_steps: usize,
) {
    let (values, margins) = without_margins(output);
    margins.into_iter().for_each(|margin| comparison.untouched(margin));
    for (i, (&got, terms)) in values.iter().zip(terms).enumerate() {
        comparison.element(got, terms, rounding_steps, || format!("{name}[{}, {}]", i / columns, i % columns));
    }
}
