//! `lora.magnitude_gradient`: what DoRA's magnitude has of a layer's outputs.

use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::{Cpu, ElementType, Layout, Mat, MatMut, Result, Vector, Workspace, lora, reference};

use super::{MARGIN, heading, with_margins, without_margins};
use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::{Random, Value};

pub struct MagnitudeGradientCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub element_type: ElementType,
}

impl Case for MagnitudeGradientCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.magnitude_gradient"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [self.element_type; 2]
    }
    fn shape(&self, _: &OpenQueue) -> String {
        format!("[{}, {}]", self.subjects.rows(self.layer.k), self.layer.n)
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

impl MagnitudeGradientCase<'_> {
    fn run_typed<T: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let (m, n) = (self.subjects.rows(self.layer.k), self.layer.n);
        let random = &mut Random::new(self.subjects.seed, &self.layer.name);
        let inputs: Inputs<T> = Inputs {
            dy: random.uniform(m * n, 0.01),
            y: random.uniform(m * n, 2.0),
            bias: random.uniform(n, 0.1),
            magnitude: random.uniform::<f32>(n, 0.5).into_iter().map(|value| 1.0 + value).collect(),
            extents: [m, n],
        };
        let outcome = |queue: &&OpenQueue| vec![on_queue!(queue, memory => inputs.outcome(memory))];
        queues.iter().map(outcome).collect()
    }
}

struct Inputs<T> {
    /// [m, n]
    dy: Vec<T>,
    y: Vec<T>,
    /// `[n]`
    bias: Vec<T>,
    magnitude: Vec<f32>,
    extents: [usize; 2],
}

impl<T: Value> Inputs<T> {
    fn with_call<M: Memory, R>(
        &self,
        memory: &M,
        gradient: &mut Owned<M, f32>,
        call: impl FnOnce(lora::MagnitudeGradient<'_, T, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let [m, n] = self.extents;
        let (dy, y) = (memory.place((&self.dy).into())?, memory.place((&self.y).into())?);
        let (bias, magnitude) = (memory.place((&self.bias).into())?, memory.place((&self.magnitude).into())?);
        let layout = Layout { offset: MARGIN, extents: [1, n], strides: [n, 1] };
        let to = lora::Gradient::overwrite(MatMut::with_layout(M::write(&mut gradient.0), layout)?);
        let (dy, y) = (Mat::new(M::read(&dy), m, n)?, Mat::new(M::read(&y), m, n)?);
        let of = lora::MagnitudeGradient::new(dy, y, Vector::whole(M::read(&magnitude)), to);
        call(of.bias(Vector::whole(M::read(&bias))))
    }

    fn outcome<M: Memory>(&self, memory: &M) -> Outcome {
        let ([m, n], t) = (self.extents, size_of::<T>());
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut gradient = Owned::new(memory, with_margins((0..n).map(|_| f32::NAN)))?;
            self.with_call(memory, &mut gradient, |call| {
                kernel = Some(lora::magnitude_gradient_kernel(memory.queue(), &call)?);
                let bytes = lora::magnitude_gradient_workspace(memory.queue(), &call)?;
                let mut scratch = Owned::new(memory, vec![0u8; bytes])?;
                let begin = Instant::now();
                lora::magnitude_gradient(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)))?;
                memory.wait()?;
                seconds = begin.elapsed().as_secs_f64();
                Ok(())
            })?;
            memory.fetch(&gradient.0)
        };
        let output = run();
        const KERNEL: &str = "lora_magnitude_gradient_simt";
        let counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalRead, "dy", m * n * t),
            Formula(KERNEL, Kind::GlobalRead, "y", m * n * t),
            Formula("lora_magnitude_gradient_divide", Kind::GlobalWrite, "dmagnitude", 4 * n),
        ]);
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let comparison = output.and_then(|output| {
            let mut unused = Owned::new(&Host(Cpu), with_margins((0..n).map(|_| f32::NAN)))?;
            let terms =
                self.with_call(&Host(Cpu), &mut unused, |call| reference::lora::magnitude_gradient_terms(&call))?;
            let mut comparison = Comparison::default();
            let (output, margins) = without_margins(&output);
            margins.into_iter().for_each(|margin| comparison.untouched(margin));
            for (row, (&got, terms)) in output.iter().zip(&terms).enumerate() {
                comparison.element(got, terms, steps, || format!("row {row}"));
            }
            Ok(comparison)
        });
        Outcome { kernel, seconds, work: Work::Bytes((2 * m * n * t) as f64), counters, comparison }
    }
}
