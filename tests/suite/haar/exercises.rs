//! The operations of the family as what a stream can be given.

use half::{bf16, f16};
use peft_kernels::haar::{Boundary, Operation as Transform};

use super::case::{Spec, exercise};
use super::hadamard;
use super::wara::case::{self as wara, Operation as Wara};
use crate::streams::Operation;

fn weights() -> wara::Spec {
    wara::Spec::new([100, 136, 264], 8)
}

fn tokens() -> wara::Spec {
    wara::Spec::new([144, 72, 40], 8).with(|spec| spec.grid = Some([8, 9])).with(|spec| spec.boundary = Boundary::Edge)
}

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
    Operation::new("pk_haar_wara_forward", "weights", || wara::exercise::<bf16, f32>(weights(), Wara::Forward)),
    Operation::new("pk_haar_wara_forward", "tokens", || wara::exercise::<f16, f16>(tokens(), Wara::Forward)),
    Operation::new("pk_haar_wara_backward", "weights", || wara::exercise::<bf16, f32>(weights(), Wara::Backward)),
    Operation::new("pk_haar_wara_backward", "tokens", || wara::exercise::<f16, f16>(tokens(), Wara::Backward)),
    Operation::new("pk_haar_wara_merge", "weights", || wara::exercise::<bf16, bf16>(weights(), Wara::Merge)),
    Operation::new("pk_haar_wara_unmerge", "weights", || wara::exercise::<f32, f32>(weights(), Wara::Unmerge)),
];
