//! `lora.weight_norm`: the row norms of a layer's weights with two adapters.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::{Cpu, ElementType, Layout, Mat, Result, TensorMut, Workspace, lora, reference};

use super::{Factors, MARGIN, PlacedFactors, heading, parts, with_margins, with_types, without_margins};
use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANKS: [usize; 2] = [16, 8];

pub struct WeightNormCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
}

impl Case for WeightNormCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.weight_norm"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        self.types
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let Layer { n, k, .. } = self.layer;
        let rows = self.rows(queue);
        let slab = if rows < *n { format!("[{rows}, {k}] of ") } else { String::new() };
        let [first, second] = RANKS;
        format!("{slab}[{n}, {k}], ranks {first} + {second}")
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl WeightNormCase<'_> {
    /// Rows of W whose norms a queue computes.
    fn rows(&self, queue: &OpenQueue) -> usize {
        // Factors are gathered for every tile.
        const COST: usize = 16;
        queue.affordable(self.layer.n, COST * self.layer.k * RANKS.iter().sum::<usize>())
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let Layer { n, k, .. } = *self.layer;
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let adapters = RANKS.map(|rank| Factors::random(random, [n, k], rank));
        let inputs: Inputs<T, P> = Inputs { weights: self.subjects.weights(self.layer), k, adapters };
        let outcome = |queue: &&OpenQueue| vec![on_queue!(queue, memory => inputs.outcome(memory, self.rows(queue)))];
        queues.iter().map(outcome).collect()
    }
}

struct Inputs<'a, T: Copy, P> {
    /// [n, k]
    weights: Cow<'a, [T]>,
    k: usize,
    adapters: [Factors<P>; 2],
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    fn outcome<M: Memory>(&self, memory: &M, rows: usize) -> Outcome {
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut norm = Owned::new(memory, with_margins((0..rows).map(|_| f32::NAN)))?;
            self.with_call(memory, &(0..rows), &mut norm, |call| {
                kernel = Some(lora::weight_norm_kernel(memory.queue(), &call)?);
                let mut scratch = Owned::new(memory, vec![0u8; lora::weight_norm_workspace(memory.queue(), &call)?])?;
                let begin = Instant::now();
                lora::weight_norm(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)))?;
                memory.wait()?;
                seconds = begin.elapsed().as_secs_f64();
                Ok(())
            })?;
            memory.fetch(&norm.0)
        };
        let output = run();
        const KERNEL: &str = "lora_weight_norm_mma";
        const ROOT: &str = "lora_weight_norm_root";
        let (k, ranks) = (self.k, RANKS.iter().sum::<usize>());
        let [weights, sums] = [rows * k * size_of::<T>(), 4 * rows * k.div_ceil(1024)];
        let counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalRead, "w", weights),
            Formula(KERNEL, Kind::GlobalRead, "a", ranks * k * rows.div_ceil(64) * size_of::<P>()),
            Formula(KERNEL, Kind::GlobalRead, "b", ranks * rows * k.div_ceil(128) * size_of::<P>()),
            Formula(KERNEL, Kind::GlobalWrite, "workspace", sums),
            Formula(ROOT, Kind::GlobalRead, "workspace", sums),
            Formula(ROOT, Kind::GlobalWrite, "norm", 4 * rows),
        ]);
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| self.compare(&output, rows, steps));
        Outcome { kernel, seconds, work: Work::Bytes(weights as f64), counters, comparison }
    }

    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        rows: &Range<usize>,
        norm: &mut Owned<M, f32>,
        call: impl FnOnce(lora::WeightNorm<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let weights = memory.place((&self.weights[rows.start * self.k..rows.end * self.k]).into())?;
        let place = |factors| PlacedFactors::<P, M>::new(memory, factors, rows, self.k);
        let factors = self.adapters.iter().map(place).collect::<Result<Vec<_>>>()?;
        let layout = Layout { offset: MARGIN, extents: [rows.len()], strides: [1] };
        let norm = TensorMut::with_layout(M::write(&mut norm.0), layout)?;
        let mut norms = lora::WeightNorm::new(Mat::new(M::read(&weights), rows.len(), self.k)?, norm);
        for factors in &factors {
            norms = norms.adapter(factors.adapter()?);
        }
        call(norms)
    }

    /// Every norm against the reference.
    fn compare(&self, output: &[f32], rows: usize, steps: usize) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        for part in parts(rows, self.k) {
            let mut unused = Owned(Cow::Owned(with_margins(part.clone().map(|_| f32::NAN))));
            let terms = self
                .with_call(&Host(Cpu), &part, &mut unused, |call| reference::weight_norm::weight_norm_terms(&call))?;
            for (row, terms) in part.zip(&terms) {
                comparison.element(output[row], terms, steps, || format!("row {row}"));
            }
        }
        Ok(comparison)
    }
}
