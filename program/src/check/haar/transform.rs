//! `haar.forward_1d` and its kind: a layer's weights to their coefficients, and those back.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::haar::{self, Bands, Boundary, Operation, Transform};
use peft_kernels::{Cpu, ElementType, Layout, Mat, MatMut, Result, reference};

use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Formula};
use crate::check::output::{MARGIN, heading, with_margins, without_margins};
use crate::memory::{Host, Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::Value;

/// Elements of the weights that are transformed.
const ELEMENTS: usize = 1 << 22;

pub struct TransformCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub element_type: ElementType,
}

impl Case for TransformCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["haar.forward_1d", "haar.inverse_1d", "haar.forward_2d", "haar.inverse_2d"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [self.element_type; 2]
    }
    fn shape(&self, _: &OpenQueue) -> String {
        let (Layer { n, k, .. }, rows) = (self.layer, self.rows());
        let slab = if rows < *n { format!("[{rows}, {k}] of ") } else { String::new() };
        format!("{slab}[{n}, {k}], {} levels", self.levels())
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

impl TransformCase<'_> {
    fn rows(&self) -> usize {
        (ELEMENTS / self.layer.k / 64 * 64).max(64).min(self.layer.n)
    }

    fn levels(&self) -> u32 {
        self.rows().min(self.layer.k).ilog2().min(3)
    }

    fn run_typed<T: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let signal = Matrix {
            elements: Cow::Borrowed(&self.subjects.weights::<T>(self.layer)[..self.rows() * self.layer.k]).into_owned(),
            extents: [self.rows(), self.layer.k],
        };
        queues.iter().map(|queue| on_queue!(queue, memory => self.outcomes(memory, &signal))).collect()
    }

    fn outcomes<T: Value, M: Memory>(&self, memory: &M, signal: &Matrix<T>) -> Vec<Outcome> {
        let pairs = [(Operation::Forward1d, Operation::Inverse1d), (Operation::Forward2d, Operation::Inverse2d)];
        let mut outcomes = Vec::new();
        for (forward, inverse) in pairs {
            let [rows, columns] = signal.extents;
            let extent = |extent| haar::coefficient_extent(extent, self.levels(), Bands::Mallat);
            let extents = [if forward == Operation::Forward2d { extent(rows) } else { rows }, extent(columns)];
            let (there, coefficients) = self.step(memory, forward, signal, extents);
            outcomes.push(there);
            // What the queue made of them, if it made anything.
            let coefficients =
                Matrix { elements: coefficients.unwrap_or(vec![T::default(); extents[0] * extents[1]]), extents };
            outcomes.push(self.step(memory, inverse, &coefficients, signal.extents).0);
        }
        outcomes
    }

    /// Runs an operation and compares what it made with the reference; both.
    fn step<T: Value, M: Memory>(
        &self,
        memory: &M,
        operation: Operation,
        source: &Matrix<T>,
        extents: [usize; 2],
    ) -> (Outcome, Option<Vec<T>>) {
        let elements = extents[0] * extents[1];
        let [read, written] = [source.elements.len(), elements].map(|elements| elements * size_of::<T>());
        let (mut kernel, mut seconds) = (None, 0.0);
        let mut run = || {
            let mut destination = Owned::new(memory, with_margins((0..elements).map(|_| T::NAN)))?;
            self.with_call(memory, source, &mut destination, extents, |call| {
                kernel = Some(haar::kernel(memory.queue(), operation, &call)?);
                let begin = Instant::now();
                let operation = match operation {
                    Operation::Forward1d => haar::forward_1d,
                    Operation::Inverse1d => haar::inverse_1d,
                    Operation::Forward2d => haar::forward_2d,
                    _ => haar::inverse_2d,
                };
                operation(memory.queue(), call)?;
                memory.wait()?;
                seconds = begin.elapsed().as_secs_f64();
                Ok(())
            })?;
            memory.fetch(&destination.0)
        };
        let output = run();
        let name = kernel.as_ref().map_or(String::new(), |kernel| kernel.name.clone());
        let counters = counters::take(&formulas(&name, read, written));
        let steps = kernel.as_ref().map_or(0, |kernel| kernel.rounding_steps);
        let compared = output.and_then(|output| {
            self.compare(operation, source, &output, extents, steps).map(|comparison| (comparison, output))
        });
        let work = Work::Bytes((read + written) as f64);
        match compared {
            Ok((comparison, output)) => {
                let (output, _) = without_margins(&output);
                (Outcome { kernel, seconds, work, counters, comparison: Ok(comparison) }, Some(output.to_vec()))
            }
            Err(error) => (Outcome { kernel, seconds, work, counters, comparison: Err(error) }, None),
        }
    }

    fn with_call<T: Value, M: Memory, R>(
        &self,
        memory: &M,
        source: &Matrix<T>,
        destination: &mut Owned<M, T>,
        extents: [usize; 2],
        call: impl FnOnce(Transform<'_, T, M::Queue>) -> Result<R>,
    ) -> Result<R> {
        let placed = memory.place((&source.elements).into())?;
        let layout = Layout { offset: MARGIN, extents, strides: [extents[1], 1] };
        let from = Mat::new(M::read(&placed), source.extents[0], source.extents[1])?;
        let to = MatMut::with_layout(M::write(&mut destination.0), layout)?;
        call(Transform::new(from, to, self.levels()).boundary(Boundary::Edge))
    }

    fn compare<T: Value>(
        &self,
        operation: Operation,
        source: &Matrix<T>,
        output: &[T],
        extents: [usize; 2],
        steps: usize,
    ) -> Result<Comparison> {
        let mut comparison = Comparison::default();
        let (output, margins) = without_margins(output);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        let memory = Host(Cpu);
        let mut unused = Owned(Cow::Owned(with_margins((0..output.len()).map(|_| T::NAN))));
        let terms =
            self.with_call(&memory, source, &mut unused, extents, |call| reference::haar::terms(operation, &call))?;
        for (i, (terms, &got)) in terms.iter().zip(output).enumerate() {
            comparison.element(got, terms, steps, || format!("element [{}, {}]", i / extents[1], i % extents[1]));
        }
        Ok(comparison)
    }
}

struct Matrix<T> {
    elements: Vec<T>,
    extents: [usize; 2],
}

/// What the kernel of one pass reads and writes, by the formula above it.
fn formulas(kernel: &str, read: usize, written: usize) -> Vec<Formula> {
    let tile = ["haar_forward_tile", "haar_inverse_tile"].into_iter().find(|&name| name == kernel);
    let formulas = |name| {
        vec![Formula(name, Kind::GlobalRead, "source", read), Formula(name, Kind::GlobalWrite, "destination", written)]
    };
    tile.map(formulas).unwrap_or_default()
}
