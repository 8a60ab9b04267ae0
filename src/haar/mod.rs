//! Haar wavelets: `(a + b)/√2` and `(a − b)/√2` of neighbours, again and again of the sums, all levels in one pass.
//!
//! | function | formula |
//! |---|---|
//! | [`forward_1d`], [`forward_2d`] | the coefficients of a signal |
//! | [`inverse_1d`], [`inverse_2d`] | the signal of its coefficients |
//! | [`hadamard`] | `y = a ∘ H·(b ∘ x)/√n`, the fast Walsh–Hadamard transform |
//! | [`wara_forward`], [`wara_backward`] | `y = x·(W + s·D⁻¹(B·A))ᵀ` and of tokens' wavelets, and the gradients |
//! | [`wara_merge`], [`wara_unmerge`] | `W ± s·D⁻¹(B·A)` |
//!
//! Conventions and the order of coefficients are those of PyWavelets (`wavedec`, `wavedec2`, `coeffs_to_array`). S. Mallat, *A theory for multiresolution signal decomposition*, 1989.

mod hadamard;
mod transform;
mod wara;

pub use hadamard::{Hadamard, hadamard, hadamard_kernel};
pub use transform::{
    Axis, Bands, Boundary, Operation, Scaling, Transform, coefficient_extent, forward_1d, forward_2d, inverse_1d,
    inverse_2d, kernel,
};

pub use wara::{
    Wara, WaraBackward, WaraForward, WaraMerge, wara_backward, wara_backward_kernel, wara_backward_workspace,
    wara_forward, wara_forward_kernel, wara_forward_workspace, wara_merge, wara_merge_kernel, wara_unmerge,
};

pub(crate) use hadamard::HadamardProblem;
pub(crate) use transform::TransformProblem;
pub(crate) use wara::{BackwardProblem, Base, ForwardProblem, MergeProblem, WaraProblem, band};
