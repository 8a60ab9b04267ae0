//! The gradients of `y = g ⊙ (x·Wᵀ + s·mid(x·Aᵀ)·Bᵀ) + bias`.

use super::{
    AdapterEntry, AdapterGradientEntry, AdapterTable, Dropout, GradientTable, Middle, Quantized, Rows, Samples, Segment,
};
use crate::workspace::ALIGNMENT;
use crate::{
    Element, Error, HostQueue, Kernel, Place, Queue, Result, Status, StatusRecord, Tensor, TensorMut, Vector,
    Workspace, ffi, reference,
};

mod descriptor;
mod problem;

pub(super) use descriptor::{gradient_matrix, mode as gradient_mode};
pub(crate) use problem::{BackwardProblem, BackwardTargetProblem, GradientProblem};

const OPERATION: &str = "lora::backward";

/// Where a gradient goes.
pub struct Gradient<'a, T, Q, const N: usize = 3> {
    pub(super) view: TensorMut<'a, T, Q, N>,
    pub(super) accumulate: bool,
}

impl<'a, T: Element, Q: Queue, const N: usize> Gradient<'a, T, Q, N> {
    /// Written, whatever the buffer holds.
    pub fn overwrite(view: impl Into<TensorMut<'a, T, Q, N>>) -> Self {
        Self { view: view.into(), accumulate: false }
    }

    /// Added to what the buffer holds, and rounded once.
    pub fn accumulate(view: impl Into<TensorMut<'a, T, Q, N>>) -> Self {
        Self { view: view.into(), accumulate: true }
    }
}

/// The intermediate that forward saved, as it saved it.
enum SavedH<'a, T, Q> {
    None,
    Own(Tensor<'a, T, Q, 3>),
    F32(Tensor<'a, f32, Q, 3>),
}

/// The one adapter of a layer.
pub(super) struct Factors<'a, P, Q> {
    pub(super) a: Tensor<'a, P, Q, 3>,
    pub(super) b: Tensor<'a, P, Q, 3>,
    pub(super) scale: f32,
}

/// The adapters of a layer.
enum Adapters<'a, P, Q> {
    None,
    One(Factors<'a, P, Q>),
    Table { table: &'a AdapterTable<'a, P, Q>, device: Vector<'a, AdapterEntry, Q> },
}

/// Where the gradients of a table's adapters go, and the copy of that in the queue's memory, where it is another.
struct TableGradients<'a, P, Q> {
    table: GradientTable<'a, P, Q>,
    device: Option<Vector<'a, AdapterGradientEntry, Q>>,
}

/// W, which the gradient of x has a part of.
enum Base<'a, T, Q> {
    None,
    Dense(Tensor<'a, T, Q, 3>),
    Quantized(Quantized<'a, Q>),
}

/// One linear layer of those that share x: the gradient of its output, its parameters, and where their gradients go.
pub struct BackwardTarget<'a, T, P, Q> {
    dy: Tensor<'a, T, Q, 3>,
    base: Base<'a, T, Q>,
    adapters: Adapters<'a, P, Q>,
    table_gradients: Option<TableGradients<'a, P, Q>>,
    middle: Option<Middle<'a, P, Q>>,
    row_scale: Option<Tensor<'a, f32, Q, 2>>,
    h: SavedH<'a, T, Q>,
    a: Option<Gradient<'a, P, Q>>,
    b: Option<Gradient<'a, P, Q>>,
    bias: Option<Gradient<'a, T, Q, 2>>,
    scale: Option<Gradient<'a, P, Q, 2>>,
    gate: Option<Gradient<'a, f32, Q>>,
    core: Option<Gradient<'a, P, Q>>,
}

impl<'a, T: Element, P: Element, Q: Queue> BackwardTarget<'a, T, P, Q> {
    /// With `dy` [m, n], the gradient of y.
    pub fn new(dy: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        Self {
            dy: dy.into(),
            base: Base::None,
            adapters: Adapters::None,
            table_gradients: None,
            middle: None,
            row_scale: None,
            h: SavedH::None,
            a: None,
            b: None,
            bias: None,
            scale: None,
            gate: None,
            core: None,
        }
    }

    /// The base's weight `w` [n, k], for the gradient of x; without it, that of the branch alone.
    pub fn dense(mut self, w: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        self.base = Base::Dense(w.into());
        self
    }

