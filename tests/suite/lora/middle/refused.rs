//! Calls whose middles are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{self, Adapter, AdapterTable, Backward, BackwardTarget, Forward, Gradient, Middle, Target};
use peft_kernels::{Cpu, Emulator, HostQueue, Layout, Mat, MatMut, Result, Tensor, TensorMut, Vector, Workspace};

use crate::queues::{Runner, Trials};

const M: usize = 4;
const N: usize = 6;
const K: usize = 8;
const RANK: usize = 3;

/// Numbers for every operand of a call: x, w, a, b, scale, gate, core.
struct Operands {
    list: Vec<f32>,
}

impl Operands {
    fn mat<Q: HostQueue>(&self, rows: usize, columns: usize) -> Mat<'_, f32, Q> {
        Mat::new(&self.list, rows, columns).expect("it fits")
    }
}

pub fn expect<T>(name: &str, result: Result<T>, expected: &str) -> std::result::Result<(), String> {
    let got = result.err().map_or("accepted".into(), |error| error.to_string());
    let text = got.split("0x").next().unwrap_or_default();
    if text == expected { Ok(()) } else { Err(format!("{name}: {got}\n   expected {expected}")) }
}

/// What makes a middle of the operands, for an adapter of A [RANK, K] and B [N, `after`]; and the text without the operation.
type Case<'a, Q> = (&'static str, usize, Middle<'a, f32, Q>, &'static str);

fn shapes<Q: HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let operands = Operands { list: vec![1.0; 64] };
    let of = |rows, columns| operands.mat::<Q>(rows, columns);
    let middle = Middle::new;
    let cases: Vec<Case<'_, Q>> = vec![
        ("scale", RANK, middle().scale(of(1, 4)), "the scale of ranks is [1, 4], expected [1, 3]"),
        ("scale's batches", RANK, middle().scale(of(2, 3)), "the scale of ranks is [2, 1, 3], expected [1, 1, 3]"),
        ("gate", RANK, middle().gate(of(5, 3)), "the gate is [5, 3], expected [4, 3]"),
        ("gate's ranks", RANK, middle().gate(of(4, 2)), "the gate is [4, 2], expected [4, 3]"),
        ("core's rows", 2, middle().core(of(3, 3)), "the core is [3, 3], expected [2, 3]"),
        ("core's columns", 2, middle().core(of(2, 2)), "the core is [2, 2], expected [2, 3]"),
        ("no core", 2, middle().scale(of(1, 3)), "b is [6, 2], expected [6, 3]"),
        (
            "entry",
            RANK,
            middle().ranks(&[0, 3]),
            "an entry of the list of ranks is 3, at 1, expected below 3, the adapter's rank",
        ),
        (
            "entry beyond i32",
            RANK,
            middle().ranks(&[u32::MAX]),
            "an entry of the list of ranks is 4294967295, at 0, expected below 3, the adapter's rank",
        ),
        ("twice", RANK, middle().ranks(&[2, 0, 2]), "the list of ranks is one with 2 twice, expected each rank once"),
        (
            "list and core",
            RANK,
            middle().ranks(&[2]).core(of(3, 3)),
            "a middle is both a list of ranks and a core, expected at most one of them",
        ),
    ];
    for (name, after, middle, text) in cases {
        let mut y = vec![7.0; M * N];
        let target = Target::dense(of(N, K), MatMut::new(&mut y, M, N).expect("it fits"));
        let target = target.adapter(of(RANK, K), of(N, after), 1.0).middle(middle);
        let mut workspace = vec![0u8; 1 << 14];
        let result = lora::forward(queue, Forward::new(of(M, K)).target(target), Workspace::new(&mut workspace));
        expect(name, result, &format!("lora::forward: {text}"))?;
        assert_eq!(y, [7.0; M * N], "{name}");
        let mut dx = vec![7.0; M * K];
        let target = BackwardTarget::new(of(M, N)).adapter(of(RANK, K), of(N, after), 1.0).middle(middle);
        let dx_to = Gradient::overwrite(MatMut::new(&mut dx, M, K).expect("it fits"));
        let call = Backward::new(of(M, K)).target(target).x_gradient(dx_to);
        let result = lora::backward(queue, call, Workspace::new(&mut workspace));
        expect(name, result, &format!("lora::backward: {text}"))?;
        assert_eq!(dx, [7.0; M * K], "{name}");
    }
    Ok(())
}

