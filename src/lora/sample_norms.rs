//! `|dA|² + |dB|² + |dbias|²` of every sample: what differential privacy clips by.

use super::forward::broadcast;
use super::{AdapterProblem, Dropout, Samples, SamplesProblem};
use crate::check::{Check, LARGEST, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{
    Element, ElementType, Error, Kernel, Mat, Place, Queue, Result, Status, StatusRecord, Tensor, VectorMut, Workspace,
    ffi, reference,
};

const OPERATION: &str = "lora::sample_norms";
const MAX_TARGETS: usize = ffi::PK_LORA_BACKWARD_TARGETS as usize;
/// Columns of x or dY that a block has of a sample, of which a grid has less than 2³¹.
const COLUMNS: usize = 256;

/// The intermediate that forward saved.
enum SavedH<'a, T, Q> {
    None,
    Own(Tensor<'a, T, Q, 3>),
    F32(Tensor<'a, f32, Q, 3>),
}

/// One linear layer of those that share x: the gradient of its output, its adapter, and which of its parameters are trained.
pub struct SampleNormTarget<'a, T, P, Q> {
    dy: Tensor<'a, T, Q, 3>,
    a: Mat<'a, P, Q>,
    b: Mat<'a, P, Q>,
    scale: f32,
    h: SavedH<'a, T, Q>,
    counts: [bool; 3],
}

impl<'a, T: Element, P: Element, Q: Queue> SampleNormTarget<'a, T, P, Q> {
    /// With `dy` [m, n], the gradient of y, and the adapter of every row as in forward: `a` [rank, k], `b` [n, rank]. A and B count.
    pub fn new(dy: impl Into<Tensor<'a, T, Q, 3>>, a: Mat<'a, P, Q>, b: Mat<'a, P, Q>, scale: f32) -> Self {
        Self { dy: dy.into(), a, b, scale, h: SavedH::None, counts: [true, true, false] }
    }

    /// What [`super::Target::save_h`] of forward was given, [m, rank]. Without it `x·Aᵀ` is made again where B counts.
    pub fn saved_h(mut self, h: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        self.h = SavedH::Own(h.into());
        self
    }

    /// What [`super::Target::save_h_f32`] of forward was given.
    pub fn saved_h_f32(mut self, h: impl Into<Tensor<'a, f32, Q, 3>>) -> Self {
        self.h = SavedH::F32(h.into());
        self
    }

    /// Which of A, B and the bias are trained, so that their gradients count: A alone frozen is FFA-LoRA.
    pub fn trained(mut self, a: bool, b: bool, bias: bool) -> Self {
        self.counts = [a, b, bias];
        self
    }
}

/// The descriptor of a [`sample_norms`] call. `T` is the type of x and dY; `P` that of A and B: the same, or f32 with 16-bit x.
pub struct SampleNorms<'a, T, P, Q> {
    x: Tensor<'a, T, Q, 3>,
    targets: Vec<SampleNormTarget<'a, T, P, Q>>,
    samples: Samples<'a, Q>,
    squares: VectorMut<'a, f32, Q>,
    accumulate: bool,
    dropout: Option<Dropout>,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> SampleNorms<'a, T, P, Q> {
    /// Of these samples of the activations `x` [m, k] or [batches, m, k], and no layer yet; to `squares`, one for each of them.
    pub fn new(x: impl Into<Tensor<'a, T, Q, 3>>, samples: Samples<'a, Q>, squares: VectorMut<'a, f32, Q>) -> Self {
        let (x, targets) = (x.into(), Vec::new());
        Self { x, targets, samples, squares, accumulate: false, dropout: None, status: None, algorithm: 0 }
    }

    /// Another layer that reads x, of at most 8.
    pub fn target(mut self, target: SampleNormTarget<'a, T, P, Q>) -> Self {
        self.targets.push(target);
        self
    }

    /// Adds to what `squares` holds: those of other layers, so that the norm is that of all trained parameters.
    pub fn accumulate(mut self) -> Self {
        self.accumulate = true;
        self
    }

    /// The dropout of the forward call.
    pub fn dropout(mut self, dropout: Dropout) -> Self {
        self.dropout = Some(dropout);
        self
    }

    /// Where a stream reports offsets that are not ascending, or beyond the rows. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`sample_norms_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<SampleNormsProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("x")?;
        let [x_batches, m, k] = self.x.extents();
        let given = self.targets.iter().map(|target| target.dy.extents()[0]);
        let batches = given.chain([x_batches]).find(|&batches| batches != 1).unwrap_or(1);
        let inputs = Inputs { check, batches, m };
        let x = inputs.rows("x", self.x.acquire(queue, guards)?, k)?;
        let wrong = |argument, expected, got| Err(Error::Argument { operation, argument, expected, got });
        if self.targets.len() > MAX_TARGETS {
            let got = self.targets.len().to_string();
            return wrong("the number of targets", format!("at most {MAX_TARGETS}"), got);
        }
        let target = |target: &'s SampleNormTarget<'a, T, P, Q>| target.problem(&inputs, k, queue, guards);
        let targets = self.targets.iter().map(target).collect::<Result<Vec<_>>>()?;
        let rank = targets.iter().map(|target| target.adapter.rank()).max().unwrap_or(0);
        let widest = targets.iter().map(|target| target.n).fold((batches * m).max(k), usize::max);
        if widest.saturating_mul(rank) > LARGEST {
            let got = format!("{widest} times {rank}");
            return wrong("the number of rows or columns times the rank", "at most 2^48".into(), got);
        }
        if let Some(dropout) = &self.dropout {
            dropout.check(check, batches * m, k)?;
        }
        let samples = self.samples.problem(check, batches * m, queue, guards)?;
        let blocks = targets.iter().map(|target| target.n).fold(k, usize::max).div_ceil(COLUMNS);
        if blocks.saturating_mul(samples.count) > i32::MAX as usize {
            let (expected, got) = ("less than 2^31".into(), format!("{} times {blocks}", samples.count));
            return wrong("the number of samples times 256 columns", expected, got);
        }
        let squares = self.squares.acquire(queue, guards)?;
        check.extents("squares", squares.extents, [samples.count])?;
        check.contiguous("squares", &squares)?;
        check.alignment("squares", &squares)?;
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(operation, queue, guards)?,
            _ => 0,
        };
        Ok(SampleNormsProblem {
            batches,
            m,
            k,
            x,
            targets,
            samples,
            squares: squares.address,
            accumulate: self.accumulate,
            dropout: self.dropout,
            status,
            element_types: [T::TYPE, P::TYPE],
            algorithm: self.algorithm,
        })
    }
}