    /// The same with `w` [n, k] as codes, as [`super::Target::quantized`] of forward had them.
    pub fn quantized(mut self, w: &Quantized<'a, Q>) -> Self {
        self.base = Base::Quantized(*w);
        self
    }

    /// The adapter, as in forward: `a` [rank, k], `b` [n, rank].
    pub fn adapter(mut self, a: impl Into<Tensor<'a, P, Q, 3>>, b: impl Into<Tensor<'a, P, Q, 3>>, scale: f32) -> Self {
        self.adapters = Adapters::One(Factors { a: a.into(), b: b.into(), scale });
        self
    }

    /// A table of adapters, as in forward, from which [`Backward::row_adapter`] or [`Backward::segments`] chooses for each row.
    pub fn table(mut self, table: &'a AdapterTable<'a, P, Q>) -> Self
    where
        Q: HostQueue,
    {
        self.adapters = Adapters::Table { table, device: Vector::whole(table.entries()) };
        self
    }

    /// A table of adapters, and the copy of its entries in the queue's memory.
    ///
    /// # Safety
    /// When the operation runs, in the stream's order, `entries` holds what [`AdapterTable::entries`] returns, and the table is of factors on the same device.
    pub unsafe fn table_on_device(
        mut self,
        table: &'a AdapterTable<'a, P, Q>,
        entries: Vector<'a, AdapterEntry, Q>,
    ) -> Self {
        self.adapters = Adapters::Table { table, device: entries };
        self
    }

    /// Asks for gradients of the table's adapters, each of its own rows alone. Of an adapter without rows they are 0, and adding them leaves the buffer as it is.
    pub fn table_gradients(mut self, gradients: GradientTable<'a, P, Q>) -> Self
    where
        Q: HostQueue,
    {
        self.table_gradients = Some(TableGradients { table: gradients, device: None });
        self
    }

    /// The same, and the copy of its entries in the queue's memory.
    ///
    /// # Safety
    /// When the operation runs, in the stream's order, `entries` holds what [`GradientTable::entries`] returns, and the table is of gradients on the same device.
    pub unsafe fn table_gradients_on_device(
        mut self,
        gradients: GradientTable<'a, P, Q>,
        entries: Vector<'a, AdapterGradientEntry, Q>,
    ) -> Self {
        self.table_gradients = Some(TableGradients { table: gradients, device: Some(entries) });
        self
    }

    /// What lies between the one adapter's A and B, as in forward; not with a table.
    pub fn middle(mut self, middle: Middle<'a, P, Q>) -> Self {
        self.middle = Some(middle);
        self
    }

    /// That of forward, `g` `[n]`, or [batches, n]: a constant here, as DoRA has it. Its magnitude's gradient is that of [`super::magnitude_gradient`].
    ///
    /// With [`Backward::dropout`] the base saw all of x, as [`super::Target::row_scale`] says. Of the two calls named there, which make what Hugging Face's peft makes, each has its own backward
    /// call with the same dY: with G₁ and G₂ their gradients of `x − x̃` and of x̃, that of x is `G₁ + d∘(G₂ − G₁) / (1 − p)`, with d of what was dropped.
    pub fn row_scale(mut self, g: impl Into<Tensor<'a, f32, Q, 2>>) -> Self {
        self.row_scale = Some(g.into());
        self
    }

    /// What [`super::Target::save_h`] of forward was given, [m, rank], or with a table [m, its largest rank]. Without it `x·Aᵀ` is made again where B's gradient, or the middle's, needs it: one more pass over x.
    pub fn saved_h(mut self, h: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        self.h = SavedH::Own(h.into());
        self
    }

    /// What [`super::Target::save_h_f32`] of forward was given.
    pub fn saved_h_f32(mut self, h: impl Into<Tensor<'a, f32, Q, 3>>) -> Self {
        self.h = SavedH::F32(h.into());
        self
    }

    /// Asks for the gradient of A, [rank, k]; of one matrix for several batches, the sum over them.
    pub fn a_gradient(mut self, gradient: Gradient<'a, P, Q>) -> Self {
        self.a = Some(gradient);
        self
    }

    /// Asks for the gradient of B, [n, rank]; of one matrix for several batches, the sum over them.
    pub fn b_gradient(mut self, gradient: Gradient<'a, P, Q>) -> Self {
        self.b = Some(gradient);
        self
    }

    /// Asks for the gradient of the bias, [1, n], or [batches, n] for one of each batch.
    pub fn bias_gradient(mut self, gradient: Gradient<'a, T, Q, 2>) -> Self {
        self.bias = Some(gradient);
        self
    }

    /// Asks for the gradient of the middle's λ, [1, rank], or [batches, rank] for one of each batch.
    pub fn scale_gradient(mut self, gradient: Gradient<'a, P, Q, 2>) -> Self {
        self.scale = Some(gradient);
        self
    }

    /// Asks for the gradient of the middle's gate, [m, rank]: of every rank, chosen or not, since a gate of 0 has a derivative as well.
    pub fn gate_gradient(mut self, gradient: Gradient<'a, f32, Q>) -> Self {
        self.gate = Some(gradient);
        self
    }

    /// Asks for the gradient of the middle's core, [r_b, r_a]; of one matrix for several batches, the sum over them.
    pub fn core_gradient(mut self, gradient: Gradient<'a, P, Q>) -> Self {
        self.core = Some(gradient);
        self
    }
}

/// The descriptor of a [`backward`] call. `T` is the type of x, dY, W, dX and of the bias; `P` that of A, B and their gradients: the same, or f32 with 16-bit x.
pub struct Backward<'a, T, P, Q> {
    x: Tensor<'a, T, Q, 3>,
    dx: Option<Gradient<'a, T, Q>>,
    targets: Vec<BackwardTarget<'a, T, P, Q>>,
    dropout: Option<Dropout>,
    weights: Option<(Samples<'a, Q>, Vector<'a, f32, Q>)>,
    rows: Rows<'a, Q>,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
    flags: u32,
    slab_bytes: usize,
}

