//! Calls that are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{self, DoubleBackward, Gradient};
use peft_kernels::{Cpu, Emulator, Error, Layout, Mat, MatMut, Place, Tensor, TensorMut, Workspace};

use super::case::{Case, Spec};
use crate::buffer::{Buffer, Cell};
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials};

type F32 = Case<f32, f32>;

/// Two batches of x [4, 8], dY [4, 6], A [2, 8], B [6, 2], with every cotangent and gradient; factors, and what goes with them, for all batches. A case spoils it.
fn sound() -> F32 {
    Case::new(&Spec::new(4, 6, 8, 2, Numbers::Reals).with(|spec| {
        (spec.batches, spec.shared, spec.summed) = (2, 0b1101_1100, [true; 2]);
    }))
}

fn smaller(layout: &mut Layout<3>, axis: usize) {
    layout.extents[axis] -= 1;
}

/// What spoils the call, and the error's text.
type Spoiled = (fn(&mut F32), &'static str);

const CASES: &[Spoiled] = &[
    (|case| smaller(&mut case.x.layout, 1), "dy is [2, 4, 6], expected [2, 3, 6]"),
    (|case| smaller(&mut case.x.layout, 2), "w is [6, 8], expected [6, 7]"),
    (|case| smaller(&mut case.dy.layout, 1), "dy is [2, 3, 6], expected [2, 4, 6]"),
    (|case| smaller(&mut case.dy.layout, 2), "w is [6, 8], expected [5, 8]"),
    (|case| smaller(&mut case.w.layout, 2), "w is [6, 7], expected [6, 8]"),
    (|case| smaller(&mut case.a.layout, 2), "a is [2, 7], expected [2, 8]"),
    (|case| smaller(&mut case.b.layout, 1), "b is [5, 2], expected [6, 2]"),
    (|case| smaller(&mut case.b.layout, 2), "b is [6, 1], expected [6, 2]"),
    (|case| smaller(&mut case.ux.layout, 2), "the cotangent of dx is [2, 4, 7], expected [2, 4, 8]"),
    (|case| smaller(&mut case.ua.layout, 1), "the cotangent of da is [1, 8], expected [2, 8]"),
    (|case| smaller(&mut case.ub.layout, 2), "the cotangent of db is [6, 1], expected [6, 2]"),
    (|case| smaller(&mut case.rows[0].layout, 2), "the gradient of dy is [2, 4, 5], expected [2, 4, 6]"),
    (|case| smaller(&mut case.rows[0].layout, 0), "the gradient of dy is [1, 4, 6], expected [2, 4, 6]"),
    (|case| smaller(&mut case.rows[1].layout, 1), "the gradient of x is [2, 3, 8], expected [2, 4, 8]"),
    (|case| smaller(&mut case.factors[0].layout, 2), "the gradient of a is [2, 7], expected [2, 8]"),
    (|case| smaller(&mut case.factors[1].layout, 1), "the gradient of b is [5, 2], expected [6, 2]"),
    (
        |case| case.dy.layout = Layout { offset: 0, extents: [1, 4, 6], strides: [0, 9, 2] },
        "dy has row stride 9 and column stride 2, expected one of them to be 1",
    ),
    (
        |case| case.ux.layout = Layout { offset: 0, extents: [1, 4, 8], strides: [0, 9, 2] },
        "the cotangent of dx has row stride 9 and column stride 2, expected one of them to be 1",
    ),
];

fn expect(result: peft_kernels::Result<()>, expected: &str) -> Result<(), String> {
    let got = result.err().map_or("accepted".into(), |error| error.to_string());
    let (text, expected) = (got.split("0x").next().unwrap_or_default(), format!("lora::double_backward: {expected}"));
    if text == expected { Ok(()) } else { Err(format!("{got}\nexpected\n{expected}")) }
}

fn shapes<Q: Runner>(queue: &Q) -> Result<(), String> {
    sound().run(queue)?;
    for (spoil, expected) in CASES {
        let mut case = sound();
        spoil(&mut case);
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let result =
            case.with_call(queue, |call| lora::double_backward(queue, call, Workspace::new(queue.sink(&workspace))));
        expect(result, expected)?;
        workspace.check_untouched("the workspace of a refused call")?;
        case.check_untouched()?;
    }
    Ok(())
}

/// What is no shape: a missing adapter, overlaps, algorithms, the workspace.
fn others<Q: Runner>(queue: &Q) -> Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 96]);
    let mat = |offset: usize, rows: usize, columns: usize| {
        let layout = Layout { offset, extents: [rows, columns], strides: [columns, 1] };
        Mat::<f32, Q>::with_layout(queue.source(&list), layout).expect("within the list")
    };
    let to = |offset: usize, rows: usize, columns: usize| {
        let layout = Layout { offset, extents: [rows, columns], strides: [columns, 1] };
        Gradient::overwrite(MatMut::<f32, Q>::with_layout(queue.sink(&list), layout).expect("within the list"))
    };
    let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
    let run = |call: DoubleBackward<'_, f32, f32, Q>, expected: &str| {
        expect(lora::double_backward(queue, call, Workspace::new(queue.sink(&workspace))), expected)?;
        list.check_untouched(expected)?;
        workspace.check_untouched(expected)
    };
    let bare = || DoubleBackward::<f32, f32, Q>::new(mat(0, 2, 3), mat(6, 2, 2));
    let none = "expected none for a call without an adapter";
    run(bare().a_cotangent(mat(16, 1, 3)), &format!("the cotangent of da is [1, 1, 3], {none}"))?;
    run(bare().b_cotangent(mat(16, 2, 1)), &format!("the cotangent of db is [1, 2, 1], {none}"))?;
    run(bare().a_gradient(to(16, 1, 3)), &format!("the gradient of a is [1, 1, 3], {none}"))?;
    run(bare().b_gradient(to(16, 2, 1)), &format!("the gradient of b is [1, 2, 1], {none}"))?;
    let call = || {
        let call = bare().dense(mat(10, 2, 3)).adapter(mat(16, 1, 3), mat(19, 2, 1), 1.0);
        call.x_cotangent(mat(21, 2, 3)).a_cotangent(mat(27, 1, 3)).b_cotangent(mat(30, 2, 1))
    };
    let overlaps = [
        (call().dy_gradient(to(3, 2, 2)), "the gradient of dy and x"),
        (call().x_gradient(to(7, 2, 3)), "the gradient of x and dy"),
        (call().a_gradient(to(13, 1, 3)), "the gradient of a and w"),
        (call().b_gradient(to(17, 2, 1)), "the gradient of b and a"),
        (call().b_gradient(to(20, 2, 1)), "the gradient of b and b"),
        (call().x_gradient(to(26, 2, 3)), "the gradient of x and the cotangent of dx"),
        (call().a_gradient(to(29, 1, 3)), "the gradient of a and the cotangent of da"),
        (call().dy_gradient(to(31, 2, 2)), "the gradient of dy and the cotangent of db"),
        (call().dy_gradient(to(40, 2, 2)).x_gradient(to(43, 2, 3)), "the gradient of dy and the gradient of x"),
    ];
    for (call, pair) in overlaps {
        run(call, &format!("{pair} share the element at address "))?;
    }
    let asks = || call().dy_gradient(to(40, 2, 2)).a_gradient(to(50, 1, 3));
    if queue.place() == Place::Cpu {
        return run(asks().algorithm(9), "algorithm 9 does not exist on the CPU queue, expected 0");
    }
    let known = "expected 0 (automatic) or 1 (lora_input_gradient_simt) to 3 (lora_input_gradient_mma_small)";
    run(asks().algorithm(9), &format!("algorithm 9 does not exist, {known}"))?;
    let got = lora::double_backward(queue, asks(), Workspace::none());
    list.check_untouched("the list")?;
    if matches!(got, Err(Error::Workspace { .. })) { Ok(()) } else { Err(format!("without a workspace: {got:?}")) }
}

