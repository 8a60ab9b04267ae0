//! The transform along one axis or both, there and back.

use crate::check::{Check, LARGEST, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Kernel, Place, Queue, Result, Tensor, TensorMut, ffi, reference};

/// The axis of a 1-D transform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Axis {
    /// Each row is a signal.
    #[default]
    Columns,
    /// Each column is a signal.
    Rows,
}

/// What follows the last element of an odd extent, at every level. With an even extent nothing does, and all modes are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum Boundary {
    /// Nothing: extents must be multiples of `2^levels`.
    #[default]
    None = 0,
    /// 0. `zero` of PyWavelets.
    Zero = 1,
    /// The last element again. `constant` of PyWavelets.
    Edge = 2,
    /// The mirror image, of which Haar sees one element: as [`Boundary::Edge`]. `symmetric` of PyWavelets.
    Symmetric = 3,
    /// The first element. `periodic` of PyWavelets.
    Periodic = 4,
}

/// The order of coefficients. An extent `n` has `n_l = ⌈n / 2^l⌉` of each kind at level `l`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum Bands {
    /// One band after the other: `n_L` approximations, then `n_L, …, n_1` details. Of a matrix, as PyWavelets' `coeffs_to_array` does it: horizontal details (high-pass along rows) below the
    /// approximations, vertical ones beside them, and zeros where bands of odd extents leave room.
    #[default]
    Mallat = 0,
    /// Each where its elements are: detail `k` of level `l` at `2^l·k + 2^(l−1)`, approximation `k` at `2^L·k`, of `n_L·2^L` places; zeros where there is none. Can be in place.
    Interleaved = 1,
}

/// What a sum and a difference are multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[repr(i32)]
pub enum Scaling {
    /// `1/√2`, there and back: energy is kept, and the inverse is the adjoint.
    #[default]
    Orthonormal = 0,
    /// 1 there and `1/2` back: small integers stay integers, and come back bit for bit. (So they do with [`Scaling::Orthonormal`] along both axes, whose factors are powers of `1/2`.)
    Sums = 1,
}

/// One of the transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// [`forward_1d`]
    Forward1d,
    /// [`inverse_1d`]
    Inverse1d,
    /// [`forward_2d`]
    Forward2d,
    /// [`inverse_2d`]
    Inverse2d,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Forward1d => "haar::forward_1d",
            Self::Inverse1d => "haar::inverse_1d",
            Self::Forward2d => "haar::forward_2d",
            Self::Inverse2d => "haar::inverse_2d",
        }
    }

    fn inverse(self) -> bool {
        matches!(self, Self::Inverse1d | Self::Inverse2d)
    }
}

/// How many places the coefficients of `extent` elements take.
pub fn coefficient_extent(extent: usize, levels: u32, bands: Bands) -> usize {
    let count = |level: u32| extent.div_ceil(1 << level);
    match bands {
        Bands::Mallat => count(levels) + (1..=levels).map(count).sum::<usize>(),
        Bands::Interleaved => count(levels) << levels,
    }
}

/// The descriptor of a transform: f32, f16 or bf16, in batches [batch, rows, columns].
pub struct Transform<'a, T, Q> {
    source: Option<Tensor<'a, T, Q, 3>>,
    destination: TensorMut<'a, T, Q, 3>,
    levels: u32,
    axis: Axis,
    boundary: Boundary,
    bands: Bands,
    scaling: Scaling,
    adjoint: bool,
    algorithm: i32,
}

