//! Calls over tables that are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{
    self, Adapter, AdapterGradient, AdapterGradientEntry, AdapterTable, Backward, BackwardTarget, Gradient,
    GradientTable, Middle,
};
use peft_kernels::{Cpu, Emulator, HostQueue, Layout, Mat, MatMut, Place, Result, Vector, Workspace};

use crate::buffer::{Buffer, Cell};
use crate::queues::{Runner, Trials};

fn expect<T>(name: &str, result: Result<T>, expected: &str) -> std::result::Result<(), String> {
    let got = result.err().map_or("accepted".into(), |error| error.to_string());
    let text = got.split("0x").next().unwrap_or_default();
    if text == expected { Ok(()) } else { Err(format!("{name}: {got}\n   expected {expected}")) }
}

/// All operands lie in one list of ones: x [2, 3] at 0, dY [2, 2] at 8, A [1, 3] at 16, B [2, 1] at 20, gradients from 32 on, and a workspace from 64 on.
fn all<Q: Runner + HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 64 + 1024]);
    let layout =
        |offset: usize, rows: usize, columns: usize| Layout { offset, extents: [rows, columns], strides: [columns, 1] };
    let mat = |offset, rows, columns| {
        Mat::<f32, Q>::with_layout(queue.source(&list), layout(offset, rows, columns)).expect("within the list")
    };
    let mat_mut = |offset, rows, columns| {
        MatMut::<f32, Q>::with_layout(queue.sink(&list), layout(offset, rows, columns)).expect("within the list")
    };
    let workspace = Buffer::<u8>::list(&[u8::POISON; 4096]);
    let adapters = [Adapter::new(mat(16, 1, 3), mat(20, 2, 1), 1.0)];
    let wide = [Adapter::new(mat(16, 1, 4), mat(20, 2, 1), 1.0)];
    let text = |error: peft_kernels::Error| error.to_string();
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let wide = AdapterTable::new(queue, &wide).map_err(text)?;
    let rows = [0, 0];
    let call = || Backward::<f32, f32, Q>::new(mat(0, 2, 3)).row_adapter(Vector::whole(&rows));
    let target = || BackwardTarget::new(mat(8, 2, 2)).table(&table);
    let run = |name: &str, call: Backward<'_, f32, f32, Q>, expected: &str| {
        expect(name, lora::backward(queue, call, Workspace::new(queue.sink(&workspace))), expected)?;
        workspace.check_untouched("the workspace of a refused call")?;
        list.check_untouched(name)
    };

    let unchosen = Backward::<f32, f32, Q>::new(mat(0, 2, 3)).target(target());
    let text =
        "lora::backward: the choice of adapters is none, expected row_adapter or segments, for the table of target 0";
    run("no choice", unchosen, text)?;
    let one = BackwardTarget::new(mat(8, 2, 2)).adapter(mat(16, 1, 3), mat(20, 2, 1), 1.0);
    let text = "lora::backward: the choice of adapters is row_adapter or segments, expected a table in target 1, which has one adapter";
    run("one beside a table", call().target(target()).target(one), text)?;
    let none = BackwardTarget::new(mat(8, 2, 2)).adapter(mat(16, 0, 3), mat(20, 2, 0), 1.0);
    let none = none.middle(Middle::new().ranks_on_device(Vector::whole(&[0])));
    run("listed ranks of none beside a table", call().target(target()).target(none), text)?;
    let short = Backward::<f32, f32, Q>::new(mat(0, 2, 3)).row_adapter(Vector::whole(&rows[..1])).target(target());
    run("too few rows", short, "lora::backward: row_adapter is [1], expected [2]")?;
    let other = BackwardTarget::new(mat(8, 2, 2)).table(&wide);
    run("another k", call().target(other), "lora::backward: table is [2, 4], expected [2, 3]")?;
    let middle = target().middle(Middle::new().scale(Vector::whole(&[1.0f32])));
    let text = "lora::backward: a middle is that of a table, expected one for a target with one adapter";
    run("a middle", call().target(middle), text)?;
    let of_one = target().a_gradient(Gradient::overwrite(mat_mut(32, 1, 3)));
    let text =
        "lora::backward: the gradient of a is [1, 1, 3], expected a table of gradients for a target with a table";
    run("a gradient of one adapter", call().target(of_one), text)?;
    let narrow = target().saved_h(mat(40, 2, 2));
    run("saved h", call().target(narrow), "lora::backward: saved h is [2, 2], expected [2, 1]")?;

    let with = |gradients: &mut [AdapterGradient<'_, f32, Q>], has_table: bool, name: &str, expected: &str| {
        let gradients = GradientTable::new(queue, gradients).map_err(|error| error.to_string())?;
        let target = if has_table { target() } else { BackwardTarget::new(mat(8, 2, 2)) };
        run(name, call().target(target.table_gradients(gradients)), expected)
    };
    let a = |offset, columns| AdapterGradient::none().a(mat_mut(offset, 1, columns));
    let b = |offset, rows| AdapterGradient::none().b(mat_mut(offset, rows, 1));
    let text = "lora::backward: the table of gradients is one of 1, expected none for a target without a table";
    with(&mut [a(32, 3)], false, "no table", text)?;
    let text = "lora::backward: the table of gradients is [2], expected [1]";
    with(&mut [a(32, 3), a(40, 3)], true, "two gradients of one adapter", text)?;
    let text = "lora::backward: the gradient of a is [1, 2], expected [1, 3]";
    with(&mut [a(32, 2)], true, "da", text)?;
    let text = "lora::backward: the gradient of b is [3, 1], expected [2, 1]";
    with(&mut [b(32, 3)], true, "db", text)?;
    let text = "lora::backward: the gradient of a and x share the element at address ";
    with(&mut [a(2, 3)], true, "da in x", text)?;
    let text = "lora::backward: the gradient of b and b share the element at address ";
    with(&mut [b(21, 2)], true, "db in b", text)?;
    let text = "lora::backward: the gradient of a and the gradient of b share the element at address ";
    with(&mut [a(32, 3).b(mat_mut(34, 2, 1))], true, "db in da", text)?;
    let pair = [adapters[0]; 2];
    let pair = AdapterTable::new(queue, &pair).map_err(|error| error.to_string())?;
    let mut gradients = [a(32, 3), a(34, 3)];
    let gradients = GradientTable::new(queue, &mut gradients).map_err(|error| error.to_string())?;
    let of_pair = BackwardTarget::new(mat(8, 2, 2)).table(&pair).table_gradients(gradients);
    let text = "lora::backward: the gradient of a and the gradient of a share the element at address ";
    run("da of one adapter in that of another", call().target(of_pair), text)?;

    // Copies of the gradients' entries, so many from element 40 on.
    let on_device = |gradients: &mut [AdapterGradient<'_, f32, Q>], length: usize, name: &str, expected: &str| {
        let gradients = GradientTable::new(queue, gradients).map_err(|error| error.to_string())?;
        let entries = Vector::whole(queue.source_at::<AdapterGradientEntry>(list.address() + 160, length));
        // SAFETY: refused before anybody reads them.
        let target = unsafe { target().table_gradients_on_device(gradients, entries) };
        run(name, call().target(target), expected)
    };
    let text = "lora::backward: the gradients on the device is [2], expected [1]";
    on_device(&mut [a(32, 3)], 2, "a copy of another length", text)?;
    let text = "lora::backward: the gradient of a and the table of gradients share the element at address ";
    on_device(&mut [a(40, 3)], 1, "da in the table of gradients", text)?;
    let text = "lora::backward: the gradient of b and the table of gradients share the element at address ";
    on_device(&mut [b(51, 2)], 1, "db in the table of gradients", text)?;
    if queue.place() == Place::Cpu {
        return Ok(());
    }
    let mut gradients = [a(64 + 80, 3)];
    let gradients = GradientTable::new(queue, &mut gradients).map_err(|error| error.to_string())?;
    let space = Workspace::new(queue.sink_at::<u8>(list.address() + 256, 4096));
    let result = lora::backward(queue, call().target(target().table_gradients(gradients)), space);
    let text = "lora::backward: the workspace and the gradient of a share the element at address ";
    expect("da in the workspace", result, text)?;
    list.check_untouched("da in the workspace")
}

