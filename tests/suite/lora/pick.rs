//! Which kernel is picked for which call, and that every chip can run each of them.

use half::bf16;
use peft_kernels::lora::{self, Adapter, Backward, BackwardTarget, Forward, Gradient, Merge, Target};
use peft_kernels::storage::{RawSlice, RawSliceMut};
use peft_kernels::{Element, Emulator, Kernel, Mat, MatMut, Vector};

use super::case::{ALGORITHMS, Case, Spec};
use super::forward::check_case;
use super::{gradient_case, merge};
use crate::buffer::Cell;
use crate::numbers::Numbers;
use crate::queues::{CHIPS, Trials};

const SIMT: &str = "lora_forward_simt";
const LARGE: &str = "lora_forward_mma_large";
const SMALL: &str = "lora_forward_mma_small";
const DECODE: &str = "lora_forward_mma_decode";

/// Columns of each target, m, k and the kernel's name; without a batch of any size in mind, and with.
type Row = (&'static [usize], usize, usize, &'static str, &'static str);

const FORWARD: &[Row] = &[
    (&[4096], 0, 4096, DECODE, SMALL),
    (&[4096], 1, 4096, DECODE, SMALL),
    (&[4096], 16, 4096, DECODE, SMALL),
    (&[4096], 17, 4096, SMALL, SMALL),
    (&[4096], 128, 4096, SMALL, SMALL),
    (&[4096], 129, 4096, LARGE, SMALL),
    (&[128], 129, 4096, SMALL, SMALL),
    (&[129], 129, 1, LARGE, SMALL),
    (&[64, 129], 129, 64, LARGE, SMALL),
    (&[64, 128], 4096, 64, SMALL, SMALL),
    (&[11008, 11008], 4096, 4096, LARGE, SMALL),
    (&[0], 4096, 4096, SMALL, SMALL),
    (&[], 4096, 4096, SMALL, SMALL),
    // More tiles than a grid has blocks, were they split.
    (&[64], 1 << 36, 1, SIMT, SIMT),
];

pub(super) fn matrix<'a, T: Element>(rows: usize, columns: usize) -> Mat<'a, T, Emulator> {
    // SAFETY: never read: what is picked depends on shapes alone.
    Mat::new(unsafe { RawSlice::from_raw(1 << 20, rows * columns) }, rows, columns).expect("as long as it needs")
}

pub(super) fn matrix_mut<'a, T: Copy + 'static>(rows: usize, columns: usize) -> MatMut<'a, T, Emulator> {
    // SAFETY: never written, as above.
    MatMut::new(unsafe { RawSliceMut::from_raw(1 << 21, rows * columns) }, rows, columns).expect("as long as it needs")
}

fn forward_kernel<T: Element, P: Element>(
    queue: &Emulator,
    (columns, m, k, ..): &Row,
    rank: usize,
    change: impl FnOnce(Forward<'static, T, P, Emulator>) -> Forward<'static, T, P, Emulator>,
) -> Result<Kernel, String> {
    let mut call = Forward::new(matrix(*m, *k));
    for &n in *columns {
        let target = Target::dense(matrix(n, *k), matrix_mut(*m, n));
        call = call.target(target.adapter(matrix::<P>(rank, *k), matrix::<P>(n, rank), 1.0));
    }
    lora::forward_kernel(queue, &change(call)).map_err(|error| error.to_string())
}

/// On every chip, for every rank, and also where f32 may be less exact.
fn forward<T: Element, P: Element>() -> Result<(), String> {
    for row in FORWARD {
        for chip in CHIPS {
            let queue = Emulator::new(0).compute_capability(chip);
            for rank in [0, 1, 16, 300] {
                let picked = [
                    (forward_kernel::<T, P>(&queue, row, rank, |call| call)?, row.3),
                    (forward_kernel::<T, P>(&queue, row, rank, Forward::allow_tf32)?, row.3),
                    (forward_kernel::<T, P>(&queue, row, rank, Forward::batch_invariant)?, row.4),
                ];
                for (kernel, name) in &picked {
                    if kernel.name != *name {
                        return Err(format!("{row:?}, rank {rank} on {queue:?}: {kernel:?}, expected {name}"));
                    }
                }
                let exact = &picked[0].0;
                let again = forward_kernel::<T, P>(&queue, row, rank, |call| call.algorithm(exact.algorithm))?;
                if again != *exact {
                    return Err(format!("{row:?}, rank {rank} on {queue:?}: {exact:?}, asked for: {again:?}"));
                }
            }
        }
    }
    Ok(())
}

fn merge<T: Element, P: Element>() -> Result<(), String> {
    let mma: &[(&[usize], &str)] = &[
        (&[], "lora_merge_simt"),
        (&[0, 0], "lora_merge_simt"),
        (&[1], "lora_merge_mma"),
        (&[0, 300], "lora_merge_mma"),
    ];
    for chip in CHIPS {
        let queue = Emulator::new(0).compute_capability(chip);
        for (ranks, name) in mma {
            for residual in [false, true] {
                let (n, k) = (4096, 11008);
                let mut call = Merge::<T, P, _>::in_place(matrix_mut(n, k));
                for &rank in *ranks {
                    call = call.adapter(Adapter::new(matrix(rank, k), matrix(n, rank), 1.0));
                }
                if residual && size_of::<T>() == 4 {
                    continue;
                }
                if residual {
                    call = call.residual(matrix_mut(n, k));
                }
                let kernel = lora::merge_kernel(&queue, &call).map_err(|error| error.to_string())?;
                let expected = if residual { "lora_merge_simt" } else { name };
                if kernel.name != expected {
                    return Err(format!("{ranks:?}, residual {residual}: {kernel:?}, expected {expected}"));
                }
            }
        }
    }
    Ok(())
}

/// Every kernel on every chip, whose shared memory differs: what does not fit is refused.
fn every_chip<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for allow_tf32 in [false, true] {
        let mut case =
            Case::<T, P>::new(&Spec::new(5, 9, 33, 3, Numbers::Reals).with(|spec| spec.allow_tf32 = allow_tf32));
        let oracle = case.oracle();
        for chip in CHIPS {
            let queue = Emulator::new(chip as u64).compute_capability(chip);
            for algorithm in ALGORITHMS {
                case.spec.algorithm = algorithm;
                check_case(&case, &oracle, &queue)?;
            }
        }
    }
    CHIPS
        .into_iter()
        .try_for_each(|chip| merge::with_every_kernel::<T, P>(&Emulator::new(chip as u64).compute_capability(chip)))
}