/// A middle of no adapter, of a table; gradients of parts that there are not, of other shapes, and in an operand.
fn others<Q: HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let operands = Operands { list: vec![1.0; 64] };
    let of = |rows, columns| operands.mat::<Q>(rows, columns);
    let scale = || Middle::new().scale(of(1, RANK));
    let mut y = vec![7.0; M * N];
    let mut workspace = vec![0u8; 1 << 14];
    let target = Target::dense(of(N, K), MatMut::new(&mut y, M, N).expect("it fits")).middle(scale());
    let result = lora::forward(queue, Forward::new(of(M, K)).target(target), Workspace::new(&mut workspace));
    let text = "a middle is that of no adapter, expected one for a target with one adapter";
    expect("no adapter", result, &format!("lora::forward: {text}"))?;
    let result = lora::backward(
        queue,
        Backward::new(of(M, K)).target(BackwardTarget::new(of(M, N)).middle(scale())),
        Workspace::new(&mut workspace),
    );
    expect("no adapter", result, &format!("lora::backward: {text}"))?;
    let adapters = [Adapter::new(of(RANK, K), of(N, RANK), 1.0)];
    let table = AdapterTable::new(queue, &adapters).expect("factors that fit");
    let target = Target::dense(of(N, K), MatMut::new(&mut y, M, N).expect("it fits")).table(&table).middle(scale());
    let call = Forward::new(of(M, K)).target(target).row_adapter(peft_kernels::Vector::whole(&[0, 0, 0, 0]));
    let text = "lora::forward: a middle is that of a table, expected one for a target with one adapter";
    expect("a table", lora::forward(queue, call, Workspace::new(&mut workspace)), text)?;
    assert_eq!(y, [7.0; M * N]);

    let core = || Middle::new().core(of(2, RANK));
    let target = |after, middle| BackwardTarget::new(of(M, N)).adapter(of(RANK, K), of(N, after), 1.0).middle(middle);
    let absent = "expected none for a target whose middle has no such part";
    let mut space = vec![7.0; 64];
    macro_rules! refuse {
        ($name:literal, $after:expr, $middle:expr, $gradient:ident, [$rows:expr, $columns:expr], $text:expr) => {{
            let to = Gradient::overwrite(MatMut::new(&mut space, $rows, $columns).expect("it fits"));
            let call = Backward::new(of(M, K)).target(target($after, $middle).$gradient(to));
            let text = format!("lora::backward: {}", $text);
            expect($name, lora::backward(queue, call, Workspace::new(&mut workspace)), &text)?;
            assert_eq!(space, [7.0; 64]);
        }};
    }
    refuse!("no scale", 2, core(), scale_gradient, [1, RANK], format!("the gradient of the scale is [1, 3], {absent}"));
    refuse!("no gate", 2, core(), gate_gradient, [M, RANK], format!("the gradient of the gate is [1, 4, 3], {absent}"));
    refuse!(
        "no core",
        RANK,
        scale(),
        core_gradient,
        [2, RANK],
        format!("the gradient of the core is [1, 2, 3], {absent}")
    );
    refuse!("dscale", RANK, scale(), scale_gradient, [1, 2], "the gradient of the scale is [1, 2], expected [1, 3]");
    refuse!("dcore", 2, core(), core_gradient, [3, 2], "the gradient of the core is [3, 2], expected [2, 3]");
    let gated = || Middle::new().gate(of(M, RANK));
    refuse!(
        "dgate",
        RANK,
        gated(),
        gate_gradient,
        [3, RANK],
        "the gradient of the gate is [1, 3, 3], expected [1, 4, 3]"
    );

    // A saved H has the columns that take part.
    let h = vec![1.0f32; M * RANK];
    let call = Backward::new(of(M, K))
        .target(target(RANK, Middle::new().ranks(&[1, 0])).saved_h(Mat::new(&h, M, RANK).expect("it fits")));
    let text = "lora::backward: saved h is [4, 3], expected [4, 2]";
    expect("saved h", lora::backward(queue, call, Workspace::new(&mut workspace)), text)
}

