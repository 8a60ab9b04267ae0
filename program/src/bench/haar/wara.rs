//! `haar.wara_forward` and `haar.wara_backward`: a layer with its weights and an adapter, of the weights or of grids of tokens.

use peft_kernels::haar::{self, Wara, WaraBackward, WaraForward};
use peft_kernels::{Cpu, Kernel, Mat, MatMut, Result, Workspace, reference};

use super::{Errors, Extents, Ready, RowError, SCALE, Use, numbers};
use crate::bench::clock::Timed;
use crate::memory::{Host, Memory, Owned};
use crate::values::{Random, Value};

/// Layers of more products are not compared: their reference would take longer than all rounds.
const COMPARED: usize = 1 << 26;

/// Operands on the host, of which every copy is one.
struct Inputs<T, P> {
    extents: Extents,
    backward: bool,
    x: Vec<T>,
    dy: Vec<T>,
    w: Vec<T>,
    factors: Vec<[Vec<P>; 2]>,
}

/// One copy of the operands in the queue's memory: x, dY and W, and pairs of A and B.
struct Placed<'h, T: Value, P: Value, M: Memory> {
    matrices: [M::Buffer<'h, T>; 3],
    factors: Vec<[M::Buffer<'h, P>; 2]>,
}

/// y, or dX and pairs of dA and dB.
struct Outputs<M: Memory, T: Value, P: Value> {
    whole: Owned<M, T>,
    factors: Vec<[Owned<M, P>; 2]>,
}

pub fn run<T: Value, P: Value, M: Timed>(
    memory: &M,
    (extents, backward): (Extents, bool),
    random: &mut Random,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let Extents { m, rows: n, columns: k, rank, .. } = extents;
    let mut factors = || [numbers(random, rank * k, 1.0 / (k as f64).sqrt()), numbers(random, n * rank, 0.1)];
    let factors = (0..extents.pairs()).map(|_| factors()).collect();
    let inputs: Inputs<T, P> = Inputs {
        extents,
        backward,
        x: numbers(random, m * k, 1.0),
        dy: numbers(random, if backward { m * n } else { 0 }, 1.0),
        w: numbers(random, n * k, 1.0 / (k as f64).sqrt()),
        factors,
    };
    let got = inputs.measure(memory, copies, compare && m * n * k <= COMPARED, with)?;
    got.map(|got| inputs.errors(&got)).transpose()
}

impl<T: Value, P: Value> Inputs<T, P> {
    fn place<M: Memory>(&self, memory: &M) -> Result<Placed<'_, T, P, M>> {
        let factors = self.factors.iter().map(|[a, b]| Ok([memory.place(a.into())?, memory.place(b.into())?]));
        let factors = factors.collect::<Result<_>>()?;
        let (x, dy) = (memory.place((&self.x).into())?, memory.place((&self.dy).into())?);
        Ok(Placed { matrices: [x, dy, memory.place((&self.w).into())?], factors })
    }

    fn outputs<M: Memory>(&self, memory: &M) -> Result<Outputs<M, T, P>> {
        let Extents { m, rows: n, columns: k, rank, .. } = self.extents;
        let whole = Owned::new(memory, vec![T::NAN; m * if self.backward { k } else { n }])?;
        let pair = |_| Ok([Owned::new(memory, vec![P::NAN; rank * k])?, Owned::new(memory, vec![P::NAN; n * rank])?]);
        let pairs = if self.backward { self.factors.len() } else { 0 };
        Ok(Outputs { whole, factors: (0..pairs).map(pair).collect::<Result<_>>()? })
    }

    fn adapter<'a, M: Memory>(&self, placed: &'a Placed<'_, T, P, M>) -> Result<Wara<'a, P, M::Queue>> {
        let Extents { rows: n, columns: k, rank, levels, grid, .. } = self.extents;
        let pair =
            |[a, b]: &'a [M::Buffer<'_, P>; 2]| Ok((Mat::new(M::read(a), rank, k)?, Mat::new(M::read(b), n, rank)?));
        let pairs = placed.factors.iter().map(pair).collect::<Result<Vec<_>>>()?;
        let adapter = Wara::per_band(pairs, SCALE).levels(levels);
        Ok(match grid {
            Some(grid) => adapter.activations(grid),
            None => adapter,
        })
    }

    fn forward<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        outputs: &'a mut Outputs<M, T, P>,
    ) -> Result<WaraForward<'a, T, P, M::Queue>> {
        let Extents { m, rows: n, columns: k, .. } = self.extents;
        let [x, _, w] = &placed.matrices;
        let y = MatMut::new(M::write(&mut outputs.whole.0), m, n)?;
        let call = WaraForward::new(Mat::new(M::read(x), m, k)?, y, self.adapter(placed)?);
        Ok(call.weights(Mat::new(M::read(w), n, k)?))
    }

    fn backward<'a, M: Memory>(
        &self,
        placed: &'a Placed<'_, T, P, M>,
        outputs: &'a mut Outputs<M, T, P>,
    ) -> Result<WaraBackward<'a, T, P, M::Queue>> {
        let Extents { m, rows: n, columns: k, rank, .. } = self.extents;
        let [x, dy, w] = &placed.matrices;
        let (x, dy) = (Mat::new(M::read(x), m, k)?, Mat::new(M::read(dy), m, n)?);
        let mut call = WaraBackward::new(x, dy, self.adapter(placed)?)
            .weights(Mat::new(M::read(w), n, k)?)
            .input_gradient(MatMut::new(M::write(&mut outputs.whole.0), m, k)?);
        for [da, db] in &mut outputs.factors {
            let (da, db) = (MatMut::new(M::write(&mut da.0), rank, k)?, MatMut::new(M::write(&mut db.0), n, rank)?);
            call = call.factor_gradients(da, db);
        }
        Ok(call)
    }

    /// The kernel, and the bytes of a workspace.
    fn plan<M: Memory>(
        &self,
        queue: &M::Queue,
        placed: &Placed<'_, T, P, M>,
        outputs: &mut Outputs<M, T, P>,
    ) -> Result<(Kernel, usize)> {
        if self.backward {
            let call = self.backward(placed, outputs)?;
            Ok((haar::wara_backward_kernel(queue, &call)?, haar::wara_backward_workspace(queue, &call)?))
        } else {
            let call = self.forward(placed, outputs)?;
            Ok((haar::wara_forward_kernel(queue, &call)?, haar::wara_forward_workspace(queue, &call)?))
        }
    }

    /// The first copy's y or dX, if it is to be compared.
    fn measure<M: Timed>(&self, memory: &M, copies: usize, compare: bool, with: Use) -> Result<Option<Vec<T>>> {
        let placed = (0..copies).map(|_| self.place(memory)).collect::<Result<Vec<_>>>()?;
        let mut outputs = (0..copies).map(|_| self.outputs(memory)).collect::<Result<Vec<_>>>()?;
        let (kernel, bytes) = self.plan(memory.queue(), &placed[0], &mut outputs[0])?;
        let mut scratch = Owned::new(memory, vec![0u8; bytes])?;
        {
            let mut enqueue = |copy: usize| {
                let (placed, outputs) = (&placed[copy], &mut outputs[copy]);
                let workspace = Workspace::new(M::write(&mut scratch.0));
                if self.backward {
                    haar::wara_backward(memory.queue(), self.backward(placed, outputs)?, workspace)
                } else {
                    haar::wara_forward(memory.queue(), self.forward(placed, outputs)?, workspace)
                }
            };
            with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
        }
        memory.wait()?;
        compare.then(|| memory.fetch(&outputs[0].whole.0)).transpose()
    }

    /// Every element against f64.
    fn errors(&self, got: &[T]) -> Result<RowError> {
        let memory = Host(Cpu);
        let (placed, mut outputs) = (self.place(&memory)?, self.outputs(&memory)?);
        let exact = if self.backward {
            reference::haar::wara_backward_terms(&self.backward(&placed, &mut outputs)?)?.dx
        } else {
            reference::haar::wara_forward_terms(&self.forward(&placed, &mut outputs)?)?
        };
        let mut errors = Errors::default();
        errors.add(got, exact.iter().map(|terms| terms.value));
        Ok(errors.of_rows(self.extents.m))
    }
}
