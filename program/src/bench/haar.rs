//! The Haar family's cases: transforms of a matrix, which it reads and writes once, and WaRA.

mod wara;

use half::{bf16, f16};
use peft_kernels::haar::{self, Boundary, Hadamard, Transform, Wara, WaraMerge};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, ElementType, Kernel, Mat, MatMut, Result};
use serde::Deserialize;

use super::case::{Errors, Ready, Use, Work, numbers};
use super::catalog::Entry;
use super::clock::Timed;
use super::results::RowError;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

/// Outputs of more elements are not compared: their reference would take longer than all rounds.
const COMPARED: usize = 1 << 22;

/// Of a shape: a matrix [rows, columns], the levels of its transform, the rank of an adapter; of a layer the rows of x, and the grid that its tokens lie in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extents {
    rows: usize,
    columns: usize,
    #[serde(default)]
    levels: u32,
    #[serde(default)]
    rank: usize,
    #[serde(default)]
    m: usize,
    grid: Option<[usize; 2]>,
}

impl Extents {
    /// Of factors: where there are tokens, one for each band.
    fn pairs(&self) -> usize {
        if self.grid.is_some() { 3 * self.levels as usize + 1 } else { 1 }
    }
}

const SCALE: f32 = 0.5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Transform(haar::Operation),
    Hadamard,
    WaraMerge,
}

/// Of a matrix alone, or of a layer with WaRA.
#[derive(Clone, Copy)]
enum Case {
    Matrix(Operation),
    Layer { backward: bool },
}

fn read(entry: &Entry) -> std::result::Result<(Case, Extents), String> {
    let name = &entry.shape.name;
    let transform = |operation| Case::Matrix(Operation::Transform(operation));
    let case = match entry.shape.operation.as_str() {
        "haar.forward_1d" => transform(haar::Operation::Forward1d),
        "haar.inverse_1d" => transform(haar::Operation::Inverse1d),
        "haar.forward_2d" => transform(haar::Operation::Forward2d),
        "haar.inverse_2d" => transform(haar::Operation::Inverse2d),
        "haar.hadamard" => Case::Matrix(Operation::Hadamard),
        "haar.wara_merge" => Case::Matrix(Operation::WaraMerge),
        "haar.wara_forward" => Case::Layer { backward: false },
        "haar.wara_backward" => Case::Layer { backward: true },
        other => return Err(format!("benches/shapes.json: {name}: no operation {other}")),
    };
    let extents = serde_json::from_value(entry.shape.extents.clone().into());
    Ok((case, extents.map_err(|error| format!("benches/shapes.json: {name}: {error}"))?))
}

/// Every operand once, and the operations of the formula.
pub fn work(entry: &Entry) -> std::result::Result<Work, String> {
    let (case, extents) = read(entry)?;
    let Extents { rows, columns, rank, m, .. } = extents;
    let [x, p] = entry.types.map(ElementType::size);
    let elements = rows * columns;
    let factors = extents.pairs() * rank * (rows + columns) * p;
    // Bands share the rows of x out among themselves.
    let (layer, branch) = (2 * m * elements, 2 * m * rank * (rows + columns));
    let (bytes, flops) = match case {
        // A sum of two elements for each axis, of a level and of all that follow: less than twice the first.
        Case::Matrix(Operation::Transform(haar::Operation::Forward2d | haar::Operation::Inverse2d)) => {
            (2 * x * elements, 3 * elements)
        }
        Case::Matrix(Operation::Transform(_)) => (2 * x * elements, 2 * elements),
        Case::Matrix(Operation::Hadamard) => (2 * x * elements, elements * columns.ilog2() as usize),
        Case::Matrix(Operation::WaraMerge) => (2 * x * elements + factors, 2 * elements * rank),
        Case::Layer { backward: false } => (x * (m * columns + elements + m * rows) + factors, layer + branch),
        Case::Layer { backward: true } => {
            (x * (2 * m * columns + elements + m * rows) + 2 * factors, layer + 3 * branch)
        }
    };
    Ok(Work { bytes: bytes as u64, flops: flops as u64 })
}

/// As of the LoRA family.
pub fn run<M: Timed>(
    memory: &M,
    entry: &Entry,
    seed: u64,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    match entry.types {
        [ElementType::F16, ElementType::F16] => typed::<f16, f16, M>(memory, entry, seed, copies, compare, with),
        [ElementType::F16, _] => typed::<f16, f32, M>(memory, entry, seed, copies, compare, with),
        [ElementType::BF16, ElementType::BF16] => typed::<bf16, bf16, M>(memory, entry, seed, copies, compare, with),
        [ElementType::BF16, _] => typed::<bf16, f32, M>(memory, entry, seed, copies, compare, with),
        _ => typed::<f32, f32, M>(memory, entry, seed, copies, compare, with),
    }
}

fn typed<T: Value, P: Value, M: Timed>(
    memory: &M,
    entry: &Entry,
    seed: u64,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    // `work` has read the shape before.
    let Ok((case, extents)) = read(entry) else { return Ok(None) };
    let Extents { rows, columns, rank, .. } = extents;
    let random = &mut Random::new(seed, &entry.shape.name);
    let operation = match case {
        Case::Matrix(operation) => operation,
        Case::Layer { backward } => {
            return wara::run::<T, P, M>(memory, (extents, backward), random, copies, compare, with);
        }
    };
    let inputs: Inputs<T, P> = Inputs {
        operation,
        extents,
        source: numbers(random, rows * columns, 1.0),
        a: numbers(random, rank * columns, 1.0 / (columns as f64).sqrt()),
        b: numbers(random, rows * rank, 0.1),
    };
    let got = inputs.measure(memory, copies, compare && rows * columns <= COMPARED, with)?;
    got.map(|got| inputs.errors(&got)).transpose()
}

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    operation: Operation,
    extents: Extents,
    source: Vec<T>,
    a: Vec<P>,
    b: Vec<P>,
}