/// More rows and ranks than can be counted, on a few elements: strides of 0, and matrices of no columns.
fn extents<Q: Runner>(queue: &Q) -> Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 64]);
    let input = |extents: [usize; 3], strides| {
        Tensor::<f32, Q, 3>::with_layout(queue.source(&list), Layout { offset: 0, extents, strides }).expect("in it")
    };
    let run = |call: DoubleBackward<'_, f32, f32, Q>, expected: &str| {
        expect(lora::double_backward(queue, call, Workspace::none()), expected)
    };
    let rows = || input([1, 1 << 30, 0], [0, 0, 1]);
    let many = Layout { offset: 0, extents: [1 << 40, 1 << 30, 0], strides: [0, 0, 1] };
    let to = || Gradient::overwrite(TensorMut::<f32, Q, 3>::with_layout(queue.sink(&list), many).expect("in it"));
    let text = "is [1099511627776, 1073741824, 0], expected at most 2^48 rows and columns";
    let call = || DoubleBackward::<f32, f32, Q>::new(rows(), rows());
    run(call().dy_gradient(to()), &format!("the gradient of dy {text}"))?;
    run(call().x_gradient(to()), &format!("the gradient of x {text}"))?;
    run(call().x_cotangent(input(many.extents, many.strides)), &format!("the cotangent of dx {text}"))?;
    let wide = |n: usize| {
        DoubleBackward::<f32, f32, Q>::new(input([1, 0, 0], [0, 0, 1]), input([1, 0, n], [0, 0, 1])).adapter(
            input([1, 64, 0], [0, 0, 1]),
            input([1, n, 64], [0, 0, 1]),
            1.0,
        )
    };
    lora::double_backward_workspace(queue, &wide(1 << 42)).map_err(|error| error.to_string())?;
    let text = "the number of rows or columns times the rank is 4398046511105 times 64, expected at most 2^48";
    run(wide((1 << 42) + 1), text)?;
    list.check_untouched("the list")
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::double_backward::refused", || {
        shapes(&Cpu)?;
        shapes(&Emulator::new(1))?;
        others(&Cpu)?;
        others(&Emulator::new(1))?;
        extents(&Cpu)?;
        extents(&Emulator::new(1))
    });
}
