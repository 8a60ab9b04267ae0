//! `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias`.

use super::{AdapterEntry, AdapterProblem, AdapterTable, Segment};
use crate::check::{Check, LARGEST, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{
    Element, Error, HostQueue, Kernel, Place, Queue, Result, Status, StatusRecord, Tensor, TensorMut, Vector,
    Workspace, ffi, reference,
};

const OPERATION: &str = "lora::forward";

/// What a layer adds its branch to.
enum Base<'a, T, Q> {
    None,
    Dense(Tensor<'a, T, Q, 3>),
    InY,
}

/// The adapters of a layer.
enum Adapters<'a, P, Q> {
    None,
    One { a: Tensor<'a, P, Q, 3>, b: Tensor<'a, P, Q, 3>, scale: f32 },
    Table { table: &'a AdapterTable<'a, P, Q>, device: Vector<'a, AdapterEntry, Q> },
}

/// One linear layer of those that share x: its base, its adapters, its bias, and its output y.
pub struct Target<'a, T, P, Q> {
    base: Base<'a, T, Q>,
    adapters: Adapters<'a, P, Q>,
    bias: Option<Tensor<'a, T, Q, 2>>,
    y: TensorMut<'a, T, Q, 3>,
}

impl<'a, T: Element, P: Element, Q: Queue> Target<'a, T, P, Q> {
    /// `y = x·Wᵀ + branch + bias` with `w` [n, k] and `y` [m, n]. (For weights stored [k, n], give `w.t()`.)
    pub fn dense(w: impl Into<Tensor<'a, T, Q, 3>>, y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self { base: Base::Dense(w.into()), adapters: Adapters::None, bias: None, y: y.into() }
    }

    /// `y = branch + bias`: no base.
    pub fn branch_only(y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self { base: Base::None, adapters: Adapters::None, bias: None, y: y.into() }
    }

    /// `y = y + branch + bias`: the base is already in y, from a product that another library made.
    pub fn accumulate(y: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self { base: Base::InY, adapters: Adapters::None, bias: None, y: y.into() }
    }

