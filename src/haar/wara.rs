//! WaRA: low-rank updates in the wavelet domain.

use super::{Bands, Boundary, coefficient_extent, transform};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{Element, ElementType, Error, Mat, Queue, Result, Tensor, ffi};

mod backward;
mod forward;
mod merge;

pub use backward::{WaraBackward, wara_backward, wara_backward_kernel, wara_backward_workspace};
pub use forward::{WaraForward, wara_forward, wara_forward_kernel, wara_forward_workspace};
pub use merge::{WaraMerge, wara_merge, wara_merge_kernel, wara_unmerge};

pub(crate) use backward::BackwardProblem;
pub(crate) use forward::{Base, ForwardProblem};
pub(crate) use merge::MergeProblem;

/// Levels that an adapter can have.
const LEVELS: u32 = ffi::PK_HAAR_WARA_LEVELS as u32;

/// A WaRA adapter: low-rank factors of wavelet coefficients. `P` is their element type.
///
/// **Bands** of L levels are numbered as PyWavelets lists them: 0 the approximations, then of each level from the coarsest to the finest the details along rows (`h`), along columns (`v`) and
/// along both (`d`); 3·L + 1 of them.
///
/// **Weight mode**, the default: `ΔW = scale·D⁻¹(g ∘ C)` with D⁻¹ the orthonormal [`inverse_2d`](super::inverse_2d), and `C = B·A` the whole image of coefficients in the order of
/// [`Bands::Mallat`] ([`Wara::new`]), or each band of it a product of its own ([`Wara::per_band`]).
///
/// **Activation mode**, [`Wara::activations`]: rows of x are grids of tokens, which are transformed along both axes of the grid, each feature on its own; band b becomes `g_b·C_b·Aᵀ·Bᵀ`
/// (of its own factors with [`Wara::per_band`]), and is transformed back. With one pair of factors and gains of one it equals plain LoRA, as the transform of tokens and a product of features
/// change places.
///
/// The published defaults are not known: one level and gains of one are these.
///
/// "WaRA: Wavelet Low Rank Adaptation", [arXiv 2506.24092](https://arxiv.org/abs/2506.24092).
pub struct Wara<'a, P, Q> {
    factors: Vec<[Mat<'a, P, Q>; 2]>,
    scale: f32,
    levels: u32,
    boundary: Boundary,
    gains: Option<Vec<f32>>,
    grid: Option<[usize; 2]>,
}

impl<P, Q> Clone for Wara<'_, P, Q> {
    fn clone(&self) -> Self {
        let Self { factors, gains, .. } = self;
        Self { factors: factors.clone(), gains: gains.clone(), ..*self }
    }
}

impl<'a, P: Element, Q: Queue> Wara<'a, P, Q> {
    /// One pair of factors. Weight mode: `a` [rank, k'], `b` [n', rank] of W [n, k], where k' is the [`coefficient_extent`] of k (k itself where it is a multiple of `2^levels`). Activation
    /// mode: `a` [rank, k], `b` [n, rank].
    pub fn new(a: Mat<'a, P, Q>, b: Mat<'a, P, Q>, scale: f32) -> Self {
        Self::per_band([(a, b)], scale)
    }

    /// A pair of factors `(a, b)` for each band, in the order of bands. In weight mode those of a band at level l are [rank, ⌈k/2ˡ⌉] and [⌈n/2ˡ⌉, rank]. Ranks may differ.
    pub fn per_band(factors: impl IntoIterator<Item = (Mat<'a, P, Q>, Mat<'a, P, Q>)>, scale: f32) -> Self {
        let factors = factors.into_iter().map(|(a, b)| [a, b]).collect();
        Self { factors, scale, levels: 1, boundary: Boundary::None, gains: None, grid: None }
    }

    /// Of the transform; 1 by default, at most 6.
    pub fn levels(mut self, levels: u32) -> Self {
        self.levels = levels;
        self
    }

    /// What follows where an extent is no multiple of `2^levels`; [`Boundary::None`], which refuses that, by default. In weight mode all others do the same: what is beyond the end is dropped.
    pub fn boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// A gain for each band, in the order of bands; ones by default. They are constants: no gradient of theirs is made.
    pub fn gains(mut self, gains: &[f32]) -> Self {
        self.gains = Some(gains.into());
        self
    }

    /// Activation mode: each `rows × columns` rows of x, one after the other, are a grid.
    pub fn activations(mut self, [rows, columns]: [usize; 2]) -> Self {
        self.grid = Some([rows, columns]);
        self
    }

