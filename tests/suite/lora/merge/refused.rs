//! Merges whose middles, row scales or workspaces are refused: the error's text is pinned, and nothing is written.

use peft_kernels::lora::{self, Adapter, Merge, Middle};
use peft_kernels::{Cpu, Emulator, HostQueue, Mat, MatMut, Result, Vector, Workspace};

use crate::lora::middle::refused::expect;
use crate::queues::{Runner, Trials};

const N: usize = 6;
const K: usize = 8;
const RANK: usize = 3;

type Outcome = std::result::Result<(), String>;

/// Merges or unmerges.
type Operation<Q> = fn(&Q, Merge<'_, f32, f32, Q>) -> Result<()>;

fn both<Q: HostQueue>() -> [(&'static str, Operation<Q>); 2] {
    [("lora::merge", lora::merge), ("lora::unmerge", lora::unmerge)]
}

fn middles<Q: HostQueue>(queue: &Q) -> Outcome {
    let list = vec![1.0f32; 64];
    let of = |rows, columns| Mat::<f32, Q>::new(&list, rows, columns).expect("it fits");
    let middle = Middle::new;
    // What lies between A [RANK, K] and B [N, so many].
    let cases = [
        (
            "gate",
            RANK,
            middle().gate(of(4, 3)),
            "a middle is one with a gate, expected one without: a gate belongs to tokens",
        ),
        ("scale", RANK, middle().scale(of(1, 4)), "the scale of ranks is [1, 4], expected [1, 3]"),
        ("scale's batches", RANK, middle().scale(of(2, 3)), "the scale of ranks is [2, 1, 3], expected [1, 1, 3]"),
        ("core's rows", 2, middle().core(of(3, 3)), "the core is [3, 3], expected [2, 3]"),
        ("core's columns", 2, middle().core(of(2, 2)), "the core is [2, 2], expected [2, 3]"),
        ("no core", 2, middle().scale(of(1, 3)), "b is [6, 2], expected [6, 3]"),
        (
            "entry",
            RANK,
            middle().ranks(&[0, 3]),
            "an entry of the list of ranks is 3, at 1, expected below 3, the adapter's rank",
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
        for (operation, run) in both::<Q>() {
            let mut weights = [7.0f32; N * K];
            let mut scratch = vec![0u8; 1 << 14];
            let call = Merge::in_place(MatMut::new(&mut weights, N, K).expect("it fits"));
            let call = call.adapter_with_middle(Adapter::new(of(RANK, K), of(N, after), 1.0), middle);
            let result = run(queue, call.workspace(Workspace::new(&mut scratch)));
            expect(name, result, &format!("{operation}: {text}"))?;
            assert_eq!(weights, [7.0; N * K], "{name}");
        }
    }
    Ok(())
}

/// A row scale of another extent; no workspace where one is needed, and one that is too small.
fn others<Q: HostQueue>(queue: &Q) -> Outcome {
    let list = vec![1.0f32; 64];
    let of = |rows, columns| Mat::<f32, Q>::new(&list, rows, columns).expect("it fits");
    let adapter = || Adapter::new(of(RANK, K), of(N, RANK), 1.0);
    for (operation, run) in both::<Q>() {
        let mut weights = [7.0f32; N * K];
        let call = Merge::<_, f32, Q>::in_place(MatMut::new(&mut weights, N, K).expect("it fits"));
        let call = call.row_scale(Vector::whole(&list[..5]));
        expect("row scale", run(queue, call), &format!("{operation}: row_scale is [1, 5], expected [1, 6]"))?;
        let call = Merge::<_, f32, Q>::in_place(MatMut::new(&mut weights, N, K).expect("it fits"));
        let call = call.row_scale(of(2, N));
        expect("row scales", run(queue, call), &format!("{operation}: row_scale is [2, 1, 6], expected [1, 1, 6]"))?;
        for given in [None, Some(510)] {
            let call = Merge::in_place(MatMut::new(&mut weights, N, K).expect("it fits"));
            let call = call.adapter_with_middle(adapter(), Middle::new().scale(of(1, RANK)));
            let needed = lora::merge_workspace(queue, &call).map_err(|error| error.to_string())?;
            if needed == 0 {
                continue;
            }
            // A' [3, 8] of f32.
            assert_eq!(needed, 256 + 255);
            let mut scratch = vec![0u8; 510];
            let call = if given.is_some() { call.workspace(Workspace::new(&mut scratch)) } else { call };
            let text = format!("{operation}: the workspace has {} bytes, expected {needed}", given.unwrap_or(0));
            expect("workspace", run(queue, call), &text)?;
        }
        assert_eq!(weights, [7.0; N * K]);
    }
    Ok(())
}

/// Weights that share elements with what is read beside them.
fn overlaps<Q: Runner + HostQueue>(queue: &Q) -> Outcome {
    let list = vec![1.0f32; 256];
    // Refused before anything is touched.
    let address = |first: u64| list.as_ptr() as u64 + 4 * first;
    let of =
        |first, rows, columns| Mat::<f32, Q>::new(queue.source_at(address(first), 64), rows, columns).expect("it fits");
    let names = [
        (100, "the scale of ranks of adapter 0"),
        (110, "the core of adapter 0"),
        (120, "row_scale"),
        (60, "b of adapter 0"),
    ];
    for (first, name) in names {
        for (operation, run) in both::<Q>() {
            let weights = MatMut::new(queue.sink_at(address(first), 64), 1, K).expect("it fits");
            let middle = Middle::new().scale(of(100, 1, RANK)).core(of(110, 2, RANK));
            let call =
                Merge::in_place(weights).adapter_with_middle(Adapter::new(of(0, RANK, K), of(60, 1, 2), 1.0), middle);
            let mut scratch = vec![0u8; 1 << 14];
            let call = call.row_scale(of(120, 1, 1)).workspace(Workspace::new(&mut scratch));
            let text = format!("{operation}: destination and {name} share the element at address ");
            expect(name, run(queue, call), &text)?;
        }
    }
    assert_eq!(list, vec![1.0; 256]);
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::merge::refused", || {
        middles(&Cpu)?;
        middles(&Emulator::new(1))?;
        others(&Cpu)?;
        others(&Emulator::new(1))?;
        overlaps(&Cpu)?;
        overlaps(&Emulator::new(1))
    });
}