impl<'a, T: Element, Q: Queue> Transform<'a, T, Q> {
    /// From `source` to `destination`, which is elsewhere: from a signal to its coefficients, or back. Extents of coefficients are [`coefficient_extent`]s along the transformed axes.
    pub fn new(
        source: impl Into<Tensor<'a, T, Q, 3>>,
        destination: impl Into<TensorMut<'a, T, Q, 3>>,
        levels: u32,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::in_place(destination, levels) }
    }

    /// Where the matrices are. With [`Bands::Interleaved`] only, of extents that are multiples of `2^levels`.
    pub fn in_place(matrices: impl Into<TensorMut<'a, T, Q, 3>>, levels: u32) -> Self {
        Self {
            source: None,
            destination: matrices.into(),
            levels,
            axis: Axis::default(),
            boundary: Boundary::default(),
            bands: Bands::default(),
            scaling: Scaling::default(),
            adjoint: false,
            algorithm: 0,
        }
    }

    /// The axis of a 1-D transform; [`Axis::Columns`] by default.
    pub fn axis(mut self, axis: Axis) -> Self {
        self.axis = axis;
        self
    }

    /// What follows an odd extent; [`Boundary::None`] by default.
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// The order of coefficients; [`Bands::Mallat`] by default.
    pub fn bands(mut self, bands: Bands) -> Self {
        self.bands = bands;
        self
    }

    /// The factors; [`Scaling::Orthonormal`] by default.
    pub fn scaling(mut self, scaling: Scaling) -> Self {
        self.scaling = scaling;
        self
    }

    /// The adjoint of the other direction, for backward: of a forward transform's coefficients' gradient, `inverse(…adjoint())` with the same boundary makes the signal's gradient (what the
    /// boundary mode copied adds to where it was copied from), and `forward(…adjoint())` makes that of an inverse transform's coefficients.
    pub fn adjoint(mut self) -> Self {
        self.adjoint = true;
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: Operation,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<TransformProblem> {
        let check = Check(operation.name());
        check.element_type::<T>("destination")?;
        let [along_rows, along_columns] = match (operation, self.axis) {
            (Operation::Forward2d | Operation::Inverse2d, _) => [true; 2],
            (_, Axis::Rows) => [true, false],
            (_, Axis::Columns) => [false, true],
        };
        let destination = self.destination.acquire(queue, guards)?;
        let source = match &self.source {
            None => destination,
            Some(source) => source.acquire(queue, guards)?,
        };
        let names = if operation.inverse() { ["destination", "source"] } else { ["source", "destination"] };
        let [signal, coefficients] = if operation.inverse() { [destination, source] } else { [source, destination] };
        let [batches, rows, columns] = signal.extents;
        if signal.extents.contains(&0) {
            let (expected, got) = ("at least one element".into(), crate::layout::extents(&signal.extents));
            return Err(Error::Shape { operation: check.0, argument: names[0], expected, got });
        }
        check.size(names[0], &signal)?;
        for (transformed, name, extent) in [(along_rows, "rows", rows), (along_columns, "columns", columns)] {
            if transformed {
                check_axis(check, name, extent, self.levels, self.boundary)?;
            }
        }
        let extent = |transformed, extent| {
            if transformed { coefficient_extent(extent, self.levels, self.bands) } else { extent }
        };
        check.extents(
            names[1],
            coefficients.extents,
            [batches, extent(along_rows, rows), extent(along_columns, columns)],
        )?;
        for (name, elements) in [("source", &source), ("destination", &destination)] {
            check.stride(name, elements)?;
            check.alignment(name, elements)?;
        }
        let in_place = self.source.is_none();
        if in_place && self.bands == Bands::Mallat {
            let (expected, got) = ("Bands::Interleaved in place".into(), "Bands::Mallat".into());
            return Err(Error::Argument { operation: check.0, argument: "bands", expected, got });
        }
        Ok(TransformProblem {
            source,
            destination,
            in_place,
            along_rows,
            along_columns,
            inverse: operation.inverse(),
            levels: self.levels,
            boundary: self.boundary,
            bands: self.bands,
            scaling: self.scaling,
            adjoint: self.adjoint,
            algorithm: self.algorithm,
            element_type: T::TYPE,
        })
    }
}

/// So many levels are possible along an axis with this boundary.
pub(super) fn check_axis(
    check: Check,
    name: &'static str,
    extent: usize,
    levels: u32,
    boundary: Boundary,
) -> Result<()> {
    let argument = |argument, expected, got| Err(Error::Argument { operation: check.0, argument, expected, got });
    let most = extent.clamp(1, LARGEST).ilog2();
    if levels == 0 || levels > most {
        let expected = match most {
            0 => format!("more than one element along {name} for any level"),
            _ => format!("1 to {most} along {name} of {extent} elements"),
        };
        return argument("levels", expected, levels.to_string());
    }
    let multiple = 1usize << levels;
    if boundary == Boundary::None && !extent.is_multiple_of(multiple) {
        let expected = format!("a multiple of {multiple} for {levels} levels, or a boundary mode that pads");
        return argument(name, expected, extent.to_string());
    }
    Ok(())
}