impl<'a, T: Element, P: Element, Q: Queue> Backward<'a, T, P, Q> {
    /// With the activations `x` [m, k] or [batches, m, k] of the forward call, and no layer yet.
    pub fn new(x: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        let (x, targets) = (x.into(), Vec::new());
        let (dx, dropout, weights, rows, status) = (None, None, None, Rows::Same, None);
        Self { x, dx, targets, dropout, weights, rows, status, algorithm: 0, flags: 0, slab_bytes: 0 }
    }

    /// Another layer that reads x, of at most 8: their parts of x's gradient are added up before its one rounding.
    pub fn target(mut self, target: BackwardTarget<'a, T, P, Q>) -> Self {
        self.targets.push(target);
        self
    }

    /// Asks for the gradient of x, [m, k] or [batches, m, k].
    pub fn x_gradient(mut self, gradient: Gradient<'a, T, Q>) -> Self {
        self.dx = Some(gradient);
        self
    }

    /// The dropout of the forward call.
    pub fn dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }

    /// In the gradients of A, B, the bias, λ and the core a row counts as often as its sample weighs, and one of no sample not at all: `Σᵢ wᵢ·gᵢ` over samples, with the weights of [`super::clip_weights`] for
    /// example. Those of x and of a gate are without them: what comes before this layer weighs its own. A weight of 0 times NaN is NaN.
    pub fn sample_weights(mut self, samples: Samples<'a, Q>, weights: Vector<'a, f32, Q>) -> Self {
        self.weights = Some((samples, weights));
        self
    }

    /// The choice of adapters of the forward call: for each of the batches·m rows the index of its adapter in the targets' tables, −1 for the base alone. Rows need not be sorted.
    pub fn row_adapter(mut self, index: Vector<'a, i32, Q>) -> Self {
        self.rows = Rows::Index(index);
        self
    }

    /// The choice of adapters of the forward call: runs of rows that share one, of which each begins where the one before ends, or later, empty ones too; rows of no segment are the base alone.
    pub fn segments(mut self, segments: Vector<'a, Segment, Q>) -> Self {
        self.rows = Rows::Segments(segments);
        self
    }

    /// Where a stream reports what depends on data: entries of a list of ranks, and adapters that a table lacks. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`backward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Where quantised W are made in the workspace, in slabs of their columns: of all of them at most so many bytes at a time, but 256 columns; 0, as without it, is 64 MiB. The bits do not
    /// depend on it.
    pub fn slab_bytes(mut self, bytes: usize) -> Self {
        self.slab_bytes = bytes;
        self
    }

    /// Lets f32 dY and W be multiplied as one number of tf32, as [`super::Forward::allow_tf32`] says.
    pub fn allow_tf32(mut self) -> Self {
        self.flags |= ffi::PK_FLAG_ALLOW_TF32 as u32;
        self
    }
}

