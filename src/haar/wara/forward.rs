//! `y = base + the branch`.

use super::{Wara, WaraProblem, check_algorithm, checked, operand, with_slack};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Kernel, Mat, MatMut, Place, Queue, Result, Workspace, ffi, reference};

const OPERATION: &str = "haar::wara_forward";

/// What y holds beside the branch.
pub(crate) enum Base<W> {
    None,
    Dense(W),
    InY,
}

/// The descriptor of a [`wara_forward`] call. `T` is the type of x, W and y; `P` that of the factors: the same, or f32 with 16-bit x.
pub struct WaraForward<'a, T, P, Q> {
    x: Mat<'a, T, Q>,
    y: MatMut<'a, T, Q>,
    adapter: Wara<'a, P, Q>,
    base: Base<Mat<'a, T, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> WaraForward<'a, T, P, Q> {
    /// The branch of x [m, k] alone, to y [m, n].
    pub fn new(x: Mat<'a, T, Q>, y: MatMut<'a, T, Q>, adapter: Wara<'a, P, Q>) -> Self {
        Self { x, y, adapter, base: Base::None, algorithm: 0 }
    }

    /// Beside `x·Wᵀ`, W [n, k].
    pub fn weights(mut self, w: Mat<'a, T, Q>) -> Self {
        self.base = Base::Dense(w);
        self
    }

    /// Added to what y holds.
    pub fn in_y(mut self) -> Self {
        self.base = Base::InY;
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`wara_forward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<ForwardProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("x")?;
        let ([m, k], [_, n]) = (self.x.extents(), self.y.extents());
        check.extents("y", self.y.extents(), [m, n])?;
        let base = match &self.base {
            Base::None => Base::None,
            Base::InY => Base::InY,
            Base::Dense(w) => {
                check.extents("w", w.extents(), [n, k])?;
                Base::Dense(operand(check, "w", w, queue, guards)?)
            }
        };
        Ok(ForwardProblem {
            x: operand(check, "x", &self.x, queue, guards)?,
            y: checked(check, "y", self.y.acquire(queue, guards)?)?,
            base,
            adapter: self.adapter.problem(check, [m, n, k], queue, guards)?,
            element_type: T::TYPE,
            algorithm: self.algorithm,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct ForwardProblem {
    pub x: Elements<3>,
    pub y: Elements<3>,
    pub base: Base<Elements<3>>,
    pub adapter: WaraProblem,
    element_type: ElementType,
    algorithm: i32,
}

impl ForwardProblem {
    fn check_disjoint(&self, workspace: u64, bytes: usize) -> Result<()> {
        let outputs = [Operand::new("y", self.y), Operand::bytes("workspace", workspace, bytes)];
        let mut inputs = self.adapter.inputs();
        inputs.push(Operand::new("x", self.x));
        if let Base::Dense(w) = self.base {
            inputs.push(Operand::new("w", w));
        }
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    fn with_descriptor<R>(
        &self,
        workspace: u64,
        bytes: usize,
        call: impl FnOnce(&ffi::pk_haar_wara_forward_descriptor) -> R,
    ) -> R {
        let (base, w) = match self.base {
            Base::None => (ffi::PK_LORA_BASE_NONE, Default::default()),
            Base::Dense(w) => (ffi::PK_LORA_BASE_DENSE, w.matrix(self.element_type)),
            Base::InY => (ffi::PK_LORA_BASE_IN_Y, Default::default()),
        };
        self.adapter.with_descriptor(|adapter| {
            call(&ffi::pk_haar_wara_forward_descriptor {
                size: size_of::<ffi::pk_haar_wara_forward_descriptor>() as u64,
                algorithm: self.algorithm,
                adapter,
                base,
                x: self.x.matrix(self.element_type),
                w,
                y: self.y.matrix(self.element_type),
                workspace: workspace as *mut _,
                workspace_bytes: bytes as u64,
                ..Default::default()
            })
        })
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor(0, 0, |descriptor| {
            ffi::call!(operation, pk_haar_wara_forward_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }
}

/// `y = x·(W + ΔW)ᵀ` in weight mode and `y = x·Wᵀ + s·D⁻¹(g ∘ (D(x)·Aᵀ·Bᵀ))` in activation mode, of a [`Wara`] adapter; the base is W, none ([`WaraForward::new`]), or already in y.
///
/// **Shapes.** x [m, k], W [n, k], y [m, n], any strides of which one is 1; factors as [`Wara`] says. In activation mode m is a multiple of the tokens of a grid.
///
/// **Numbers.** Neither coefficients nor ΔW are made: the inverse transform of a low-rank band is the product of its factors with rows and columns repeated, so that `x·ΔWᵀ` is a low-rank branch
/// of 3·levels + 1 bands of ranks. Sums and intermediates are f32 (f64 on [`crate::Cpu`]), y is rounded once; the error is at most `ulp(y) + L·2⁻²³·Σ|terms|` with `L` the
/// [`Kernel::rounding_steps`], Σ|terms| those of all bands. The same bits on every run.
///
/// **Cost.** `2·m·n·k + 2·m·r·(n + k)` flops on CUDA cores, r the sum of all bands' ranks (in activation mode with one pair of factors its rank). For a dense base on tensor cores let another
/// product make y first and use [`WaraForward::in_y`], or [`wara_merge`](super::wara_merge) once. A workspace of 4·m·r bytes, twice that in activation mode; the call can be captured in a graph.
///
/// # Errors
/// [`crate::Error::Argument`] (levels, rank 0, numbers of factors and gains, grids), [`crate::Error::Shape`], [`crate::Error::Stride`], [`crate::Error::ElementType`],
/// [`crate::Error::Overlap`], [`crate::Error::Alignment`], [`crate::Error::Workspace`], [`crate::Error::NoDevice`], [`crate::Error::NotBuilt`], [`crate::Error::Algorithm`]: nothing was
/// launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Workspace, haar};
/// let x = [1.0f32, 2.0];
/// // The coefficients [[2, 0], [0, 0]] are ΔW = [[1, 1], [1, 1]].
/// let (a, b) = ([1.0f32, 0.0], [2.0f32, 0.0]);
/// let adapter = haar::Wara::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 1.0);
/// let mut y = [0.0f32; 2];
/// let call = haar::WaraForward::new(Mat::new(&x, 1, 2)?, MatMut::new(&mut y, 1, 2)?, adapter);
/// haar::wara_forward(&Cpu, call, Workspace::none())?;
/// assert_eq!(y, [3.0, 3.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn wara_forward<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: WaraForward<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    if place == Place::Cpu {
        problem.check_disjoint(0, 0)?;
        check_algorithm(OPERATION, call.algorithm)?;
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and y is disjoint from the inputs.
        unsafe { reference::haar::wara_forward::<T, P>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace(OPERATION)?;
    let address = workspace.acquire(OPERATION, with_slack(bytes), queue, &mut guards)?;
    problem.check_disjoint(address, bytes)?;
    problem.with_descriptor(address, bytes, |forward| ffi::call!(OPERATION, pk_haar_wara_forward(&descriptor, forward)))
}

/// Bytes that [`wara_forward`] needs as its workspace, alignment included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`wara_forward`], as far as they depend on shapes and types.
pub fn wara_forward_workspace<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WaraForward<'_, T, P, Q>,
) -> Result<usize> {
    let operation = "haar::wara_forward_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    problem.workspace(operation).map(with_slack)
}

/// The kernel that [`wara_forward`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`wara_forward`], as far as they depend on shapes and types.
pub fn wara_forward_kernel<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WaraForward<'_, T, P, Q>,
) -> Result<Kernel> {
    let operation = "haar::wara_forward_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor(0, 0, |descriptor| {
            ffi::call!(operation, pk_haar_wara_forward_pick(chip, descriptor, choice))
        })
    })
}
