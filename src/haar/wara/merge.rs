//! `W' = W + ΔW`, and back.

use super::{Wara, WaraProblem, check_algorithm, checked, operand};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, Mat, MatMut, Place, Queue, Result, ffi, reference};

/// The descriptor of a [`wara_merge`] or [`wara_unmerge`] call. `T` is the type of W; `P` that of the factors: the same, or f32 with 16-bit W.
pub struct WaraMerge<'a, T, P, Q> {
    source: Option<Mat<'a, T, Q>>,
    destination: MatMut<'a, T, Q>,
    adapter: Wara<'a, P, Q>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> WaraMerge<'a, T, P, Q> {
    /// From the weights `source` [n, k] to `destination`, which is elsewhere.
    pub fn new(source: Mat<'a, T, Q>, destination: MatMut<'a, T, Q>, adapter: Wara<'a, P, Q>) -> Self {
        Self { source: Some(source), ..Self::in_place(destination, adapter) }
    }

    /// The weights [n, k] are changed where they are.
    pub fn in_place(weights: MatMut<'a, T, Q>, adapter: Wara<'a, P, Q>) -> Self {
        Self { source: None, destination: weights, adapter, algorithm: 0 }
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`wara_merge_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<MergeProblem> {
        let check = Check(operation);
        check.element_types::<T, P>("destination")?;
        let [n, k] = self.destination.extents();
        if self.adapter.grid.is_some() {
            let (expected, got) = ("weight mode, which has weights to merge".into(), "activation mode".into());
            return Err(Error::Argument { operation, argument: "the adapter", expected, got });
        }
        let destination = checked(check, "destination", self.destination.acquire(queue, guards)?)?;
        let source = match &self.source {
            None => destination,
            Some(source) => {
                check.extents("source", source.extents(), [n, k])?;
                operand(check, "source", source, queue, guards)?
            }
        };
        let adapter = self.adapter.problem(check, [0, n, k], queue, guards)?;
        let in_place = self.source.is_none();
        Ok(MergeProblem { source, destination, in_place, adapter, element_type: T::TYPE, algorithm: self.algorithm })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct MergeProblem {
    pub source: Elements<3>,
    pub destination: Elements<3>,
    in_place: bool,
    pub adapter: WaraProblem,
    element_type: ElementType,
    algorithm: i32,
}

impl MergeProblem {
    fn check_disjoint(&self, operation: &'static str) -> Result<()> {
        let mut inputs = self.adapter.inputs();
        if !self.in_place {
            inputs.push(Operand::new("source", self.source));
        }
        Check(operation).all_disjoint(&[Operand::new("destination", self.destination)], &inputs)
    }

    fn with_descriptor<R>(&self, call: impl FnOnce(&ffi::pk_haar_wara_merge_descriptor) -> R) -> R {
        self.adapter.with_descriptor(|adapter| {
            call(&ffi::pk_haar_wara_merge_descriptor {
                size: size_of::<ffi::pk_haar_wara_merge_descriptor>() as u64,
                algorithm: self.algorithm,
                adapter,
                source: self.source.matrix(self.element_type),
                destination: self.destination.matrix(self.element_type),
                ..Default::default()
            })
        })
    }
}

/// `W' = W + ΔW` of a [`Wara`] adapter in weight mode, rounded once.
///
/// **Shapes.** W and W' [n, k], any strides of which one is 1; factors as [`Wara`] says. W' may be W.
///
/// **Numbers.** Sums are f32 (f64 for f32 W on [`crate::Cpu`]); the error is at most `ulp(W') + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`]. The same bits on every run. Merging
/// loses what W's type cannot hold: [`wara_unmerge`] returns W within `ulp(W') + ulp(W)` and the same sum.
///
/// **Cost.** W read and W' written once; `2·n·k·r` flops, r the rank of the coefficients. No workspace, and no coefficients in memory; the call can be captured in a graph.
///
/// # Errors
/// [`Error::Argument`] (levels, rank 0, numbers of factors and gains, activation mode), [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (the destination may be
/// the source itself, and nothing else), [`Error::Alignment`], [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, haar};
/// // The coefficients [[2, 0], [0, 2]].
/// let (a, b) = ([1.0f32, 0.0, 0.0, 1.0], [2.0f32, 0.0, 0.0, 2.0]);
/// let adapter = haar::Wara::new(Mat::new(&a, 2, 2)?, Mat::new(&b, 2, 2)?, 1.0);
/// let mut w = [1.0f32; 4];
/// haar::wara_merge(&Cpu, haar::WaraMerge::in_place(MatMut::new(&mut w, 2, 2)?, adapter))?;
/// assert_eq!(w, [3.0, 1.0, 1.0, 3.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn wara_merge<T: Element, P: Element, Q: Queue>(queue: &Q, call: WaraMerge<'_, T, P, Q>) -> Result<()> {
    run("haar::wara_merge", 1, queue, call)
}

/// `W = W' − ΔW`: takes a [`wara_merge`] back.
///
/// Formula, shapes, numbers, cost and errors are those of [`wara_merge`].
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, haar};
/// let (a, b) = ([1.0f32, 0.0], [2.0f32, 0.0]);
/// let mut w = [0.5f32; 4];
/// for step in [haar::wara_merge, haar::wara_unmerge] {
///     let adapter = haar::Wara::new(Mat::new(&a, 1, 2)?, Mat::new(&b, 2, 1)?, 1.0);
///     step(&Cpu, haar::WaraMerge::in_place(MatMut::new(&mut w, 2, 2)?, adapter))?;
/// }
/// assert_eq!(w, [0.5; 4]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn wara_unmerge<T: Element, P: Element, Q: Queue>(queue: &Q, call: WaraMerge<'_, T, P, Q>) -> Result<()> {
    run("haar::wara_unmerge", -1, queue, call)
}

fn run<T: Element, P: Element, Q: Queue>(
    operation: &'static str,
    direction: i32,
    queue: &Q,
    call: WaraMerge<'_, T, P, Q>,
) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(operation, Some(queue), &mut guards)?;
    problem.check_disjoint(operation)?;
    if place == Place::Cpu {
        check_algorithm(operation, call.algorithm)?;
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the destination is disjoint from the inputs or the source itself.
        unsafe { reference::haar::wara_merge::<T, P>(&problem, f64::from(direction)) };
        return Ok(());
    }
    let descriptor = place.descriptor(operation)?;
    problem.with_descriptor(|merge| {
        if direction > 0 {
            ffi::call!(operation, pk_haar_wara_merge(&descriptor, merge))
        } else {
            ffi::call!(operation, pk_haar_wara_unmerge(&descriptor, merge))
        }
    })
}

/// The kernel that [`wara_merge`] and [`wara_unmerge`] run for this descriptor on this queue's chip.
///
/// # Errors
/// As [`wara_merge`], as far as they depend on shapes and types.
pub fn wara_merge_kernel<T: Element, P: Element, Q: Queue>(queue: &Q, call: &WaraMerge<'_, T, P, Q>) -> Result<Kernel> {
    let operation = "haar::wara_merge_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(reference::haar::wara_merge_kernel::<T>(&problem));
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor(|descriptor| ffi::call!(operation, pk_haar_wara_merge_pick(chip, descriptor, choice)))
    })
}