/// How inputs with rows are checked: one for all batches, or one for each.
struct Inputs {
    check: Check,
    batches: usize,
    m: usize,
}

impl Inputs {
    fn rows(&self, name: &'static str, elements: Elements<3>, columns: usize) -> Result<Elements<3>> {
        self.check.batched(name, elements.extents, self.batches, [self.m, columns])?;
        self.check.stride(name, &elements)?;
        self.check.alignment(name, &elements)?;
        self.check.size(name, &elements)?;
        Ok(broadcast(elements, self.batches))
    }

    fn factor(&self, name: &'static str, elements: Elements<2>, extents: [usize; 2]) -> Result<Elements<3>> {
        self.check.extents(name, elements.extents, extents)?;
        self.check.stride(name, &elements)?;
        self.check.alignment(name, &elements)?;
        self.check.size(name, &elements)?;
        Ok(elements.into())
    }
}

impl<T: Element, P: Element, Q: Queue> SampleNormTarget<'_, T, P, Q> {
    fn problem<'s>(
        &'s self,
        inputs: &Inputs,
        k: usize,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<SampleNormTargetProblem> {
        let ([_, _, n], [rank, _]) = (self.dy.extents(), self.a.extents());
        inputs.check.rank(rank)?;
        let dy = inputs.rows("dy", self.dy.acquire(queue, guards)?, n)?;
        let a = inputs.factor("a", self.a.acquire(queue, guards)?, [rank, k])?;
        let b = inputs.factor("b", self.b.acquire(queue, guards)?, [n, rank])?;
        let h = match &self.h {
            SavedH::None => None,
            SavedH::Own(h) => Some((inputs.rows("saved h", h.acquire(queue, guards)?, rank)?, T::TYPE)),
            SavedH::F32(h) => Some((inputs.rows("saved h", h.acquire(queue, guards)?, rank)?, ElementType::F32)),
        };
        Ok(SampleNormTargetProblem {
            n,
            dy,
            adapter: AdapterProblem { a, b, scale: self.scale },
            h,
            counts: self.counts,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct SampleNormsProblem {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub x: Elements<3>,
    pub targets: Vec<SampleNormTargetProblem>,
    pub samples: SamplesProblem,
    /// f32, one a sample.
    pub squares: u64,
    pub accumulate: bool,
    pub dropout: Option<Dropout>,
    /// The caller's record, or 0.
    status: u64,
    element_types: [ElementType; 2],
    algorithm: i32,
}

pub(crate) struct SampleNormTargetProblem {
    pub n: usize,
    pub dy: Elements<3>,
    pub adapter: AdapterProblem,
    pub h: Option<(Elements<3>, ElementType)>,
    /// Of A, B and the bias.
    pub counts: [bool; 3],
}

impl SampleNormsProblem {
    fn check_disjoint(&self, workspace: (u64, usize)) -> Result<()> {
        let many = self.targets.len() > 1;
        let name = |operand: &str, i: usize| if many { format!("{operand} of target {i}") } else { operand.into() };
        let outputs = [
            Operand::bytes("squares", self.squares, 4 * self.samples.count),
            Operand::bytes("the workspace", workspace.0, workspace.1),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        let mut inputs = vec![Operand::new("x", self.x), self.samples.operand()];
        for (i, target) in self.targets.iter().enumerate() {
            inputs.push(Operand::new(name("dy", i), target.dy));
            inputs.push(Operand::new(name("a", i), target.adapter.a));
            inputs.push(Operand::new(name("b", i), target.adapter.b));
            inputs.extend(target.h.map(|(h, _)| Operand::new(name("saved h", i), h)));
        }
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    fn with_descriptor<R>(
        &self,
        workspace: (u64, usize),
        call: impl FnOnce(&ffi::pk_lora_sample_norms_descriptor) -> R,
    ) -> R {
        let [element_type, adapter_element_type] = self.element_types;
        let target = |target: &SampleNormTargetProblem| {
            let [a_counts, b_counts, bias_counts] = target.counts.map(i32::from);
            ffi::pk_lora_sample_norm_target {
                adapter_element_type: adapter_element_type as i32,
                scale: target.adapter.scale,
                dy: target.dy.matrix(element_type),
                a: target.adapter.a.matrix(adapter_element_type),
                b: target.adapter.b.matrix(adapter_element_type),
                a_counts,
                b_counts,
                bias_counts,
                h_saved: target.h.is_some().into(),
                h: target.h.map_or_else(Default::default, |(h, element_type)| h.matrix(element_type)),
            }
        };
        let mut targets: Vec<_> = self.targets.iter().map(target).collect();
        let mut x = self.x.matrix(element_type);
        if self.batches == 0 {
            // The C side reads no batches as one: without rows, samples have none as well.
            x.rows = 0;
            for target in &mut targets {
                (target.dy.rows, target.h.rows) = (0, 0);
            }
        }
        call(&ffi::pk_lora_sample_norms_descriptor {
            size: size_of::<ffi::pk_lora_sample_norms_descriptor>() as u64,
            target_size: size_of::<ffi::pk_lora_sample_norm_target>() as u64,
            algorithm: self.algorithm,
            batch_count: self.batches as i64,
            x,
            targets: targets.as_ptr(),
            target_count: targets.len() as i64,
            dropout: self.dropout.as_ref().map_or_else(Default::default, Dropout::descriptor),
            samples: self.samples.descriptor(),
            squares: self.squares as *mut f32,
            mode: if self.accumulate { ffi::PK_GRADIENT_ACCUMULATE } else { ffi::PK_GRADIENT_OVERWRITE },
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
            status: self.status as *mut _,
            ..Default::default()
        })
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_sample_norms_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }

    /// On a host queue: what the call found in the data, into the caller's record and as the call's error.
    fn finish(&self, record: StatusRecord) -> Result<()> {
        if self.status != 0 {
            // SAFETY: the storage of a host queue is ordinary memory, and the view holds a record.
            unsafe { (*(self.status as *mut StatusRecord)).merge(&record) };
        }
        record.into_result(OPERATION)
    }
}

/// `squaresᵢ = Σₜ |dAₜ|² + |dBₜ|² + |dbiasₜ|²`, the gradients those that [`super::backward`] would make of sample i's rows alone, without a sample's gradient in memory. With
/// [`super::clip_weights`], [`super::Backward::sample_weights`] and [`super::add_noise`] it is a step of DP-SGD on LoRA's parameters.
///
/// With X and dY the rows of sample i, `dH = dY·B`, `H = (d∘X)·Aᵀ`, and d and `s' = s / (1 − p)` as in backward: `dA = s'·dHᵀ·(d∘X)`, `dB = s'·dYᵀ·H`, dbias the sum of dY's rows. The gradients that a
/// backward pass gives must be of a sum over samples, not of their mean.
///
/// **Shapes.** x [m, k], dY [m, n], A [rank, k], B [n, rank], saved H [m, rank], each with any strides of which one is 1; x, dY and H optionally batched, A and B one for all. Any rank.
///
/// **Numbers.** Elements of the gradients are sums in f32 (f64 on [`crate::Cpu`]), their squares f32: the error is at most `ulp + L·2⁻²³·M`, with `L` the [`Kernel::rounding_steps`] and M the sum of the
/// squares of what each element was added up from, its magnitudes. A norm beyond 2⁶⁴ becomes infinite, and an element below 2⁻⁷⁵ counts as nothing. NaN and infinities stay in the norms of their
/// samples. The same bits on every run.
///
/// **Cost.** `2·m·rank·(k + n)` flops a target and as many for dH and H. x and dY are read once for each 8 ranks, and once for dH and H each. A workspace for dH and H in f32, the largest of the targets', and 4
/// bytes for each sample and 256 columns, see [`sample_norms_workspace`]. Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// M. Abadi et al., *Deep Learning with Differential Privacy*, CCS 2016; X.-Y. Liu et al., *Differentially Private Low-Rank Adaptation of Large Language Model Using Federated Learning*, 2023, which clips the
/// gradient of a batch: that bounds no sample's share.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::Workspace`], [`Error::Argument`] (more than 8 targets, samples that do not divide the
/// rows), [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written. [`Error::Data`] for a sample whose offsets descend or lead beyond the rows: it has the
/// rows that there are, and all norms were written. On a stream give a [`Status`] to learn of it.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, VectorMut, Workspace, lora};
/// let (x, dy) = ([1.0f32, 2.0, 3.0], [1.0f32, 1.0, 2.0]); // [3, 1] each, two samples of 2 rows and of 1
/// let (a, b) = ([1.0f32], [0.5f32]); // [1, 1] each
/// let offsets = [0, 2, 3];
/// let mut squares = [0.0f32; 2];
/// let target = lora::SampleNormTarget::new(Mat::new(&dy, 3, 1)?, Mat::new(&a, 1, 1)?, Mat::new(&b, 1, 1)?, 1.0);
/// let samples = lora::Samples::offsets(peft_kernels::Vector::whole(&offsets));
/// let call = lora::SampleNorms::new(Mat::new(&x, 3, 1)?, samples, VectorMut::whole(&mut squares)).target(target);
/// lora::sample_norms(&Cpu, call, Workspace::none())?;
/// assert_eq!(squares, [11.25, 45.0]); // dA and dB: 1.5 and 3; 3 and 6
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn sample_norms<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: SampleNorms<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let mut problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    let mut record = StatusRecord::default();
    if place == Place::Cpu {
        problem.check_disjoint((0, 0))?;
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: OPERATION, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the output is disjoint from all other operands.
        unsafe { reference::lora::sample_norms::<T, P>(&problem, &mut record) };
        return problem.finish(record);
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace(OPERATION)?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(OPERATION, with_slack, queue, &mut guards)?;
    problem.check_disjoint((address, bytes))?;
    let on_host = matches!(place, Place::Emulator { .. });
    let given = problem.status;
    if on_host {
        // The call itself returns what a stream would report later.
        problem.status = &raw mut record as u64;
    }
    problem
        .with_descriptor((address, bytes), |norms| ffi::call!(OPERATION, pk_lora_sample_norms(&descriptor, norms)))?;
    problem.status = given;
    if on_host { problem.finish(record) } else { Ok(()) }
}

/// Bytes that [`sample_norms`] needs as its workspace for this descriptor; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`sample_norms`], as far as they depend on shapes and types.
pub fn sample_norms_workspace<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &SampleNorms<'_, T, P, Q>,
) -> Result<usize> {
    let operation = "lora::sample_norms_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    Ok(if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 })
}

/// The kernel that [`sample_norms`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`sample_norms`], as far as they depend on shapes and types.
pub fn sample_norms_kernel<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &SampleNorms<'_, T, P, Q>,
) -> Result<Kernel> {
    let operation = "lora::sample_norms_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_sample_norms_pick(chip, descriptor, choice))
        })
    })
}
