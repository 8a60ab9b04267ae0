//! `G ← G + σ·C·z`, z of the standard normal distribution.

use crate::check::{Check, LARGEST};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, MatMut, Place, Queue, Result, ffi, reference};

const OPERATION: &str = "lora::add_noise";

/// The descriptor of an [`add_noise`] call.
pub struct AddNoise<'a, T, Q> {
    gradient: MatMut<'a, T, Q>,
    scale: f32,
    seed: u64,
    offset: u64,
    algorithm: i32,
}

impl<'a, T: Element, Q: Queue> AddNoise<'a, T, Q> {
    /// To `gradient`, with the standard deviation `scale`: the noise multiplier σ times the norm C that samples are clipped to. Give each matrix and each step another `offset`.
    pub fn new(gradient: MatMut<'a, T, Q>, scale: f32, seed: u64, offset: u64) -> Self {
        Self { gradient, scale, seed, offset, algorithm: 0 }
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`add_noise_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<NoiseProblem> {
        let check = Check(operation);
        if T::TYPE == ElementType::F64 {
            let expected = "f32, f16 or bf16".into();
            return Err(Error::ElementType { operation, argument: "gradient", expected, got: T::TYPE });
        }
        let gradient = self.gradient.acquire(queue, guards)?;
        check.stride("gradient", &gradient)?;
        check.alignment("gradient", &gradient)?;
        check.size("gradient", &gradient)?;
        let [rows, columns] = gradient.extents;
        let wrong = |argument, expected: &str, got| {
            Err(Error::Argument { operation, argument, expected: expected.into(), got })
        };
        if rows.saturating_mul(columns) > LARGEST {
            return wrong("the number of elements", "at most 2^48", format!("{rows} times {columns}"));
        }
        if !self.scale.is_finite() || self.scale < 0.0 {
            return wrong("the scale", "a number that is at least 0", self.scale.to_string());
        }
        let Self { scale, seed, offset, algorithm, .. } = *self;
        Ok(NoiseProblem { gradient: gradient.into(), scale, seed, offset, element_type: T::TYPE, algorithm })
    }
}

/// A checked call whose operand has an address.
pub(crate) struct NoiseProblem {
    pub gradient: Elements<3>,
    pub scale: f32,
    pub seed: u64,
    pub offset: u64,
    element_type: ElementType,
    algorithm: i32,
}

impl NoiseProblem {
    fn descriptor(&self) -> ffi::pk_lora_add_noise_descriptor {
        ffi::pk_lora_add_noise_descriptor {
            size: size_of::<ffi::pk_lora_add_noise_descriptor>() as u64,
            algorithm: self.algorithm,
            gradient: self.gradient.matrix(self.element_type),
            seed: self.seed,
            offset: self.offset,
            scale: self.scale,
            ..Default::default()
        }
    }
}

/// `G ← G + scale·z`, z independent numbers of the standard normal distribution, which follow from seed, offset and the element's index alone.
///
/// With `e = row·columns + column`, and w the words of Philox4x32-10 (J. Salmon et al., 2011) for the key `seed` and the counter `(e / 4, offset)`, of 64 bits each, elements `e mod 4` of 0 and 1 are
/// `√(−2·ln u)·(cos, sin)(2π·v)` (G. Box and M. Muller, 1958) with u from word 0, `fma(f32(w), 2⁻³², 2⁻³³)`, and `v = w·2⁻³²` from word 1; those of 2 and 3 are of words 2 and 3. The layout of G in memory
/// says nothing. Another generator than [`super::Dropout`]'s needs another seed.
///
/// **Numbers.** z is made in f32 by arithmetic of its own, the same bits in every build and on every chip, at most 6.8 in magnitude; the sum is rounded once, to G's type. The error against f64 is at most
/// `ulp + L·2⁻²³·(|G| + |scale·z|)`, with `L` the [`Kernel::rounding_steps`]. Philox is no cryptographic generator, and numbers with finitely many digits are no exact normal ones: where an adversary sees
/// every digit of the gradients, that is less than the proofs of differential privacy ask for.
///
/// **Cost.** G read and written, about 40 flops an element. Can be captured in a graph, with seed and offset as they were.
///
/// # Errors
/// [`Error::Stride`], [`Error::ElementType`], [`Error::Alignment`], [`Error::Shape`], [`Error::Argument`] (a scale below 0, infinite or NaN), [`Error::NoDevice`], [`Error::NotBuilt`],
/// [`Error::Algorithm`]: nothing was launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, MatMut, lora};
/// let mut gradient = vec![1.0f32; 10_000];
/// lora::add_noise(&Cpu, lora::AddNoise::new(MatMut::new(&mut gradient, 100, 100)?, 0.5, 7, 0))?;
/// let mean = gradient.iter().sum::<f32>() / 10_000.0;
/// let variance = gradient.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / 10_000.0;
/// assert!((mean - 1.0).abs() < 0.02 && (variance.sqrt() - 0.5).abs() < 0.02);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn add_noise<T: Element, Q: Queue>(queue: &Q, call: AddNoise<'_, T, Q>) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    if place == Place::Cpu {
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: OPERATION, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, and the view's bounds were proven.
        unsafe { reference::lora::add_noise::<T>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    ffi::call!(OPERATION, pk_lora_add_noise(&descriptor, &problem.descriptor()))
}

/// The kernel that [`add_noise`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`add_noise`], as far as they depend on shapes and types.
pub fn add_noise_kernel<T: Element, Q: Queue>(queue: &Q, call: &AddNoise<'_, T, Q>) -> Result<Kernel> {
    let operation = "lora::add_noise_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        ffi::call!(operation, pk_lora_add_noise_pick(chip, &problem.descriptor(), choice))
    })
}
