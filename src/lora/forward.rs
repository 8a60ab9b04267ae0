//! `y = g ⊙ (x·Wᵀ + s·mid(x·Aᵀ)·Bᵀ) + bias`.

use super::{AdapterEntry, AdapterTable, Dropout, Middle, Quantized, Rows, Segment};
use crate::workspace::ALIGNMENT;
use crate::{
    Element, Error, HostQueue, Kernel, Place, Queue, Result, Status, StatusRecord, Tensor, TensorMut, Vector,
    Workspace, ffi, reference,
};

mod problem;

pub(crate) use problem::{AdapterChoice, BaseKind, ForwardProblem, TargetProblem, as_rows, broadcast, input};

const OPERATION: &str = "lora::forward";

/// What a layer adds its branch to.
enum Base<'a, T, Q> {
    None,
    Dense(Tensor<'a, T, Q, 3>),
    Quantized(Quantized<'a, Q>),
    InY,
}

/// The adapters of a layer.
enum Adapters<'a, P, Q> {
    None,
    One { a: Tensor<'a, P, Q, 3>, b: Tensor<'a, P, Q, 3>, scale: f32 },
    Table { table: &'a AdapterTable<'a, P, Q>, device: Vector<'a, AdapterEntry, Q> },
}

/// Where H goes, for backward.
enum SaveH<'a, T, Q> {
    None,
    Own(TensorMut<'a, T, Q, 3>),
    F32(TensorMut<'a, f32, Q, 3>),
}

/// One linear layer of those that share x: its base, its adapters, its bias, and its output y.
pub struct Target<'a, T, P, Q> {
    base: Base<'a, T, Q>,
    adapters: Adapters<'a, P, Q>,
    middle: Option<Middle<'a, P, Q>>,
    bias: Option<Tensor<'a, T, Q, 2>>,
    row_scale: Option<Tensor<'a, f32, Q, 2>>,
    saved_h: SaveH<'a, T, Q>,
    y: TensorMut<'a, T, Q, 3>,
}

impl<'a, T: Element, P: Element, Q: Queue> Target<'a, T, P, Q> {
    fn new(base: Base<'a, T, Q>, y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self {
            base,
            adapters: Adapters::None,
            middle: None,
            bias: None,
            row_scale: None,
            saved_h: SaveH::None,
            y: y.into(),
        }
    }

    /// `y = x·Wᵀ + branch + bias` with `w` [n, k] and `y` [m, n]. (For weights stored [k, n], give `w.t()`.)
    pub fn dense(w: impl Into<Tensor<'a, T, Q, 3>>, y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self::new(Base::Dense(w.into()), y)
    }

    /// `y = x·Wᵀ + branch + bias` with `w` [n, k] as codes, one for all batches: what [`super::dequantize`] makes of them in x's type (QLoRA). Of that at most
    /// [`Forward::slab_bytes`] are in memory at a time, 64 MiB unless you say otherwise.
    pub fn quantized(w: &Quantized<'a, Q>, y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self::new(Base::Quantized(*w), y)
    }

    /// `y = branch + bias`: no base.
    pub fn branch_only(y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self::new(Base::None, y)
    }

    /// `y = y + branch + bias`: the base is already in y, from a product that another library made.
    pub fn accumulate(y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self::new(Base::InY, y)
    }

    /// One adapter for every row: `a` [rank, k], `b` [n, rank], `scale` (α/rank, or α/√rank for rsLoRA). Rank 0 is the base alone.
    pub fn adapter(mut self, a: impl Into<Tensor<'a, P, Q, 3>>, b: impl Into<Tensor<'a, P, Q, 3>>, scale: f32) -> Self {
        self.adapters = Adapters::One { a: a.into(), b: b.into(), scale };
        self
    }

    /// What lies between the one adapter's A and B; not with a table.
    pub fn middle(mut self, middle: Middle<'a, P, Q>) -> Self {
        self.middle = Some(middle);
        self
    }

    /// A table of adapters, from which [`Forward::row_adapter`] or [`Forward::segments`] chooses for each row.
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

    /// Adds a bias `[n]` to every row, or one row of [batches, n] to every row of a batch.
    pub fn bias(mut self, bias: impl Into<Tensor<'a, T, Q, 2>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// Multiplies every row of W and of the branch, which is a column of y before the bias, by its number of `g` `[n]`, or of [batches, n] by one for each batch: DoRA's magnitude over the norm
    /// of [`super::weight_norm`].
    ///
    /// With [`Forward::dropout`] the base sees all of x here as well: `g ⊙ (x·Wᵀ + s·x̃·Aᵀ·Bᵀ) + bias`. Hugging Face's peft, while it trains, makes
    /// `x·Wᵀ + (g − 1) ⊙ (x̃·Wᵀ) + g ⊙ (s·x̃·Aᵀ·Bᵀ) + bias`, with the factor `1 / (1 − p)` in x̃. No one call makes that, but the sum of two does, for which the caller drops elements of x and adds:
    /// of `x − x̃` with W and the bias alone, and of x̃ with W, the adapter and g.
    pub fn row_scale(mut self, g: impl Into<Tensor<'a, f32, Q, 2>>) -> Self {
        self.row_scale = Some(g.into());
        self
    }

    /// Keeps `H = x̃·Aᵀ` [m, rank] for [`super::backward`], in x's type: before a middle and the scale, and with dropout before the factor `1 / (1 − p)`. With a table [m, its largest rank], of which nothing is
    /// written for a row without an adapter, nor beyond the rank of its adapter.
    pub fn save_h(mut self, h: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        self.saved_h = SaveH::Own(h.into());
        self
    }

    /// The same in f32, not rounded to 16 bits.
    pub fn save_h_f32(mut self, h: impl Into<TensorMut<'a, f32, Q, 3>>) -> Self {
        self.saved_h = SaveH::F32(h.into());
        self
    }
}

/// The descriptor of a [`forward`] call.
///
/// `T` is the type of x, W, bias and y; `P` that of A and B: the same, or f32 with 16-bit x.
pub struct Forward<'a, T, P, Q> {
    x: Tensor<'a, T, Q, 3>,
    targets: Vec<Target<'a, T, P, Q>>,
    rows: Rows<'a, Q>,
    status: Option<&'a Status<'a, Q>>,
    dropout: Option<Dropout>,
    algorithm: i32,
    flags: u32,
    slab_bytes: usize,
}