/// More elements of gradients than can be counted, on one: strides of 0.
fn extents<Q: Runner + HostQueue>(queue: &Q) -> std::result::Result<(), String> {
    let (list, k) = (Buffer::<f32>::list(&[1.0]), 1 << 48);
    let mat = |extents| {
        let layout = Layout { offset: 0, extents, strides: [0, 0] };
        Mat::<f32, Q>::with_layout(queue.source(&list), layout).expect("one element")
    };
    let adapters = [Adapter::new(mat([1, k]), mat([0, 1]), 1.0); 17];
    for count in [16, 17] {
        let table = AdapterTable::new(queue, &adapters[..count]).map_err(|error| error.to_string())?;
        let target = BackwardTarget::new(mat([0, 0])).table(&table);
        let call = Backward::<f32, f32, Q>::new(mat([0, k])).target(target).row_adapter(Vector::whole(&[]));
        if count == 16 {
            lora::backward_workspace(queue, &call).map_err(|error| error.to_string())?;
            continue;
        }
        let text = "lora::backward: the number of a table's adapters times rank and columns is 17 times 1 times 281474976710656, \
                    expected less than 2^31 adapters, and at most 2^52";
        expect("elements of gradients", lora::backward(queue, call, Workspace::none()), text)?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::backward::tables::refused", || {
        all(&Cpu)?;
        all(&Emulator::new(1))?;
        extents(&Cpu)?;
        extents(&Emulator::new(1))
    });
}