/// A checked call whose operands have addresses.
pub(crate) struct TransformProblem {
    pub source: Elements<3>,
    pub destination: Elements<3>,
    in_place: bool,
    pub along_rows: bool,
    pub along_columns: bool,
    pub inverse: bool,
    pub levels: u32,
    pub boundary: Boundary,
    pub bands: Bands,
    pub scaling: Scaling,
    pub adjoint: bool,
    algorithm: i32,
    element_type: ElementType,
}

impl TransformProblem {
    fn check_disjoint(&self, operation: Operation) -> Result<()> {
        let check = Check(operation.name());
        if self.in_place {
            // Whoever is in place has extents that are multiples: those of source and destination are the same.
            let coefficients = |extent| coefficient_extent(extent, self.levels, self.bands);
            let [_, rows, columns] = self.destination.extents;
            for (transformed, argument, extent) in
                [(self.along_rows, "rows", rows), (self.along_columns, "columns", columns)]
            {
                if transformed && coefficients(extent) != extent {
                    let (expected, got) = (format!("a multiple of {} in place", 1 << self.levels), extent.to_string());
                    return Err(Error::Argument { operation: check.0, argument, expected, got });
                }
            }
            return Ok(());
        }
        check.disjoint(&Operand::new("destination", self.destination), &Operand::new("source", self.source))
    }

    fn with_descriptor<R>(&self, call: impl FnOnce(&ffi::pk_haar_descriptor) -> R) -> R {
        let axes = match (self.along_rows, self.along_columns) {
            (true, true) => ffi::PK_HAAR_ALONG_BOTH,
            (true, false) => ffi::PK_HAAR_ALONG_ROWS,
            _ => ffi::PK_HAAR_ALONG_COLUMNS,
        };
        call(&ffi::pk_haar_descriptor {
            size: size_of::<ffi::pk_haar_descriptor>() as u64,
            algorithm: self.algorithm,
            batch_count: self.destination.extents[0] as i64,
            source: self.source.matrix(self.element_type),
            destination: self.destination.matrix(self.element_type),
            axes,
            levels: self.levels as i32,
            boundary: self.boundary as i32,
            layout: self.bands as i32,
            scaling: self.scaling as i32,
            adjoint: self.adjoint as i32,
            ..Default::default()
        })
    }
}

/// The coefficients of each row (or, with [`Axis::Rows`], of each column): at each of `levels` levels, `a' = (a₂ᵢ + a₂ᵢ₊₁)/√2` and `d = (a₂ᵢ − a₂ᵢ₊₁)/√2` of the approximations of the level
/// before.
///
/// **Shapes.** Signal [batch, rows, columns], coefficients the same but for the transformed axis, which has [`coefficient_extent`] places. Any strides of which one is 1, any batches.
/// Extents are at least 2 to the number of levels.
///
/// **Numbers.** Sums are f32 (f64 for f32 on [`crate::Cpu`]), multiplied by one factor at the end and rounded once; the error is at most `ulp(c) + L·2⁻²³·Σ|terms|` with `L` the
/// [`Kernel::rounding_steps`]. The same bits on every run. Sums are made before the factor: elements beyond `2^(127 − levels)` overflow.
///
/// **Cost.** One read and one write of every element, up to 8 levels (7 with f32) along memory's contiguous extent and 6 along the other; `levels` additions an element or fewer. Deeper
/// transforms and the adjoint of an extension are made by the definition, which reads an element once a level. No workspace; the call can be captured in a graph.
///
/// # Errors
/// [`Error::Argument`] (levels beyond `log2` of an extent, an extent that is no multiple of `2^levels` without a boundary mode, [`Bands::Mallat`] in place), [`Error::Shape`],
/// [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`] (in place beyond those levels):
/// nothing was launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, haar};
/// let signal = [1.0f32, 3.0, 2.0, 6.0];
/// let mut coefficients = [0.0; 4];
/// let call = haar::Transform::new(Mat::new(&signal, 1, 4)?, MatMut::new(&mut coefficients, 1, 4)?, 2);
/// haar::forward_1d(&Cpu, call.scaling(haar::Scaling::Sums))?;
/// assert_eq!(coefficients, [12.0, -4.0, -2.0, -4.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn forward_1d<T: Element, Q: Queue>(queue: &Q, call: Transform<'_, T, Q>) -> Result<()> {
    run(Operation::Forward1d, queue, call)
}

