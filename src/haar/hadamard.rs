//! The fast Walsh–Hadamard transform along rows.

use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, Place, Queue, Result, Tensor, TensorMut, Vector, ffi, reference};

const OPERATION: &str = "haar::hadamard";

/// The descriptor of a [`hadamard`] call.
pub struct Hadamard<'a, T, Q> {
    source: Option<Tensor<'a, T, Q, 3>>,
    destination: TensorMut<'a, T, Q, 3>,
    before: Option<Tensor<'a, T, Q, 2>>,
    after: Option<Tensor<'a, T, Q, 2>>,
    normalized: bool,
    algorithm: i32,
}

impl<'a, T: Element, Q: Queue> Hadamard<'a, T, Q> {
    /// From `source` to `destination`, both [batch, rows, n], which is elsewhere.
    pub fn new(source: impl Into<Tensor<'a, T, Q, 3>>, destination: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        Self { source: Some(source.into()), ..Self::in_place(destination) }
    }

    /// Where the rows are.
    pub fn in_place(rows: impl Into<TensorMut<'a, T, Q, 3>>) -> Self {
        let destination = rows.into();
        Self { source: None, destination, before: None, after: None, normalized: true, algorithm: 0 }
    }

    /// Each row is multiplied by these n elements first: signs, or any diagonal.
    pub fn before(mut self, diagonal: Vector<'a, T, Q>) -> Self {
        self.before = Some(diagonal.into());
        self
    }

    /// And by these at the end.
    pub fn after(mut self, diagonal: Vector<'a, T, Q>) -> Self {
        self.after = Some(diagonal.into());
        self
    }