impl<'a, T: Element, P: Element, Q: Queue> Forward<'a, T, P, Q> {
    /// With activations `x` [m, k] or [batches, m, k], and no layer yet.
    pub fn new(x: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        let (x, targets) = (x.into(), Vec::new());
        Self { x, targets, rows: Rows::Same, status: None, dropout: None, algorithm: 0, flags: 0, slab_bytes: 0 }
    }

    /// Another layer that reads x. Layers that share x cost less together (q, k and v; gate and up).
    pub fn target(mut self, target: Target<'a, T, P, Q>) -> Self {
        self.targets.push(target);
        self
    }

    /// For each of the batches·m rows the index of its adapter in the targets' tables; −1 is the base alone. Rows need not be sorted.
    pub fn row_adapter(mut self, index: Vector<'a, i32, Q>) -> Self {
        self.rows = Rows::Index(index);
        self
    }

    /// Runs of rows that share an adapter: each begins where the one before ends, or later, empty ones too; rows of no segment are the base alone.
    pub fn segments(mut self, segments: Vector<'a, Segment, Q>) -> Self {
        self.rows = Rows::Segments(segments);
        self
    }

    /// Where a stream reports what depends on data. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// Drops elements of what the adapters read; the bases see all of x.
    pub fn dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`forward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Lets f32 be multiplied as one number of tf32, of 11 significant bits: several times as fast, and [`Kernel::rounding_steps`] says how much less exact. Without it f32 keeps all its bits.
    /// Says nothing to 16-bit types, nor to the CPU queue.
    pub fn allow_tf32(mut self) -> Self {
        self.flags |= ffi::PK_FLAG_ALLOW_TF32 as u32;
        self
    }

    /// Where a quantised W is made in the workspace, in slabs of its rows: of it at most so many bytes at a time, but 256 rows; 0, as without it, is 64 MiB. The bits do not depend on it.
    pub fn slab_bytes(mut self, bytes: usize) -> Self {
        self.slab_bytes = bytes;
        self
    }

    /// Asks for a row's bits to be the same in a batch of any size and among any other rows; small batches are slower then. (y of more than 2²⁷ tiles of 64 × 64 is the plain kernel's, whose
    /// bits are others.)
    pub fn batch_invariant(mut self) -> Self {
        self.flags |= ffi::PK_FLAG_BATCH_INVARIANT as u32;
        self
    }
}

/// `y = g ⊙ (x·Wᵀ + s·mid(x·Aᵀ)·Bᵀ) + bias` for every target of the call, with `g` of [`Target::row_scale`] and `mid` of [`Target::middle`], or without.
///
/// x is [m, k], W [n, k], A [rank, k], B [n, rank], bias `[n]`, g `[n]` in f32, y [m, n], with any strides of which one is 1, and optionally batched. Any rank; 0 is the base alone. The base is dense,
/// quantised, none, or already in y. A row uses the target's one adapter, or the one of its table that [`Forward::row_adapter`] or [`Forward::segments`] names.
///
/// **Numbers.** Products and sums are f32 (f64 on [`crate::Cpu`]), rounded once to y's type: the error is at most `ulp(y) + L·2⁻²³·Σ|terms|` with `L` the
/// [`Kernel::rounding_steps`]. `x·Aᵀ` is kept in f32: it does not overflow where y is finite. NaN and infinities pass through as arithmetic says (`s = 0` times infinity is NaN).
/// The same bits on every run on the same kind of chip: how many parts k is summed in depends on the chip's size. f32 is multiplied as sums of two numbers of 11 bits: factors below 2⁻¹¹⁷ have
/// fewer bits than the bound assumes, as has tf32 where it is allowed, which also takes the largest 2⁻¹¹ of f32's range for infinity;
/// an infinity times a factor below 2⁻¹³⁶ gives NaN.
/// Of a quantised W every element is rounded to x's type, as [`super::dequantize`] rounds it, and the bits of y are those of the call with that W.
///
/// **Cost.** `2·m·n·k + 2·m·rank·(k + n)` flops a target, `2·m·r_a·r_b` more with a core; x, W, A, B read and y written once, as far as the caches reach. With a scale, a gate or a core of a [`Middle`] another launch, which reads and writes [m, rank] of f32;
/// with a list of ranks three more, for the list and for copies of those rows of A and columns of B, and one more for each further 512 entries of a list on the host. A workspace for `x·Aᵀ` in f32, up to 16 times where rows are few, and, where y is too small to fill a
/// chip, for sums over parts of k: at most 32 MiB, and 4 bytes a tile; see [`forward_workspace`].
/// A quantised W is read as codes, 0.56 bytes an element of NF4 with blocks of 64. Where x is one batch of at most 64 rows, or at most four of at most 16 (with
/// [`Forward::batch_invariant`] of one batch alone), it is made in shared memory, once for each batch. For more it is made in the workspace, in slabs of at most [`Forward::slab_bytes`],
/// each written once and then read as a W in memory is: two launches a slab.
/// Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (y or a saved H with another operand), [`Error::Alignment`], [`Error::Workspace`], [`Error::Argument`],
/// [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written; of a quantised W as [`super::dequantize`]. [`Error::Cuda`]: some kernels may have run. [`Error::Data`] for an adapter index that no table has: that row was treated as the base alone,
/// everything else was written; or for an entry of a list of ranks, which counted as a rank of zeros. On a stream give a [`Status`] to learn of it.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Workspace, lora};
/// let x = [1.0f32, 2.0]; // [1, 2]
/// let w = [1.0f32, 0.0, 0.0, 1.0]; // [2, 2], the identity
/// let a = [1.0f32, 1.0]; // [1, 2]
/// let b = [1.0f32, -1.0]; // [2, 1]
/// let mut y = [0.0f32; 2];
/// let call = lora::Forward::new(Mat::new(&x, 1, 2)?)
///     .target(lora::Target::dense(Mat::new(&w, 2, 2)?, MatMut::new(&mut y, 1, 2)?)
///         .adapter(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 0.5));
/// lora::forward(&Cpu, call, Workspace::none())?;
/// assert_eq!(y, [2.5, 0.5]); // x + 0.5 · 3 · [1, −1]
/// # Ok::<(), peft_kernels::Error>(())
/// ```
/// A quantised W:
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Vector, Workspace, lora};
/// let (codes, absmax) = ([0xf7u8, 0x70, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77], [2.0f32]); // NF4 of [2, 8], in which 7 is 0
/// let w = lora::Quantized::new(Vector::whole(&codes), Vector::whole(&absmax)).format(lora::BlockFormat::default().block(16));
/// let x = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
/// let mut y = [0.0f32; 2];
/// let call = lora::Forward::<f32, f32, _>::new(Mat::new(&x, 1, 8)?)
///     .target(lora::Target::quantized(&w, MatMut::new(&mut y, 1, 2)?));
/// lora::forward(&Cpu, call, Workspace::none())?;
/// assert_eq!(y, [2.0 - 8.0, 0.0]); // 2 · x₀ − 2 · x₃
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn forward<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: Forward<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let mut problem = call.problem(Some(queue), &mut guards)?;
    if place == Place::Cpu {
        problem.check_disjoint(0, 0)?;
        if call.algorithm != 0 {
            return Err(Error::Algorithm {
                operation: OPERATION,
                message: format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm),
            });
        }
        let mut record = StatusRecord::default();
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from all other operands.
        unsafe { reference::lora::forward::<T, P>(&problem, &mut record) };
        return record.returned(OPERATION, problem.status);
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace()?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(OPERATION, with_slack, queue, &mut guards)?;
    problem.check_disjoint(address, bytes)?;
    let mut record = StatusRecord::default();
    let given = problem.status;
    if matches!(place, Place::Emulator { .. }) {
        // The call itself returns what a stream would report later.
        problem.status = &raw mut record as u64;
    }
    problem.with_descriptor(address, bytes, |forward| ffi::call!(OPERATION, pk_lora_forward(&descriptor, forward)))?;
    if matches!(place, Place::Emulator { .. }) { record.returned(OPERATION, given) } else { Ok(()) }
}

/// Bytes that [`forward`] needs as its workspace for this descriptor, on any kernel that could be picked; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`forward`], as far as they depend on shapes and types.
pub fn forward_workspace<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Forward<'_, T, P, Q>) -> Result<usize> {
    let problem = call.problem(None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor("lora::forward_workspace")?;
    Ok(match problem.workspace()? {
        0 => 0,
        bytes => bytes + ALIGNMENT - 1,
    })
}

/// The kernel that [`forward`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`forward`], as far as they depend on shapes and types.
pub fn forward_kernel<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Forward<'_, T, P, Q>) -> Result<Kernel> {
    let problem = call.problem(None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick("lora::forward_kernel", queue.place(), |chip, choice| {
        problem.with_descriptor(0, 0, |descriptor| {
            ffi::call!("lora::forward_kernel", pk_lora_forward_pick(chip, descriptor, choice))
        })
    })
}
