//! `haar.hadamard`: rows of a layer's weights, with random signs first, in the longest power of two that fits.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::haar::{self, Hadamard};
use peft_kernels::{Cpu, ElementType, Layout, Mat, MatMut, Result, Vector, reference};

use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::check::output::{MARGIN, heading, with_margins, without_margins};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

/// The longest rows that every queue's kernel takes.
const LONGEST: usize = 1 << 14;
/// Elements of the weights that are transformed.
const ELEMENTS: usize = 1 << 22;

pub struct HadamardCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub element_type: ElementType,
}

impl Case for HadamardCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["haar.hadamard"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [self.element_type; 2]
    }
    fn shape(&self, _: &OpenQueue) -> String {
        let ([rows, columns], Layer { n, k, .. }) = (self.extents(), self.layer);
        format!("[{rows}, {columns}] of [{n}, {k}]")
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        match self.element_type {
            ElementType::F16 => self.run_typed::<f16>(queues),
            ElementType::BF16 => self.run_typed::<bf16>(queues),
            _ => self.run_typed::<f32>(queues),
        }
    }
}

impl HadamardCase<'_> {
    fn extents(&self) -> [usize; 2] {
        let columns = 1 << self.layer.k.min(LONGEST).ilog2();
        [(ELEMENTS / columns).min(self.layer.n), columns]
    }

    fn run_typed<T: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let weights = self.subjects.weights::<T>(self.layer);
        let [rows, columns] = self.extents();
        let numbers: Vec<f32> = Random::new(self.subjects.seed, &self.layer.name).uniform(columns, 1.0);
        let signs = numbers.iter().map(|&number| T::from_f64(if number < 0.0 { -1.0 } else { 1.0 })).collect();
        let inputs =
            Inputs { weights: &weights[..rows * self.layer.k], pitch: self.layer.k, extents: [rows, columns], signs };
        queues.iter().map(|queue| vec![on_queue!(queue, memory => inputs.outcome(memory))]).collect()
    }
}

struct Inputs<'a, T> {
    weights: &'a [T],
    /// Elements from one row to the next.
    pitch: usize,
    extents: [usize; 2],
    signs: Vec<T>,
}

impl<T: Value> Inputs<'_, T> {
    fn outcome<M: Memory>(&self, memory: &M) -> Outcome {
        let bytes = self.extents[0] * self.extents[1] * size_of::<T>();
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut destination = Owned::new(memory, self.nothing())?;
            self.with_call(memory, &mut destination, |call| {
                kernel = Some(haar::hadamard_kernel(memory.queue(), &call)?);
                let begin = Instant::now();
                haar::hadamard(memory.queue(), call)?;
                memory.wait()?;
                seconds = begin.elapsed().as_secs_f64();
                Ok(())
            })?;
            memory.fetch(&destination.0)
        };
        let output = run();
        const TILE: &str = "haar_hadamard_tile";
        let formulas = [("source", Kind::GlobalRead), ("before", Kind::GlobalRead), ("destination", Kind::GlobalWrite)];
        let counters = counters::take(&formulas.map(|(operand, kind)| Formula(TILE, kind, operand, bytes)));
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| self.compare(&output, steps));
        Outcome { kernel, seconds, work: Work::Bytes(2.0 * bytes as f64), counters, comparison }
    }

    fn nothing(&self) -> Vec<T> {
        with_margins((0..self.extents[0] * self.extents[1]).map(|_| T::NAN))
    }

    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        destination: &mut Owned<M, T>,
        call: impl FnOnce(Hadamard<'_, T, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let [rows, columns] = self.extents;
        let (weights, signs) = (memory.place(self.weights.into())?, memory.place((&self.signs).into())?);
        let source = Mat::with_leading_dimension(M::read(&weights), rows, columns, self.pitch)?;
        let layout = Layout { offset: MARGIN, extents: self.extents, strides: [columns, 1] };
        let destination = MatMut::with_layout(M::write(&mut destination.0), layout)?;
        call(Hadamard::new(source, destination).before(Vector::whole(M::read(&signs))))
    }

    fn compare(&self, output: &[T], steps: usize) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        let mut unused = Owned(Cow::Owned(self.nothing()));
        let terms = self.with_call(&Host(Cpu), &mut unused, |call| reference::haar::hadamard_terms(&call))?;
        for (i, (terms, &got)) in terms.iter().zip(output).enumerate() {
            let [row, column] = [i / self.extents[1], i % self.extents[1]];
            comparison.element(got, terms, steps, || format!("element [{row}, {column}]"));
        }
        Ok(comparison)
    }
}