/// The signals of coefficients: takes [`forward_1d`] back. Of an odd extent, what the boundary mode added is dropped, so that the inverse is the same for all modes.
///
/// Shapes, numbers, cost and errors are those of [`forward_1d`]; source and destination change places.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, haar};
/// let coefficients = [12.0f32, -4.0, -2.0, -4.0];
/// let mut signal = [0.0; 4];
/// let call = haar::Transform::new(Mat::new(&coefficients, 1, 4)?, MatMut::new(&mut signal, 1, 4)?, 2);
/// haar::inverse_1d(&Cpu, call.scaling(haar::Scaling::Sums))?;
/// assert_eq!(signal, [1.0, 3.0, 2.0, 6.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn inverse_1d<T: Element, Q: Queue>(queue: &Q, call: Transform<'_, T, Q>) -> Result<()> {
    run(Operation::Inverse1d, queue, call)
}

/// The coefficients of a matrix along both axes: of each 2 × 2 approximations of the level before, with `[[p, q], [r, s]]` their rows, `a = (p + q + r + s)/2`, `h = (p + q − r − s)/2`,
/// `v = (p − q + r − s)/2`, `d = (p − q − r + s)/2`; `[[a, v], [h, d]]` are the bands of [`Bands::Mallat`].
///
/// Shapes, numbers, cost and errors are those of [`forward_1d`], for both axes; up to 6 levels are one pass. The factors are powers of `1/2`, so that small integers come back bit for bit.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, haar};
/// let image = [1.0f32, 2.0, 3.0, 8.0];
/// let mut coefficients = [0.0; 4];
/// haar::forward_2d(&Cpu, haar::Transform::new(Mat::new(&image, 2, 2)?, MatMut::new(&mut coefficients, 2, 2)?, 1))?;
/// assert_eq!(coefficients, [7.0, -3.0, -4.0, 2.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn forward_2d<T: Element, Q: Queue>(queue: &Q, call: Transform<'_, T, Q>) -> Result<()> {
    run(Operation::Forward2d, queue, call)
}

/// The matrix of its coefficients: takes [`forward_2d`] back.
///
/// Shapes, numbers, cost and errors are those of [`forward_2d`]; source and destination change places.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, MatMut, haar};
/// let mut image = [1.0f32, 2.0, 3.0, 8.0];
/// for step in [haar::forward_2d, haar::inverse_2d] {
///     step(&Cpu, haar::Transform::in_place(MatMut::new(&mut image, 2, 2)?, 1).bands(haar::Bands::Interleaved))?;
/// }
/// assert_eq!(image, [1.0, 2.0, 3.0, 8.0]);
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn inverse_2d<T: Element, Q: Queue>(queue: &Q, call: Transform<'_, T, Q>) -> Result<()> {
    run(Operation::Inverse2d, queue, call)
}

fn run<T: Element, Q: Queue>(operation: Operation, queue: &Q, call: Transform<'_, T, Q>) -> Result<()> {
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(operation, Some(queue), &mut guards)?;
    problem.check_disjoint(operation)?;
    let name = operation.name();
    if place == Place::Cpu {
        if call.algorithm != 0 {
            let message = format!("algorithm {} does not exist on the CPU queue, expected 0", call.algorithm);
            return Err(Error::Algorithm { operation: name, message });
        }
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the output is disjoint from the input or the same elements.
        unsafe { reference::haar::transform::<T>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(name)?;
    problem.with_descriptor(|haar| {
        if problem.inverse {
            ffi::call!(name, pk_haar_inverse(&descriptor, haar))
        } else {
            ffi::call!(name, pk_haar_forward(&descriptor, haar))
        }
    })
}

/// The kernel that a transform runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`forward_1d`], as far as they depend on shapes and types.
pub fn kernel<T: Element, Q: Queue>(queue: &Q, operation: Operation, call: &Transform<'_, T, Q>) -> Result<Kernel> {
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        let axes = usize::from(problem.along_rows) + usize::from(problem.along_columns);
        return Ok(reference::haar::kernel::<T>(axes * problem.levels as usize));
    }
    ffi::pick("haar::kernel", queue.place(), |chip, choice| {
        problem.with_descriptor(|descriptor| {
            ffi::call!("haar::kernel", pk_haar_pick(chip, descriptor, problem.inverse as i32, choice))
        })
    })
}