/// Outputs that share elements with a middle's operands.
fn overlaps<Q: Runner + HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let list = vec![1.0f32; 256];
    // Refused before anything is touched.
    let address = |first: u64| list.as_ptr() as u64 + 4 * first;
    let of =
        |first, rows, columns| Mat::<f32, Q>::new(queue.source_at(address(first), 64), rows, columns).expect("it fits");
    let to = |first, rows, columns| -> TensorMut<'_, f32, Q, 2> {
        MatMut::new(queue.sink_at(address(first), 64), rows, columns).expect("it fits")
    };
    let mut workspace = vec![0u8; 1 << 14];
    for (first, name) in [(100, "the scale of ranks"), (104, "the gate"), (118, "the core")] {
        let middle = Middle::new().scale(of(100, 1, RANK)).gate(of(104, M, RANK)).core(of(118, 2, RANK));
        let target = Target::branch_only(to(first, M, 1)).adapter(of(0, RANK, K), of(60, 1, 2), 1.0).middle(middle);
        let call = Forward::new(of(0, M, K)).target(target);
        let text = format!("lora::forward: y and {name} share the element at address ");
        expect(name, lora::forward(queue, call, Workspace::new(&mut workspace)), &text)?;
        let target = BackwardTarget::new(of(0, M, 1)).adapter(of(0, RANK, K), of(60, 1, 2), 1.0).middle(middle);
        let call = Backward::new(of(0, M, K)).target(target.core_gradient(Gradient::accumulate(to(first, 2, RANK))));
        let text = format!("lora::backward: the gradient of the core and {name} share the element at address ");
        expect(name, lora::backward(queue, call, Workspace::new(&mut workspace)), &text)?;
    }
    Ok(())
}

/// More elements of listed ranks than can be counted: of many batches without rows, and factors with strides of 0.
fn copies<Q: HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let (list, mut none, k) = (vec![1.0f32; 4], [0.0f32; 0], 1 << 40);
    let of = |extents: [usize; 3], strides| {
        Tensor::<f32, Q, 3>::with_layout(&list, Layout { offset: 0, extents, strides }).expect("it fits")
    };
    let of_rows = |columns| of([256, 0, columns], [0, 0, 1]);
    let (a, b) = (of([1, 2, k], [0, 1, 0]), of([1, 0, 2], [0, 2, 1]));
    let mut with = |listed: Middle<'_, f32, Q>, refused: bool| {
        let y = Layout { offset: 0, extents: [256, 0, 0], strides: [0, 0, 1] };
        let y = TensorMut::<f32, Q, 3>::with_layout(&mut none, y).expect("it fits");
        let forward = Forward::new(of_rows(k)).target(Target::branch_only(y).adapter(a, b, 1.0).middle(listed));
        let target = BackwardTarget::new(of_rows(0)).adapter(a, b, 1.0).middle(listed);
        let backward = Backward::new(of_rows(k)).target(target);
        if !refused {
            lora::forward_workspace(queue, &forward).map_err(|error| error.to_string())?;
            return lora::backward_workspace(queue, &backward).map(|_| ()).map_err(|error| error.to_string());
        }
        let text = "the number of listed ranks times their elements of all batches is 2 times 281474976710656, expected at most 2^48";
        expect("forward", lora::forward(queue, forward, Workspace::none()), &format!("lora::forward: {text}"))?;
        expect("backward", lora::backward(queue, backward, Workspace::none()), &format!("lora::backward: {text}"))
    };
    with(Middle::new().ranks(&[1, 0]), true)?;
    with(Middle::new().ranks_on_device(Vector::whole(&[1, 0])), true)?;
    with(Middle::new().ranks(&[1]), false)?;
    with(Middle::new().ranks_on_device(Vector::whole(&[1])), false)
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::middle::refused", || {
        shapes(&Cpu)?;
        shapes(&Emulator::new(1))?;
        others(&Cpu)?;
        others(&Emulator::new(1))?;
        overlaps(&Cpu)?;
        overlaps(&Emulator::new(1))?;
        copies(&Cpu)?;
        copies(&Emulator::new(1))
    });
}
