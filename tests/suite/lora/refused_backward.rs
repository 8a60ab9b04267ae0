//! Backward calls that are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{self, Backward, BackwardTarget, Dropout, Gradient};
use peft_kernels::{Cpu, Emulator, Layout, Mat, MatMut, Result, Tensor, Workspace};

use super::case::{BiasSpec, Saved};
use super::gradient_case::{Case, Spec};
use crate::buffer::{Buffer, Cell};
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials};

type F32 = Case<f32, f32>;

/// Two batches of x [4, 8], W [6, 8], A [2, 8], B [6, 2], with every gradient asked for and H saved. A case spoils it.
fn sound() -> F32 {
    Case::new(&Spec::new(4, 6, 8, 2, Numbers::Reals).with(|spec| {
        (spec.batches, spec.targets[0].h) = (2, Saved::Own);
        spec.shared = 0b1_1100;
        spec.targets[0].summed = [true; 3];
        spec.targets[0].row_scale = BiasSpec::Batched(1);
    }))
}

fn smaller(layout: &mut Layout<3>, axis: usize) {
    layout.extents[axis] -= 1;
}

/// A name, what spoils the call, and the error's text.
type Spoiled = (&'static str, fn(&mut F32), &'static str);

const CASES: &[Spoiled] = &[
    ("x", |case| smaller(&mut case.x.layout, 2), "lora::backward: the gradient of x is [2, 4, 8], expected [2, 4, 7]"),
    (
        "rows",
        |case| smaller(&mut case.x.layout, 1),
        "lora::backward: the gradient of x is [2, 4, 8], expected [2, 3, 8]",
    ),
    (
        "dx",
        |case| smaller(&mut case.dx.layout, 1),
        "lora::backward: the gradient of x is [2, 3, 8], expected [2, 4, 8]",
    ),
    (
        "dx's batches",
        |case| smaller(&mut case.dx.layout, 0),
        "lora::backward: the gradient of x is [1, 4, 8], expected [2, 4, 8]",
    ),
    ("dy", |case| smaller(&mut case.targets[0].dy.layout, 1), "lora::backward: dy is [2, 3, 6], expected [2, 4, 6]"),
    ("n", |case| smaller(&mut case.targets[0].dy.layout, 2), "lora::backward: w is [6, 8], expected [5, 8]"),
    (
        "w",
        |case| smaller(&mut case.targets[0].w.as_mut().unwrap().layout, 2),
        "lora::backward: w is [6, 7], expected [6, 8]",
    ),
    (
        "a",
        |case| smaller(&mut case.targets[0].factors.as_mut().unwrap().a.layout, 2),
        "lora::backward: a is [2, 7], expected [2, 8]",
    ),
    (
        "b",
        |case| smaller(&mut case.targets[0].factors.as_mut().unwrap().b.layout, 1),
        "lora::backward: b is [5, 2], expected [6, 2]",
    ),
    (
        "rank",
        |case| smaller(&mut case.targets[0].factors.as_mut().unwrap().b.layout, 2),
        "lora::backward: b is [6, 1], expected [6, 2]",
    ),
    (
        "the row scale",
        |case| smaller(&mut case.targets[0].row_scale.as_mut().unwrap().layout, 2),
        "lora::backward: row_scale is [2, 1, 5], expected [2, 1, 6]",
    ),
    (
        "h's rows",
        |case| smaller(&mut case.targets[0].h.0.layout, 1),
        "lora::backward: saved h is [2, 3, 2], expected [2, 4, 2]",
    ),
    (
        "h's rank",
        |case| smaller(&mut case.targets[0].h.0.layout, 2),
        "lora::backward: saved h is [2, 4, 1], expected [2, 4, 2]",
    ),
    (
        "da",
        |case| smaller(&mut case.targets[0].da.layout, 2),
        "lora::backward: the gradient of a is [2, 7], expected [2, 8]",
    ),
    (
        "db",
        |case| smaller(&mut case.targets[0].db.layout, 1),
        "lora::backward: the gradient of b is [5, 2], expected [6, 2]",
    ),
    (
        "dbias",
        |case| smaller(&mut case.targets[0].dbias.layout, 2),
        "lora::backward: the gradient of the bias is [1, 5], expected [1, 6]",
    ),
    (
        "strides",
        |case| case.targets[0].dy.layout = Layout { offset: 0, extents: [2, 2, 3], strides: [20, 9, 2] },
        "lora::backward: dy is [2, 2, 3], expected [2, 4, 3]",
    ),
    (
        "no stride of 1",
        |case| case.x.layout = Layout { offset: 0, extents: [1, 4, 8], strides: [0, 9, 4] },
        "lora::backward: x has row stride 9 and column stride 4, expected one of them to be 1",
    ),
];

