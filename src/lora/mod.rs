//! LoRA: a linear layer with a low-rank branch, `y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + bias`.
//!
//! | function | formula |
//! |---|---|
//! | [`forward`] | `y = g ⊙ (x·Wᵀ + s·mid(x·Aᵀ)·Bᵀ) + bias`, for one layer or several that share x, with one adapter or a table of them, and a row scale g and a [`Middle`] or none; W dense or [`Quantized`] |
//! | [`backward`] | the gradients of x, A, B, the bias and the middle, any of them, overwritten or accumulated; of every adapter of a table |
//! | [`double_backward`] | the backward of [`backward`]: Hessian-vector products, meta-learning, influence functions |
//! | [`merge`] | `W' = g ⊙ (W + Σᵢ sᵢ·Bᵢ·midᵢ·Aᵢ)`, rounded once; a row scale and middles, or none |
//! | [`quantize`], [`dequantize`] | W as codes of a few bits in blocks that share a scale (NF4), and back; [`forward`] and [`backward`] take them as they are: QLoRA |
//! | [`unmerge`] | `W = W' / g − Σᵢ sᵢ·Bᵢ·midᵢ·Aᵢ`, exact with the residual of the merge |
//! | [`sample_norms`], [`clip_weights`], [`add_noise`] | the norm of each sample's gradients, what it is clipped by, and noise: differential privacy |
//! | [`magnitude_gradient`] | the gradient of DoRA's magnitude, from y |
//! | [`weight_norm`] | `|W + Σᵢ sᵢ·Bᵢ·Aᵢ|` of every row, for DoRA |
//!
//! E. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, ICLR 2022. With `s = α/√rank` it is rsLoRA (D. Kalajdzievski, 2023).

mod adapter;
mod add_noise;
mod backward;
mod clip_weights;
mod code_book;
mod double_backward;
mod dropout;
mod forward;
mod gradient_table;
mod magnitude_gradient;
mod merge;
mod middle;
mod quantize;
mod quantized;
mod rows;
mod sample_norms;
mod samples;
mod weight_norm;

pub use adapter::{Adapter, AdapterEntry, AdapterTable, Segment};
pub use add_noise::{AddNoise, add_noise, add_noise_kernel};
pub use backward::{Backward, BackwardTarget, Gradient, backward, backward_kernel, backward_workspace};
pub use clip_weights::{ClipWeights, clip_weights, clip_weights_kernel};
pub use code_book::CodeBook;
pub use double_backward::{DoubleBackward, double_backward, double_backward_kernel, double_backward_workspace};
pub use dropout::Dropout;
pub use forward::{Forward, Target, forward, forward_kernel, forward_workspace};
pub use gradient_table::{AdapterGradient, AdapterGradientEntry, GradientTable};
pub use magnitude_gradient::{
    MagnitudeGradient, magnitude_gradient, magnitude_gradient_kernel, magnitude_gradient_workspace,
};
pub use merge::{Merge, merge, merge_kernel, merge_workspace, unmerge};
pub use middle::Middle;
pub use quantize::{
    BlockFormat, Dequantize, Quantize, dequantize, dequantize_kernel, quantize, quantize_kernel, quantize_workspace,
};
pub use quantized::Quantized;
pub use sample_norms::{SampleNormTarget, SampleNorms, sample_norms, sample_norms_kernel, sample_norms_workspace};
pub use samples::Samples;
pub use weight_norm::{WeightNorm, weight_norm, weight_norm_kernel, weight_norm_workspace};

pub(crate) use adapter::{AdapterProblem, TableProblem};
pub(crate) use add_noise::NoiseProblem;
pub(crate) use backward::{BackwardProblem, BackwardTargetProblem, GradientProblem};
pub(crate) use clip_weights::ClipProblem;
pub(crate) use double_backward::DoubleBackwardProblem;
pub(crate) use forward::{AdapterChoice, BaseKind, ForwardProblem, TargetProblem};
pub(crate) use gradient_table::GradientTableProblem;
pub(crate) use magnitude_gradient::MagnitudeProblem;
pub(crate) use merge::MergeProblem;
pub(crate) use middle::MiddleProblem;
pub(crate) use quantize::QuantizeProblem;
pub(crate) use quantized::QuantizedProblem;
pub(crate) use rows::{Chosen, RowChoice, Rows, present};
pub(crate) use sample_norms::{SampleNormTargetProblem, SampleNormsProblem};
pub(crate) use samples::SamplesProblem;
pub(crate) use weight_norm::WeightNormProblem;
