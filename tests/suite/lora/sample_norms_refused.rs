//! Calls with samples that are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{self, Backward, Dropout, SampleNormTarget, SampleNorms, Samples};
use peft_kernels::{Cpu, Emulator, Error, Layout, Mat, Tensor, Vector, VectorMut, Workspace};

use super::case::Saved;
use super::sample_norms::{Case, Rows, Spec};
use crate::buffer::{Buffer, Cell, Placement};
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials};

type F32 = Case<f32, f32>;

/// Two batches of x [4, 8], A [2, 8], B [6, 2], H saved, four samples. A case spoils it.
fn sound() -> F32 {
    Case::new(&Spec::new([4, 6, 8, 2], Rows::Equal(4), Numbers::Reals).with(|spec| {
        (spec.batches, spec.targets[0].h, spec.plain) = (2, Saved::Own, true);
    }))
}

fn matrix(extents: [usize; 3]) -> Buffer<f32> {
    Buffer::new(Placement::default().layout(extents), |_| 1.0)
}

fn list(count: usize) -> Buffer<f32> {
    Buffer::new(Layout { offset: 0, extents: [1, 1, count], strides: [0, 0, 1] }, |_| f32::POISON)
}

/// What spoils the call, and the error's text.
type Spoiled = (fn(&mut F32), &'static str);

const CASES: &[Spoiled] = &[
    (|case| case.x = matrix([2, 4, 7]), "a is [2, 8], expected [2, 7]"),
    (|case| case.x = matrix([3, 4, 8]), "x is [3, 4, 8], expected [2, 4, 8]"),
    (|case| case.targets[0].dy = matrix([2, 3, 6]), "dy is [2, 3, 6], expected [2, 4, 6]"),
    (|case| case.targets[0].dy = matrix([2, 4, 5]), "b is [6, 2], expected [5, 2]"),
    (|case| case.targets[0].factors.b = matrix([1, 6, 3]), "b is [6, 3], expected [6, 2]"),
    (|case| case.targets[0].h.0 = matrix([2, 4, 3]), "saved h is [2, 4, 3], expected [2, 4, 2]"),
    (|case| case.squares = list(3), "squares is [3], expected [4]"),
    (
        |case| case.spec.rows = Rows::Equal(3),
        "the number of samples is 3 of 8 rows, expected one that divides the rows, or offsets",
    ),
    (
        |case| case.spec.rows = Rows::Equal(0),
        "the number of samples is 0, expected at least 1 where there are rows, and less than 2^31",
    ),
    (
        |case| (case.spec.rows, case.offsets) = (Rows::Offsets(vec![0]), Buffer::list(&[0])),
        "the number of samples is 0, expected at least 1 where there are rows, and less than 2^31",
    ),
    (
        |case| case.x.layout = Layout { offset: 0, extents: [1, 4, 8], strides: [0, 9, 4] },
        "x has row stride 9 and column stride 4, expected one of them to be 1",
    ),
];

fn shapes<Q: Runner>(queue: &Q) -> Result<(), String> {
    sound().run(queue)?;
    for (spoil, expected) in CASES {
        let mut case = sound();
        spoil(&mut case);
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let result = lora::sample_norms(queue, case.call(queue), Workspace::new(queue.sink(&workspace)));
        let got = result.err().map_or("accepted".into(), |error| error.to_string());
        if got != format!("lora::sample_norms: {expected}") {
            return Err(format!("{:?}: {got}, expected {expected}", queue.place()));
        }
        workspace.check_untouched("the workspace of a refused call")?;
        case.squares.check_untouched("squares")?;
    }
    Ok(())
}

/// What is no shape: targets, overlaps, algorithms, the workspace, the counters' ranges.
fn others<Q: Runner>(queue: &Q) -> Result<(), String> {
    let memory = Buffer::<f32>::list(&[1.0; 64]);
    let mat = |offset: usize, rows: usize, columns: usize| {
        let layout = Layout { offset, extents: [rows, columns], strides: [columns, 1] };
        Mat::<f32, Q>::with_layout(queue.source(&memory), layout).expect("within the list")
    };
    let squares = |offset: usize| {
        let layout = Layout { offset, extents: [2], strides: [1] };
        VectorMut::<f32, Q>::with_layout(queue.sink(&memory), layout).expect("within the list")
    };
    let call = |at: usize| SampleNorms::<f32, f32, Q>::new(mat(0, 2, 3), Samples::equal(2), squares(at));
    let target = || SampleNormTarget::new(mat(8, 2, 2), mat(16, 1, 3), mat(20, 2, 1), 1.0);
    let run = |call: SampleNorms<'_, f32, f32, Q>, expected: &str| {
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let got = lora::sample_norms(queue, call, Workspace::new(queue.sink(&workspace)));
        let got = got.err().map_or("accepted".into(), |error| error.to_string());
        memory.check_untouched(expected)?;
        if got.starts_with(&format!("lora::sample_norms: {expected}")) {
            Ok(())
        } else {
            Err(format!("{got}, expected {expected}"))
        }
    };
    run((0..9).fold(call(40), |call, _| call.target(target())), "the number of targets is 9, expected at most 8")?;
    for (at, name) in [(4, "x"), (11, "dy"), (18, "a"), (20, "b")] {
        run(call(at).target(target()), &format!("squares and {name} share the element"))?;
    }
    let wide = Layout { offset: 0, extents: [1, 1 << 33, 1], strides: [0, 0, 1] };
    let x = || Tensor::<f32, Q, 3>::with_layout(queue.source(&memory), wide).expect("one element");
    let dropped = SampleNorms::<f32, f32, Q>::new(x(), Samples::equal(2), squares(40));
    let dropped = dropped.dropout(Dropout::new(0.5, 1, 2).expect("a probability"));
    run(dropped, "x with dropout is [8589934592, 1], expected at most 2^32 rows and 2^34 columns")?;
    let row = Buffer::<f32>::list(&[1.0; 513]);
    for (samples, columns, expected) in [
        (1 << 30, 513, "the number of samples times 256 columns is 1073741824 times 3, expected less than 2^31"),
        (
            1 << 31,
            1,
            "the number of samples is 2147483648, expected at least 1 where there are rows, and less than 2^31",
        ),
    ] {
        let wide = Layout { offset: 0, extents: [1, samples, columns], strides: [0, 0, 1] };
        let x = Tensor::<f32, Q, 3>::with_layout(queue.source(&row), wide).expect("one row");
        run(SampleNorms::<f32, f32, Q>::new(x, Samples::equal(samples), squares(40)), expected)?;
    }
    let offsets = Buffer::<i32>::list(&[0, 1, 2]);
    let packed = || Samples::offsets(Vector::whole(queue.source(&offsets)));
    let many = SampleNorms::<f32, f32, Q>::new(x(), packed(), squares(40));
    run(many, "rows with sample offsets is 8589934592, expected less than 2^31")?;
    let none = Buffer::<i32>::list(&[]);
    let none = || Samples::offsets(Vector::whole(queue.source(&none)));
    let without = SampleNorms::<f32, f32, Q>::new(mat(0, 0, 3), none(), squares(40));
    run(without, "the number of sample offsets is 0, expected one more than samples")?;
    let message = match queue.place() {
        peft_kernels::Place::Cpu => "algorithm 9 does not exist on the CPU queue, expected 0",
        _ => "algorithm 9 does not exist, expected 0 (automatic) or 1 (lora_sample_norms_simt)",
    };
    run(call(40).target(target()).algorithm(9), message)?;
    if queue.place() != peft_kernels::Place::Cpu {
        match lora::sample_norms(queue, call(40).target(target()), Workspace::none()) {
            Err(Error::Workspace { .. }) => {}
            got => return Err(format!("{got:?}")),
        }
    }
    // Weights of another number, and among the outputs.
    let weights = |count: usize, offset: usize| {
        let layout = Layout { offset, extents: [count], strides: [1] };
        Vector::<f32, Q>::with_layout(queue.source(&memory), layout).expect("within the list")
    };
    let dy = || lora::BackwardTarget::new(mat(8, 2, 2)).adapter(mat(16, 1, 3), mat(20, 2, 1), 1.0);
    let da = || {
        let layout = Layout { offset: 48, extents: [1, 3], strides: [3, 1] };
        lora::Gradient::overwrite(
            peft_kernels::MatMut::with_layout(queue.sink(&memory), layout).expect("within the list"),
        )
    };
    let backward = || Backward::<f32, f32, Q>::new(mat(0, 2, 3)).target(dy().a_gradient(da()));
    for (call, expected) in [
        (backward().sample_weights(Samples::equal(2), weights(3, 30)), "sample weights is [3], expected [2]"),
        (
            backward().sample_weights(Samples::equal(3), weights(3, 30)),
            "the number of samples is 3 of 2 rows, expected",
        ),
        (
            backward().sample_weights(Samples::equal(2), weights(2, 49)),
            "the gradient of a and the sample weights share",
        ),
    ] {
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let got = lora::backward(queue, call, Workspace::new(queue.sink(&workspace)));
        let got = got.err().map_or("accepted".into(), |error| error.to_string());
        if !got.starts_with(&format!("lora::backward: {expected}")) {
            return Err(format!("{got}, expected {expected}"));
        }
        memory.check_untouched(expected)?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::sample_norms::refused", || {
        shapes(&Cpu)?;
        shapes(&Emulator::new(1))?;
        others(&Cpu)?;
        others(&Emulator::new(1))
    });
}
