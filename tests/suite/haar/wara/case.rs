//! An adapter with its operands, and what must hold of every call.

use peft_kernels::haar::{self, Boundary, Wara, WaraBackward, WaraForward, WaraMerge};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, Element, Emulator, Layout, Mat, MatMut, Place, RawStream, Workspace};

use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::Runner;
use crate::streams::{Exercise, Run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    None,
    Dense,
    InY,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Forward,
    Backward,
    Merge,
    Unmerge,
}

pub const OPERATIONS: [Operation; 4] = [Operation::Forward, Operation::Backward, Operation::Merge, Operation::Unmerge];

/// What is computed, and of what.
#[derive(Clone, Debug)]
pub struct Spec {
    pub m: usize,
    /// [n, k]
    pub shape: [usize; 2],
    pub levels: u32,
    /// One, or one a band.
    pub ranks: Vec<usize>,
    pub boundary: Boundary,
    pub gains: bool,
    /// Activation mode.
    pub grid: Option<[usize; 2]>,
    pub base: Base,
    pub in_place: bool,
    pub numbers: Numbers,
    /// The kernel, or 0.
    pub algorithm: i32,
    pub seed: u64,
}

impl Spec {
    /// A whole image in weight mode, one level.
    pub fn new([m, n, k]: [usize; 3], rank: usize) -> Self {
        Self {
            m,
            shape: [n, k],
            levels: 1,
            ranks: vec![rank],
            boundary: Boundary::None,
            gains: true,
            grid: None,
            base: Base::Dense,
            in_place: false,
            numbers: Numbers::Reals,
            algorithm: 0,
            seed: 1,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn bands(&self) -> usize {
        3 * self.levels as usize + 1
    }

    /// Level of a band, and whether it has the details along rows and columns.
    pub fn band(&self, number: usize) -> (u32, [bool; 2]) {
        let kinds = [[true, false], [false, true], [true, true]];
        match number.checked_sub(1) {
            None => (self.levels, [false; 2]),
            Some(number) => (self.levels - (number / 3) as u32, kinds[number % 3]),
        }
    }
}

/// The operands of every operation.
pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub w: Buffer<T>,
    pub y: Buffer<T>,
    pub dy: Buffer<T>,
    pub dx: Buffer<T>,
    pub merged: Buffer<T>,
    pub a: Vec<Buffer<P>>,
    pub b: Vec<Buffer<P>>,
    pub da: Vec<Buffer<P>>,
    pub db: Vec<Buffer<P>>,
    pub gains: Vec<f32>,
    pub scale: f32,
}

/// Values and Σ|terms| of all outputs of an operation, in the order of [`Case::outputs`].
pub type Expected = Vec<Vec<Terms>>;

/// What a call wrote: of x's type, and of the factors'.
#[derive(PartialEq)]
pub struct Got<T, P> {
    pub of_x: Vec<Vec<T>>,
    pub of_factors: Vec<Vec<P>>,
}

fn flat(layout: &Layout<3>) -> Layout<2> {
    let [_, rows, columns] = layout.extents;
    let [_, row_stride, column_stride] = layout.strides;
    Layout { offset: layout.offset, extents: [rows, columns], strides: [row_stride, column_stride] }
}

pub fn mat<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Mat<'a, T, Q> {
    Mat::with_layout(queue.source(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

pub fn mat_mut<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> MatMut<'a, T, Q> {
    MatMut::with_layout(queue.sink(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: Spec) -> Self {
        let mut random = Random(spec.seed);
        let (m, [n, k]) = (spec.m, spec.shape);
        let layout = |random: &mut Random, rows, columns| {
            let placement = Placement {
                column_major: random.below(3) == 0,
                gap: random.choose(&[0, 0, 3, 8]),
                offset: random.choose(&[0, 0, 1]),
                batch_gap: 0,
            };
            placement.layout([1, rows, columns])
        };
        let mut filled = |rows: usize, columns: usize, depth: usize| {
            let layout = layout(&mut random, rows, columns);
            Buffer::<T>::new(layout, |[_, i, j]| {
                spec.numbers.factor(&mut random, depth, i + 1 == rows || j + 1 == columns)
            })
        };
        let (x, w, dy) = (filled(m, k, k), filled(n, k, k), filled(m, n, n));
        let in_y = spec.base == Base::InY;
        let y_layout = layout(&mut random, m, n);
        let y = Buffer::new(y_layout, |_| if in_y { spec.numbers.term(&mut random) } else { T::POISON });
        let dx = Buffer::new(layout(&mut random, m, k), |_| T::POISON);
        let merged = match spec.in_place {
            true => Buffer::new(layout(&mut random, n, k), |index| w.get(index)),
            false => Buffer::new(layout(&mut random, n, k), |_| T::POISON),
        };
        let counts = |extent: usize| -> usize {
            (1..=spec.levels).map(|level| extent.div_ceil(1 << level)).sum::<usize>()
                + extent.div_ceil(1 << spec.levels)
        };
        let (mut a, mut b, mut da, mut db) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, &rank) in spec.ranks.iter().enumerate() {
            let [rows, columns] = match (spec.grid, spec.ranks.len()) {
                (Some(_), _) => [n, k],
                (None, 1) => [n, k].map(counts),
                _ => [n, k].map(|extent| extent.div_ceil(1 << spec.band(number).0)),
            };
            let of_a = layout(&mut random, rank, columns);
            a.push(Buffer::new(of_a, |_| spec.numbers.factor(&mut random, columns, false)));
            let of_b = layout(&mut random, rows, rank);
            b.push(Buffer::new(of_b, |_| spec.numbers.factor(&mut random, rank, true)));
            da.push(Buffer::new(layout(&mut random, rank, columns), |_| P::POISON));
            db.push(Buffer::new(layout(&mut random, rows, rank), |_| P::POISON));
        }
        let gain = |random: &mut Random| match spec.numbers {
            _ if !spec.gains => 1.0,
            Numbers::Integers => random.choose(&[1.0, 0.5, 2.0, -1.0, 0.0]),
            Numbers::Reals => random.real() as f32,
        };
        let gains = (0..spec.bands()).map(|_| gain(&mut random)).collect();
        let scale = spec.numbers.scale(&mut random);
        Self { spec, x, w, y, dy, dx, merged, a, b, da, db, gains, scale }
    }

    pub fn adapter<Q: Runner>(&self, queue: &Q) -> Wara<'_, P, Q> {
        let pairs = self.a.iter().zip(&self.b).map(|(a, b)| (mat(queue, a), mat(queue, b)));
        let mut adapter = Wara::per_band(pairs, self.scale).levels(self.spec.levels).boundary(self.spec.boundary);
        if self.spec.gains {
            adapter = adapter.gains(&self.gains);
        }
        match self.spec.grid {
            None => adapter,
            Some(grid) => adapter.activations(grid),
        }
    }

    pub fn forward<Q: Runner>(&self, queue: &Q) -> WaraForward<'_, T, P, Q> {
        let call = WaraForward::new(mat(queue, &self.x), mat_mut(queue, &self.y), self.adapter(queue));
        match self.spec.base {
            Base::None => call,
            Base::Dense => call.weights(mat(queue, &self.w)),
            Base::InY => call.in_y(),
        }
    }

