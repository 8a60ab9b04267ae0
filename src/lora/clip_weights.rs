//! `min(1, C / |g|)` of every sample.

use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::{Error, Kernel, Place, Queue, Result, Vector, VectorMut, ffi, reference};

const OPERATION: &str = "lora::clip_weights";

/// The descriptor of a [`clip_weights`] call.
pub struct ClipWeights<'a, Q> {
    squares: Vector<'a, f32, Q>,
    weights: VectorMut<'a, f32, Q>,
    max_norm: f32,
    algorithm: i32,
}

impl<'a, Q: Queue> ClipWeights<'a, Q> {
    /// From the `squares` of norms to `weights`, one for each; `max_norm` is the norm that no weighted sample exceeds.
    pub fn new(squares: Vector<'a, f32, Q>, weights: VectorMut<'a, f32, Q>, max_norm: f32) -> Self {
        Self { squares, weights, max_norm, algorithm: 0 }
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`clip_weights_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<ClipProblem> {
        let check = Check(operation);
        let squares = self.squares.acquire(queue, guards)?;
        let weights = self.weights.acquire(queue, guards)?;
        check.extents("weights", weights.extents, squares.extents)?;
        for (name, list) in [("squares", &squares), ("weights", &weights)] {
            check.contiguous(name, list)?;
            check.alignment(name, list)?;
        }
        if !self.max_norm.is_finite() || self.max_norm <= 0.0 {
            let (expected, got) = ("a number above 0".into(), self.max_norm.to_string());
            return Err(Error::Argument { operation, argument: "the largest norm", expected, got });
        }
        let [count] = squares.extents;
        Ok(ClipProblem {
            squares: squares.address,
            weights: weights.address,
            count,
            max_norm: self.max_norm,
            algorithm: self.algorithm,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct ClipProblem {
    pub squares: u64,
    pub weights: u64,
    pub count: usize,
    pub max_norm: f32,
    algorithm: i32,
}

impl ClipProblem {
    fn check_disjoint(&self) -> Result<()> {
        let list = |name, address| Operand::bytes(name, address, 4 * self.count);
        Check(OPERATION).all_disjoint(&[list("weights", self.weights)], &[list("squares", self.squares)])
    }

    fn descriptor(&self) -> ffi::pk_lora_clip_weights_descriptor {
        ffi::pk_lora_clip_weights_descriptor {
            size: size_of::<ffi::pk_lora_clip_weights_descriptor>() as u64,
            algorithm: self.algorithm,
            squares: self.squares as *const f32,
            weights: self.weights as *mut f32,
            count: self.count as i64,
            max_norm: self.max_norm,
            ..Default::default()
        }
    }
}

/// `weightsᵢ = min(1, C / √squaresᵢ)`: what each sample's gradient is multiplied by so that its norm is at most C, from the [`super::sample_norms`] of all layers.
///
/// A norm of 0 gives 1, an infinite one 0. NaN gives NaN, so that it is seen in the gradients and not hidden there by another sample's share.
///
/// **Numbers.** A root and a quotient in f32, each rounded once. **Cost.** 8 bytes a sample. Can be captured in a graph.
///
/// # Errors
/// [`Error::Shape`], [`Error::Stride`], [`Error::Overlap`], [`Error::Alignment`], [`Error::Argument`] (a largest norm that is not above 0, or infinite), [`Error::NoDevice`], [`Error::NotBuilt`],
/// [`Error::Algorithm`]: nothing was launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Vector, VectorMut, lora};
/// let (squares, mut weights) = ([16.0f32, 0.25, 0.0], [0.0f32; 3]);
/// lora::clip_weights(&Cpu, lora::ClipWeights::new(Vector::whole(&squares), VectorMut::whole(&mut weights), 1.0))?;
/// assert_eq!(weights, [0.25, 1.0, 1.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn clip_weights<Q: Queue>(queue: &Q, call: ClipWeights<'_, Q>) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    problem.check_disjoint()?;
    if place == Place::Cpu {
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: OPERATION, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and they are disjoint.
        unsafe { reference::lora::clip_weights(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    ffi::call!(OPERATION, pk_lora_clip_weights(&descriptor, &problem.descriptor()))
}

/// The kernel that [`clip_weights`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`clip_weights`], as far as they depend on shapes.
pub fn clip_weights_kernel<Q: Queue>(queue: &Q, call: &ClipWeights<'_, Q>) -> Result<Kernel> {
    let operation = "lora::clip_weights_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        ffi::call!(operation, pk_lora_clip_weights_pick(chip, &problem.descriptor(), choice))
    })
}