    /// One adapter for every row: `a` [rank, k], `b` [n, rank], `scale` (α/rank, or α/√rank for rsLoRA). Rank 0 is the base alone.
    pub fn adapter(mut self, a: impl Into<Tensor<'a, P, Q, 3>>, b: impl Into<Tensor<'a, P, Q, 3>>, scale: f32) -> Self {
        self.adapters = Adapters::One { a: a.into(), b: b.into(), scale };
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
}

/// Which adapter of its tables a row uses.
enum Rows<'a, Q> {
    Same,
    Index(Vector<'a, i32, Q>),
    Segments(Vector<'a, Segment, Q>),
}

/// The descriptor of a [`forward`] call.
///
/// `T` is the type of x, W, bias and y; `P` that of A and B: the same, or f32 with 16-bit x.
pub struct Forward<'a, T, P, Q> {
    x: Tensor<'a, T, Q, 3>,
    targets: Vec<Target<'a, T, P, Q>>,
    rows: Rows<'a, Q>,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> Forward<'a, T, P, Q> {
    /// With activations `x` [m, k] or [batches, m, k], and no layer yet.
    pub fn new(x: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        Self { x: x.into(), targets: Vec::new(), rows: Rows::Same, status: None, algorithm: 0 }
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

    /// Runs of rows that share an adapter, sorted and disjoint; rows of no segment are the base alone.
    pub fn segments(mut self, segments: Vector<'a, Segment, Q>) -> Self {
        self.rows = Rows::Segments(segments);
        self
    }

    /// Where a stream reports what depends on data. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`forward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Checks shapes, types and strides; with a queue, addresses too.
    pub(crate) fn problem<'s>(&'s self, queue: Option<&'s Q>, guards: &mut Vec<Guard<'s>>) -> Result<ForwardProblem> {
        let check = Check(OPERATION);
        check.element_types::<T, P>()?;
        let [x_batches, m, k] = self.x.extents();
        let batches = self.targets.first().map_or(x_batches, |target| target.y.extents()[0]);
        check.batched("x", self.x.extents(), batches, [m, k])?;
        let x = broadcast(self.x.acquire(queue, guards)?, batches);
        check.stride("x", &x)?;
        check.alignment("x", &x)?;
        check.size("x", &x)?;
        let targets = self
            .targets
            .iter()
            .map(|target| target.problem(check, [batches, m, k], queue, guards))
            .collect::<Result<Vec<_>>>()?;
        check_ranks(check, batches * m, &targets)?;
        let rows = self.rows(check, batches * m, queue, guards)?;
        self.check_choice(check)?;
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(OPERATION, queue, guards)?,
            _ => 0,
        };
        let (element_type, algorithm) = (T::TYPE, self.algorithm);
        Ok(ForwardProblem { batches, m, k, x, targets, rows, status, element_type, algorithm })
    }

    /// A table and a choice from it go together.
    fn check_choice(&self, check: Check) -> Result<()> {
        let chosen = !matches!(self.rows, Rows::Same);
        let wrong = self.targets.iter().position(|target| match target.adapters {
            Adapters::None => false,
            Adapters::One { .. } => chosen,
            Adapters::Table { .. } => !chosen,
        });
        let Some(index) = wrong else { return Ok(()) };
        Err(Error::Argument {
            operation: check.0,
            argument: "the choice of adapters",
            expected: match chosen {
                true => format!("a table in target {index}, which has one adapter"),
                false => format!("row_adapter or segments, for the table of target {index}"),
            },
            got: if chosen { "row_adapter or segments" } else { "none" }.into(),
        })
    }

    fn rows<'s>(
        &'s self,
        check: Check,
        rows: usize,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<RowChoice> {
        Ok(match &self.rows {
            Rows::Same => RowChoice::Same,
            Rows::Index(index) => {
                check.extents("row_adapter", index.extents(), [rows])?;
                let elements = index.acquire(queue, guards)?;
                contiguous(check, "row_adapter", &elements)?;
                check.alignment("row_adapter", &elements)?;
                RowChoice::Index { address: elements.address, rows }
            }
            Rows::Segments(segments) => {
                let elements = segments.acquire(queue, guards)?;
                contiguous(check, "segments", &elements)?;
                check.alignment("segments", &elements)?;
                RowChoice::Segments { address: elements.address, count: elements.extents[0] }
            }
        })
    }
}

fn contiguous(check: Check, argument: &'static str, elements: &Elements<1>) -> Result<()> {
    let stride = elements.strides[0];
    if stride == 1 || elements.extents[0] <= 1 {
        return Ok(());
    }
    Err(Error::Stride { operation: check.0, argument, row_stride: 0, column_stride: stride })
}

/// The intermediate has a size that can be counted, whatever strides of 0 make of the factors' extents.
fn check_ranks(check: Check, rows: usize, targets: &[TargetProblem]) -> Result<()> {
    let ranks = targets.iter().map(TargetProblem::max_rank).fold(0, usize::saturating_add);
    if rows.saturating_mul(ranks) <= LARGEST {
        return Ok(());
    }
    Err(Error::Argument {
        operation: check.0,
        argument: "the number of rows times all ranks",
        expected: "at most 2^48".into(),
        got: format!("{rows} times {ranks}"),
    })
}

/// An operand that all batches share has batch stride 0.
fn broadcast(mut elements: Elements<3>, batches: usize) -> Elements<3> {
    if elements.extents[0] == 1 && batches != 1 {
        elements.extents[0] = batches;
        elements.strides[0] = 0;
    }
    elements
}

impl<T: Element, P: Element, Q: Queue> Target<'_, T, P, Q> {
    fn problem<'s>(
        &'s self,
        check: Check,
        [batches, m, k]: [usize; 3],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<TargetProblem> {
        let n = self.y.extents()[2];
        check.extents("y", self.y.extents(), [batches, m, n])?;
        let y = self.y.acquire(queue, guards)?;
        check.stride("y", &y)?;
        check.alignment("y", &y)?;
        check.size("y", &y)?;
        let input = |name, elements: Elements<3>, rows, columns| {
            check.batched(name, elements.extents, batches, [rows, columns])?;
            check.stride(name, &elements)?;
            check.alignment(name, &elements)?;
            check.size(name, &elements)?;
            Ok::<_, Error>(broadcast(elements, batches))
        };
        let base = match &self.base {
            Base::None => BaseKind::None,
            Base::InY => BaseKind::InY,
            Base::Dense(w) => BaseKind::Dense(input("w", w.acquire(queue, guards)?, n, k)?),
        };
        let bias = match &self.bias {
            None => None,
            Some(bias) => {
                let bias = bias.acquire(queue, guards)?;
                let ([rows, columns], [pitch, step]) = (bias.extents, bias.strides);
                let Elements { address, element_size, alignment, .. } = bias;
                let (extents, strides) = ([rows, 1, columns], [pitch, 0, step]);
                let elements = Elements { address, extents, strides, element_size, alignment };
                Some(input("bias", elements, 1, n)?)
            }
        };
        let adapters = match &self.adapters {
            Adapters::None => AdapterChoice::None,
            Adapters::One { a, b, scale } => {
                let (a, b) = (a.acquire(queue, guards)?, b.acquire(queue, guards)?);
                let rank = a.extents[1];
                check.rank(rank)?;
                AdapterChoice::One(AdapterProblem {
                    a: input("a", a, rank, k)?,
                    b: input("b", b, n, rank)?,
                    scale: *scale,
                })
            }
            Adapters::Table { table, device } => {
                if !table.entries().is_empty() {
                    check.extents("table", table.shape, [n, k])?;
                }
                check.extents("table on the device", device.extents(), [table.entries().len()])?;
                let elements = device.acquire(queue, guards)?;
                contiguous(check, "table on the device", &elements)?;
                check.alignment("table on the device", &elements)?;
                AdapterChoice::Table {
                    address: elements.address,
                    adapters: table.adapters.clone(),
                    max_rank: table.max_rank,
                }
            }
        };
        Ok(TargetProblem { base, y, n, bias, adapters, element_type: T::TYPE, adapter_element_type: P::TYPE })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct ForwardProblem {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub targets: Vec<TargetProblem>,
    pub rows: RowChoice,
    /// Of a [`StatusRecord`], or 0.
    pub status: u64,
    element_type: crate::ElementType,
    algorithm: i32,
}

pub(crate) struct TargetProblem {
    pub base: BaseKind,
    pub y: Elements<3>,
    pub n: usize,
    /// [batches, 1, n]
    pub bias: Option<Elements<3>>,
    pub adapters: AdapterChoice,
    element_type: crate::ElementType,
    adapter_element_type: crate::ElementType,
}

pub(crate) enum BaseKind {
    None,
    Dense(Elements<3>),
    InY,
}

pub(crate) enum AdapterChoice {
    None,
    One(AdapterProblem),
    /// `address` of the entries in the queue's memory; `adapters` as the host knows them.
    Table {
        address: u64,
        adapters: Vec<AdapterProblem>,
        max_rank: usize,
    },
}

pub(crate) enum RowChoice {
    Same,
    Index { address: u64, rows: usize },
    Segments { address: u64, count: usize },
}

impl ForwardProblem {
    fn check_disjoint(&self, workspace: u64, workspace_bytes: usize) -> Result<()> {
        let many = self.targets.len() > 1;
        let name = |operand: &str, i: usize| if many { format!("{operand} of target {i}") } else { operand.into() };
        let mut inputs = vec![Operand::new("x", self.x)];
        let mut outputs = vec![
            Operand::bytes("the workspace", workspace, workspace_bytes),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        match self.rows {
            RowChoice::Same => {}
            RowChoice::Index { address, rows } => inputs.push(Operand::bytes("row_adapter", address, rows * 4)),
            RowChoice::Segments { address, count } => {
                inputs.push(Operand::bytes("segments", address, count * size_of::<Segment>()));
            }
        }
        for (i, target) in self.targets.iter().enumerate() {
            outputs.push(Operand::new(name("y", i), target.y));
            if let BaseKind::Dense(w) = target.base {
                inputs.push(Operand::new(name("w", i), w));
            }
            if let Some(bias) = target.bias {
                inputs.push(Operand::new(name("bias", i), bias));
            }
            let adapters = match &target.adapters {
                AdapterChoice::None => &[],
                AdapterChoice::One(adapter) => std::slice::from_ref(adapter),
                AdapterChoice::Table { address, adapters, .. } => {
                    let bytes = adapters.len() * size_of::<AdapterEntry>();
                    inputs.push(Operand::bytes(&name("table", i), *address, bytes));
                    adapters.as_slice()
                }
            };
            for adapter in adapters {
                inputs.push(Operand::new(name("a", i), adapter.a));
                inputs.push(Operand::new(name("b", i), adapter.b));
            }
        }
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    /// Runs `call` with the descriptor of the C side.
    fn with_descriptor<R>(
        &self,
        workspace: u64,
        workspace_bytes: usize,
        call: impl FnOnce(&ffi::pk_lora_forward_descriptor) -> R,
    ) -> R {
        let mut targets: Vec<_> = self.targets.iter().map(TargetProblem::descriptor).collect();
        let mut x = self.x.matrix(self.element_type);
        if self.batches == 0 {
            // The C side reads no batches as one: without rows it does nothing as well.
            x.rows = 0;
            targets.iter_mut().for_each(|target| target.y.rows = 0);
        }
        let mut descriptor = ffi::pk_lora_forward_descriptor {
            size: size_of::<ffi::pk_lora_forward_descriptor>() as u64,
            target_size: size_of::<ffi::pk_lora_target>() as u64,
            algorithm: self.algorithm,
            batch_count: self.batches as i64,
            x,
            targets: targets.as_ptr(),
            target_count: targets.len() as i64,
            workspace: workspace as *mut _,
            workspace_bytes: workspace_bytes as u64,
            status: self.status as *mut _,
            ..Default::default()
        };
        match self.rows {
            RowChoice::Same => {}
            RowChoice::Index { address, .. } => descriptor.row_adapter = present(address),
            RowChoice::Segments { address, count } => {
                descriptor.segments = present(address);
                descriptor.segment_count = count as i64;
            }
        }
        call(&descriptor)
    }

    /// Bytes of the workspace, aligned.
    fn workspace(&self) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor(0, 0, |descriptor| {
            ffi::call!(OPERATION, pk_lora_forward_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }
}

/// A pointer that says "given" to the C side, even where there is no element and so no address.
fn present<T>(address: u64) -> *const T {
    if address == 0 { std::ptr::without_provenance(align_of::<T>()) } else { address as *const T }
}

impl TargetProblem {
    pub fn max_rank(&self) -> usize {
        match &self.adapters {
            AdapterChoice::None => 0,
            AdapterChoice::One(adapter) => adapter.rank(),
            AdapterChoice::Table { max_rank, .. } => *max_rank,
        }
    }

    fn descriptor(&self) -> ffi::pk_lora_target {
        let mut target = ffi::pk_lora_target {
            y: self.y.matrix(self.element_type),
            adapter_element_type: self.adapter_element_type as i32,
            ..Default::default()
        };
        match &self.base {
            BaseKind::None => target.base = ffi::PK_LORA_BASE_NONE,
            BaseKind::InY => target.base = ffi::PK_LORA_BASE_IN_Y,
            BaseKind::Dense(w) => {
                target.base = ffi::PK_LORA_BASE_DENSE;
                target.w = w.matrix(self.element_type);
            }
        }
        if let Some(bias) = &self.bias {
            target.bias = bias.matrix(self.element_type);
        }
        match &self.adapters {
            AdapterChoice::None => {}
            AdapterChoice::One(adapter) => {
                target.a = adapter.a.matrix(self.adapter_element_type);
                target.b = adapter.b.matrix(self.adapter_element_type);
                target.scale = adapter.scale;
            }
            AdapterChoice::Table { address, adapters, max_rank } => {
                target.adapters = present(*address);
                target.adapter_count = adapters.len() as i64;
                target.max_rank = *max_rank as i64;
            }
        }
        target
    }
}

/// `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias` for every target of the call.
///
/// x is [m, k], W [n, k], A [rank, k], B [n, rank], bias `[n]`, y [m, n], with any strides of which one is 1, and optionally batched. Any rank; 0 is the base alone. The base is dense,
/// none, or already in y. A row uses the target's one adapter, or the one of its table that [`Forward::row_adapter`] or [`Forward::segments`] names.
///
/// **Numbers.** Products and sums are f32 (f64 on [`crate::Cpu`]), rounded once to y's type: the error is at most `ulp(y) + L·2⁻²³·Σ|terms|` with `L` the
/// [`Kernel::rounding_steps`]. `x·Aᵀ` is kept in f32: it does not overflow where y is finite. NaN and infinities pass through as arithmetic says (`s = 0` times infinity is NaN).
/// The same bits on every run.
///
/// **Cost.** `2·m·n·k + 2·m·rank·(k + n)` flops a target; x, W, A, B read and y written once, as far as the caches reach. A workspace of `4·m·Σ rank` bytes, see [`forward_workspace`].
/// Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (y with an input or another y), [`Error::Alignment`], [`Error::Workspace`], [`Error::Argument`],
/// [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written. [`Error::Data`] for an adapter index that no table has: that row was treated as the base alone,
/// everything else was written. On a stream give a [`Status`] to learn of it.
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
        return finish(&problem, record);
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
    problem.status = given;
    if matches!(place, Place::Emulator { .. }) { finish(&problem, record) } else { Ok(()) }
}

/// On a host queue: what the call found in the data, into the caller's record and as the call's error.
fn finish(problem: &ForwardProblem, record: StatusRecord) -> Result<()> {
    if problem.status != 0 {
        // SAFETY: the storage of a host queue is ordinary memory, and the view holds a record.
        unsafe { (*(problem.status as *mut StatusRecord)).merge(&record) };
    }
    record.into_result(OPERATION)
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
