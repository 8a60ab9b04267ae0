//! A transform with its operands, and what must hold of every call.

use peft_kernels::haar::{self, Axis, Bands, Boundary, Operation, Scaling, Transform};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, Element, Emulator, Kernel, Place, RawStream, Tensor, TensorMut};

use super::oracle::{Grid, Rule};
use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, emulators};
use crate::streams::{Exercise, Run};

/// What is transformed, and how.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    pub operation: Operation,
    pub axis: Axis,
    /// Of the signal.
    pub extents: [usize; 3],
    pub levels: u32,
    pub boundary: Boundary,
    pub bands: Bands,
    pub scaling: Scaling,
    pub adjoint: bool,
    pub in_place: bool,
    pub numbers: Numbers,
    /// Of source and destination.
    pub placements: [Placement; 2],
    /// The kernel, or 0.
    pub algorithm: i32,
    pub seed: u64,
}

pub const OPERATIONS: [Operation; 4] =
    [Operation::Forward1d, Operation::Inverse1d, Operation::Forward2d, Operation::Inverse2d];

impl Spec {
    pub fn new(operation: Operation, extents: [usize; 3], levels: u32) -> Self {
        Self {
            operation,
            axis: Axis::Columns,
            extents,
            levels,
            boundary: Boundary::None,
            bands: Bands::Mallat,
            scaling: Scaling::Orthonormal,
            adjoint: false,
            in_place: false,
            numbers: Numbers::Reals,
            placements: [Placement::default(); 2],
            algorithm: 0,
            seed: 1,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn inverse(&self) -> bool {
        matches!(self.operation, Operation::Inverse1d | Operation::Inverse2d)
    }

    pub fn along(&self) -> [bool; 2] {
        match (self.operation, self.axis) {
            (Operation::Forward1d | Operation::Inverse1d, Axis::Rows) => [true, false],
            (Operation::Forward1d | Operation::Inverse1d, _) => [false, true],
            _ => [true; 2],
        }
    }

    pub fn rule(&self) -> Rule {
        let Self { levels, boundary, bands, scaling, adjoint, .. } = *self;
        Rule { along: self.along(), levels, boundary, bands, scaling, adjoint }
    }

    /// Whether every sum and factor is exact, so that the one rounding is the only one.
    pub fn exact(&self) -> bool {
        let powers = self.scaling == Scaling::Sums || self.along() == [true; 2];
        self.numbers == Numbers::Integers && powers && self.levels <= 6
    }
}

/// The operands of a transform.
pub struct Case<T> {
    pub spec: Spec,
    pub source: Buffer<T>,
    pub destination: Buffer<T>,
}

impl<T: Element + Cell> Case<T> {
    pub fn new(spec: Spec) -> Self {
        let mut random = Random(spec.seed);
        let [batches, rows, columns] = spec.extents;
        let [coefficient_rows, coefficient_columns] = spec.rule().coefficient_extents([rows, columns]);
        let coefficients = [batches, coefficient_rows, coefficient_columns];
        let [from, to] = if spec.inverse() { [coefficients, spec.extents] } else { [spec.extents, coefficients] };
        let [first, second] = spec.placements;
        let source = Buffer::new(first.layout(from), |_| spec.numbers.term(&mut random));
        let mut elements = source.elements(&source.layout).into_iter().filter(|_| spec.in_place);
        let destination = Buffer::new(second.layout(to), |_| elements.next().unwrap_or(T::POISON));
        Self { spec, source, destination }
    }

    pub fn call<'a, Q: Runner>(&'a self, queue: &Q) -> Transform<'a, T, Q> {
        let Spec { levels, axis, boundary, bands, scaling, .. } = self.spec;
        let destination = TensorMut::with_layout(queue.sink(&self.destination), self.destination.layout);
        let destination = destination.expect("the buffer is as large as its layout");
        let mut call = match self.spec.in_place {
            true => Transform::in_place(destination, levels),
            false => {
                let source = Tensor::with_layout(queue.source(&self.source), self.source.layout);
                Transform::new(source.expect("the buffer is as large as its layout"), destination, levels)
            }
        };
        call = call.axis(axis).boundary(boundary).bands(bands).scaling(scaling);
        if self.spec.adjoint {
            call = call.adjoint();
        }
        if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) }
    }

    pub fn enqueue<Q: Runner>(&self, queue: &Q) -> peft_kernels::Result<()> {
        let operation = match self.spec.operation {
            Operation::Forward1d => haar::forward_1d,
            Operation::Inverse1d => haar::inverse_1d,
            Operation::Forward2d => haar::forward_2d,
            _ => haar::inverse_2d,
        };
        operation(queue, self.call(queue))
    }

    fn grid(&self, batch: usize) -> Grid {
        let [_, rows, columns] = self.source.layout.extents;
        let element = |i, j| {
            let value = self.source.get([batch, i, j]).to_f64();
            Terms { value, magnitude: value.abs() }
        };
        (0..rows).map(|i| (0..columns).map(|j| element(i, j)).collect()).collect()
    }

    /// Value and Σ|terms| by the definition.
    pub fn oracle(&self) -> Vec<Terms> {
        let [batches, rows, columns] = self.spec.extents;
        let rule = self.spec.rule();
        let of_batch = |batch| {
            let grid = self.grid(batch);
            if self.spec.inverse() { rule.inverse(&grid, [rows, columns]) } else { rule.forward(&grid) }
        };
        (0..batches).flat_map(|batch| of_batch(batch).into_iter().flatten()).collect()
    }

    /// Runs the call on fresh operands: what it wrote, and which kernel did.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<T>, Kernel), String> {
        self.destination.reset();
        let kernel = haar::kernel(queue, self.spec.operation, &self.call(queue)).map_err(|error| error.to_string())?;
        self.enqueue(queue).map_err(|error| error.to_string())?;
        queue.finish()?;
        self.source.check_untouched("source")?;
        self.destination.check_padding("destination", &[self.destination.layout])?;
        Ok((self.destination.elements(&self.destination.layout), kernel))
    }

    /// Runs the call and checks its values.
    pub fn check<Q: Runner>(&self, queue: &Q, oracle: &[Terms]) -> Result<Vec<T>, String> {
        let extents = self.destination.layout.extents;
        let (got, kernel) = self.run(queue)?;
        let compared = if self.spec.exact() {
            let expected: Vec<_> = oracle.iter().map(|terms| T::from_f64(terms.value)).collect();
            compare::exact(extents, &got, &expected)
        } else {
            // The CPU's f64 is rounded as well: what should be zero need not be.
            compare::bounded(extents, &got, oracle, kernel.rounding_steps.max(1))
        };
        compared.map_err(|report| format!("{} on {:?}: {report}{:#?}", kernel.name, queue.place(), self.spec))?;
        Ok(got)
    }

    /// On every queue without a device, in every kernel; the same bits under every schedule.
    pub fn everywhere(mut self) -> Result<(), String> {
        self.destination.reset();
        let oracle = self.oracle();
        let terms = reference::haar::terms(self.spec.operation, &self.call(&Cpu)).map_err(|error| error.to_string())?;
        for (got, expected) in terms.iter().zip(&oracle) {
            let allowed = 1e-12 * (1.0 + expected.magnitude);
            let near = |a: f64, b: f64| (a - b).abs() <= allowed;
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("the reference says {got:?}, expected {expected:?} {:#?}", self.spec));
            }
        }
        self.check(&Cpu, &oracle)?;
        // In place there is one kernel.
        let algorithms: &[i32] = if self.spec.in_place { &[0] } else { &[0, 1] };
        for &algorithm in algorithms {
            self.spec.algorithm = algorithm;
            let first = self.check(&Emulator::new(0), &oracle)?;
            for queue in emulators().skip(1) {
                compare::exact(self.destination.layout.extents, &self.check(&queue, &oracle)?, &first)?;
            }
        }
        Ok(())
    }
}

impl<T: Element + Cell> Exercise for Case<T> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || self.enqueue(queue))
    }
    fn reset(&self) {
        self.destination.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.destination.bytes()
    }
}

/// A transform of this description, its operands in the memory that this thread uses.
pub fn exercise<T: Element + Cell>(spec: Spec) -> Box<dyn Exercise> {
    Box::new(Case::<T>::new(spec))
}
