//! `lora.sample_norms`: sixteen samples, H saved by forward.

use peft_kernels::{Cpu, Mat, Result, VectorMut, Workspace, lora, reference};

use super::{Errors, Extents, Factors, Ready, RowError, SCALE, Use, numbers};
use crate::bench::clock::Timed;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

pub const SAMPLES: usize = 16;

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    m: usize,
    n: usize,
    k: usize,
    rank: usize,
    x: Vec<T>,
    dy: Vec<T>,
    h: Vec<T>,
    factors: Factors<P>,
}

/// One copy of the operands in the queue's memory: x, dY and H, A and B.
type Placed<'h, T, P, M> = ([<M as Memory>::Buffer<'h, T>; 3], [<M as Memory>::Buffer<'h, P>; 2]);

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let matrices =
            [memory.place((&self.x).into())?, memory.place((&self.dy).into())?, memory.place((&self.h).into())?];
        Ok((matrices, [memory.place((&self.factors.a).into())?, memory.place((&self.factors.b).into())?]))
    }

    fn call<'a, M: Memory>(
        &self,
        ([x, dy, h], [a, b]): &'a Placed<'_, T, P, M>,
        squares: &'a mut Owned<M, f32>,
    ) -> Result<lora::SampleNorms<'a, T, P, M::Queue>> {
        let Self { m, n, k, rank, .. } = *self;
        let (a, b) = (Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?);
        let target = lora::SampleNormTarget::new(Mat::new(M::read(dy), m, n)?, a, b, SCALE);
        let target = target.saved_h(Mat::new(M::read(h), m, rank)?);
        let to = VectorMut::whole(M::write(&mut squares.0));
        let norms = lora::SampleNorms::new(Mat::new(M::read(x), m, k)?, lora::Samples::equal(SAMPLES), to);
        Ok(norms.target(target))
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
    let (m, n, k, rank) = (extents.m, extents.columns(), extents.k, extents.rank);
    let inputs = Inputs {
        m,
        n,
        k,
        rank,
        x: numbers::<T>(random, m * k, 1.0),
        dy: numbers::<T>(random, m * n, 0.01),
        h: numbers::<T>(random, m * rank, 1.0),
        factors: Factors::<P>::new(random, [n, k], rank),
    };
    let got = measure(memory, &inputs, copies, compare, with)?;
    got.map(|got| errors(&inputs, &got)).transpose()
}

/// The first copy's squares, if they are to be compared.
fn measure<T: Value, P: Value, M: Timed>(
    memory: &M,
    inputs: &Inputs<T, P>,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<Vec<f32>>> {
    let placed = (0..copies).map(|_| inputs.place(memory)).collect::<Result<Vec<_>>>()?;
    let squares = (0..copies).map(|_| Owned::new(memory, vec![f32::NAN; SAMPLES])).collect::<Result<Vec<_>>>();
    let mut squares = squares?;
    let call = inputs.call(&placed[0], &mut squares[0])?;
    let kernel = lora::sample_norms_kernel(memory.queue(), &call)?;
    let bytes = lora::sample_norms_workspace(memory.queue(), &call)?;
    drop(call);
    let scratch = (0..copies).map(|_| Owned::<M, u8>::new(memory, vec![0; bytes])).collect::<Result<Vec<_>>>();
    let mut scratch = scratch?;
    {
        let mut enqueue = |copy: usize| {
            let workspace = Workspace::new(M::write(&mut scratch[copy].0));
            lora::sample_norms(memory.queue(), inputs.call(&placed[copy], &mut squares[copy])?, workspace)
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    compare.then(|| memory.fetch(&squares[0].0)).transpose()
}

/// Every square against f64.
fn errors<T: Value, P: Value>(inputs: &Inputs<T, P>, got: &[f32]) -> Result<RowError> {
    let memory = Host(Cpu);
    let placed = inputs.place(&memory)?;
    let mut squares = Owned::new(&memory, vec![f32::NAN; SAMPLES])?;
    let exact = reference::lora::sample_norms_terms(&inputs.call(&placed, &mut squares)?)?;
    let mut errors = Errors::default();
    errors.add(got, exact.iter().map(|terms| terms.value));
    Ok(errors.of_rows(SAMPLES))
}
