//! `|W + Σᵢ sᵢ·Bᵢ·Aᵢ|` of every row: what DoRA divides by.

use super::{Adapter, AdapterProblem};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{
    Element, ElementType, Error, Kernel, Mat, Place, Queue, Result, Status, StatusRecord, Vector, VectorMut, Workspace,
    ffi, reference,
};

const OPERATION: &str = "lora::weight_norm";
/// Adapters that one call can take: as many as a kernel's parameters hold.
const MAX_ADAPTERS: usize = ffi::PK_LORA_MERGE_ADAPTERS as usize;
/// Rows and columns of W that a block has, of which a grid has less than 2³¹.
const PART: [usize; 2] = [64, 1024];

/// The descriptor of a [`weight_norm`] call. `T` is the type of W; `P` that of A and B: the same, or f32 with 16-bit W.
pub struct WeightNorm<'a, T, P, Q> {
    w: Mat<'a, T, Q>,
    norm: VectorMut<'a, f32, Q>,
    scale: Option<(Vector<'a, f32, Q>, VectorMut<'a, f32, Q>)>,
    adapters: Vec<Adapter<'a, P, Q>>,
    eps: f32,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> WeightNorm<'a, T, P, Q> {
    /// Of the rows of `w` [n, k], to `norm` `[n]`.
    pub fn new(w: Mat<'a, T, Q>, norm: VectorMut<'a, f32, Q>) -> Self {
        Self { w, norm, scale: None, adapters: Vec::new(), eps: 0.0, status: None, algorithm: 0 }
    }

    /// Another adapter; at most 64.
    pub fn adapter(mut self, adapter: Adapter<'a, P, Q>) -> Self {
        self.adapters.push(adapter);
        self
    }

    /// Also writes `g = magnitude / norm` `[n]`, what [`super::Target::row_scale`] takes. Where the norm is 0, what division by 0 gives.
    pub fn row_scale(mut self, magnitude: Vector<'a, f32, Q>, g: VectorMut<'a, f32, Q>) -> Self {
        self.scale = Some((magnitude, g));
        self
    }

    /// Added to every norm, so that none is 0; at least 0.
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    /// Where a stream reports a norm of 0. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`weight_norm_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<WeightNormProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("w")?;
        let w = self.w.acquire(queue, guards)?;
        let shape @ [n, k] = w.extents;
        check.stride("w", &w)?;
        check.alignment("w", &w)?;
        check.size("w", &w)?;
        let most = i32::MAX as usize;
        if n > most || n.div_ceil(PART[0]).saturating_mul(k.div_ceil(PART[1])) > most {
            let expected = format!("less than 2^31 rows and parts of {} by {}", PART[0], PART[1]);
            return Err(Error::Shape { operation, argument: "w", expected, got: crate::layout::extents(&shape) });
        }
        let norm = self.norm.acquire(queue, guards)?;
        check.extents("norm", norm.extents, [n])?;
        check.contiguous("norm", &norm)?;
        check.alignment("norm", &norm)?;
        let scale = match &self.scale {
            None => None,
            Some((magnitude, scale)) => {
                let (magnitude, scale) = (magnitude.acquire(queue, guards)?, scale.acquire(queue, guards)?);
                for (name, list) in [("magnitude", &magnitude), ("row_scale", &scale)] {
                    check.extents(name, list.extents, [n])?;
                    check.contiguous(name, list)?;
                    check.alignment(name, list)?;
                }
                Some([magnitude.address, scale.address])
            }
        };
        let wrong = |argument, expected: String, got| Err(Error::Argument { operation, argument, expected, got });
        if !self.eps.is_finite() || self.eps < 0.0 {
            return wrong("eps", "a number that is at least 0".into(), self.eps.to_string());
        }
        if self.adapters.len() > MAX_ADAPTERS {
            let got = self.adapters.len().to_string();
            return wrong("the number of adapters", format!("at most {MAX_ADAPTERS}"), got);
        }
        let adapter = |adapter: &'s Adapter<'a, P, Q>| adapter.problem(check, Some(shape), queue, guards);
        let adapters = self.adapters.iter().map(adapter).collect::<Result<_>>()?;
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(operation, queue, guards)?,
            _ => 0,
        };
        let (element_types, algorithm, eps) = ([T::TYPE, P::TYPE], self.algorithm, self.eps);
        let (w, norm) = (w.into(), norm.address);
        Ok(WeightNormProblem { w, norm, scale, adapters, eps, status, element_types, algorithm })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct WeightNormProblem {
    pub w: Elements<3>,
    pub norm: u64,
    /// Of the magnitude, and of what it becomes.
    pub scale: Option<[u64; 2]>,
    pub adapters: Vec<AdapterProblem>,
    pub eps: f32,
    /// The caller's record, or 0.
    status: u64,
    element_types: [ElementType; 2],
    algorithm: i32,
}