    pub fn backward<Q: Runner>(&self, queue: &Q) -> WaraBackward<'_, T, P, Q> {
        let call = WaraBackward::new(mat(queue, &self.x), mat(queue, &self.dy), self.adapter(queue));
        let mut call = call.input_gradient(mat_mut(queue, &self.dx));
        for (da, db) in self.da.iter().zip(&self.db) {
            call = call.factor_gradients(mat_mut(queue, da), mat_mut(queue, db));
        }
        if self.spec.base == Base::Dense { call.weights(mat(queue, &self.w)) } else { call }
    }

    pub fn merge<Q: Runner>(&self, queue: &Q) -> WaraMerge<'_, T, P, Q> {
        let (destination, adapter) = (mat_mut(queue, &self.merged), self.adapter(queue));
        let call = match self.spec.in_place {
            true => WaraMerge::in_place(destination, adapter),
            false => WaraMerge::new(mat(queue, &self.w), destination, adapter),
        };
        if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) }
    }

    /// Bytes of workspace that an operation asks for.
    pub fn workspace<Q: Runner>(&self, operation: Operation, queue: &Q) -> peft_kernels::Result<usize> {
        match operation {
            Operation::Forward => haar::wara_forward_workspace(queue, &self.forward(queue)),
            Operation::Backward => haar::wara_backward_workspace(queue, &self.backward(queue)),
            _ => Ok(0),
        }
    }

    pub fn enqueue<Q: Runner>(
        &self,
        operation: Operation,
        queue: &Q,
        workspace: &Buffer<u8>,
    ) -> peft_kernels::Result<()> {
        let workspace = Workspace::new(queue.sink(workspace));
        match operation {
            Operation::Forward => haar::wara_forward(queue, self.forward(queue), workspace),
            Operation::Backward => haar::wara_backward(queue, self.backward(queue), workspace),
            Operation::Merge => haar::wara_merge(queue, self.merge(queue)),
            Operation::Unmerge => haar::wara_unmerge(queue, self.merge(queue)),
        }
    }

    fn outputs(&self, operation: Operation) -> (Vec<&Buffer<T>>, Vec<&Buffer<P>>) {
        match operation {
            Operation::Forward => (vec![&self.y], vec![]),
            Operation::Backward => (vec![&self.dx], self.da.iter().chain(&self.db).collect()),
            _ => (vec![&self.merged], vec![]),
        }
    }

    /// By the reference.
    pub fn reference(&self, operation: Operation) -> peft_kernels::Result<Expected> {
        Ok(match operation {
            Operation::Forward => vec![reference::haar::wara_forward_terms(&self.forward(&Cpu))?],
            Operation::Backward => {
                let gradients = reference::haar::wara_backward_terms(&self.backward(&Cpu))?;
                let (da, db): (Vec<_>, Vec<_>) = gradients.factors.into_iter().map(|[da, db]| (da, db)).unzip();
                std::iter::once(gradients.dx).chain(da).chain(db).collect()
            }
            Operation::Merge => vec![reference::haar::wara_merge_terms(&self.merge(&Cpu), 1.0)?],
            Operation::Unmerge => vec![reference::haar::wara_merge_terms(&self.merge(&Cpu), -1.0)?],
        })
    }

    fn steps<Q: Runner>(&self, operation: Operation, queue: &Q) -> peft_kernels::Result<usize> {
        let kernel = match operation {
            Operation::Forward => haar::wara_forward_kernel(queue, &self.forward(queue))?,
            Operation::Backward => haar::wara_backward_kernel(queue, &self.backward(queue))?,
            _ => haar::wara_merge_kernel(queue, &self.merge(queue))?,
        };
        Ok(kernel.rounding_steps.max(1))
    }

    /// Runs the call on fresh outputs, and looks at everything that it must not write.
    pub fn run<Q: Runner>(&self, operation: Operation, queue: &Q) -> Result<Got<T, P>, String> {
        let text = |error: peft_kernels::Error| error.to_string();
        let (of_x, of_factors) = self.outputs(operation);
        of_x.iter().for_each(|output| output.reset());
        of_factors.iter().for_each(|output| output.reset());
        let bytes = self.workspace(operation, queue).map_err(text)?;
        let workspace = Buffer::list(&vec![u8::POISON; bytes]);
        self.enqueue(operation, queue, &workspace).map_err(text)?;
        queue.finish()?;
        for (name, input) in [("x", &self.x), ("w", &self.w), ("dy", &self.dy)] {
            input.check_untouched(name)?;
        }
        for factor in self.a.iter().chain(&self.b) {
            factor.check_untouched("a factor")?;
        }
        let elements = |output: &&Buffer<T>| {
            output.check_padding("an output", &[output.layout])?;
            Ok::<_, String>(output.elements(&output.layout))
        };
        let of_x = of_x.iter().map(elements).collect::<Result<_, _>>()?;
        let elements = |output: &&Buffer<P>| {
            output.check_padding("a gradient", &[output.layout])?;
            Ok::<_, String>(output.elements(&output.layout))
        };
        Ok(Got { of_x, of_factors: of_factors.iter().map(elements).collect::<Result<_, _>>()? })
    }

    /// Runs the call and compares every output.
    pub fn check<Q: Runner>(&self, operation: Operation, queue: &Q, expected: &Expected) -> Result<Got<T, P>, String> {
        let got = self.run(operation, queue)?;
        let steps = self.steps(operation, queue).map_err(|error| error.to_string())?;
        let (of_x, of_factors) = self.outputs(operation);
        let context = |report| format!("{operation:?} on {:?}: {report}{:#?}", queue.place(), self.spec);
        for ((got, output), expected) in got.of_x.iter().zip(of_x).zip(expected) {
            self.compare(output.layout.extents, got, expected, steps).map_err(context)?;
        }
        for ((got, output), expected) in got.of_factors.iter().zip(of_factors).zip(&expected[1..]) {
            self.compare(output.layout.extents, got, expected, steps).map_err(context)?;
        }
        Ok(got)
    }

    fn compare<E: Element>(&self, extents: [usize; 3], got: &[E], terms: &[Terms], steps: usize) -> Result<(), String> {
        match self.spec.numbers {
            Numbers::Reals => compare::bounded(extents, got, terms, steps),
            Numbers::Integers => {
                // The sign of a zero depends on how it was added up.
                let got: Vec<_> = got.iter().map(|got| E::from_f64(got.to_f64() + 0.0)).collect();
                let expected: Vec<_> = terms.iter().map(|terms| E::from_f64(terms.value + 0.0)).collect();
                compare::exact(extents, &got, &expected)
            }
        }
    }

    /// Every operation on every queue without a device; the same bits under every schedule.
    pub fn everywhere(mut self) -> Result<(), String> {
        for operation in OPERATIONS {
            if self.spec.grid.is_some() && matches!(operation, Operation::Merge | Operation::Unmerge) {
                continue;
            }
            self.everywhere_of(operation)?;
        }
        if self.spec.grid.is_none() {
            self.spec.algorithm = 1;
            self.everywhere_of(Operation::Merge)?;
        }
        Ok(())
    }

    fn everywhere_of(&self, operation: Operation) -> Result<(), String> {
        self.merged.reset();
        self.y.reset();
        let expected = self.oracle(operation);
        let reference = self.reference(operation).map_err(|error| error.to_string())?;
        for (got, expected) in reference.iter().flatten().zip(expected.iter().flatten()) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-11 * (1.0 + expected.magnitude);
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                let spec = &self.spec;
                return Err(format!("{operation:?}: the reference says {got:?}, expected {expected:?} {spec:#?}"));
            }
        }
        let lengths = |list: &Expected| list.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&reference), lengths(&expected));
        self.check(operation, &Cpu, &expected)?;
        let first = self.check(operation, &Emulator::new(0), &expected)?;
        for (seed, chip) in [(1, 80), (7, 120)] {
            if self.run(operation, &Emulator::new(seed).compute_capability(chip))? != first {
                return Err(format!("{operation:?}: other bits with seed {seed} {:#?}", self.spec));
            }
        }
        Ok(())
    }
}

