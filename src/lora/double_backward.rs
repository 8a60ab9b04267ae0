//! The backward of [`super::backward`]: second derivatives of `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`.

use super::Gradient;
use super::backward::Factors;
use crate::workspace::ALIGNMENT;
use crate::{Element, Error, Kernel, Place, Queue, Result, Tensor, Workspace, ffi, reference};

mod problem;

pub(crate) use problem::DoubleBackwardProblem;

const OPERATION: &str = "lora::double_backward";

/// The descriptor of a [`double_backward`] call. `T` is the type of x, dY, W, of x's cotangent and the gradients of x and dY; `P` that of A, B, their
/// cotangents and gradients: the same, or f32 with 16-bit x.
pub struct DoubleBackward<'a, T, P, Q> {
    x: Tensor<'a, T, Q, 3>,
    dy: Tensor<'a, T, Q, 3>,
    w: Option<Tensor<'a, T, Q, 3>>,
    adapter: Option<Factors<'a, P, Q>>,
    ux: Option<Tensor<'a, T, Q, 3>>,
    ua: Option<Tensor<'a, P, Q, 3>>,
    ub: Option<Tensor<'a, P, Q, 3>>,
    of_dy: Option<Gradient<'a, T, Q>>,
    of_x: Option<Gradient<'a, T, Q>>,
    of_a: Option<Gradient<'a, P, Q>>,
    of_b: Option<Gradient<'a, P, Q>>,
    algorithm: i32,
    flags: u32,
}

impl<'a, T: Element, P: Element, Q: Queue> DoubleBackward<'a, T, P, Q> {
    /// Of a backward call with the activations `x` [m, k] or [batches, m, k] and the gradient `dy` [m, n] of y.
    pub fn new(x: impl Into<Tensor<'a, T, Q, 3>>, dy: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        let (x, dy, w, adapter) = (x.into(), dy.into(), None, None);
        let (ux, ua, ub, of_dy, of_x, of_a, of_b) = (None, None, None, None, None, None, None);
        Self { x, dy, w, adapter, ux, ua, ub, of_dy, of_x, of_a, of_b, algorithm: 0, flags: 0 }
    }

    /// The base's weight `w` [n, k], a constant: for the gradient of dY, where x's gradient has a cotangent; without it, that of the branch alone.
    pub fn dense(mut self, w: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        self.w = Some(w.into());
        self
    }

    /// The adapter, as in backward: `a` [rank, k], `b` [n, rank].
    pub fn adapter(mut self, a: impl Into<Tensor<'a, P, Q, 3>>, b: impl Into<Tensor<'a, P, Q, 3>>, scale: f32) -> Self {
        self.adapter = Some(Factors { a: a.into(), b: b.into(), scale });
        self
    }

    /// `u_x` [m, k], the cotangent of the gradient of x. One that is not given counts as 0, and costs nothing.
    pub fn x_cotangent(mut self, u: impl Into<Tensor<'a, T, Q, 3>>) -> Self {
        self.ux = Some(u.into());
        self
    }

    /// `u_a` [rank, k], the cotangent of the gradient of A: one for all batches where that is the sum over them, or one for each.
    pub fn a_cotangent(mut self, u: impl Into<Tensor<'a, P, Q, 3>>) -> Self {
        self.ua = Some(u.into());
        self
    }

    /// `u_b` [n, rank], the cotangent of the gradient of B: one for all batches where that is the sum over them, or one for each.
    pub fn b_cotangent(mut self, u: impl Into<Tensor<'a, P, Q, 3>>) -> Self {
        self.ub = Some(u.into());
        self
    }

    /// Asks for the gradient of dY, [m, n] or [batches, m, n].
    pub fn dy_gradient(mut self, gradient: Gradient<'a, T, Q>) -> Self {
        self.of_dy = Some(gradient);
        self
    }

    /// Asks for the gradient of x, [m, k] or [batches, m, k].
    pub fn x_gradient(mut self, gradient: Gradient<'a, T, Q>) -> Self {
        self.of_x = Some(gradient);
        self
    }

