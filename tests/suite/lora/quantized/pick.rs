//! Which kernel is picked for a quantised W, and what it needs.

use peft_kernels::lora::{self, Backward, BackwardTarget, Forward, Gradient, Quantized, Target};
use peft_kernels::storage::{RawSlice, RawSliceMut};
use peft_kernels::{Emulator, Kernel, Mat, MatMut, Tensor, TensorMut, Vector};

use crate::queues::Trials;

const SIMT: &str = "lora_forward_simt";
const LARGE: &str = "lora_forward_mma_large";
const SMALL: &str = "lora_forward_mma_small";
const DECODE: &str = "lora_forward_mma_decode";
const OF_CODES: &str = "lora_forward_quantized_small";
const DECODE_OF_CODES: &str = "lora_forward_quantized_decode";

const N: usize = 4096;
const K: usize = 11008;

fn vector<'a, T: Copy + 'static>(length: usize) -> Vector<'a, T, Emulator> {
    // SAFETY: never read: what is picked depends on shapes alone.
    Vector::whole(unsafe { RawSlice::from_raw(1 << 20, length) })
}

fn matrix<'a>(rows: usize, columns: usize) -> Mat<'a, f32, Emulator> {
    // SAFETY: as above.
    Mat::new(unsafe { RawSlice::from_raw(1 << 20, rows * columns) }, rows, columns).expect("as long as it needs")
}

fn matrix_mut<'a>(rows: usize, columns: usize) -> MatMut<'a, f32, Emulator> {
    // SAFETY: never written, as above.
    MatMut::new(unsafe { RawSliceMut::from_raw(1 << 21, rows * columns) }, rows, columns).expect("as long as it needs")
}

fn weights<'a>() -> Quantized<'a, Emulator> {
    Quantized::new(vector(N * K / 2), vector(N * K / 64))
}

/// Of so many batches of so many rows.
fn forward(
    queue: &Emulator,
    [batches, m]: [usize; 2],
    change: impl FnOnce(Forward<'static, f32, f32, Emulator>) -> Forward<'static, f32, f32, Emulator>,
) -> Result<(Kernel, usize), String> {
    // SAFETY: never read nor written: what is picked depends on shapes alone.
    let (x, y) =
        unsafe { (RawSlice::from_raw(1 << 20, batches * m * K), RawSliceMut::from_raw(1 << 21, batches * m * N)) };
    let x = Tensor::contiguous(x, [batches, m, K]).expect("as long as it needs");
    let y = TensorMut::contiguous(y, [batches, m, N]).expect("as long as it needs");
    let call = change(Forward::new(x).target(Target::quantized(&weights(), y)));
    let kernel = lora::forward_kernel(queue, &call).map_err(|error| error.to_string())?;
    Ok((kernel, lora::forward_workspace(queue, &call).map_err(|error| error.to_string())?))
}

/// Batches and rows of x, the kernel for them, the one of batches of any size, and whether W is made in the workspace: few rows of many batches are in as many tiles as many rows.
type Row = ([usize; 2], (&'static str, bool), (&'static str, bool));

const FORWARD: [Row; 14] = [
    ([1, 1], (DECODE_OF_CODES, false), (OF_CODES, false)),
    ([1, 16], (DECODE_OF_CODES, false), (OF_CODES, false)),
    ([4, 1], (DECODE_OF_CODES, false), (SMALL, true)),
    ([4, 16], (DECODE_OF_CODES, false), (SMALL, true)),
    ([5, 1], (DECODE, true), (SMALL, true)),
    ([5, 16], (DECODE, true), (SMALL, true)),
    ([64, 1], (DECODE, true), (SMALL, true)),
    ([1, 17], (OF_CODES, false), (OF_CODES, false)),
    ([1, 64], (OF_CODES, false), (OF_CODES, false)),
    ([2, 17], (SMALL, true), (SMALL, true)),
    ([2, 64], (SMALL, true), (SMALL, true)),
    ([1, 65], (SMALL, true), (SMALL, true)),
    ([1, 128], (SMALL, true), (SMALL, true)),
    ([1, 129], (LARGE, true), (SMALL, true)),
];

fn kernels() -> Result<(), String> {
    let queue = Emulator::new(0);
    for (rows, automatic, invariant) in FORWARD {
        let picked = [
            (forward(&queue, rows, |call| call)?, automatic),
            (forward(&queue, rows, Forward::batch_invariant)?, invariant),
        ];
        for ((kernel, bytes), (name, in_slabs)) in picked {
            // At most 32 MiB of parts and their counts, and of slabs 64 MiB.
            let right = if in_slabs { (44 << 20..97 << 20).contains(&bytes) } else { bytes < 33 << 20 };
            if kernel.name != name || !right {
                return Err(format!("batches and rows {rows:?}: {kernel:?}, {bytes} bytes, expected {name}"));
            }
        }
    }
    // f32 of 256 rows, and no more, whatever fewer bytes are asked for.
    for (slab, rows) in [(1, 256), (256 * K * 4, 256), (512 * K * 4 + 5, 512), (usize::MAX, N)] {
        let (_, without) = forward(&queue, [1, 129], |call| call.algorithm(1).slab_bytes(slab))?;
        let (_, with) = forward(&queue, [1, 129], |call| call.algorithm(2).slab_bytes(slab))?;
        if with - 255 < rows * K * 4 || with - 255 > rows * K * 4 + (33 << 20) || without > 255 {
            return Err(format!("slabs of {slab} bytes: {with} bytes, {without} of the plain kernel"));
        }
    }
    for (algorithm, name) in [(1, SIMT), (2, LARGE), (3, SMALL), (4, DECODE), (5, OF_CODES), (6, DECODE_OF_CODES)] {
        let (kernel, _) = forward(&queue, [1, 200], |call| call.algorithm(algorithm))?;
        if kernel.name != name || kernel.algorithm != algorithm {
            return Err(format!("algorithm {algorithm}: {kernel:?}"));
        }
    }
    Ok(())
}

/// A W in memory has none of these kernels.
fn others() -> Result<(), String> {
    let dense = Target::dense(matrix(64, 32), matrix_mut(3, 64));
    let call = Forward::<f32, f32, _>::new(matrix(3, 32)).target(dense).algorithm(6);
    let refused = lora::forward_kernel(&Emulator::new(0), &call);
    let expected = "algorithm 6 (lora_forward_quantized_decode) is for a quantised W, this call has none";
    match refused {
        Err(error) if error.to_string().contains(expected) => {}
        other => return Err(format!("{other:?}, expected {expected}")),
    }

    // The gradient of x is made in slabs, whatever the kernel.
    for (algorithm, slab, columns) in [(0, 0, 4096), (1, 0, 4096), (2, 1, 256), (3, 512 * N * 4, 512)] {
        let target = BackwardTarget::new(matrix(3, N)).quantized(&weights());
        let dx = Gradient::overwrite(matrix_mut(3, K));
        let call = Backward::<f32, f32, _>::new(matrix(3, K)).target(target).x_gradient(dx);
        let call = call.algorithm(algorithm).slab_bytes(slab);
        let bytes = lora::backward_workspace(&Emulator::new(0), &call).map_err(|error| error.to_string())?;
        if bytes != columns * N * 4 + 255 {
            return Err(format!("slabs of {slab} bytes: {bytes} bytes, expected {columns} columns"));
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::quantized::pick", kernels);
    trials.add("lora::quantized::pick_others", others);
}
