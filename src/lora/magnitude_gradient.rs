//! The gradient of DoRA's magnitude.

use super::Gradient;
use super::forward::{as_rows, broadcast};
use crate::check::{Check, Operand};
use crate::layout::extents;
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{
    Element, ElementType, Error, Kernel, Place, Queue, Result, Status, StatusRecord, Tensor, Workspace, ffi, reference,
};

const OPERATION: &str = "lora::magnitude_gradient";

/// The descriptor of a [`magnitude_gradient`] call. `T` is the type of dY, y and the bias.
pub struct MagnitudeGradient<'a, T, Q> {
    dy: Tensor<'a, T, Q, 3>,
    y: Tensor<'a, T, Q, 3>,
    bias: Option<Tensor<'a, T, Q, 2>>,
    magnitude: Tensor<'a, f32, Q, 2>,
    gradient: Gradient<'a, f32, Q, 2>,
    status: Option<&'a Status<'a, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, Q: Queue> MagnitudeGradient<'a, T, Q> {
    /// Of `magnitude` `[n]`, or [batches, n], from the gradient `dy` [m, n] of y and the `y` that forward has written with [`super::Target::row_scale`] `magnitude / norm`; to `gradient` [1, n], or
    /// [batches, n] for one of each batch.
    pub fn new(
        dy: impl Into<Tensor<'a, T, Q, 3>>,
        y: impl Into<Tensor<'a, T, Q, 3>>,
        magnitude: impl Into<Tensor<'a, f32, Q, 2>>,
        gradient: Gradient<'a, f32, Q, 2>,
    ) -> Self {
        let (dy, y, magnitude) = (dy.into(), y.into(), magnitude.into());
        Self { dy, y, bias: None, magnitude, gradient, status: None, algorithm: 0 }
    }

    /// The bias of the forward call, `[n]` or [batches, n], which the row scale leaves as it is.
    pub fn bias(mut self, bias: impl Into<Tensor<'a, T, Q, 2>>) -> Self {
        self.bias = Some(bias.into());
        self
    }

    /// Where a stream reports a magnitude of 0. Host queues return it as the call's error as well.
    pub fn status(mut self, status: &'a Status<'a, Q>) -> Self {
        self.status = Some(status);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`magnitude_gradient_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<MagnitudeProblem> {
        let check = Check(operation);
        check.element_type::<T>("dy")?;
        let [_, m, n] = self.dy.extents();
        // Any operand that is not one for all batches says how many there are.
        let given = [self.dy.extents()[0], self.y.extents()[0], self.gradient.view.extents()[0]];
        let batches = given.into_iter().find(|&batches| batches != 1).unwrap_or(1);
        let checked = |name, elements: Elements<3>, rows| {
            check.batched(name, elements.extents, batches, [rows, n])?;
            check.stride(name, &elements)?;
            check.alignment(name, &elements)?;
            check.size(name, &elements)?;
            Ok::<_, Error>(elements)
        };
        let input = |name, elements, rows| Ok::<_, Error>(broadcast(checked(name, elements, rows)?, batches));
        let dy = input("dy", self.dy.acquire(queue, guards)?, m)?;
        let y = input("y", self.y.acquire(queue, guards)?, m)?;
        let bias = match &self.bias {
            None => None,
            Some(bias) => Some(input("bias", as_rows(bias.acquire(queue, guards)?), 1)?),
        };
        let magnitude = as_rows(self.magnitude.acquire(queue, guards)?);
        let many = magnitude.extents[0] != 1;
        let magnitude = input("magnitude", magnitude, 1)?;
        let name = "the gradient of the magnitude";
        let gradient = checked(name, as_rows(self.gradient.view.acquire(queue, guards)?), 1)?;
        if many && gradient.extents[0] == 1 {
            let (expected, got) = ("one for each batch, as the magnitude is".into(), extents(&gradient.extents));
            return Err(Error::Argument { operation, argument: name, expected, got });
        }
        let status = match (self.status, queue) {
            (Some(status), Some(queue)) => status.acquire(operation, queue, guards)?,
            _ => 0,
        };
        let (accumulate, element_type, algorithm) = (self.gradient.accumulate, T::TYPE, self.algorithm);
        Ok(MagnitudeProblem {
            batches,
            m,
            n,
            dy,
            y,
            bias,
            magnitude,
            gradient,
            accumulate,
            status,
            element_type,
            algorithm,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct MagnitudeProblem {
    pub batches: usize,
    pub m: usize,
    pub n: usize,
    pub dy: Elements<3>,
    pub y: Elements<3>,
    /// [batches, 1, n]
    pub bias: Option<Elements<3>>,
    /// [batches, 1, n] of f32
    pub magnitude: Elements<3>,
    /// [batches or 1, 1, n] of f32
    pub gradient: Elements<3>,
    pub accumulate: bool,
    /// The caller's record, or 0.
    status: u64,
    element_type: ElementType,
    algorithm: i32,
}

impl MagnitudeProblem {
    fn check_disjoint(&self, workspace: (u64, usize)) -> Result<()> {
        let outputs = [
            Operand::new("the gradient of the magnitude", self.gradient),
            Operand::bytes("the workspace", workspace.0, workspace.1),
            Operand::bytes("the status", self.status, if self.status == 0 { 0 } else { size_of::<StatusRecord>() }),
        ];
        let mut inputs = vec![Operand::new("dy", self.dy), Operand::new("y", self.y)];
        inputs.extend(self.bias.map(|bias| Operand::new("bias", bias)));
        inputs.push(Operand::new("magnitude", self.magnitude));
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    /// Whether there is a gradient to be written; there may be none of no batch.
    fn has_gradient(&self) -> bool {
        self.gradient.extents[0] > 0
    }

    fn descriptor(&self, workspace: (u64, usize)) -> ffi::pk_lora_magnitude_gradient_descriptor {
        let batch_stride = if self.gradient.extents[0] == 1 { 0 } else { self.gradient.strides[0] as i64 };
        let (mut dy, mut y) = (self.dy.matrix(self.element_type), self.y.matrix(self.element_type));
        let mut bias = self.bias.as_ref().map_or_else(Default::default, |bias| bias.matrix(self.element_type));
        if self.batches == 0 {
            // The C side reads no batches as one: without rows, their sum is empty as well.
            (dy.rows, y.rows, bias) = (0, 0, Default::default());
        }
        ffi::pk_lora_magnitude_gradient_descriptor {
            size: size_of::<ffi::pk_lora_magnitude_gradient_descriptor>() as u64,
            algorithm: self.algorithm,
            batch_count: self.batches as i64,
            dy,
            y,
            bias,
            magnitude: self.magnitude.matrix(ElementType::F32),
            dmagnitude: ffi::pk_matrix { batch_stride, ..self.gradient.matrix(ElementType::F32) },
            mode: if self.accumulate { ffi::PK_GRADIENT_ACCUMULATE } else { ffi::PK_GRADIENT_OVERWRITE },
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
            status: self.status as *mut _,
            ..Default::default()
        }
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        if self.has_gradient() {
            let descriptor = self.descriptor((0, 0));
            ffi::call!(operation, pk_lora_magnitude_gradient_workspace(&descriptor, &mut bytes))?;
        }
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

/// `dmagnitudeᵢ = Σ over rows of dY[·, i]·(y[·, i] − biasᵢ) / magnitudeᵢ`: the gradient of the magnitude of DoRA, `y = (magnitude / norm) ⊙ (x·Wᵀ + s·(x·Aᵀ)·Bᵀ) + bias`, whose norm counts as a
/// constant; with dropout or a [`super::Middle`] in that forward, too: y has them. Of the two calls that make Hugging Face's dropout, as [`super::Target::row_scale`] says, y is that of the call
/// with the row scale alone, which has no bias.
///
/// **Shapes.** dY and y [m, n], with any strides of which one is 1 and optionally batched; bias, magnitude and the gradient `[n]`, or [batches, n]; magnitude and gradient in f32. One gradient for
/// all batches is the sum over them.
///
/// **Numbers.** It is made of y as it is given, rounded to its type, as an autograd is that keeps y and not the product before the magnitude; sums are f32 (f64 on [`crate::Cpu`]), with an error of at most
/// `ulp + L·2⁻²³·Σ|dY|·(|y| + |bias|) / |magnitude|` and `L` the [`Kernel::rounding_steps`]. Where a magnitude is 0, y does not tell: 0 is written, or added, and said. The same bits on every run, on every chip.
///
/// **Cost.** One pass over dY and y, `3·m·n` flops, two launches. A workspace of at most 4 bytes for 64 rows of a column, see [`magnitude_gradient_workspace`]. Can be captured in a graph.
///
/// S. Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, ICML 2024, section 4.3.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::Workspace`], [`Error::Argument`] (one gradient of a magnitude for each batch),
/// [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written. [`Error::Data`] for a magnitude of 0: all gradients were written. On a stream give a
/// [`Status`] to learn of it.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Vector, Workspace, lora};
/// let (dy, y) = ([1.0f32, 2.0, 3.0, -1.0], [5.0f32, 1.0, 7.0, 3.0]); // [2, 2] each
/// let (bias, magnitude, mut gradient) = ([1.0f32, 1.0], [2.0f32, -4.0], [0.0f32; 2]);
/// let to = lora::Gradient::overwrite(MatMut::new(&mut gradient, 1, 2)?);
/// let call = lora::MagnitudeGradient::new(Mat::new(&dy, 2, 2)?, Mat::new(&y, 2, 2)?, Vector::whole(&magnitude), to);
/// lora::magnitude_gradient(&Cpu, call.bias(Vector::whole(&bias)), Workspace::none())?;
/// assert_eq!(gradient, [11.0, 0.5]); // (1·4 + 3·6) / 2, (2·0 − 1·2) / −4
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn magnitude_gradient<T: Element, Q: Queue>(
    queue: &Q,
    call: MagnitudeGradient<'_, T, Q>,
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
        unsafe { reference::lora::magnitude_gradient::<T>(&problem, &mut record) };
        return problem.finish(record);
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace(OPERATION)?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(OPERATION, with_slack, queue, &mut guards)?;
    problem.check_disjoint((address, bytes))?;
    if !problem.has_gradient() {
        return Ok(());
    }
    let on_host = matches!(place, Place::Emulator { .. });
    let given = problem.status;
    if on_host {
        // The call itself returns what a stream would report later.
        problem.status = &raw mut record as u64;
    }
    let of_c = problem.descriptor((address, bytes));
    ffi::call!(OPERATION, pk_lora_magnitude_gradient(&descriptor, &of_c))?;
    problem.status = given;
    if on_host { problem.finish(record) } else { Ok(()) }
}

/// Bytes that [`magnitude_gradient`] needs as its workspace for this descriptor; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`magnitude_gradient`], as far as they depend on shapes and types.
pub fn magnitude_gradient_workspace<T: Element, Q: Queue>(
    queue: &Q,
    call: &MagnitudeGradient<'_, T, Q>,
) -> Result<usize> {
    let operation = "lora::magnitude_gradient_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    Ok(if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 })
}

/// The kernel that [`magnitude_gradient`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`magnitude_gradient`], as far as they depend on shapes and types.
pub fn magnitude_gradient_kernel<T: Element, Q: Queue>(
    queue: &Q,
    call: &MagnitudeGradient<'_, T, Q>,
) -> Result<Kernel> {
    let operation = "lora::magnitude_gradient_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    let descriptor = problem.descriptor((0, 0));
    ffi::pick(operation, queue.place(), |chip, choice| {
        ffi::call!(operation, pk_lora_magnitude_gradient_pick(chip, &descriptor, choice))
    })
}
