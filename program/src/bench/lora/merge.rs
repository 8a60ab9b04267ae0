//! `lora.merge`: W read and written once.

use peft_kernels::{Cpu, Mat, MatMut, Result, lora, reference};

use super::{Errors, Extents, Factors, Ready, RowError, SCALE, Use, gather, numbers, sample};
use crate::bench::clock::Timed;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    n: usize,
    k: usize,
    rank: usize,
    weights: Vec<T>,
    factors: Vec<Factors<P>>,
}

/// One copy of the operands in the queue's memory.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    weights: M::Buffer<'h, T>,
    factors: Vec<[M::Buffer<'h, P>; 2]>,
}

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let mut factors = Vec::new();
        for Factors { a, b } in &self.factors {
            factors.push([memory.place(a.into())?, memory.place(b.into())?]);
        }
        Ok(Placed { weights: memory.place((&self.weights).into())?, factors })
    }

    fn call<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        merged: &'a mut Owned<M, T>,
    ) -> Result<lora::Merge<'a, T, P, M::Queue>> {
        let Self { n, k, rank, .. } = *self;
        let weights = Mat::new(M::read(&placed.weights), n, k)?;
        let mut merge = lora::Merge::new(weights, MatMut::new(M::write(&mut merged.0), n, k)?);
        for [a, b] in &placed.factors {
            let (a, b) = (Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?);
            merge = merge.adapter(lora::Adapter::new(a, b, SCALE));
        }
        Ok(merge)
    }

    /// Some rows of W and B.
    fn of_rows(mut self, rows: &[usize]) -> Self {
        self.weights = gather(&self.weights, self.k, rows);
        self.factors.iter_mut().for_each(|factors| factors.b = gather(&factors.b, self.rank, rows));
        Self { n: rows.len(), ..self }
    }
}

pub fn run<T: Value, P: Value, M: Timed>(
    memory: &M,
    extents: &Extents,
    random: &mut Random,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let (n, k, rank) = (extents.columns(), extents.k, extents.rank);
    let factors = (0..extents.adapters).map(|_| Factors::<P>::new(random, [n, k], rank)).collect();
    let inputs = Inputs { n, k, rank, weights: numbers::<T>(random, n * k, 1.0 / (k as f64).sqrt()), factors };
    let got = measure(memory, &inputs, copies, compare, with)?;
    got.map(|got| errors(inputs, &got)).transpose()
}

/// The first copy's merged weights, if they are to be compared.
fn measure<T: Value, P: Value, M: Timed>(
    memory: &M,
    inputs: &Inputs<T, P>,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<Vec<T>>> {
    let placed = (0..copies).map(|_| inputs.place(memory)).collect::<Result<Vec<_>>>()?;
    let elements = inputs.n * inputs.k;
    let merged = (0..copies).map(|_| Owned::new(memory, vec![T::NAN; elements])).collect::<Result<Vec<_>>>();
    let mut merged = merged?;
    let kernel = lora::merge_kernel(memory.queue(), &inputs.call(&placed[0], &mut merged[0])?)?;
    {
        let mut enqueue = |copy: usize| lora::merge(memory.queue(), inputs.call(&placed[copy], &mut merged[copy])?);
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    compare.then(|| memory.fetch(&merged[0].0)).transpose()
}

/// Some rows of the merged weights against f64.
fn errors<T: Value, P: Value>(inputs: Inputs<T, P>, got: &[T]) -> Result<RowError> {
    let rows = sample(inputs.n);
    let inputs = inputs.of_rows(&rows);
    let memory = Host(Cpu);
    let placed = inputs.place(&memory)?;
    let mut merged = Owned::new(&memory, vec![T::NAN; inputs.n * inputs.k])?;
    let exact = reference::lora::merge_terms(&inputs.call(&placed, &mut merged)?, 1.0)?;
    let mut errors = Errors::default();
    errors.add(&gather(got, inputs.k, &rows), exact.iter().map(|terms| terms.value));
    Ok(errors.of_rows(rows.len()))
}