    /// Checks the adapter for x [m, k] and W [n, k].
    fn problem<'s>(
        &'s self,
        check: Check,
        [m, n, k]: [usize; 3],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<WaraProblem> {
        let argument =
            |argument, expected, got: String| Err(Error::Argument { operation: check.0, argument, expected, got });
        if self.levels == 0 || self.levels > LEVELS {
            return argument("levels", format!("1 to {LEVELS}"), self.levels.to_string());
        }
        let bands = 3 * self.levels as usize + 1;
        if self.factors.len() != 1 && self.factors.len() != bands {
            let expected = format!("1 or {bands}, one for each band of {} levels", self.levels);
            return argument("the number of pairs of factors", expected, self.factors.len().to_string());
        }
        let gains = self.gains.clone().unwrap_or_else(|| vec![1.0; bands]);
        if gains.len() != bands {
            let expected = format!("{bands}, one for each band of {} levels", self.levels);
            return argument("the number of gains", expected, gains.len().to_string());
        }
        let axes = match self.grid {
            None => [("rows of the weights", n), ("columns of the weights", k)],
            Some(grid) => [("rows of the grid", grid[0]), ("columns of the grid", grid[1])],
        };
        if let Some(grid @ [rows, columns]) = self.grid {
            let tokens = rows.checked_mul(columns).filter(|_| grid.iter().all(|&extent| i32::try_from(extent).is_ok()));
            if !tokens.is_some_and(|tokens| tokens > 0 && m.is_multiple_of(tokens)) {
                return argument("rows of x", format!("whole grids of {rows} × {columns} tokens"), m.to_string());
            }
        }
        for (name, extent) in axes {
            transform::check_axis(check, name, extent, self.levels, self.boundary)?;
        }
        let mut problem = WaraProblem {
            factors: Vec::new(),
            scale: self.scale,
            levels: self.levels,
            boundary: self.boundary,
            gains,
            grid: self.grid,
            shape: [n, k],
            element_type: P::TYPE,
        };
        for (number, [a, b]) in self.factors.iter().enumerate() {
            let [rows, columns] = problem.factor_extents(self.factors.len() == 1, number);
            let [rank, _] = a.extents();
            let most = i32::MAX as usize / (3 * LEVELS as usize + 1);
            if rank == 0 || rank > most {
                return argument("rank", format!("1 to {most}"), rank.to_string());
            }
            check.extents("a", a.extents(), [rank, columns])?;
            check.extents("b", b.extents(), [rows, rank])?;
            let mut acquire = |name, matrix: &'s Mat<'a, P, Q>| operand(check, name, matrix, queue, guards);
            problem.factors.push([acquire("a", a)?, acquire("b", b)?]);
        }
        Ok(problem)
    }
}

/// An input that was given, with what every operand is checked for.
fn operand<'s, T: Element, Q: Queue>(
    check: Check,
    name: &'static str,
    matrix: &'s Tensor<'_, T, Q, 2>,
    queue: Option<&'s Q>,
    guards: &mut Vec<Guard<'s>>,
) -> Result<Elements<3>> {
    checked(check, name, matrix.acquire(queue, guards)?)
}

fn checked(check: Check, name: &'static str, elements: Elements<2>) -> Result<Elements<3>> {
    check.stride(name, &elements)?;
    check.alignment(name, &elements)?;
    check.size(name, &elements)?;
    Ok(elements.into())
}

/// A checked adapter whose operands have addresses.
pub(crate) struct WaraProblem {
    /// `[A, B]`, one pair or one a band.
    pub factors: Vec<[Elements<3>; 2]>,
    pub scale: f32,
    pub levels: u32,
    pub boundary: Boundary,
    pub gains: Vec<f32>,
    pub grid: Option<[usize; 2]>,
    /// [n, k] of the layer.
    pub shape: [usize; 2],
    element_type: ElementType,
}

/// Level and details (along rows, along columns) of a band.
pub(crate) fn band(levels: u32, number: usize) -> (u32, [bool; 2]) {
    match number {
        0 => (levels, [false; 2]),
        _ => {
            let kind = (number - 1) % 3;
            (levels - (number as u32 - 1) / 3, [kind != 1, kind != 0])
        }
    }
}

impl WaraProblem {
    /// Rows of B and columns of A.
    fn factor_extents(&self, whole: bool, number: usize) -> [usize; 2] {
        if self.grid.is_some() {
            return self.shape;
        }
        match whole {
            true => self.shape.map(|extent| coefficient_extent(extent, self.levels, Bands::Mallat)),
            false => self.shape.map(|extent| extent.div_ceil(1 << band(self.levels, number).0)),
        }
    }

    pub fn per_band(&self) -> bool {
        self.factors.len() > 1
    }

    /// The inputs, by the names that errors give them.
    fn inputs(&self) -> Vec<Operand> {
        let named = |(i, [a, b]): (usize, &[Elements<3>; 2])| {
            [Operand::new(format!("a of factor {i}"), *a), Operand::new(format!("b of factor {i}"), *b)]
        };
        self.factors.iter().enumerate().flat_map(named).collect()
    }

    fn with_descriptor<R>(&self, call: impl FnOnce(ffi::pk_haar_wara_adapter) -> R) -> R {
        let matrices = |which: usize| -> Vec<_> {
            self.factors.iter().map(|factors| factors[which].matrix(self.element_type)).collect()
        };
        let (a, b) = (matrices(0), matrices(1));
        let [grid_rows, grid_columns] = self.grid.unwrap_or_default().map(|extent| extent as i64);
        call(ffi::pk_haar_wara_adapter {
            a: a.as_ptr(),
            b: b.as_ptr(),
            gains: self.gains.as_ptr(),
            factor_count: a.len() as i64,
            mode: if self.grid.is_some() { ffi::PK_HAAR_WARA_ACTIVATION } else { ffi::PK_HAAR_WARA_WEIGHT },
            levels: self.levels as i32,
            boundary: self.boundary as i32,
            scale: self.scale,
            grid_rows,
            grid_columns,
        })
    }
}

/// Bytes with what alignment can cost.
fn with_slack(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 }
}

/// The CPU queue has one way to do it.
fn check_algorithm(operation: &'static str, algorithm: i32) -> Result<()> {
    match algorithm {
        0 => Ok(()),
        _ => {
            let message = format!("algorithm {algorithm} does not exist on the CPU queue, expected 0");
            Err(Error::Algorithm { operation, message })
        }
    }
}