/// The gradients of `yₜ = gₜ ⊙ (x·Wₜᵀ + sₜ·midₜ(x̃·Aₜᵀ)·Bₜᵀ) + biasₜ` for every target, with `g` of [`BackwardTarget::row_scale`], or 1, and `x̃` what [`Dropout`] leaves of x; any of them, each
/// overwritten or added to.
///
/// | gradient | formula | shape |
/// |---|---|---|
/// | x | `Σₜ Uₜ·Wₜ + d∘(s'ₜ·dHₜ·Aₜ)` | [m, k] |
/// | A | `s'·dHᵀ·(d∘x)` | [rank, k] |
/// | B | `s'·Uᵀ·mid(H)` | [n, rank] |
/// | bias | `Σ` of dY's rows | `[n]` |
/// | λ | `s'·Σ` of the rows of `F∘γ∘H` | `[rank]` |
/// | γ | `s'·F∘λ∘H` | [m, rank] |
/// | R | `s'·(U·B)ᵀ·(γ∘λ∘H)` | [r_b, r_a] |
///
/// where `U = g ⊙ dY`, `H = (d∘x)·Aᵀ`, `F = U·B·R`, `dH = F∘γ∘λ`, `s' = s / (1 − p)`, and d is 0 where an element of x is dropped, else 1. Without a [`Middle`] R, γ and λ are 1, and `dH = U·B`. Any strides of which one is 1, any rank (0: no branch), optionally batched.
///
/// With a table of adapters a row has the A, B and s of its adapter, or only the part of W in the gradient of x; and A's and B's gradients of each adapter are the sums over its rows, of all batches.
///
/// **Numbers.** Products and sums are f32 (f64 on [`crate::Cpu`]), rounded once to the gradient's type: the error is at most `ulp + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`].
/// H and dH are kept in f32. With a row scale and 16-bit W the tensor-core kernels round `g ⊙ W` to its type, about what merging would make: in the gradient of x up to `u·Σ|dY·(g ⊙ W)|` more, with
/// `u` 2⁻¹¹ (f16, and 2⁻²⁵·Σ|dY| where that is beneath its normal numbers) or 2⁻⁸ (bf16). Of f16 they need `|g ⊙ W|` of at most 65504: a product beyond is infinite, and so are the elements of x's
/// gradient that it is in, or NaN where its dY is 0; the plain kernel and [`crate::Cpu`] have no such limit. A row scale multiplies the sums over rows of B's gradient (of a table,
/// their terms). NaN and infinities pass through as arithmetic says, but for elements of x that are dropped: they count as 0. No atomics: sums over rows are made in parts that depend on
/// the shape alone and are added up in their order, so the bits are the same on every run. Of a table each adapter's rows are one part, wherever they lie.
/// The tensor-core kernels make `s'·dH` in f32 before its product with A, of tables and of one adapter: where that is beyond f32's range it is infinite, although the gradient of x would not be.
///
/// **Cost.** `2·m·n·k + 4·m·rank·(k + n)` flops a target (`2·m·rank·k` more without a saved H). Besides the product dY·W, one pass over each dY and one over x (for at most 64 ranks in all; one for each 64), and
/// one more over x without a saved H, and over each dY for the bias' gradient where samples have weights. No temporary of the size of y, x or a W in memory: a workspace for dH
/// (and H) in f32, and for the parts of sums, see [`backward_workspace`]. A scale, a gate or a core costs up to five launches more, of [m, rank] in f32: for mid(H), for dH with γ's
/// gradient, for the sums of λ's, and two for R's; with a core `6·m·r_a·r_b` flops. A list of ranks costs what it costs in forward. Sample weights cost a launch for the rows' weights,
/// one for dH (of tables one each), and of each target one for B's gradient and one for the bias'. A quantised
/// W is made in the workspace, in x's type and in slabs of at most [`Backward::slab_bytes`]: by default all of a W of up to 64 MiB, in one. Its codes are read once, the slab written and
/// read, two launches a slab; the gradient of x has the bits of the call with that W in memory. A table costs two launches more, which group its rows (up to 8 bytes read for each row and adapter), and
/// passes of its own for dH, B's gradients and A's instead of one for all; the workspace has at most 12 bytes more for each row and 8 for each adapter, and no sums.
/// Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// E. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022; N. Srivastava et al., *Dropout*, JMLR 2014; S. Liu et al., *DoRA*, ICML 2024, section 4.3 for the constant g.
///
/// # Errors
/// [`Error::Shape`] (a saved H of another shape among them), [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (a gradient with an input or another gradient), [`Error::Alignment`],
/// [`Error::Workspace`], [`Error::Argument`] (more than 8 targets, a gradient of an adapter or of a part of a middle that is not there, a table with a middle, without a
/// choice, or beside a target with one adapter, more than 2^48 rows or columns times ranks), [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched,
/// nothing written; of a quantised W as [`super::dequantize`]. [`Error::Cuda`]: some kernels may have run. [`Error::Data`] for an entry of a list of ranks in the queue's memory: it counted as a rank of zeros, everything else was written;
/// or for a row whose adapter the table lacks: it was treated as the base alone.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Workspace, lora};
/// let (x, dy) = ([1.0f32, 2.0], [1.0f32, -1.0]); // [1, 2] each
/// let (a, b) = ([1.0f32, 1.0], [1.0f32, 3.0]); // [1, 2], [2, 1]
/// let (mut dx, mut da, mut db) = ([0.0f32; 2], [0.0f32; 2], [10.0f32; 2]);
/// let target = lora::BackwardTarget::new(Mat::new(&dy, 1, 2)?)
///     .adapter(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 0.5)
///     .a_gradient(lora::Gradient::overwrite(MatMut::new(&mut da, 1, 2)?))
///     .b_gradient(lora::Gradient::accumulate(MatMut::new(&mut db, 2, 1)?));
/// let call = lora::Backward::new(Mat::new(&x, 1, 2)?)
///     .target(target)
///     .x_gradient(lora::Gradient::overwrite(MatMut::new(&mut dx, 1, 2)?));
/// lora::backward(&Cpu, call, Workspace::none())?;
/// assert_eq!(dx, [-1.0, -1.0]); // 0.5 · dH · A with dH = 1 · 1 − 1 · 3
/// assert_eq!(da, [-1.0, -2.0]); // 0.5 · dH · x
/// assert_eq!(db, [11.5, 8.5]); // 10 + 0.5 · dY · (x · Aᵀ)
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn backward<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: Backward<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let mut problem = call.problem(Some(queue), &mut guards)?;
    let mut record = StatusRecord::default();
    if place == Place::Cpu {
        problem.check_disjoint(0, 0)?;
        if call.algorithm != 0 {
            return Err(Error::Algorithm {
                operation: OPERATION,
                message: format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm),
            });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from all other operands.
        unsafe { reference::lora::backward::<T, P>(&problem, &mut record) };
        return record.returned(OPERATION, problem.status);
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace()?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(OPERATION, with_slack, queue, &mut guards)?;
    problem.check_disjoint(address, bytes)?;
    let (given, host) = (problem.status, matches!(place, Place::Emulator { .. }));
    if host {
        // The call itself returns what a stream would report later.
        problem.status = &raw mut record as u64;
    }
    problem
        .with_descriptor(address, bytes, |backward| ffi::call!(OPERATION, pk_lora_backward(&descriptor, backward)))?;
    if host { record.returned(OPERATION, given) } else { Ok(()) }
}

/// Bytes that [`backward`] needs as its workspace for this descriptor, on any kernel that could be picked; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`backward`], as far as they depend on shapes and types.
pub fn backward_workspace<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Backward<'_, T, P, Q>) -> Result<usize> {
    let problem = call.problem(None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor("lora::backward_workspace")?;
    Ok(match problem.workspace()? {
        0 => 0,
        bytes => bytes + ALIGNMENT - 1,
    })
}

/// The kernel that [`backward`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`backward`], as far as they depend on shapes and types.
pub fn backward_kernel<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Backward<'_, T, P, Q>) -> Result<Kernel> {
    let problem = call.problem(None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick("lora::backward_kernel", queue.place(), |chip, choice| {
        problem.with_descriptor(0, 0, |descriptor| {
            ffi::call!("lora::backward_kernel", pk_lora_backward_pick(chip, descriptor, choice))
        })
    })
}