fn expect<T>(name: &str, result: Result<T>, expected: &str) -> std::result::Result<(), String> {
    let got = result.err().map_or("accepted".into(), |error| error.to_string());
    let text = got.split("0x").next().unwrap_or_default();
    if text == expected { Ok(()) } else { Err(format!("{name}: {got}\n   expected {expected}")) }
}

fn shapes<Q: Runner>(queue: &Q) -> std::result::Result<(), String> {
    sound().run(queue)?;
    for (name, spoil, expected) in CASES {
        let mut case = sound();
        spoil(&mut case);
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let result = case.with_call(queue, |call| lora::backward(queue, call, Workspace::new(queue.sink(&workspace))));
        expect(name, result, expected)?;
        workspace.check_untouched("the workspace of a refused call")?;
        case.dx.check_untouched("dx")?;
        case.targets[0].da.check_untouched("da")?;
        case.targets[0].db.check_untouched("db")?;
        case.targets[0].dbias.check_untouched("dbias")?;
    }
    Ok(())
}

/// What is no shape: targets, a missing adapter, overlaps, algorithms, the workspace, the generator's counter.
fn others<Q: Runner>(queue: &Q) -> std::result::Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 64]);
    let mat = |offset: usize, rows: usize, columns: usize| {
        let layout = Layout { offset, extents: [rows, columns], strides: [columns, 1] };
        Mat::<f32, Q>::with_layout(queue.source(&list), layout).expect("within the list")
    };
    let mat_mut = |offset: usize, rows: usize, columns: usize| {
        let layout = Layout { offset, extents: [rows, columns], strides: [columns, 1] };
        MatMut::<f32, Q>::with_layout(queue.sink(&list), layout).expect("within the list")
    };
    let call = || Backward::<f32, f32, Q>::new(mat(0, 2, 3));
    let target = || BackwardTarget::new(mat(8, 2, 2)).adapter(mat(16, 1, 3), mat(20, 2, 1), 1.0);
    let run = |name: &str, call: Backward<'_, f32, f32, Q>, expected: &str| {
        expect(name, lora::backward(queue, call, Workspace::none()), expected)?;
        list.check_untouched(name)
    };
    let many = (0..9).fold(call(), |call, _| call.target(target()));
    run("nine targets", many, "lora::backward: the number of targets is 9, expected at most 8")?;
    let bare = BackwardTarget::new(mat(8, 2, 2)).a_gradient(Gradient::overwrite(mat_mut(32, 1, 3)));
    let text = "lora::backward: the gradient of a is [1, 1, 3], expected none for a target without an adapter";
    run("no adapter", call().target(bare), text)?;
    let overlaps = [
        ("dx in x", [3, 40], "the gradient of x and x"),
        ("dx in the row scale", [57, 40], "the gradient of x and row_scale"),
        ("dx in w", [50, 40], "the gradient of x and w"),
        ("da in dx", [38, 40], "the gradient of x and the gradient of a"),
    ];
    for (name, [dx, da], pair) in overlaps {
        let target =
            target().dense(mat(50, 2, 3)).row_scale(mat(62, 1, 2)).a_gradient(Gradient::overwrite(mat_mut(da, 1, 3)));
        let call = call().x_gradient(Gradient::accumulate(mat_mut(dx, 2, 3))).target(target);
        let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
        let result = lora::backward(queue, call, Workspace::new(queue.sink(&workspace)));
        expect(name, result, &format!("lora::backward: {pair} share the element at address "))?;
        list.check_untouched(name)?;
    }
    let gradient = || Gradient::overwrite(mat_mut(32, 2, 3));
    let unknown = call().x_gradient(gradient()).target(target()).algorithm(9);
    let host = queue.place() == peft_kernels::Place::Cpu;
    if host {
        let text = "lora::backward: algorithm 9 does not exist on the CPU queue, expected 0";
        return run("algorithm", unknown, text);
    }
    let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
    let text = "lora::backward: algorithm 9 does not exist, expected 0 (automatic) or 1 (lora_input_gradient_simt) to 3 (lora_input_gradient_mma_small)";
    expect("algorithm", lora::backward(queue, unknown, Workspace::new(queue.sink(&workspace))), text)?;
    let unworkable = call().x_gradient(gradient()).target(target());
    let bytes = lora::backward_workspace(queue, &unworkable).map_err(|error| error.to_string())?;
    let text = format!("lora::backward: the workspace has 0 bytes, expected {bytes}");
    run("workspace", unworkable, &text)?;
    // One element seen as 2^33 rows.
    let wide = Layout { offset: 0, extents: [1, 1 << 33, 1], strides: [0, 0, 1] };
    let x = peft_kernels::Tensor::<f32, Q, 3>::with_layout(queue.source(&list), wide).expect("one element");
    let dropped = Backward::<f32, f32, Q>::new(x).dropout(Dropout::new(0.5, 1, 2).expect("a probability"));
    let text =
        format!("lora::backward: x with dropout is [{}, 1], expected at most 2^32 rows and 2^34 columns", 1u64 << 33);
    run("dropout", dropped, &text)
}

