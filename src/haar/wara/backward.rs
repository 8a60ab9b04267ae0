//! The gradients of `y = base + the branch`.

use super::{Wara, WaraProblem, check_algorithm, checked, operand, with_slack};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, Mat, MatMut, Place, Queue, Result, Workspace, ffi, reference};

const OPERATION: &str = "haar::wara_backward";

/// The descriptor of a [`wara_backward`] call. `T` is the type of x, dy, W and dx; `P` that of the factors and their gradients: the same, or f32 with 16-bit x.
pub struct WaraBackward<'a, T, P, Q> {
    x: Mat<'a, T, Q>,
    dy: Mat<'a, T, Q>,
    adapter: Wara<'a, P, Q>,
    weights: Option<Mat<'a, T, Q>>,
    dx: Option<MatMut<'a, T, Q>>,
    gradients: Vec<[MatMut<'a, P, Q>; 2]>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> WaraBackward<'a, T, P, Q> {
    /// Of x [m, k] and the gradient dy [m, n] of y. Makes nothing until it is told what.
    pub fn new(x: Mat<'a, T, Q>, dy: Mat<'a, T, Q>, adapter: Wara<'a, P, Q>) -> Self {
        Self { x, dy, adapter, weights: None, dx: None, gradients: Vec::new(), algorithm: 0 }
    }

    /// Of a dense base W [n, k]: dx has its part too.
    pub fn weights(mut self, w: Mat<'a, T, Q>) -> Self {
        self.weights = Some(w);
        self
    }

    /// Makes dx [m, k], the gradient of x.
    pub fn input_gradient(mut self, dx: MatMut<'a, T, Q>) -> Self {
        self.dx = Some(dx);
        self
    }

    /// Makes the gradients of factors: once for each pair `(a, b)` of the adapter, in its order and of its extents.
    pub fn factor_gradients(mut self, da: MatMut<'a, P, Q>, db: MatMut<'a, P, Q>) -> Self {
        self.gradients.push([da, db]);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`wara_backward_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<BackwardProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("x")?;
        let ([m, k], [_, n]) = (self.x.extents(), self.dy.extents());
        check.extents("dy", self.dy.extents(), [m, n])?;
        let w = match &self.weights {
            None => None,
            Some(w) => {
                check.extents("w", w.extents(), [n, k])?;
                Some(operand(check, "w", w, queue, guards)?)
            }
        };
        let dx = match &self.dx {
            None => None,
            Some(dx) => {
                check.extents("dx", dx.extents(), [m, k])?;
                Some(checked(check, "dx", dx.acquire(queue, guards)?)?)
            }
        };
        let x = operand(check, "x", &self.x, queue, guards)?;
        let dy = operand(check, "dy", &self.dy, queue, guards)?;
        let adapter = self.adapter.problem(check, [m, n, k], queue, guards)?;
        if !self.gradients.is_empty() && self.gradients.len() != adapter.factors.len() {
            return Err(Error::Argument {
                operation,
                argument: "the number of factor gradients",
                expected: format!("0 or {}, one for each pair of factors", adapter.factors.len()),
                got: self.gradients.len().to_string(),
            });
        }
        let mut gradients = Vec::new();
        for ([da, db], [a, b]) in self.gradients.iter().zip(&adapter.factors) {
            let mut gradient = |name, gradient: &'s MatMut<'a, P, Q>, of: &Elements<3>| {
                check.extents(name, gradient.extents(), [of.extents[1], of.extents[2]])?;
                checked(check, name, gradient.acquire(queue, guards)?)
            };
            gradients.push([gradient("da", da, a)?, gradient("db", db, b)?]);
        }
        let element_types = [T::TYPE, P::TYPE];
        Ok(BackwardProblem { x, dy, w, dx, gradients, adapter, element_types, algorithm: self.algorithm })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct BackwardProblem {
    pub x: Elements<3>,
    pub dy: Elements<3>,
    pub w: Option<Elements<3>>,
    pub dx: Option<Elements<3>>,
    /// `[dA, dB]` for each pair of factors, or none.
    pub gradients: Vec<[Elements<3>; 2]>,
    pub adapter: WaraProblem,
    element_types: [ElementType; 2],
    algorithm: i32,
}

impl BackwardProblem {
    fn check_disjoint(&self, workspace: u64, bytes: usize) -> Result<()> {
        let mut outputs: Vec<_> = self.dx.iter().map(|dx| Operand::new("dx", *dx)).collect();
        for (i, [da, db]) in self.gradients.iter().enumerate() {
            outputs.push(Operand::new(format!("da of factor {i}"), *da));
            outputs.push(Operand::new(format!("db of factor {i}"), *db));
        }
        outputs.push(Operand::bytes("workspace", workspace, bytes));
        let mut inputs = vec![Operand::new("x", self.x), Operand::new("dy", self.dy)];
        inputs.extend(self.w.iter().map(|w| Operand::new("w", *w)));
        inputs.extend(self.adapter.inputs());
        Check(OPERATION).all_disjoint(&outputs, &inputs)
    }

    fn with_descriptor<R>(
        &self,
        workspace: u64,
        bytes: usize,
        call: impl FnOnce(&ffi::pk_haar_wara_backward_descriptor) -> R,
    ) -> R {
        let [element_type, factor_type] = self.element_types;
        let optional = |elements: &Option<Elements<3>>| {
            elements.map_or_else(Default::default, |elements| elements.matrix(element_type))
        };
        let gradients = |which: usize| -> Vec<_> {
            self.gradients.iter().map(|gradients| gradients[which].matrix(factor_type)).collect()
        };
        let (da, db) = (gradients(0), gradients(1));
        let list = |gradients: &Vec<ffi::pk_matrix>| {
            if gradients.is_empty() { std::ptr::null() } else { gradients.as_ptr() }
        };
        self.adapter.with_descriptor(|adapter| {
            call(&ffi::pk_haar_wara_backward_descriptor {
                size: size_of::<ffi::pk_haar_wara_backward_descriptor>() as u64,
                algorithm: self.algorithm,
                adapter,
                x: self.x.matrix(element_type),
                dy: self.dy.matrix(element_type),
                w: optional(&self.w),
                dx: optional(&self.dx),
                da: list(&da),
                db: list(&db),
                workspace: workspace as *mut _,
                workspace_bytes: bytes as u64,
                ..Default::default()
            })
        })
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor(0, 0, |descriptor| {
            ffi::call!(operation, pk_haar_wara_backward_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }
}

/// The gradients of [`wara_forward`](super::wara_forward) from dy: `dx = dy·(W + ΔW)`, and those of the factors, `dB = s·g·D(dYᵀ·x)·Aᵀ` and `dA = s·g·Bᵀ·D(dYᵀ·x)` for each band of
/// coefficients in weight mode; in activation mode the same of each band of tokens. The adjoint of D⁻¹ is D, or with a boundary mode the adjoint of that extension.
///
/// **Shapes.** x, dx [m, k], dy [m, n], W [n, k], dA and dB as A and B, any strides of which one is 1. Each output is optional; W is read for dx alone.
///
/// **Numbers.** Sums and intermediates are f32 (f64 on [`crate::Cpu`]), each output is rounded once; errors are at most `ulp + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`].
/// No atomics, the same bits on every run. Outputs are overwritten, not added to.
///
/// **Cost.** `2·m·n·k + 6·m·r·(n + k)` flops on CUDA cores, r the sum of all bands' ranks; neither dW nor coefficients are made. `x·Aᵀ` is made again instead of being kept. A workspace of 8·m·r
/// bytes, twice that in activation mode; the call can be captured in a graph.
///
/// # Errors
/// Those of [`wara_forward`](super::wara_forward), and [`Error::Argument`] for a number of gradients that is not that of factors.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Workspace, haar};
/// let (x, dy) = ([1.0f32, 2.0], [1.0f32, 1.0]);
/// let (a, b) = ([1.0f32, 0.0], [2.0f32, 0.0]);
/// let adapter = haar::Wara::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 1.0);
/// let (mut dx, mut da, mut db) = ([0.0f32; 2], [0.0f32; 2], [0.0f32; 2]);
/// let call = haar::WaraBackward::new(Mat::new(&x, 1, 2)?, Mat::new(&dy, 1, 2)?, adapter)
///     .input_gradient(MatMut::new(&mut dx, 1, 2)?)
///     .factor_gradients(MatMut::new(&mut da, 1, 2)?, MatMut::new(&mut db, 2, 1)?);
/// haar::wara_backward(&Cpu, call, Workspace::none())?;
/// // dW = [[1, 2], [1, 2]], whose coefficients are [[3, −1], [0, 0]].
/// assert_eq!((dx, da, db), ([2.0, 2.0], [6.0, -2.0], [3.0, 0.0]));
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn wara_backward<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: WaraBackward<'_, T, P, Q>,
    workspace: Workspace<'_, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    if place == Place::Cpu {
        problem.check_disjoint(0, 0)?;
        check_algorithm(OPERATION, call.algorithm)?;
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and outputs are disjoint from each other and from the inputs.
        unsafe { reference::haar::wara_backward::<T, P>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    let bytes = problem.workspace(OPERATION)?;
    let address = workspace.acquire(OPERATION, with_slack(bytes), queue, &mut guards)?;
    problem.check_disjoint(address, bytes)?;
    problem
        .with_descriptor(address, bytes, |backward| ffi::call!(OPERATION, pk_haar_wara_backward(&descriptor, backward)))
}

/// Bytes that [`wara_backward`] needs as its workspace, alignment included. 0 on [`crate::Cpu`].
///
/// # Errors
/// As [`wara_backward`], as far as they depend on shapes and types.
pub fn wara_backward_workspace<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WaraBackward<'_, T, P, Q>,
) -> Result<usize> {
    let operation = "haar::wara_backward_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    problem.workspace(operation).map(with_slack)
}

/// The kernel that [`wara_backward`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`wara_backward`], as far as they depend on shapes and types.
pub fn wara_backward_kernel<T: Element, P: Element, Q: Queue>(
    queue: &Q,
    call: &WaraBackward<'_, T, P, Q>,
) -> Result<Kernel> {
    let operation = "haar::wara_backward_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor(0, 0, |descriptor| {
            ffi::call!(operation, pk_haar_wara_backward_pick(chip, descriptor, choice))
        })
    })
}