    /// Asks for the gradient of A, [rank, k]; of one matrix for several batches, the sum over them.
    pub fn a_gradient(mut self, gradient: Gradient<'a, P, Q>) -> Self {
        self.of_a = Some(gradient);
        self
    }

    /// Asks for the gradient of B, [n, rank]; of one matrix for several batches, the sum over them.
    pub fn b_gradient(mut self, gradient: Gradient<'a, P, Q>) -> Self {
        self.of_b = Some(gradient);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`double_backward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Lets f32 be multiplied as one number of tf32, in the product with W and in those of rank columns, as [`super::Forward::allow_tf32`] says.
    pub fn allow_tf32(mut self) -> Self {
        self.flags |= ffi::PK_FLAG_ALLOW_TF32 as u32;
        self
    }
}

/// The backward of [`super::backward`], for one layer `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ`: of `⟨u_x, dX⟩ + ⟨u_a, dA⟩ + ⟨u_b, dB⟩`, where dX, dA and dB are what backward
/// makes of dY, the gradients of dY, x, A and B; any of them, each overwritten or added to, of any of the cotangents.
///
/// | gradient | formula | shape |
/// |---|---|---|
/// | dY | `u_x·Wᵀ + s·(H·Bᵀ + (x·Aᵀ)·u_bᵀ)` | [m, n] |
/// | x | `s·((dY·u_b)·A + (dY·B)·u_a)` | [m, k] |
/// | A | `s·((dY·B)ᵀ·u_x + (dY·u_b)ᵀ·x)` | [rank, k] |
/// | B | `s·dYᵀ·H` | [n, rank] |
///
/// where `H = u_x·Aᵀ + x·u_aᵀ`. W is a constant. Any strides of which one is 1, any rank (0: no branch), optionally batched. Not taken: dropout, a
/// [`super::Middle`], a row scale, tables of adapters, weights of samples. Several layers that share x: a call each with the same `u_x`, that of x
/// [`Gradient::accumulate`]d, which then is rounded by each.
///
/// **Use.** As the backward of an autograd's node that calls backward, it makes LoRA differentiable twice. The Hessian times `(v_A, v_B)`, for influence
/// functions or second-order optimisers: through the layers in their order, with `u_a = v_A`, `u_b = v_B`, and as `u_x` what the layer before gave for its
/// dY, which is this layer's dX. The gradients of A and B are part of the product; the rest is what [`super::backward`] adds to them when it takes
/// the gradients of x, and what the loss makes of the last gradient of dY, through the layers in reverse. Meta-learning through a step `A' = A − η·dA` is the
/// same with `u_a = −η·(the gradient of A')`.
///
/// **Numbers.** Products and sums are f32 (f64 on [`crate::Cpu`]), rounded once to the gradient's type: the error is at most `ulp + L·2⁻²³·Σ|terms|` with `L`
/// the [`Kernel::rounding_steps`]. What has rank columns is kept in f32. NaN and infinities pass through as arithmetic says. No atomics: sums over rows are
/// made in parts that depend on the shape alone and are added up in their order, so the bits are the same on every run. In the gradients of dY and x the
/// tensor-core kernels multiply what has rank columns by s, in f32, before its products with B, u_b, A and u_a: what is beyond f32's range is infinite then,
/// although the gradient would not be.
///
/// **Cost.** At most `2·m·n·k + m·rank·(14·k + 10·n)` flops: one product with W, and of rank columns five others with x or u_x and three with dY, each a pass
/// over it (for at most 64 ranks; one more for each 64); of a cotangent or a gradient that is not there, none. No temporary of the size of y, x or W: a
/// workspace for at most five matrices of [m, rank] in f32, of few rows in parts, and for the parts of sums over rows, see [`double_backward_workspace`].
/// Nothing is allocated on the device, nothing synchronises: the call can be captured in a graph.
///
/// B. Pearlmutter, *Fast Exact Multiplication by the Hessian*, Neural Computation 1994; C. Finn et al., *Model-Agnostic Meta-Learning*, ICML 2017; P. Koh and
/// P. Liang, *Understanding Black-box Predictions via Influence Functions*, ICML 2017.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (a gradient with an input or another gradient), [`Error::Alignment`],
/// [`Error::Workspace`], [`Error::Argument`] (the cotangent or the gradient of an adapter that is not there, more than 2^48 rows or columns times the rank),
/// [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written. [`Error::Cuda`]: some kernels may have run.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Workspace, lora};
/// let (x, dy) = ([1.0f32, 2.0], [1.0f32, -1.0]); // [1, 2] each
/// let (a, b) = ([1.0f32, 1.0], [1.0f32, 3.0]); // [1, 2], [2, 1]
/// let (ua, ub) = ([2.0f32, 1.0], [1.0f32, 0.0]);
/// let (mut of_dy, mut of_x, mut of_a, mut of_b) = ([0.0f32; 2], [0.0f32; 2], [0.0f32; 2], [10.0f32; 2]);
/// let call = lora::DoubleBackward::new(Mat::new(&x, 1, 2)?, Mat::new(&dy, 1, 2)?)
///     .adapter(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 0.5)
///     .a_cotangent(Mat::new(&ua, 1, 2)?)
///     .b_cotangent(Mat::new(&ub, 2, 1)?)
///     .dy_gradient(lora::Gradient::overwrite(MatMut::new(&mut of_dy, 1, 2)?))
///     .x_gradient(lora::Gradient::overwrite(MatMut::new(&mut of_x, 1, 2)?))
///     .a_gradient(lora::Gradient::overwrite(MatMut::new(&mut of_a, 1, 2)?))
///     .b_gradient(lora::Gradient::accumulate(MatMut::new(&mut of_b, 2, 1)?));
/// lora::double_backward(&Cpu, call, Workspace::none())?;
/// assert_eq!(of_dy, [3.5, 6.0]); // 0.5 · (H · Bᵀ + (x · Aᵀ) · u_bᵀ) with H = x · u_aᵀ = 4, x · Aᵀ = 3
/// assert_eq!(of_x, [-1.5, -0.5]); // 0.5 · ((dY · u_b) · A + (dY · B) · u_a) with dY · u_b = 1, dY · B = −2
/// assert_eq!(of_a, [0.5, 1.0]); // 0.5 · (dY · u_b)ᵀ · x
/// assert_eq!(of_b, [12.0, 8.0]); // 10 + 0.5 · dYᵀ · H
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn double_backward<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: DoubleBackward<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    if place == Place::Cpu {
        problem.check_disjoint((0, 0))?;
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: OPERATION, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from all other operands.
        unsafe { reference::lora::double_backward::<T, P>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace(OPERATION)?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(OPERATION, with_slack, queue, &mut guards)?;
    problem.check_disjoint((address, bytes))?;
    let of_c = problem.descriptor((address, bytes));
    ffi::call!(OPERATION, pk_lora_double_backward(&descriptor, &of_c))
}

/// Bytes that [`double_backward`] needs as its workspace for this descriptor, on any kernel that could be picked; alignment is included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`double_backward`], as far as they depend on shapes and types.
pub fn double_backward_workspace<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &DoubleBackward<'_, T, P, Q>,
) -> Result<usize> {
    let operation = "lora::double_backward_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    Ok(if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 })
}

/// The kernel that [`double_backward`] makes the gradients of dY and x with, for this descriptor on this queue's chip; it stands for the others as in backward.
///
/// # Errors
/// As [`double_backward`], as far as they depend on shapes and types.
pub fn double_backward_kernel<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &DoubleBackward<'_, T, P, Q>,
) -> Result<Kernel> {
    let operation = "lora::double_backward_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    let descriptor = problem.descriptor((0, 0));
    ffi::pick(operation, queue.place(), |chip, choice| {
        ffi::call!(operation, pk_lora_double_backward_pick(chip, &descriptor, choice))
    })
}
