//! Haar wavelets: `(a + b)/√2` and `(a − b)/√2` of neighbours, again and again of the sums, all levels in one pass.
//!
//! | function | formula |
//! |---|---|
//! | [`forward_1d`], [`forward_2d`] | the coefficients of a signal |
//! | [`inverse_1d`], [`inverse_2d`] | the signal of its coefficients |
//! | [`hadamard`] | `y = a ∘ H·(b ∘ x)/√n`, the fast Walsh–Hadamard transform |
//!
//! Conventions and the order of coefficients are those of PyWavelets (`wavedec`, `wavedec2`, `coeffs_to_array`). S. Mallat, *A theory for multiresolution signal decomposition*, 1989.

mod hadamard;
mod transform;

pub use hadamard::{Hadamard, hadamard, hadamard_kernel};
pub use transform::{
    Axis, Bands, Boundary, Operation, Scaling, Transform, coefficient_extent, forward_1d, forward_2d, inverse_1d,
    inverse_2d, kernel,
};

pub(crate) use hadamard::HadamardProblem;
pub(crate) use transform::TransformProblem;
