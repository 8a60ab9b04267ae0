//! `lora.forward`: one layer, several that share x, or a table of adapters.

use std::borrow::Cow;

use peft_kernels::{Cpu, Mat, MatMut, Result, Vector, Workspace, lora, reference};

use super::{Errors, Extents, Factors, Ready, RowError, SCALE, Use, gather, numbers, sample};
use crate::bench::clock::Timed;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    m: usize,
    extents: Extents,
    x: Vec<T>,
    /// For each target.
    weights: Vec<Vec<T>>,
    /// For each target and adapter.
    factors: Vec<Vec<Factors<P>>>,
    /// The adapter of each row, where there are several: neighbours differ.
    rows: Option<Vec<i32>>,
}

impl<T: Value, P: Value> Inputs<T, P> {
    fn new(extents: &Extents, random: &mut Random) -> Self {
        let Extents { m, ref n, k, rank, adapters } = *extents;
        Self {
            m,
            extents: extents.clone(),
            x: numbers(random, m * k, 1.0),
            weights: n.iter().map(|n| numbers(random, n * k, 1.0 / (k as f64).sqrt())).collect(),
            factors: n.iter().map(|&n| (0..adapters).map(|_| Factors::new(random, [n, k], rank)).collect()).collect(),
            rows: (adapters > 1).then(|| (0..m).map(|row| (row % adapters) as i32).collect()),
        }
    }

    /// Some rows of x, and all of the rest.
    fn of_rows(self, rows: &[usize]) -> Self {
        let x = gather(&self.x, self.extents.k, rows);
        let adapter_of_row = self.rows.as_ref().map(|all| gather(all, 1, rows));
        Self { m: rows.len(), x, rows: adapter_of_row, ..self }
    }
}

/// One copy of the operands in the queue's memory.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    x: M::Buffer<'h, T>,
    rows: Option<M::Buffer<'h, i32>>,
    weights: Vec<M::Buffer<'h, T>>,
    factors: Vec<Vec<PlacedFactors<'h, P, M>>>,
}

struct PlacedFactors<'h, P: Value, M: Memory> {
    a: M::Buffer<'h, P>,
    b: M::Buffer<'h, P>,
}

impl<'h, T: Value, P: Value, M: Memory> Placed<'h, T, P, M> {
    fn new(memory: &M, inputs: &'h Inputs<T, P>) -> Result<Self> {
        let mut factors = Vec::new();
        for adapters in &inputs.factors {
            let place = |factors: &'h Factors<P>| {
                Ok(PlacedFactors { a: memory.place((&factors.a).into())?, b: memory.place((&factors.b).into())? })
            };
            factors.push(adapters.iter().map(place).collect::<Result<_>>()?);
        }
        Ok(Self {
            x: memory.place((&inputs.x).into())?,
            rows: inputs.rows.as_ref().map(|rows| memory.place(rows.into())).transpose()?,
            weights: inputs.weights.iter().map(|w| memory.place(w.into())).collect::<Result<_>>()?,
            factors,
        })
    }
}

type Adapters<'a, P, M> = Vec<lora::Adapter<'a, P, <M as Memory>::Queue>>;

/// What refers to a copy, and must be made only once.
struct Tables<'a, P: Value, M: Memory> {
    tables: Vec<lora::AdapterTable<'a, P, M::Queue>>,
    entries: Vec<M::Buffer<'static, lora::AdapterEntry>>,
}

fn adapters<'a, T: Value, P: Value, M: Memory>(
    placed: &'a Placed<'_, T, P, M>,
    extents: &Extents,
) -> Result<Vec<Adapters<'a, P, M>>> {
    let (k, rank) = (extents.k, extents.rank);
    let mut targets = Vec::new();
    for (factors, &n) in placed.factors.iter().zip(&extents.n) {
        let mut adapters = Vec::new();
        for PlacedFactors { a, b } in factors {
            adapters.push(lora::Adapter::new(Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?, SCALE));
        }
        targets.push(adapters);
    }
    Ok(targets)
}