/// A call of one operation.
struct WaraExercise<T, P> {
    case: Case<T, P>,
    operation: Operation,
    workspace: Buffer<u8>,
}

impl<T: Element + Cell, P: Element + Cell> Exercise for WaraExercise<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || self.case.enqueue(self.operation, queue, &self.workspace))
    }
    fn reset(&self) {
        let (of_x, of_factors) = self.case.outputs(self.operation);
        of_x.iter().for_each(|output| output.reset());
        of_factors.iter().for_each(|output| output.reset());
    }
    fn output(&self) -> Vec<u8> {
        let (of_x, of_factors) = self.case.outputs(self.operation);
        of_x.iter()
            .flat_map(|output| output.bytes())
            .chain(of_factors.iter().flat_map(|output| output.bytes()))
            .collect()
    }
}

/// A call of this description, its operands in the memory that this thread uses.
pub fn exercise<T: Element + Cell, P: Element + Cell>(spec: Spec, operation: Operation) -> Box<dyn Exercise> {
    let case = Case::<T, P>::new(spec);
    // Shapes alone decide, so that any queue can be asked.
    let bytes = case.workspace(operation, &Emulator::new(0)).expect("the call is sound");
    let workspace = Buffer::list(&vec![u8::POISON; bytes]);
    Box::new(WaraExercise { case, operation, workspace })
}