/// More columns and ranks than can be counted, on a few elements: strides of 0, and matrices of no rows.
fn extents<Q: Runner>(queue: &Q) -> std::result::Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 64]);
    let input = |extents: [usize; 3], strides| {
        Tensor::<f32, Q, 3>::with_layout(queue.source(&list), Layout { offset: 0, extents, strides }).expect("in it")
    };
    let target = |[n, k]: [usize; 2], rank: usize| {
        let (a, b) = (input([1, rank, k], [0, 1, 0]), input([1, n, rank], [0, 0, 1]));
        BackwardTarget::new(input([1, 0, n], [0, 0, 1])).adapter(a, b, 1.0)
    };
    let call = |k: usize| Backward::<f32, f32, Q>::new(input([1, 0, k], [0, 0, 1]));
    let run = |name: &str, call: Backward<'_, f32, f32, Q>, expected: &str| {
        expect(name, lora::backward(queue, call, Workspace::none()), &format!("lora::backward: {expected}"))
    };
    let (most, beyond) = (1 << 42, (1 << 42) + 1);
    let text = "the number of rows or columns times all ranks is 4398046511105 times 64, expected at most 2^48";
    run("n", call(0).target(target([beyond, 0], 64)), text)?;
    run("k", call(beyond).target(target([0, beyond], 64)), text)?;
    let text = "the sum of all ranks is 2147483648, expected at most 2^31 - 1";
    let ranks = |second: usize| call(0).target(target([0, 0], 1 << 30)).target(target([0, 0], second));
    run("ranks", ranks(1 << 30), text)?;
    // The limits themselves.
    for call in [call(0).target(target([most, 0], 64)), call(most).target(target([0, most], 64)), ranks((1 << 30) - 1)]
    {
        lora::backward_workspace(queue, &call).map_err(|error| error.to_string())?;
    }
    list.check_untouched("the list")
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::backward::refused", || {
        shapes(&Cpu)?;
        shapes(&Emulator::new(1))?;
        others(&Cpu)?;
        others(&Emulator::new(1))?;
        extents(&Cpu)?;
        extents(&Emulator::new(1))
    });
}