/// m, k, and the kernel that makes the gradient of x.
const BACKWARD: &[(usize, usize, &str)] = &[
    (0, 4096, "lora_input_gradient_mma_small"),
    (128, 4096, "lora_input_gradient_mma_small"),
    (129, 4096, "lora_input_gradient_mma_large"),
    (4096, 128, "lora_input_gradient_mma_small"),
    (4096, 14336, "lora_input_gradient_mma_large"),
    (1 << 38, 1, "lora_input_gradient_simt"),
];

fn backward() -> Result<(), String> {
    for &(m, k, name) in BACKWARD {
        for chip in CHIPS {
            let queue = Emulator::new(0).compute_capability(chip);
            let target = BackwardTarget::new(matrix::<f32>(m, 64)).dense(matrix(64, k));
            let target = target.adapter(matrix(16, k), matrix(64, 16), 1.0);
            let dx = Gradient::overwrite(matrix_mut(m, k));
            let call = Backward::<f32, f32, _>::new(matrix(m, k)).target(target).x_gradient(dx);
            let kernel = lora::backward_kernel(&queue, &call).map_err(|error| error.to_string())?;
            if kernel.name != name {
                return Err(format!("[{m}, {k}] on {queue:?}: {kernel:?}, expected {name}"));
            }
            // At most 64 MiB beside dH, whatever the shape.
            let bytes = lora::backward_workspace(&queue, &call).map_err(|error| error.to_string())?;
            if bytes > (64 << 20) + m * 16 * 4 * 2 {
                return Err(format!("[{m}, {k}]: a workspace of {bytes} bytes"));
            }
        }
    }
    Ok(())
}

/// What a row scale changes where a kernel is asked for, whose addresses nobody knows yet: one rounding more, and large tiles of 16 bits are for a dY of contiguous rows.
fn row_scales() -> Result<(), String> {
    fn scale<'a>() -> Vector<'a, f32, Emulator> {
        // SAFETY: never read, as above.
        Vector::whole(unsafe { RawSlice::from_raw(1 << 20, 256) })
    }
    fn of_forward(algorithm: i32, scaled: bool) -> peft_kernels::Result<Kernel> {
        let target = Target::dense(matrix::<bf16>(256, 512), matrix_mut(256, 256));
        let target = target.adapter(matrix::<bf16>(16, 512), matrix(256, 16), 1.0);
        let target = if scaled { target.row_scale(scale()) } else { target };
        let call = Forward::new(matrix(256, 512)).target(target).algorithm(algorithm);
        lora::forward_kernel(&Emulator::new(0), &call)
    }
    fn of_backward<T: Element>(algorithm: i32, columns: bool, scaled: bool) -> peft_kernels::Result<Kernel> {
        let dy = if columns { matrix::<T>(256, 256).t() } else { matrix(256, 256) };
        let target = BackwardTarget::new(dy).dense(matrix(256, 512));
        let target = target.adapter(matrix::<T>(16, 512), matrix(256, 16), 1.0);
        let target = if scaled { target.row_scale(scale()) } else { target };
        let dx = Gradient::overwrite(matrix_mut(256, 512));
        let call = Backward::new(matrix(256, 512)).target(target).x_gradient(dx).algorithm(algorithm);
        lora::backward_kernel(&Emulator::new(0), &call)
    }
    let forward = ALGORITHMS.map(|algorithm| [false, true].map(|scaled| of_forward(algorithm, scaled)));
    let backward = gradient_case::ALGORITHMS
        .map(|algorithm| [false, true].map(|scaled| of_backward::<bf16>(algorithm, false, scaled)));
    for [without, with] in forward.into_iter().chain(backward) {
        let (without, with) = (without.map_err(|error| error.to_string())?, with.map_err(|error| error.to_string())?);
        if (&with.name, with.rounding_steps) != (&without.name, without.rounding_steps + 1) {
            return Err(format!("{without:?}, with a row scale {with:?}"));
        }
    }
    let picked = [
        (of_backward::<bf16>(0, true, false), "lora_input_gradient_mma_large"),
        (of_backward::<bf16>(0, true, true), "lora_input_gradient_mma_small"),
        (of_backward::<f32>(0, true, true), "lora_input_gradient_mma_large"),
    ];
    for (i, (kernel, name)) in picked.into_iter().enumerate() {
        let kernel = kernel.map_err(|error| error.to_string())?;
        if kernel.name != name {
            return Err(format!("call {i}: {kernel:?}, expected {name}"));
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::pick::row_scales", row_scales);
    trials.add("lora::backward::pick", backward);
    for_types!(trials, "lora::pick::forward", forward);
    for_types!(trials, "lora::pick::merge", merge);
    for_types!(trials, "lora::pick::every_chip", every_chip);
}
