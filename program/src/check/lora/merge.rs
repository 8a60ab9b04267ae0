//! `lora.merge` and `lora.unmerge`: two adapters into a layer's weights, and out again.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::{Cpu, ElementType, Kernel, Layout, Mat, MatMut, Result, lora, reference};

use super::formulas;
use super::{Factors, MARGIN, PlacedFactors, heading, parts, with_margins, with_types, without_margins};
use crate::check::case::{Case, Choice, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Count};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANKS: [usize; 2] = [16, 8];

pub struct MergeCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub types: [ElementType; 2],
    pub choice: Choice,
}

impl Case for MergeCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.merge", "lora.unmerge"]
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
    fn runs_on(&self, queue: &OpenQueue) -> bool {
        self.choice.runs_on(queue)
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        with_types!(self.types, self.run_typed(queues))
    }
}

impl MergeCase<'_> {
    /// Rows of W that a queue computes.
    fn rows(&self, queue: &OpenQueue) -> usize {
        // Every multiply-add reads both factors from global memory, and there are two operations.
        const COST: usize = 16;
        queue.affordable(self.layer.n, COST * self.layer.k * RANKS.iter().sum::<usize>()).min(self.choice.rows)
    }

    fn run_typed<T: Value, P: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let Layer { n, k, .. } = *self.layer;
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let adapters = RANKS.map(|rank| Factors::random(random, [n, k], rank)).into();
        let (weights, algorithm) = (self.subjects.weights(self.layer), self.choice.algorithm);
        let inputs: Inputs<T, P> = Inputs { weights, k, adapters, algorithm };
        let outcomes = |queue: &&OpenQueue| on_queue!(queue, memory => inputs.outcomes(memory, self.rows(queue)));
        queues.iter().map(outcomes).collect()
    }
}

struct Inputs<'a, T: Copy, P> {
    /// [n, k]
    weights: Cow<'a, [T]>,
    k: usize,
    adapters: Vec<Factors<P>>,
    algorithm: i32,
}

/// What a queue made of some rows of the weights.
struct Output<T> {
    weights: Vec<T>,
    residual: Option<Vec<u16>>,
}

/// How an operation went, whatever came out.
#[derive(Default)]
struct Measured {
    kernel: Option<Kernel>,
    seconds: f64,
    counters: Vec<Count>,
}