/// One copy of the operands in the queue's memory.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    source: M::Buffer<'h, T>,
    a: M::Buffer<'h, P>,
    b: M::Buffer<'h, P>,
}

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let (a, b) = (memory.place((&self.a).into())?, memory.place((&self.b).into())?);
        Ok(Placed { source: memory.place((&self.source).into())?, a, b })
    }

    fn transform<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        output: &'a mut Owned<M, T>,
    ) -> Result<Transform<'a, T, M::Queue>> {
        let Extents { rows, columns, levels, .. } = self.extents;
        let destination = MatMut::new(M::write(&mut output.0), rows, columns)?;
        Ok(Transform::new(Mat::new(M::read(&placed.source), rows, columns)?, destination, levels))
    }

    fn hadamard<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        output: &'a mut Owned<M, T>,
    ) -> Result<Hadamard<'a, T, M::Queue>> {
        let Extents { rows, columns, .. } = self.extents;
        let destination = MatMut::new(M::write(&mut output.0), rows, columns)?;
        Ok(Hadamard::new(Mat::new(M::read(&placed.source), rows, columns)?, destination))
    }

    fn wara_merge<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        output: &'a mut Owned<M, T>,
    ) -> Result<WaraMerge<'a, T, P, M::Queue>> {
        let Extents { rows, columns, levels, rank, .. } = self.extents;
        let (a, b) = (Mat::new(M::read(&placed.a), rank, columns)?, Mat::new(M::read(&placed.b), rows, rank)?);
        let adapter = Wara::new(a, b, SCALE).levels(levels).boundary(Boundary::None);
        let destination = MatMut::new(M::write(&mut output.0), rows, columns)?;
        Ok(WaraMerge::new(Mat::new(M::read(&placed.source), rows, columns)?, destination, adapter))
    }

    fn enqueue<M: Memory>(&self, memory: &M, placed: &Placed<'_, T, P, M>, output: &mut Owned<M, T>) -> Result<()> {
        let queue = memory.queue();
        match self.operation {
            Operation::Transform(haar::Operation::Forward1d) => {
                haar::forward_1d(queue, self.transform(placed, output)?)
            }
            Operation::Transform(haar::Operation::Inverse1d) => {
                haar::inverse_1d(queue, self.transform(placed, output)?)
            }
            Operation::Transform(haar::Operation::Forward2d) => {
                haar::forward_2d(queue, self.transform(placed, output)?)
            }
            Operation::Transform(_) => haar::inverse_2d(queue, self.transform(placed, output)?),
            Operation::Hadamard => haar::hadamard(queue, self.hadamard(placed, output)?),
            Operation::WaraMerge => haar::wara_merge(queue, self.wara_merge(placed, output)?),
        }
    }

    fn kernel<M: Memory>(&self, memory: &M, placed: &Placed<'_, T, P, M>, output: &mut Owned<M, T>) -> Result<Kernel> {
        let queue = memory.queue();
        match self.operation {
            Operation::Transform(operation) => haar::kernel(queue, operation, &self.transform(placed, output)?),
            Operation::Hadamard => haar::hadamard_kernel(queue, &self.hadamard(placed, output)?),
            Operation::WaraMerge => haar::wara_merge_kernel(queue, &self.wara_merge(placed, output)?),
        }
    }

    /// The first copy's output, if it is to be compared.
    fn measure<M: Timed>(&self, memory: &M, copies: usize, compare: bool, with: Use) -> Result<Option<Vec<T>>> {
        let placed = (0..copies).map(|_| self.place(memory)).collect::<Result<Vec<_>>>()?;
        let outputs = (0..copies).map(|_| Owned::new(memory, vec![T::NAN; self.source.len()]));
        let mut outputs = outputs.collect::<Result<Vec<_>>>()?;
        let kernel = self.kernel(memory, &placed[0], &mut outputs[0])?;
        {
            let mut enqueue = |copy: usize| self.enqueue(memory, &placed[copy], &mut outputs[copy]);
            with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
        }
        memory.wait()?;
        compare.then(|| memory.fetch(&outputs[0].0)).transpose()
    }

    /// Every element against f64.
    fn errors(&self, got: &[T]) -> Result<RowError> {
        let memory = Host(Cpu);
        let placed = self.place(&memory)?;
        let mut unused = Owned::<Host<Cpu>, T>::new(&memory, vec![T::NAN; self.source.len()])?;
        let exact: Vec<Terms> = match self.operation {
            Operation::Transform(operation) => {
                reference::haar::terms(operation, &self.transform(&placed, &mut unused)?)?
            }
            Operation::Hadamard => reference::haar::hadamard_terms(&self.hadamard(&placed, &mut unused)?)?,
            Operation::WaraMerge => reference::haar::wara_merge_terms(&self.wara_merge(&placed, &mut unused)?, 1.0)?,
        };
        let mut errors = Errors::default();
        errors.add(got, exact.iter().map(|terms| terms.value));
        Ok(errors.of_rows(self.extents.rows))
    }
}