    /// Without the factor `1/√n`: sums and differences alone, which small integers survive.
    pub fn unnormalized(mut self) -> Self {
        self.normalized = false;
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`hadamard_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<HadamardProblem> {
        let check = Check(operation);
        check.element_type::<T>("destination")?;
        let destination = self.destination.acquire(queue, guards)?;
        let source = match &self.source {
            None => destination,
            Some(source) => source.acquire(queue, guards)?,
        };
        let n = source.extents[2];
        let most = ffi::PK_HAAR_HADAMARD_COLUMNS as usize;
        if !n.is_power_of_two() || n > most {
            let (expected, got) = (format!("a power of two up to {most}"), n.to_string());
            return Err(Error::Argument { operation, argument: "columns", expected, got });
        }
        if source.extents.contains(&0) {
            let (expected, got) = ("at least one row".into(), crate::layout::extents(&source.extents));
            return Err(Error::Shape { operation, argument: "source", expected, got });
        }
        check.extents("destination", destination.extents, source.extents)?;
        for (name, elements) in [("source", &source), ("destination", &destination)] {
            check.stride(name, elements)?;
            check.alignment(name, elements)?;
            check.size(name, elements)?;
        }
        let mut diagonal = |name, diagonal: &'s Option<Tensor<'a, T, Q, 2>>| {
            let Some(diagonal) = diagonal else { return Ok(None) };
            let elements: Elements<3> = diagonal.acquire(queue, guards)?.into();
            check.extents(name, [elements.extents[2]], [n])?;
            check.alignment(name, &elements)?;
            Ok::<_, Error>(Some(elements))
        };
        Ok(HadamardProblem {
            source,
            destination,
            before: diagonal("before", &self.before)?,
            after: diagonal("after", &self.after)?,
            normalized: self.normalized,
            in_place: self.source.is_none(),
            algorithm: self.algorithm,
            element_type: T::TYPE,
        })
    }
}

/// A checked call whose operands have addresses.
pub(crate) struct HadamardProblem {
    pub source: Elements<3>,
    pub destination: Elements<3>,
    pub before: Option<Elements<3>>,
    pub after: Option<Elements<3>>,
    pub normalized: bool,
    in_place: bool,
    algorithm: i32,
    element_type: ElementType,
}

impl HadamardProblem {
    fn check_disjoint(&self, operation: &'static str) -> Result<()> {
        let source = (!self.in_place).then_some(("source", self.source));
        let diagonals = [("before", self.before), ("after", self.after)];
        let diagonals = diagonals.into_iter().filter_map(|(name, diagonal)| Some((name, diagonal?)));
        let inputs: Vec<_> =
            source.into_iter().chain(diagonals).map(|(name, elements)| Operand::new(name, elements)).collect();
        Check(operation).all_disjoint(&[Operand::new("destination", self.destination)], &inputs)
    }

    fn with_descriptor<R>(&self, call: impl FnOnce(&ffi::pk_haar_hadamard_descriptor) -> R) -> R {
        let diagonal = |elements: &Option<Elements<3>>| {
            elements.map_or_else(Default::default, |elements| elements.matrix(self.element_type))
        };
        call(&ffi::pk_haar_hadamard_descriptor {
            size: size_of::<ffi::pk_haar_hadamard_descriptor>() as u64,
            algorithm: self.algorithm,
            batch_count: self.source.extents[0] as i64,
            source: self.source.matrix(self.element_type),
            destination: self.destination.matrix(self.element_type),
            before: diagonal(&self.before),
            after: diagonal(&self.after),
            normalized: self.normalized as i32,
            ..Default::default()
        })
    }
}

/// `y = a ∘ H·(b ∘ x)/√n` along each row of n elements: `H[i][j]` is −1 to the number of bits that `i` and `j` share (Sylvester's order), `b` and `a` are [`Hadamard::before`] and
/// [`Hadamard::after`] or ones. Its own inverse without them; its adjoint is the same with `a` and `b` exchanged.
///
/// **Shapes.** x and y [batch, rows, n], any strides of which one is 1, n a power of two up to 32768. y may be x.
///
/// **Numbers.** Sums are f32 (f64 for f32 on [`crate::Cpu`]), multiplied at the end and rounded once; the error is at most `ulp(y) + L·2⁻²³·Σ|terms|` with `L` the [`Kernel::rounding_steps`]. The
/// same bits on every run.
///
/// **Cost.** One read and one write of every element, `log₂ n` additions each. Beyond 16384 elements a chip with less than 128 KiB of shared memory a block takes the definition instead,
/// n additions an element. No workspace; the call can be captured in a graph.
///
/// # Errors
/// [`Error::Argument`] (n), [`Error::Shape`], [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::NoDevice`], [`Error::NotBuilt`],
/// [`Error::Algorithm`] (in place where the definition would be taken): nothing was launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, MatMut, Vector, haar};
/// let signs = [1.0f32, -1.0, 1.0, 1.0];
/// let mut row = [1.0f32, 2.0, 3.0, 4.0];
/// let call = haar::Hadamard::in_place(MatMut::new(&mut row, 1, 4)?).before(Vector::whole(&signs)).unnormalized();
/// haar::hadamard(&Cpu, call)?;
/// assert_eq!(row, [6.0, 2.0, -8.0, 4.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn hadamard<T: Element, Q: Queue>(queue: &Q, call: Hadamard<'_, T, Q>) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(OPERATION, Some(queue), &mut guards)?;
    problem.check_disjoint(OPERATION)?;
    if place == Place::Cpu {
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: OPERATION, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the output is disjoint from the inputs or the same elements.
        unsafe { reference::haar::hadamard::<T>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(OPERATION)?;
    problem.with_descriptor(|hadamard| ffi::call!(OPERATION, pk_haar_hadamard(&descriptor, hadamard)))
}

/// The kernel that [`hadamard`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`hadamard`], as far as they depend on shapes and types.
pub fn hadamard_kernel<T: Element, Q: Queue>(queue: &Q, call: &Hadamard<'_, T, Q>) -> Result<Kernel> {
    let operation = "haar::hadamard_kernel";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(reference::haar::kernel::<T>(problem.source.extents[2].ilog2() as usize));
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor(|descriptor| ffi::call!(operation, pk_haar_hadamard_pick(chip, descriptor, choice)))
    })
}
