//! `lora.clip_weights` and `lora.add_noise`: what follows the norms in a private step, on gradients of a layer's A.

use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, ElementType, Layout, MatMut, Result, TensorMut, Vector, lora, reference};

use super::{MARGIN, heading, with_margins, without_margins};
use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

const RANK: usize = 16;
const SCALE: f32 = 0.5;
const SAMPLES: usize = 512;
const MAX_NORM: f32 = 1.0;

pub struct ClipWeightsCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
}

impl Case for ClipWeightsCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.clip_weights"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [ElementType::F32; 2]
    }
    fn shape(&self, _: &OpenQueue) -> String {
        format!("[{SAMPLES}]")
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let roots: Vec<f32> = random.uniform(SAMPLES, 3.0);
        let squares: Vec<f32> = roots.into_iter().map(|root| root * root).collect();
        let outcome = |queue: &&OpenQueue| vec![on_queue!(queue, memory => clip(memory, &squares))];
        queues.iter().map(outcome).collect()
    }
}

fn clip<M: Memory>(memory: &M, squares: &[f32]) -> Outcome {
    let (mut kernel, mut seconds) = (None, 0.0);
    let mut run = || {
        let placed = memory.place(squares.into())?;
        let mut weights = Owned::new(memory, with_margins(squares.iter().map(|_| f32::NAN)))?;
        let layout = Layout { offset: MARGIN, extents: [SAMPLES], strides: [1] };
        let to = TensorMut::with_layout(M::write(&mut weights.0), layout)?;
        let call = lora::ClipWeights::new(Vector::whole(M::read(&placed)), to, MAX_NORM);
        kernel = Some(lora::clip_weights_kernel(memory.queue(), &call)?);
        let begin = Instant::now();
        lora::clip_weights(memory.queue(), call)?;
        memory.wait()?;
        seconds = begin.elapsed().as_secs_f64();
        memory.fetch(&weights.0)
    };
    let output = run();
    const KERNEL: &str = "lora_clip_weights";
    let counters = counters::take(&[
        Formula(KERNEL, Kind::GlobalRead, "squares", 4 * SAMPLES),
        Formula(KERNEL, Kind::GlobalWrite, "weights", 4 * SAMPLES),
    ]);
    let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
    let comparison = output.map(|output| {
        let terms = squares.iter().map(|&square| {
            let value = (f64::from(MAX_NORM) / f64::from(square).sqrt()).min(1.0);
            Terms { value, magnitude: value }
        });
        compare(&output, terms, steps, "sample")
    });
    Outcome { kernel, seconds, work: Work::Bytes((8 * SAMPLES) as f64), counters, comparison }
}

fn compare<T: Value>(output: &[T], terms: impl Iterator<Item = Terms>, steps: usize, name: &str) -> Comparison {
    let mut comparison = Comparison::default();
    let (output, margins) = without_margins(output);
    margins.into_iter().for_each(|margin| comparison.untouched(margin));
    for (i, (&got, terms)) in output.iter().zip(terms).enumerate() {
        comparison.element(got, &terms, steps, || format!("{name} {i}"));
    }
    comparison
}

pub struct AddNoiseCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub element_type: ElementType,
}

impl Case for AddNoiseCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.add_noise"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [self.element_type; 2]
    }
    fn shape(&self, _: &OpenQueue) -> String {
        format!("[{RANK}, {}]", self.layer.k)
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

impl AddNoiseCase<'_> {
    fn run_typed<T: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let gradient: Vec<T> = random.uniform(RANK * self.layer.k, 0.01);
        let outcome = |queue: &&OpenQueue| vec![on_queue!(queue, memory => self.outcome(memory, &gradient))];
        queues.iter().map(outcome).collect()
    }

    fn call<'a, T: Value, M: Memory>(&self, gradient: &'a mut Owned<M, T>) -> Result<lora::AddNoise<'a, T, M::Queue>> {
        let k = self.layer.k;
        let layout = Layout { offset: MARGIN, extents: [RANK, k], strides: [k, 1] };
        let gradient = MatMut::with_layout(M::write(&mut gradient.0), layout)?;
        Ok(lora::AddNoise::new(gradient, SCALE, self.subjects.seed, 1))
    }

    fn outcome<T: Value, M: Memory>(&self, memory: &M, gradient: &[T]) -> Outcome {
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut placed = Owned::new(memory, with_margins(gradient.iter().copied()))?;
            let call = self.call::<T, M>(&mut placed)?;
            kernel = Some(lora::add_noise_kernel(memory.queue(), &call)?);
            let begin = Instant::now();
            lora::add_noise(memory.queue(), call)?;
            memory.wait()?;
            seconds = begin.elapsed().as_secs_f64();
            memory.fetch(&placed.0)
        };
        let output = run();
        const KERNEL: &str = "lora_add_noise";
        let bytes = size_of_val(gradient);
        let counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalRead, "gradient", bytes),
            Formula(KERNEL, Kind::GlobalWrite, "gradient", bytes),
        ]);
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| {
            let mut before = Owned::new(&Host(Cpu), with_margins(gradient.iter().copied()))?;
            let terms = reference::lora::add_noise_terms(&self.call::<T, Host<Cpu>>(&mut before)?)?;
            Ok(compare(&output, terms.into_iter(), steps, "element"))
        });
        Outcome { kernel, seconds, work: Work::Bytes(2.0 * bytes as f64), counters, comparison }
    }
}
