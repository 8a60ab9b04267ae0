//! `W' = g ⊙ (W + Σᵢ sᵢ·Bᵢ·midᵢ·Aᵢ)`, and back.

use super::{Adapter, Middle};
use crate::workspace::ALIGNMENT;
use crate::{
    Element, Error, Kernel, Mat, MatMut, Place, Queue, Result, Status, StatusRecord, Tensor, Workspace, ffi, reference,
};

mod problem;

pub(crate) use problem::MergeProblem;

/// Adapters that one [`merge`] can take: as many as a kernel's parameters hold.
const MAX_ADAPTERS: usize = ffi::PK_LORA_MERGE_ADAPTERS as usize;

/// An adapter, and what lies between its factors.
struct Entry<'a, P, Q> {
    adapter: Adapter<'a, P, Q>,
    middle: Option<Middle<'a, P, Q>>,
}

/// The descriptor of a [`merge`] or [`unmerge`] call. `T` is the type of W; `P` that of A and B: the same, or f32 with 16-bit W.
pub struct Merge<'a, T, P, Q> {
    source: Option<Mat<'a, T, Q>>,
    destination: MatMut<'a, T, Q>,
    adapters: Vec<Entry<'a, P, Q>>,
    row_scale: Option<Tensor<'a, f32, Q, 2>>,
    residual: Option<MatMut<'a, u16, Q>>,
    workspace: Workspace<'a, Q>,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> Merge<'a, T, P, Q> {
    /// From the weights `source` [n, k] to `destination`, which is elsewhere.
    pub fn new(source: Mat<'a, T, Q>, destination: MatMut<'a, T, Q>) -> Self {
        Self { source: Some(source), ..Self::in_place(destination) }
    }

    /// The weights [n, k] are changed where they are.
    pub fn in_place(weights: MatMut<'a, T, Q>) -> Self {
        Self {
            source: None,
            destination: weights,
            adapters: Vec::new(),
            row_scale: None,
            residual: None,
            workspace: Workspace::none(),
            status: None,
            algorithm: 0,
        }
    }

    /// Another adapter; at most 64. All of them are added up before the one rounding.
    pub fn adapter(mut self, adapter: Adapter<'a, P, Q>) -> Self {
        self.adapters.push(Entry { adapter, middle: None });
        self
    }

    /// Another adapter with what lies between its factors, which may have no gate: a gate belongs to tokens. Needs [`Merge::workspace`].
    pub fn adapter_with_middle(mut self, adapter: Adapter<'a, P, Q>, middle: Middle<'a, P, Q>) -> Self {
        self.adapters.push(Entry { adapter, middle: Some(middle) });
        self
    }

    /// Multiplies the rows of W with its adapters by `g` `[n]`: DoRA's magnitude over the norm of [`super::weight_norm`], as [`super::Target::row_scale`] takes it.
    pub fn row_scale(mut self, g: impl Into<Tensor<'a, f32, Q, 2>>) -> Self {
        self.row_scale = Some(g.into());
        self
    }

    /// Scratch memory of [`merge_workspace`] bytes, where an adapter has a middle.
    pub fn workspace(mut self, workspace: Workspace<'a, Q>) -> Self {
        self.workspace = workspace;
        self
    }

    /// Where a stream reports what depends on data. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// 16-bit weights only: `residual` [n, k] takes what [`unmerge`], given it, needs to return the original bits.
    pub fn residual(mut self, residual: MatMut<'a, u16, Q>) -> Self {
        self.residual = Some(residual);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`merge_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }
}

/// `W' = g ⊙ (W + Σᵢ sᵢ·Bᵢ·midᵢ·Aᵢ)`, rounded once: W [n, k], Aᵢ [rankᵢ, k], Bᵢ [n, rankᵢ], each with any strides of which one is 1; g `[n]` of [`Merge::row_scale`] in f32, or none; and
/// `midᵢ = R·diag(λ)` of [`Merge::adapter_with_middle`], of the ranks that it lists, or none. A layer with W' makes what a layer with W, the adapters, their middles and g makes of x.
///
/// **Numbers.** Sums are f32 (f64 on [`crate::Cpu`]); the error is at most `ulp(W') + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`]. The same bits on every run.
/// Merging loses what W's type cannot hold: [`unmerge`] without a residual returns W within `ulp(W') / |g| + ulp(W)` and the same sum. With [`Merge::residual`], 16 bits an element, it returns
/// the original bits, on the kind of queue that merged; the kernel that does so adds in one order on every chip. NaN and infinities pass through as arithmetic says, of a middle in the order `B·(R·(λ ⊙ A))`. An adapter without ranks is nothing, whatever
/// its scale and its core, and so is one whose core has no rows.
///
/// **Cost.** `2·n·k·Σ rank` flops; W read and W' written once. With a middle `R·diag(λ)·A` is made in f32 in the workspace before, `2·k·r_a·r_b` flops and a launch for 8 adapters; where
/// factors are of 16 bits and some adapter has λ or R, the others are copied there in f32 too, B by a launch for 8 as well, and all are multiplied as f32. A list of ranks takes three launches, and one
/// more for each further 512 entries on the host, and stays in the factors' type.
/// [`merge_workspace`] says how many bytes that takes: none without a middle. Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (the destination may be the source itself, and nothing else), [`Error::Alignment`], [`Error::Workspace`],
/// [`Error::Argument`] (more than 64 adapters, a middle with a gate, a list of ranks that names one twice or one that is not there), [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]:
/// nothing was launched, nothing written. [`Error::Data`] for an entry of a list of ranks in the queue's memory, which counted as a rank of zeros: everything was written.
/// On a stream give a [`Status`] to learn of it.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, lora};
/// let (a, b) = ([1.0f32, 2.0], [1.0f32, 3.0]); // [1, 2], [2, 1]
/// let mut w = [0.0f32; 4];
/// let adapter = lora::Adapter::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 2.0);
/// lora::merge(&Cpu, lora::Merge::in_place(MatMut::new(&mut w, 2, 2)?).adapter(adapter))?;
/// assert_eq!(w, [2.0, 4.0, 6.0, 12.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
/// LoRA-XS under DoRA's scale of rows:
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Vector, Workspace, lora};
/// let (a, r, b, g) = ([1.0f32, 2.0], [0.5f32, -1.0], [1.0f32, 0.0, 0.0, 1.0], [1.0f32, 2.0]); // [1, 2], [2, 1], [2, 2], [2]
/// let mut w = [1.0f32; 4];
/// let adapter = lora::Adapter::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 2)?, 2.0);
/// let call = lora::Merge::in_place(MatMut::new(&mut w, 2, 2)?)
///     .adapter_with_middle(adapter, lora::Middle::new().core(Mat::new(&r, 2, 1)?))
///     .row_scale(Vector::whole(&g));
/// let mut scratch = vec![0u8; lora::merge_workspace(&Cpu, &call)?];
/// lora::merge(&Cpu, call.workspace(Workspace::new(&mut scratch)))?;
/// assert_eq!(w, [2.0, 3.0, -2.0, -6.0]); // g ⊙ (1 + 2·r·a)
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn merge<T: Element, P: Element, Q: Queue>(queue: &Q, call: Merge<'_, T, P, Q>) -> Result<()> {
    run("lora::merge", 1, queue, call)
}

/// `W = W' / g − Σᵢ sᵢ·Bᵢ·midᵢ·Aᵢ`, the division row by row: takes a [`merge`] back. With the residual of that merge, the original bits.
///
/// Formula, numbers, cost and errors are those of [`merge`]. Give the same adapters in the same order, the same middles and the same g. Without a residual nothing comes back from a row whose g
/// is 0: it holds what the division makes, NaN, and is reported as [`Error::Data`]; everything else was written.
///
/// # Example
/// ```
/// use half::bf16;
/// use peft_kernels::{Cpu, Mat, MatMut, lora};
/// let (a, b) = ([0.3f32], [0.7f32]);
/// let adapter = || Ok::<_, peft_kernels::Error>(lora::Adapter::new(Mat::new(&a, 1, 1)?, Mat::new(&b, 1, 1)?, 1.0));
/// let original = [bf16::from_f32(0.001)];
/// let (mut w, mut residual) = (original, [0u16]);
/// for step in [lora::merge, lora::unmerge] {
///     let weights = MatMut::new(&mut w, 1, 1)?;
///     step(&Cpu, lora::Merge::in_place(weights).adapter(adapter()?).residual(MatMut::new(&mut residual, 1, 1)?))?;
/// }
/// assert_eq!(w, original);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn unmerge<T: Element, P: Element, Q: Queue>(queue: &Q, call: Merge<'_, T, P, Q>) -> Result<()> {
    run("lora::unmerge", -1, queue, call)
}

