//! Bad input: typed errors with the numbers, nothing written, the same on every queue.

use peft_kernels::haar::{self, Axis, Bands, Boundary, Transform};
use peft_kernels::{Cpu, Emulator, Error, HostQueue, Layout, Mat, MatMut, Tensor, TensorMut};

use crate::queues::Trials;

/// A call on matrices of these extents, which must be refused with this text.
fn refused<Q: HostQueue>(
    queue: &Q,
    [from, to]: [[usize; 2]; 2],
    levels: u32,
    change: impl for<'a> Fn(Transform<'a, f32, Q>) -> Transform<'a, f32, Q>,
    run: impl for<'a> Fn(&Q, Transform<'a, f32, Q>) -> peft_kernels::Result<()>,
    text: &str,
) -> Result<(), String> {
    let source = vec![1.0f32; from[0] * from[1]];
    let mut destination = vec![7.0f32; to[0] * to[1]];
    let from = Mat::new(&source, from[0], from[1]).expect("it fits");
    let call = Transform::new(from, MatMut::new(&mut destination, to[0], to[1]).expect("it fits"), levels);
    let got = run(queue, change(call));
    let message = got.as_ref().map_or_else(ToString::to_string, |()| "Ok".into());
    if message != text || destination.iter().any(|&value| value != 7.0) {
        return Err(format!("{message}\nexpected\n{text}"));
    }
    Ok(())
}

fn texts<Q: HostQueue>(queue: &Q) -> Result<(), String> {
    refused(
        queue,
        [[4, 12], [4, 12]],
        4,
        |call| call,
        haar::forward_1d,
        "haar::forward_1d: levels is 4, expected 1 to 3 along columns of 12 elements",
    )?;
    refused(
        queue,
        [[4, 12], [4, 12]],
        3,
        |call| call,
        haar::forward_2d,
        "haar::forward_2d: levels is 3, expected 1 to 2 along rows of 4 elements",
    )?;
    refused(
        queue,
        [[4, 12], [4, 12]],
        0,
        |call| call,
        haar::inverse_2d,
        "haar::inverse_2d: levels is 0, expected 1 to 2 along rows of 4 elements",
    )?;
    refused(
        queue,
        [[1, 4], [1, 4]],
        1,
        |call| call.axis(Axis::Rows),
        haar::forward_1d,
        "haar::forward_1d: levels is 1, expected more than one element along rows for any level",
    )?;
    refused(
        queue,
        [[4, 13], [4, 13]],
        2,
        |call| call,
        haar::forward_1d,
        "haar::forward_1d: columns is 13, expected a multiple of 4 for 2 levels, or a boundary mode that pads",
    )?;
    refused(
        queue,
        [[4, 13], [4, 13]],
        1,
        |call| call.boundary(Boundary::Edge),
        haar::forward_1d,
        "haar::forward_1d: destination is [1, 4, 13], expected [1, 4, 14]",
    )?;
    refused(
        queue,
        [[4, 14], [4, 13]],
        2,
        |call| call.boundary(Boundary::Zero).bands(Bands::Interleaved),
        haar::inverse_1d,
        "haar::inverse_1d: source is [1, 4, 14], expected [1, 4, 16]",
    )?;
    refused(
        queue,
        [[0, 8], [0, 8]],
        1,
        |call| call,
        haar::forward_1d,
        "haar::forward_1d: source is [1, 0, 8], expected at least one element",
    )?;
    let text = match std::any::type_name::<Q>().contains("Cpu") {
        true => "haar::forward_2d: algorithm 9 does not exist on the CPU queue, expected 0",
        false => "haar::forward_2d: algorithm 9 does not exist, expected 0 (automatic), 1 (simt) or 2 (tile)",
    };
    refused(queue, [[8, 8], [8, 8]], 1, |call| call.algorithm(9), haar::forward_2d, text)
}

/// What needs more than one buffer of f32.
fn others<Q: HostQueue>(queue: &Q) -> Result<(), String> {
    let mut image = vec![1.0f32; 64];
    let in_place = |image: &mut [f32], rows, columns, levels, bands| {
        let matrix = MatMut::new(&mut image[..rows * columns], rows, columns).expect("it fits");
        haar::forward_2d(queue, Transform::in_place(matrix, levels).bands(bands).boundary(Boundary::Zero))
    };
    let mallat = in_place(&mut image, 8, 8, 1, Bands::Mallat);
    let odd = in_place(&mut image, 7, 8, 1, Bands::Interleaved);
    let expect = |got: peft_kernels::Result<()>, text: &str| match got {
        Err(error) if error.to_string() == text => Ok(()),
        got => Err(format!("{got:?}\nexpected\n{text}")),
    };
    expect(mallat, "haar::forward_2d: bands is Bands::Mallat, expected Bands::Interleaved in place")?;
    expect(odd, "haar::forward_2d: destination is [1, 7, 8], expected [1, 8, 8]")?;

    let strided = Layout { offset: 0, extents: [1, 4, 4], strides: [0, 8, 2] };
    let source = vec![1.0f32; 64];
    let call = Transform::<f32, Q>::new(
        Tensor::with_layout(&source[..], strided).expect("it fits"),
        TensorMut::contiguous(&mut image[..16], [1, 4, 4]).expect("it fits"),
        1,
    );
    let text = "haar::forward_2d: source has row stride 8 and column stride 2, expected one of them to be 1";
    expect(haar::forward_2d(queue, call), text)?;

    let (from, mut to) = ([1.0f64; 4], [7.0f64; 4]);
    let call = Transform::new(Mat::new(&from, 2, 2).expect("it fits"), MatMut::new(&mut to, 2, 2).expect("it fits"), 1);
    match haar::forward_2d(queue, call) {
        Err(Error::ElementType { .. }) => {}
        got => return Err(format!("{got:?} with f64")),
    }
    if image.iter().any(|&value| value != 1.0) || to != [7.0; 4] {
        Err("a refused call has written".into())
    } else {
        Ok(())
    }
}

/// Source and destination that overlap.
fn overlap() -> Result<(), String> {
    use peft_kernels::storage::{RawSlice, RawSliceMut};
    let mut image = vec![1.0f32; 128];
    let address = image.as_mut_ptr() as u64;
    // SAFETY: the buffer outlives the call, which is refused.
    let (source, destination) =
        unsafe { (RawSlice::<f32>::from_raw(address, 64), RawSliceMut::<f32>::from_raw(address + 4 * 32, 64)) };
    let call = Transform::<f32, Cpu>::new(
        Mat::new(source, 8, 8).expect("it fits"),
        MatMut::new(destination, 8, 8).expect("it fits"),
        1,
    );
    match haar::forward_2d(&Cpu, call) {
        Err(Error::Overlap { .. }) => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::refused::texts/cpu", || texts(&Cpu));
    trials.add("haar::refused::texts/emulator", || texts(&Emulator::new(0)));
    trials.add("haar::refused::others/cpu", || others(&Cpu));
    trials.add("haar::refused::others/emulator", || others(&Emulator::new(0)));
    trials.add("haar::refused::overlap", overlap);
}
