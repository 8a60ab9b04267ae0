//! `lora.backward`: the gradients of x, A and B of one layer with its weight, H saved by forward.

use peft_kernels::{Cpu, Mat, MatMut, Result, lora, reference};

use super::{Errors, Extents, Factors, Ready, RowError, SCALE, Use, gather, numbers, sample};
use crate::bench::clock::Timed;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    m: usize,
    n: usize,
    k: usize,
    rank: usize,
    x: Vec<T>,
    dy: Vec<T>,
    h: Vec<T>,
    weights: Vec<T>,
    factors: Factors<P>,
}

/// One copy of the operands in the queue's memory.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    /// x, dY, H, W
    matrices: [M::Buffer<'h, T>; 4],
    factors: [M::Buffer<'h, P>; 2],
}

/// The gradients of one copy.
struct Gradients<M: Memory, T: Value, P: Value> {
    dx: Owned<M, T>,
    da: Owned<M, P>,
    db: Owned<M, P>,
}

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let place = |list| memory.place(std::borrow::Cow::Borrowed(list));
        let matrices = [place(&self.x[..])?, place(&self.dy)?, place(&self.h)?, place(&self.weights)?];
        Ok(Placed {
            matrices,
            factors: [memory.place((&self.factors.a).into())?, memory.place((&self.factors.b).into())?],
        })
    }

    fn gradients<M: Memory>(&self, memory: &M) -> Result<Gradients<M, T, P>> {
        let Self { m, n, k, rank, .. } = *self;
        Ok(Gradients {
            dx: Owned::new(memory, vec![T::NAN; m * k])?,
            da: Owned::new(memory, vec![P::NAN; rank * k])?,
            db: Owned::new(memory, vec![P::NAN; n * rank])?,
        })
    }

    fn call<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        gradients: &'a mut Gradients<M, T, P>,
    ) -> Result<lora::Backward<'a, T, P, M::Queue>> {
        let Self { m, n, k, rank, .. } = *self;
        let ([x, dy, h, w], [a, b]) = (&placed.matrices, &placed.factors);
        let Gradients { dx, da, db } = gradients;
        let target = lora::BackwardTarget::new(Mat::new(M::read(dy), m, n)?)
            .dense(Mat::new(M::read(w), n, k)?)
            .adapter(Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?, SCALE)
            .saved_h(Mat::new(M::read(h), m, rank)?)
            .a_gradient(lora::Gradient::overwrite(MatMut::new(M::write(&mut da.0), rank, k)?))
            .b_gradient(lora::Gradient::overwrite(MatMut::new(M::write(&mut db.0), n, rank)?));
        let dx = lora::Gradient::overwrite(MatMut::new(M::write(&mut dx.0), m, k)?);
        Ok(lora::Backward::new(Mat::new(M::read(x), m, k)?).target(target).x_gradient(dx))
    }

    /// Some rows of x, dY and H.
    fn of_rows(mut self, rows: &[usize]) -> Self {
        self.x = gather(&self.x, self.k, rows);
        self.dy = gather(&self.dy, self.n, rows);
        self.h = gather(&self.h, self.rank, rows);
        Self { m: rows.len(), ..self }
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
        dy: numbers(random, m * n, 1.0),
        h: numbers(random, m * rank, 1.0),
        weights: numbers(random, n * k, 1.0 / (k as f64).sqrt()),
        factors: Factors::<P>::new(random, [n, k], rank),
    };
    let got = measure(memory, &inputs, copies, compare, with)?;
    got.map(|got| errors(inputs, &got)).transpose()
}

/// The first copy's gradient of x, if it is to be compared.
fn measure<T: Value, P: Value, M: Timed>(
    memory: &M,
    inputs: &Inputs<T, P>,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<Vec<T>>> {
    let placed = (0..copies).map(|_| inputs.place(memory)).collect::<Result<Vec<_>>>()?;
    let mut gradients = (0..copies).map(|_| inputs.gradients(memory)).collect::<Result<Vec<_>>>()?;
    let (kernel, bytes) = {
        let call = inputs.call(&placed[0], &mut gradients[0])?;
        (lora::backward_kernel(memory.queue(), &call)?, lora::backward_workspace(memory.queue(), &call)?)
    };
    let mut scratch = Owned::new(memory, vec![0u8; bytes])?;
    {
        let mut enqueue = |copy: usize| {
            let workspace = peft_kernels::Workspace::new(M::write(&mut scratch.0));
            lora::backward(memory.queue(), inputs.call(&placed[copy], &mut gradients[copy])?, workspace)
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    compare.then(|| memory.fetch(&gradients[0].dx.0)).transpose()
}

/// Some rows of x's gradient against f64.
fn errors<T: Value, P: Value>(inputs: Inputs<T, P>, got: &[T]) -> Result<RowError> {
    let rows = sample(inputs.m);
    let inputs = inputs.of_rows(&rows);
    let memory = Host(Cpu);
    let (placed, mut gradients) = (inputs.place(&memory)?, inputs.gradients(&memory)?);
    let exact = reference::lora::backward_terms(&inputs.call(&placed, &mut gradients)?)?;
    let mut errors = Errors::default();
    errors.add(&gather(got, inputs.k, &rows), exact.x.iter().map(|terms| terms.value));
    Ok(errors.of_rows(rows.len()))
}