impl WeightNormProblem {
    fn check_disjoint(&self, workspace: (u64, usize)) -> Result<()> {
        let outputs = [
            Operand::bytes("norm", self.norm, 4 * self.w.extents[1]),
            Operand::bytes("the workspace", workspace.0, workspace.1),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        let mut outputs = Vec::from(outputs);
        let mut inputs = vec![Operand::new("w", self.w)];
        if let Some([magnitude, scale]) = self.scale {
            inputs.push(Operand::bytes("magnitude", magnitude, 4 * self.w.extents[1]));
            outputs.push(Operand::bytes("row_scale", scale, 4 * self.w.extents[1]));
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            inputs.push(Operand::new(format!("a of adapter {i}"), adapter.a));
            inputs.push(Operand::new(format!("b of adapter {i}"), adapter.b));
        }
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    fn with_descriptor<R>(
        &self,
        workspace: (u64, usize),
        call: impl FnOnce(&ffi::pk_lora_weight_norm_descriptor) -> R,
    ) -> R {
        let adapters: Vec<_> = self.adapters.iter().map(AdapterProblem::entry).collect();
        let [element_type, adapter_element_type] = self.element_types;
        call(&ffi::pk_lora_weight_norm_descriptor {
            size: size_of::<ffi::pk_lora_weight_norm_descriptor>() as u64,
            algorithm: self.algorithm,
            w: self.w.matrix(element_type),
            adapters: adapters.as_ptr(),
            adapter_count: adapters.len() as i64,
            adapter_element_type: adapter_element_type as i32,
            eps: self.eps,
            norm: self.norm as *mut f32,
            norm_count: self.w.extents[1] as i64,
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
            status: self.status as *mut _,
            magnitude: self.scale.map_or(0, |[magnitude, _]| magnitude) as *const f32,
            row_scale: self.scale.map_or(0, |[_, scale]| scale) as *mut f32,
            ..Default::default()
        })
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_weight_norm_workspace(descriptor, &mut bytes))
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

/// `normᵢ = |row i of W + Σⱼ sⱼ·Bⱼ·Aⱼ| + eps`: the norms of DoRA, whose `W' = (m / norm)·(W + s·B·A)`, without the sum in memory.
///
/// **Shapes.** W [n, k], Aⱼ [rankⱼ, k], Bⱼ [n, rankⱼ], each with any strides of which one is 1; norm `[n]` in f32. Any rank; without adapters the norms of W.
///
/// **Numbers.** Each element of the sum is made in f32 (f64 on [`crate::Cpu`]), squared and added up: nothing is lost where an adapter takes away most of a row, which the expanded square
/// `|W|² + 2s·B·(W·Aᵀ) + s²·B·A·Aᵀ·Bᵀ` would lose. The error is at most `ulp(norm) + L·2⁻²³·M` with `L` the [`Kernel::rounding_steps`] and M the norm of what each element was added up from,
/// its magnitudes. Squares are f32: a norm beyond 2⁶⁴ becomes infinite, and an element below 2⁻⁷⁵ counts as nothing. NaN gives NaN. The same bits on every run on the same kind of chip, of any
/// size.
///
/// **Cost.** W read once, `2·n·k·(1 + Σ rank)` flops. A workspace of 4 bytes for 1024 elements of a row, see [`weight_norm_workspace`]; two launches. Can be captured in a graph.
///
/// S. Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, where norms are those of columns, since W is stored as its transpose.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::Workspace`], [`Error::Argument`] (eps, more than 64 adapters),
/// [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written. [`Error::Data`] for a norm of 0, by which nothing can be divided: all norms were
/// written. On a stream give a [`Status`] to learn of it.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, VectorMut, Workspace, lora};
/// let w = [3.0f32, 0.0, 0.0, 1.0]; // [2, 2]
/// let (a, b) = ([0.0f32, 1.0], [2.0f32, -0.5]); // [1, 2], [2, 1]
/// let mut norm = [0.0f32; 2];
/// let adapter = lora::Adapter::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 2.0);
/// let call = lora::WeightNorm::new(Mat::new(&w, 2, 2)?, VectorMut::whole(&mut norm)).adapter(adapter).eps(1.0);
/// lora::weight_norm(&Cpu, call, Workspace::none())?;
/// assert_eq!(norm, [6.0, 1.0]); // |(3, 4)| + 1, |(0, 0)| + 1
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn weight_norm<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: WeightNorm<'_, T, P, Q>,
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
        unsafe { reference::weight_norm::weight_norm::<T, P>(&problem, &mut record) };
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
    problem.with_descriptor((address, bytes), |norm| ffi::call!(OPERATION, pk_lora_weight_norm(&descriptor, norm)))?;
    problem.status = given;
    if on_host { problem.finish(record) } else { Ok(()) }
}

/// Bytes that [`weight_norm`] needs as its workspace for this descriptor; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`weight_norm`], as far as they depend on shapes and types.
pub fn weight_norm_workspace<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WeightNorm<'_, T, P, Q>,
) -> Result<usize> {
    let operation = "lora::weight_norm_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    Ok(if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 })
}

/// The kernel that [`weight_norm`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`weight_norm`], as far as they depend on shapes and types.
pub fn weight_norm_kernel<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WeightNorm<'_, T, P, Q>,
) -> Result<Kernel> {
    let operation = "lora::weight_norm_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_weight_norm_pick(chip, descriptor, choice))
        })
    })
}
