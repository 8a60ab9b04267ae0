//! `W' = W + Σᵢ sᵢ·Bᵢ·Aᵢ`, and back.

use super::{Adapter, AdapterProblem};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, Mat, MatMut, Place, Queue, Result, ffi, reference};

/// Adapters that one [`merge`] can take: as many as a kernel's parameters hold.
const MAX_ADAPTERS: usize = ffi::PK_LORA_MERGE_ADAPTERS as usize;

/// The descriptor of a [`merge`] or [`unmerge`] call. `T` is the type of W; `P` that of A and B: the same, or f32 with 16-bit W.
pub struct Merge<'a, T, P, Q> {
    source: Option<Mat<'a, T, Q>>,
    destination: MatMut<'a, T, Q>,
    adapters: Vec<Adapter<'a, P, Q>>,
    residual: Option<MatMut<'a, u16, Q>>,
    algorithm: i32,
}

impl<'a, T: Element, P: Element, Q: Queue> Merge<'a, T, P, Q> {
    /// From the weights `source` [n, k] to `destination`, which is elsewhere.
    pub fn new(source: Mat<'a, T, Q>, destination: MatMut<'a, T, Q>) -> Self {
        Self { source: Some(source), ..Self::in_place(destination) }
    }

    /// The weights [n, k] are changed where they are.
    pub fn in_place(weights: MatMut<'a, T, Q>) -> Self {
        Self { source: None, destination: weights, adapters: Vec::new(), residual: None, algorithm: 0 }
    }

    /// Another adapter; at most 64. All of them are added up before the one rounding.
    pub fn adapter(mut self, adapter: Adapter<'a, P, Q>) -> Self {
        self.adapters.push(adapter);
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

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<MergeProblem> {
        let check = Check(operation);
        check.element_types::<T, P>()?;
        let shape = self.destination.extents();
        let matrix = |name, elements: Elements<2>| {
            check.extents(name, elements.extents, shape)?;
            check.stride(name, &elements)?;
            check.alignment(name, &elements)?;
            check.size(name, &elements)?;
            Ok::<Elements<3>, Error>(elements.into())
        };
        let destination = matrix("destination", self.destination.acquire(queue, guards)?)?;
        let source = match &self.source {
            None => destination,
            Some(source) => matrix("source", source.acquire(queue, guards)?)?,
        };
        let residual = match &self.residual {
            None => None,
            Some(_) if T::TYPE == ElementType::F32 => {
                let expected = "f16 or bf16: 16 bits cannot restore 32, keep a copy".into();
                return Err(Error::ElementType {
                    operation,
                    argument: "weight with a residual",
                    expected,
                    got: T::TYPE,
                });
            }
            Some(residual) => Some(matrix("residual", residual.acquire(queue, guards)?)?),
        };
        if self.adapters.len() > MAX_ADAPTERS {
            let (expected, got) = (format!("at most {MAX_ADAPTERS}"), self.adapters.len().to_string());
            return Err(Error::Argument { operation, argument: "the number of adapters", expected, got });
        }
        let adapters = self
            .adapters
            .iter()
            .map(|adapter| adapter.problem(check, Some(shape), queue, guards))
            .collect::<Result<Vec<_>>>()?;
        let algorithm = self.algorithm;
        Ok(MergeProblem { source, destination, residual, adapters, element_types: [T::TYPE, P::TYPE], algorithm })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct MergeProblem {
    pub source: Elements<3>,
    pub destination: Elements<3>,
    pub residual: Option<Elements<3>>,
    pub adapters: Vec<AdapterProblem>,
    element_types: [ElementType; 2],
    algorithm: i32,
}

impl MergeProblem {
    fn check_disjoint(&self, operation: &'static str) -> Result<()> {
        let mut outputs = vec![Operand::new("destination", self.destination)];
        let mut inputs = Vec::new();
        if self.source != self.destination {
            inputs.push(Operand::new("source", self.source));
        }
        if let Some(residual) = self.residual {
            outputs.push(Operand::new("residual", residual));
        }
        for (i, adapter) in self.adapters.iter().enumerate() {
            inputs.push(Operand::new(format!("a of adapter {i}"), adapter.a));
            inputs.push(Operand::new(format!("b of adapter {i}"), adapter.b));
        }
        Check(operation).all_disjoint(&outputs, &inputs)
    }

    fn with_descriptor<R>(&self, call: impl FnOnce(&ffi::pk_lora_merge_descriptor) -> R) -> R {
        let adapters: Vec<_> = self.adapters.iter().map(AdapterProblem::entry).collect();
        let [element_type, adapter_element_type] = self.element_types;
        call(&ffi::pk_lora_merge_descriptor {
            size: size_of::<ffi::pk_lora_merge_descriptor>() as u64,
            algorithm: self.algorithm,
            source: self.source.matrix(element_type),
            destination: self.destination.matrix(element_type),
            adapters: adapters.as_ptr(),
            adapter_count: adapters.len() as i64,
            adapter_element_type: adapter_element_type as i32,
            residual: self.residual.map_or_else(Default::default, |residual| residual.matrix(element_type)),
            ..Default::default()
        })
    }
}

/// `W' = W + Σᵢ sᵢ·Bᵢ·Aᵢ`, rounded once: W [n, k], Aᵢ [rankᵢ, k], Bᵢ [n, rankᵢ], each with any strides of which one is 1.
///
/// **Numbers.** Sums are f32 (f64 on [`crate::Cpu`]); the error is at most `ulp(W') + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`]. The same bits on every run.
/// Merging loses what W's type cannot hold: [`unmerge`] without a residual returns W within `ulp(W') + ulp(W)` and the same sum. With [`Merge::residual`], 16 bits an element, it returns
/// the original bits, on the kind of queue that merged; the kernel that does so adds in one order on every chip.
///
/// **Cost.** `2·n·k·Σ rank` flops; W read and W' written once. No workspace; the call can be captured in a graph.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`] (the destination may be the source itself, and nothing else), [`Error::Alignment`],
/// [`Error::Argument`] (more than 64 adapters), [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was launched, nothing written.
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
pub fn merge<T: Element, P: Element, Q: Queue>(queue: &Q, call: Merge<'_, T, P, Q>) -> Result<()> {
    run("lora::merge", 1, queue, call)
}

/// `W = W' − Σᵢ sᵢ·Bᵢ·Aᵢ`: takes a [`merge`] back. With the residual of that merge, the original bits.
///
/// Formula, numbers, cost and errors are those of [`merge`]. Give the same adapters in the same order.
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
    let problem = call.problem(operation, Some(queue), &mut guards)?;
    problem.check_disjoint(operation)?;
    if place == Place::Cpu {
        if call.algorithm != 0 {
            return Err(Error::Algorithm {
                operation,
                message: format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm),
            });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from the inputs or the same elements.
        unsafe { reference::lora::merge::<T, P>(&problem, f64::from(direction)) };
        return Ok(());
    }
    let descriptor = place.descriptor(operation)?;
    problem.with_descriptor(|merge| {
        if direction > 0 {
            ffi::call!(operation, pk_lora_merge(&descriptor, merge))
        } else {
            ffi::call!(operation, pk_lora_unmerge(&descriptor, merge))
        }
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
        problem.with_descriptor(|descriptor| {
            ffi::call!("lora::merge_kernel", pk_lora_merge_pick(chip, descriptor, choice))
        })
    })
}