impl<T: Value, P: Value> Inputs<'_, T, P> {
    /// Merges, and unmerges what came out.
    fn outcomes<M: Memory>(&self, memory: &M, rows: usize) -> Vec<Outcome> {
        // Sixteen bits take a residual, with which the original bits come back: by the automatic choice, since not every kernel has one.
        let residual = (T::TYPE != ElementType::F32 && self.algorithm == 0).then(|| vec![u16::MAX; rows * self.k]);
        let work = Work::Bytes((rows * self.k * (2 * size_of::<T>() + if residual.is_some() { 2 } else { 0 })) as f64);

        let mut measured = Measured::default();
        let empty = Output { weights: with_margins((0..rows * self.k).map(|_| T::NAN)), residual };
        let merged = self.step(memory, rows, empty, 1, &mut measured);
        let comparison = merged.as_ref().map_err(Clone::clone).and_then(|merged| {
            self.compare(&self.weights[..rows * self.k], &merged.weights, rows, 1, measured.kernel.as_ref())
        });
        let Measured { kernel, seconds, counters } = measured;
        let merge = Outcome { kernel, seconds, work, counters, comparison };

        let mut measured = Measured::default();
        let comparison = merged.and_then(|merged| {
            let source = merged.weights.clone();
            let exact = merged.residual.is_some();
            let unmerged = self.step(memory, rows, merged, -1, &mut measured)?;
            if exact {
                return Ok(self.compare_bits(&unmerged.weights));
            }
            let (source, _) = without_margins(&source);
            self.compare(source, &unmerged.weights, rows, -1, measured.kernel.as_ref())
        });
        let Measured { kernel, seconds, counters } = measured;
        vec![merge, Outcome { kernel, seconds, work, counters, comparison }]
    }

    /// Calls `call` with the descriptor for some rows: from `source` to the destination, or in place.
    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        rows: &Range<usize>,
        source: Option<&[T]>,
        destination: &mut Owned<M, T>,
        residual: Option<&mut Owned<M, u16>>,
        call: impl FnOnce(lora::Merge<'_, T, P, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let extents = [rows.len(), self.k];
        let layout = Layout { offset: MARGIN, extents, strides: [self.k, 1] };
        let source = source.map(|source| memory.place(source.into())).transpose()?;
        let place = |factors| PlacedFactors::<P, M>::new(memory, factors, rows, self.k);
        let factors = self.adapters.iter().map(place).collect::<Result<Vec<_>>>()?;

        let destination = MatMut::with_layout(M::write(&mut destination.0), layout)?;
        let mut merge = match &source {
            Some(source) => lora::Merge::new(Mat::new(M::read(source), extents[0], extents[1])?, destination),
            None => lora::Merge::in_place(destination),
        };
        for factors in &factors {
            merge = merge.adapter(factors.adapter()?);
        }
        if let Some(residual) = residual {
            merge = merge.residual(MatMut::new(M::write(&mut residual.0), extents[0], extents[1])?);
        }
        call(merge)
    }

    /// Merges the weights into `output`, or unmerges it in place.
    fn step<M: Memory>(
        &self,
        memory: &M,
        rows: usize,
        output: Output<T>,
        direction: i32,
        measured: &mut Measured,
    ) -> Result<Output<T>> {
        let mut destination = Owned::new(memory, output.weights)?;
        let has_residual = output.residual.is_some();
        let mut residual = output.residual.map(|residual| Owned::new(memory, residual)).transpose()?;
        let source = (direction > 0).then_some(&self.weights[..rows * self.k]);
        let done = self.with_call(memory, &(0..rows), source, &mut destination, residual.as_mut(), |call| {
            let (queue, call) = (memory.queue(), call.algorithm(self.algorithm));
            measured.kernel = Some(lora::merge_kernel(queue, &call)?);
            let begin = Instant::now();
            if direction > 0 {
                lora::merge(queue, call)?
            } else {
                lora::unmerge(queue, call)?
            }
            memory.wait()?;
            measured.seconds = begin.elapsed().as_secs_f64();
            Ok(())
        });
        let residual_access = if direction > 0 { Kind::GlobalWrite } else { Kind::GlobalRead };
        measured.counters = counters::take(&formulas::merge(
            measured.kernel.as_ref().map_or("", |kernel| kernel.name.as_str()),
            [rows, self.k],
            self.adapters.iter().map(|factors| factors.rank).sum(),
            has_residual.then_some(residual_access),
            [size_of::<T>(), size_of::<P>()],
        ));
        done?;
        let residual = residual.map(|residual| memory.fetch(&residual.0)).transpose()?;
        Ok(Output { weights: memory.fetch(&destination.0)?, residual })
    }

    /// Every element against the reference.
    fn compare(
        &self,
        source: &[T],
        output: &[T],
        rows: usize,
        direction: i32,
        kernel: Option<&Kernel>,
    ) -> Result<Comparison> {
        let rounding_steps = kernel.map_or(0, |kernel| kernel.rounding_steps);
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        for part in parts(rows, self.k) {
            let elements = part.start * self.k..part.end * self.k;
            let mut unused = Owned(Cow::Owned(with_margins((0..elements.len()).map(|_| T::NAN))));
            let source = Some(&source[elements.clone()]);
            let terms = self.with_call(&Host(Cpu), &part, source, &mut unused, None, |call| {
                reference::lora::merge_terms(&call, direction.into())
            })?;
            for (i, (terms, &got)) in terms.iter().zip(&output[elements.clone()]).enumerate() {
                let place = || self.place(elements.start + i);
                comparison.element(got, terms, rounding_steps, place);
            }
        }
        Ok(comparison)
    }

    /// Every element against the weights, bit by bit.
    fn compare_bits(&self, output: &[T]) -> Comparison {
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        for (i, (&got, &expected)) in output.iter().zip(&self.weights[..]).enumerate() {
            comparison.same_bits(got, expected, || self.place(i));
        }
        comparison
    }

    fn place(&self, index: usize) -> String {
        format!("W[{}, {}]", index / self.k, index % self.k)
    }
}