impl<'a, P: Value, M: Memory> Tables<'a, P, M> {
    fn new(memory: &'a M, adapters: &'a [Adapters<'a, P, M>]) -> Result<Self> {
        let table = |adapters: &'a Adapters<'a, P, M>| lora::AdapterTable::new(memory.queue(), adapters);
        let tables: Vec<_> = adapters.iter().map(table).collect::<Result<_>>()?;
        let entries = tables.iter().map(|table| memory.place(Cow::Owned(table.entries().to_vec())));
        Ok(Self { entries: entries.collect::<Result<_>>()?, tables })
    }
}

/// The descriptor of the call on one copy.
fn call<'a, T: Value, P: Value, M: Memory>(
    inputs: &Inputs<T, P>,
    placed: &'a Placed<'_, T, P, M>,
    tables: &'a Tables<'_, P, M>,
    outputs: &'a mut [Owned<M, T>],
) -> Result<lora::Forward<'a, T, P, M::Queue>> {
    let (m, k, rank) = (inputs.m, inputs.extents.k, inputs.extents.rank);
    let mut forward = lora::Forward::new(Mat::new(M::read(&placed.x), m, k)?);
    for (i, (output, &n)) in outputs.iter_mut().zip(&inputs.extents.n).enumerate() {
        let y = MatMut::new(M::write(&mut output.0), m, n)?;
        let target = lora::Target::dense(Mat::new(M::read(&placed.weights[i]), n, k)?, y);
        forward = forward.target(if placed.rows.is_some() {
            // SAFETY: the entries were copied from the table, and its factors are in the queue's memory.
            unsafe { target.table_on_device(&tables.tables[i], Vector::whole(M::read(&tables.entries[i]))) }
        } else {
            let PlacedFactors { a, b } = &placed.factors[i][0];
            target.adapter(Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?, SCALE)
        });
    }
    if let Some(rows) = &placed.rows {
        forward = forward.row_adapter(Vector::whole(M::read(rows)));
    }
    Ok(forward)
}

fn outputs<T: Value, P: Value, M: Memory>(memory: &M, inputs: &Inputs<T, P>) -> Result<Vec<Owned<M, T>>> {
    inputs.extents.n.iter().map(|n| Owned::new(memory, vec![T::NAN; inputs.m * n])).collect()
}

pub fn run<T: Value, P: Value, M: Timed>(
    memory: &M,
    extents: &Extents,
    random: &mut Random,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let inputs = Inputs::<T, P>::new(extents, random);
    let got = measure(memory, &inputs, copies, compare, with)?;
    got.map(|got| errors(inputs, &got)).transpose()
}

/// The first copy's outputs, if they are to be compared.
fn measure<T: Value, P: Value, M: Timed>(
    memory: &M,
    inputs: &Inputs<T, P>,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<Vec<Vec<T>>>> {
    let placed = (0..copies).map(|_| Placed::new(memory, inputs)).collect::<Result<Vec<_>>>()?;
    let adapters = placed.iter().map(|placed| adapters(placed, &inputs.extents)).collect::<Result<Vec<_>>>()?;
    let tables = adapters.iter().map(|adapters| Tables::new(memory, adapters)).collect::<Result<Vec<_>>>()?;
    let mut ys = (0..copies).map(|_| outputs(memory, inputs)).collect::<Result<Vec<_>>>()?;

    let queue = memory.queue();
    let (kernel, bytes) = {
        let call = call(inputs, &placed[0], &tables[0], &mut ys[0])?;
        (lora::forward_kernel(queue, &call)?, lora::forward_workspace(queue, &call)?)
    };
    let scratch = (0..copies).map(|_| Owned::new(memory, vec![0u8; bytes])).collect::<Result<Vec<_>>>();
    let mut scratch = scratch?;
    {
        let mut enqueue = |copy: usize| {
            let call = call(inputs, &placed[copy], &tables[copy], &mut ys[copy])?;
            lora::forward(queue, call, Workspace::new(M::write(&mut scratch[copy].0)))
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    compare.then(|| ys[0].iter().map(|y| memory.fetch(&y.0)).collect()).transpose()
}

/// Some rows of every y against f64.
fn errors<T: Value, P: Value>(inputs: Inputs<T, P>, got: &[Vec<T>]) -> Result<RowError> {
    let rows = sample(inputs.m);
    let inputs = inputs.of_rows(&rows);
    let memory = Host(Cpu);
    let placed = Placed::new(&memory, &inputs)?;
    let adapters = adapters(&placed, &inputs.extents)?;
    let tables = Tables::new(&memory, &adapters)?;
    let mut ys = outputs(&memory, &inputs)?;
    let exact = reference::lora::forward_terms(&call(&inputs, &placed, &tables, &mut ys)?)?;
    let mut errors = Errors::default();
    for ((got, exact), &n) in got.iter().zip(&exact).zip(&inputs.extents.n) {
        errors.add(&gather(got, n, &rows), exact.iter().map(|terms| terms.value));
    }
    Ok(errors.of_rows(rows.len()))
}