fn run<T: Element, P: Element, Q: Queue>(
    operation: &'static str,
    direction: i32,
    queue: &Q,
    call: Merge<'_, T, P, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let mut problem = call.problem(operation, Some(queue), &mut guards)?;
    let mut record = StatusRecord::default();
    if place == Place::Cpu {
        problem.check_disjoint(operation, (0, 0))?;
        if call.algorithm != 0 {
            return Err(Error::Algorithm {
                operation,
                message: format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm),
            });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from the inputs or the same elements.
        unsafe { reference::lora::merge::<T, P>(&problem, f64::from(direction), &mut record) };
        return record.returned(operation, problem.status);
    }
    let descriptor = place.descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = call.workspace.acquire(operation, with_slack, queue, &mut guards)?;
    problem.check_disjoint(operation, (address, bytes))?;
    let (on_host, given) = (matches!(place, Place::Emulator { .. }), problem.status);
    if on_host {
        // The call itself returns what a stream would report later.
        problem.status = &raw mut record as u64;
    }
    problem.with_descriptor((address, bytes), |merge| {
        if direction > 0 {
            ffi::call!(operation, pk_lora_merge(&descriptor, merge))
        } else {
            ffi::call!(operation, pk_lora_unmerge(&descriptor, merge))
        }
    })?;
    if on_host { record.returned(operation, given) } else { Ok(()) }
}

/// Bytes that [`merge`] and [`unmerge`] need as their workspace for this descriptor; alignment is included. 0 without a middle, and on [`crate::Cpu`].
///
/// # Errors
/// As [`merge`], as far as they depend on shapes and types.
pub fn merge_workspace<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Merge<'_, T, P, Q>) -> Result<usize> {
    let operation = "lora::merge_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    Ok(match problem.workspace(operation)? {
        0 => 0,
        bytes => bytes + ALIGNMENT - 1,
    })
}

/// The kernel that [`merge`] and [`unmerge`] run for this descriptor on this queue's chip.
///
/// # Errors
/// As [`merge`], as far as they depend on shapes and types.
pub fn merge_kernel<T: Element, P: Element, Q: Queue>(queue: &Q, call: &Merge<'_, T, P, Q>) -> Result<Kernel> {
    let problem = call.problem("lora::merge_kernel", None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick("lora::merge_kernel", queue.place(), |chip, choice| {
        problem.with_descriptor((0, 0), |descriptor| {
            ffi::call!("lora::merge_kernel", pk_lora_merge_pick(chip, descriptor, choice))
        })
    })
}
