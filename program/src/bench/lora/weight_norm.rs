//! `lora.weight_norm`: W read once.

use peft_kernels::{Cpu, Mat, Result, VectorMut, Workspace, lora, reference};

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
    factors: Factors<P>,
}

/// One copy of the operands in the queue's memory: W, A and B.
type Placed<'h, T, P, M> = (<M as Memory>::Buffer<'h, T>, [<M as Memory>::Buffer<'h, P>; 2]);

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let Factors { a, b } = &self.factors;
        Ok((memory.place((&self.weights).into())?, [memory.place(a.into())?, memory.place(b.into())?]))
    }

    fn call<'a, M: Memory>(
        &self,
        (weights, [a, b]): &'a Placed<'_, T, P, M>,
        norm: &'a mut Owned<M, f32>,
    ) -> Result<lora::WeightNorm<'a, T, P, M::Queue>> {
        let Self { n, k, rank, .. } = *self;
        let (a, b) = (Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?);
        let norms = lora::WeightNorm::new(Mat::new(M::read(weights), n, k)?, VectorMut::whole(M::write(&mut norm.0)));
        Ok(norms.adapter(lora::Adapter::new(a, b, SCALE)))
    }

    /// Some rows of W and B.
    fn of_rows(mut self, rows: &[usize]) -> Self {
        self.weights = gather(&self.weights, self.k, rows);
        self.factors.b = gather(&self.factors.b, self.rank, rows);
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
    let factors = Factors::<P>::new(random, [n, k], rank);
    let inputs = Inputs { n, k, rank, weights: numbers::<T>(random, n * k, 1.0 / (k as f64).sqrt()), factors };
    let got = measure(memory, &inputs, copies, compare, with)?;
    got.map(|got| errors(inputs, &got)).transpose()
}

/// The first copy's norms, if they are to be compared.
fn measure<T: Value, P: Value, M: Timed>(
    memory: &M,
    inputs: &Inputs<T, P>,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<Vec<f32>>> {
    let placed = (0..copies).map(|_| inputs.place(memory)).collect::<Result<Vec<_>>>()?;
    let norms = (0..copies).map(|_| Owned::new(memory, vec![f32::NAN; inputs.n])).collect::<Result<Vec<_>>>();
    let mut norms = norms?;
    let call = inputs.call(&placed[0], &mut norms[0])?;
    let kernel = lora::weight_norm_kernel(memory.queue(), &call)?;
    let bytes = lora::weight_norm_workspace(memory.queue(), &call)?;
    drop(call);
    let scratch = (0..copies).map(|_| Owned::<M, u8>::new(memory, vec![0; bytes])).collect::<Result<Vec<_>>>();
    let mut scratch = scratch?;
    {
        let mut enqueue = |copy: usize| {
            let workspace = Workspace::new(M::write(&mut scratch[copy].0));
            lora::weight_norm(memory.queue(), inputs.call(&placed[copy], &mut norms[copy])?, workspace)
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    compare.then(|| memory.fetch(&norms[0].0)).transpose()
}

/// Some norms against f64.
fn errors<T: Value, P: Value>(inputs: Inputs<T, P>, got: &[f32]) -> Result<RowError> {
    let rows = sample(inputs.n);
    let inputs = inputs.of_rows(&rows);
    let memory = Host(Cpu);
    let placed = inputs.place(&memory)?;
    let mut norm = Owned::new(&memory, vec![f32::NAN; inputs.n])?;
    let exact = reference::weight_norm::weight_norm_terms(&inputs.call(&placed, &mut norm)?)?;
    let mut errors = Errors::default();
    errors.add(&gather(got, 1, &rows), exact.iter().map(|terms| terms.value));
    Ok(errors.of_rows(rows.len()))
}
