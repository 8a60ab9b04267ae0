//! The operations of the family as what a stream can be given.

use half::bf16;
use peft_kernels::haar::{Boundary, Operation as Transform};

use super::case::{Spec, exercise};
use super::hadamard;
use crate::streams::Operation;

pub const OPERATIONS: &[Operation] = &[
    Operation::new("pk_haar_forward", "a matrix", || {
        exercise::<bf16>(Spec::new(Transform::Forward2d, [2, 192, 512], 4))
    }),
    Operation::new("pk_haar_forward", "odd extents", || {
        let spec = Spec::new(Transform::Forward2d, [1, 75, 131], 2);
        exercise::<f32>(spec.with(|spec| spec.boundary = Boundary::Periodic))
    }),
    Operation::new("pk_haar_inverse", "a matrix", || {
        exercise::<bf16>(Spec::new(Transform::Inverse2d, [2, 192, 512], 4))
    }),
    Operation::new("pk_haar_inverse", "rows", || exercise::<f32>(Spec::new(Transform::Inverse1d, [1, 100, 512], 5))),
    Operation::new("pk_haar_hadamard", "long rows", hadamard::exercise),
];
