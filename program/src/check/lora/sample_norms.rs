//! `lora.sample_norms`: the norms of packed samples' gradients of a layer, with H made again and with dropout.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::{Cpu, ElementType, Layout, Mat, Result, TensorMut, Vector, Workspace, lora, reference};

use super::{Factors, MARGIN, heading, with_margins, with_types, without_margins};
use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANK: usize = 16;
const SAMPLES: usize = 5;

pub struct SampleNormsCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
}

impl Case for SampleNormsCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.sample_norms"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let (Layer { n, k, .. }, m) = (self.layer, self.subjects.rows(self.layer.k));
        let rows = self.rows(queue);
        let slab = if rows < m { format!("[{rows}, {k}] of ") } else { String::new() };
        format!("{slab}[{m}, {k}] x {n}, rank {RANK}, {SAMPLES} samples, dropout")
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl SampleNormsCase<'_> {
    /// Rows of x that a queue has.
    fn rows(&self, queue: &OpenQueue) -> usize {
        // H is gathered for every column.
        const COST: usize = 64;
        let Layer { n, k, .. } = *self.layer;
        queue.affordable(self.subjects.rows(k), COST * RANK * (n + k))
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let Layer { n, k, .. } = *self.layer;
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let inputs: Inputs<T, P> = Inputs {
            x: self.subjects.activations(k),
            dy: random.uniform(self.subjects.rows(k) * n, 0.01),
            factors: Factors::random(random, [n, k], RANK),
            n,
            k,
            seed: self.subjects.seed,
        };
        let outcome = |queue: &&OpenQueue| vec![on_queue!(queue, memory => inputs.outcome(memory, self.rows(queue)))];
        queues.iter().map(outcome).collect()
    }
}

struct Inputs<'a, T: Copy, P> {
    /// [m or more, k]
    x: Cow<'a, [T]>,
    /// [m, n]
    dy: Vec<T>,
    factors: Factors<P>,
    n: usize,
    k: usize,
    seed: u64,
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn outcome<M: Memory>(&self, memory: &M, rows: usize) -> Outcome {
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut squares = Owned::new(memory, with_margins((0..SAMPLES).map(|_| f32::NAN)))?;
            self.with_call(memory, rows, &mut squares, |call| {
                kernel = Some(lora::sample_norms_kernel(memory.queue(), &call)?);
                let mut scratch = Owned::new(memory, vec![0u8; lora::sample_norms_workspace(memory.queue(), &call)?])?;
                let begin = Instant::now();
                lora::sample_norms(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)))?;
                memory.wait()?;
                seconds = begin.elapsed().as_secs_f64();
                Ok(())
            })?;
            memory.fetch(&squares.0)
        };
        let output = run();
        const KERNEL: &str = "lora_sample_norms_simt";
        const ADD: &str = "lora_add_squares";
        let (t, blocks) = (size_of::<T>(), 4 * SAMPLES * (self.n.div_ceil(256) + self.k.div_ceil(256)));
        let counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalRead, "dy", rows * self.n * (RANK + 1).div_ceil(8) * t),
            Formula(KERNEL, Kind::GlobalWrite, "workspace", blocks),
            Formula(ADD, Kind::GlobalRead, "workspace", blocks),
            Formula(ADD, Kind::GlobalWrite, "squares", 4 * SAMPLES),
        ]);
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| self.compare(&output, rows, steps));
        let work = Work::Flops((8 * rows * RANK * (self.n + self.k)) as f64);
        Outcome { kernel, seconds, work, counters, comparison }
    }

    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        rows: usize,
        squares: &mut Owned<M, f32>,
        call: impl FnOnce(lora::SampleNorms<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let (n, k) = (self.n, self.k);
        let Factors { a, b, scale, .. } = &self.factors;
        let (x, dy) = (memory.place((&self.x[..rows * k]).into())?, memory.place((&self.dy[..rows * n]).into())?);
        let (a, b) = (memory.place(a.into())?, memory.place(b.into())?);
        // The second sample has no row.
        let offsets = [0, rows / 5, rows / 5, rows / 2, rows - 1, rows].map(|offset| offset as i32).to_vec();
        let offsets = memory.place(Cow::Owned(offsets))?;
        let layout = Layout { offset: MARGIN, extents: [SAMPLES], strides: [1] };
        let squares = TensorMut::with_layout(M::write(&mut squares.0), layout)?;
        let dy = Mat::new(M::read(&dy), rows, n)?;
        let (a, b) = (Mat::new(M::read(&a), RANK, k)?, Mat::new(M::read(&b), n, RANK)?);
        let target = lora::SampleNormTarget::new(dy, a, b, *scale).trained(true, true, true);
        let samples = lora::Samples::offsets(Vector::whole(M::read(&offsets)));
        let norms = lora::SampleNorms::new(Mat::new(M::read(&x), rows, k)?, samples, squares).target(target);
        call(norms.dropout(lora::Dropout::new(0.1, self.seed, 1)?))
    }

    /// Every square against the reference.
    fn compare(&self, output: &[f32], rows: usize, steps: usize) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        let mut unused = Owned(Cow::Owned(with_margins((0..SAMPLES).map(|_| f32::NAN))));
        let terms = self.with_call(&Host(Cpu), rows, &mut unused, |call| reference::lora::sample_norms_terms(&call))?;
        for (sample, (&got, terms)) in output.iter().zip(&terms).enumerate() {
            comparison.element(got, terms, steps, || format!("sample {sample}"));
        }
        Ok(comparison)
    }
}
