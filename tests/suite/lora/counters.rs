//! What the plain kernels read and write, counted by the emulator, against the formulas above them; and what those of tensor cores are held to (counters_mma.rs).

use half::bf16;
use peft_kernels::counters::{self, Kind, Row};
use peft_kernels::{Element, Emulator};

use super::case::{Arrangement, BaseSpec, BiasSpec, Case, Spec};
use super::merge;
use crate::buffer::Cell;
use crate::numbers::Numbers;
use crate::queues::Trials;

const FORWARD: &str = "lora_forward_simt";
const SHRINK: &str = "lora_shrink_simt";
const MERGE: &str = "lora_merge_simt";

/// Kernel, kind, operand and bytes.
pub type Bytes = (&'static str, Kind, &'static str, usize);

fn find<'a>(rows: &'a [Row], kernel: &str, kind: Kind, operand: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.kernel() == kernel && row.kind == kind && row.operand() == operand)
}

/// All accesses of global memory, which must be these; operands of no bytes are absent.
pub fn check_bytes(rows: &[Row], expected: &[Bytes]) -> Result<(), String> {
    let global = |row: &&Row| matches!(row.kind, Kind::GlobalRead | Kind::GlobalWrite | Kind::GlobalAtomic);
    for row in rows.iter().filter(global) {
        let bytes: usize = expected
            .iter()
            .filter(|(kernel, kind, operand, _)| (*kernel, *kind, *operand) == (row.kernel(), row.kind, row.operand()))
            .map(|(.., bytes)| bytes)
            .sum();
        if row.bytes != bytes as u64 {
            let (kernel, kind, operand) = (row.kernel(), row.kind, row.operand());
            return Err(format!("{kernel}, {kind:?} of {operand}: {} bytes, the formula says {bytes}", row.bytes));
        }
    }
    for &(kernel, kind, operand, bytes) in expected {
        if bytes > 0 && find(rows, kernel, kind, operand).is_none() {
            return Err(format!("{kernel}, {kind:?} of {operand}: none, the formula says {bytes}"));
        }
    }
    Ok(())
}

/// So many launches, barriers or instructions.
pub fn check_count(rows: &[Row], kernel: &str, kind: Kind, what: &str, expected: usize) -> Result<(), String> {
    let count = find(rows, kernel, kind, what).map_or(0, |row| row.count);
    if count == expected as u64 {
        Ok(())
    } else {
        Err(format!("{kernel}, {kind:?} {what}: {count}, expected {expected}"))
    }
}

/// The requests for an operand, or an array of shared memory, are good ones.
pub fn check_request(
    rows: &[Row],
    kernel: &str,
    kind: Kind,
    operand: &str,
    good: impl FnOnce(&Row) -> bool,
) -> Result<(), String> {
    let row = find(rows, kernel, kind, operand).ok_or_else(|| format!("{kernel}, {kind:?} of {operand}: none"))?;
    if good(row) {
        return Ok(());
    }
    let Row { count, bytes, parts, least, .. } = *row;
    Err(format!(
        "{kernel}, {kind:?} of {operand}: {count} requests for {bytes} bytes in {parts} parts, at best {least}"
    ))
}

/// What a call does, which no schedule changes.
pub fn same_under_every_schedule<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<Vec<Row>, String> {
    let sorted = |rows: &[Row]| {
        let text = |row: &Row| (row.kernel().to_owned(), row.operand().to_owned());
        let mut all: Vec<_> =
            rows.iter().map(|row| (text(row), row.kind as i32, row.count, row.parts, row.least)).collect();
        all.sort();
        all
    };
    let rows = counted::<T, P>(spec, 0)?;
    for seed in [1, 6, 7] {
        let (all, first) = (sorted(&counted::<T, P>(spec, seed)?), sorted(&rows));
        if all != first {
            return Err(format!("seed {seed}: {all:?}, seed 0: {first:?} {spec:#?}"));
        }
    }
    Ok(rows)
}

pub fn counted<T: Element + Cell, P: Element + Cell>(spec: &Spec, seed: u64) -> Result<Vec<Row>, String> {
    counted_case(&Case::<T, P>::new(spec), seed)
}

pub fn counted_case<T: Element + Cell, P: Element + Cell>(case: &Case<T, P>, seed: u64) -> Result<Vec<Row>, String> {
    let (outcome, rows) = counters::count(|| case.run_well(&Emulator::new(seed)));
    outcome?;
    Ok(rows)
}

const SHAPES: [[usize; 4]; 5] = [[64, 64, 16, 8], [128, 64, 32, 16], [65, 130, 17, 9], [5, 3, 50, 1], [70, 64, 33, 20]];

/// Row-major, column-major, and mixed.
const ORDERS: [u32; 4] = [0, 0b11111, 0b00101, 0b11010];

fn forward_bytes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for [m, n, k, rank] in SHAPES {
        for (i, orders) in ORDERS.into_iter().enumerate() {
            for base in [BaseSpec::Dense, BaseSpec::InY] {
                let spec = Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| {
                    spec.algorithm = 1;
                    spec.arrangement = Arrangement::Orders { orders, gap: i, offset: i };
                    spec.targets[0].base = base;
                    spec.targets[0].bias = if i % 2 == 0 { BiasSpec::Shared(1) } else { BiasSpec::None };
                    spec.targets[0].row_scale = if i % 2 == 0 { BiasSpec::None } else { BiasSpec::Shared(1) };
                });
                let (dense, bias) = ((base == BaseSpec::Dense) as usize, (i % 2 == 0) as usize);
                let (row_tiles, column_tiles) = (m.div_ceil(64), n.div_ceil(64));
                let expected = [
                    (FORWARD, Kind::GlobalRead, "x", dense * column_tiles * m * k * t),
                    (FORWARD, Kind::GlobalRead, "w", dense * row_tiles * n * k * t),
                    (FORWARD, Kind::GlobalRead, "workspace", 16 * column_tiles * m * rank * 4),
                    (FORWARD, Kind::GlobalRead, "b", m * n * rank * p),
                    (FORWARD, Kind::GlobalRead, "bias", bias * m * n * t),
                    (FORWARD, Kind::GlobalRead, "row_scale", (1 - bias) * m * n * 4),
                    (FORWARD, Kind::GlobalRead, "y", (1 - dense) * m * n * t),
                    (FORWARD, Kind::GlobalWrite, "y", m * n * t),
                    (SHRINK, Kind::GlobalRead, "x", rank.div_ceil(8) * m * k * t),
                    (SHRINK, Kind::GlobalRead, "a", m * k * rank * p),
                    (SHRINK, Kind::GlobalWrite, "workspace", m * rank * 4),
                ];
                let rows = counted::<T, P>(&spec, i as u64)?;
                let barriers = dense * row_tiles * column_tiles * 2 * k.div_ceil(16);
                check_bytes(&rows, &expected)
                    .and_then(|()| check_count(&rows, FORWARD, Kind::Launches, "", 1))
                    .and_then(|()| check_count(&rows, FORWARD, Kind::Barriers, "", barriers))
                    .map_err(|text| format!("{text} {spec:#?}"))?;
            }
        }
    }
    Ok(())
}

/// Under every schedule, loads of x and W use whole sectors in both orders, and the main loop's loads of shared memory have no conflicts.
fn forward_requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for orders in ORDERS {
        let mut spec = Spec::new(128, 64, 64, 8, Numbers::Reals);
        spec.algorithm = 1;
        spec.arrangement = Arrangement::Orders { orders, gap: 0, offset: 0 };
        let rows = same_under_every_schedule::<T, P>(&spec)?;
        let check = || {
            for operand in ["x", "w"] {
                let whole = |row: &Row| row.parts == row.least && row.parts * 32 == row.bytes;
                check_request(&rows, FORWARD, Kind::GlobalRead, operand, whole)?;
            }
            for array in ["shared 0", "shared 1"] {
                let alone = |row: &Row| row.parts == row.least && row.parts == row.count;
                check_request(&rows, FORWARD, Kind::SharedRead, array, alone)?;
            }
            Ok::<_, String>(())
        };
        check().map_err(|text| format!("{text} {spec:#?}"))?;
    }
    Ok(())
}

fn merge_bytes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for (i, [n, k]) in [[16, 64], [17, 65], [33, 127], [130, 1]].into_iter().enumerate() {
        for seed in 0..4 {
            let ranks = [3, 0, 8];
            let factors = n * k * ranks.iter().sum::<usize>() * p;
            let (rows, residual) = merge::counted::<T, P>([n, k], &ranks, (4 * i) as u64 + seed, 1, None)?;
            for (rows, kind) in rows.iter().zip([Kind::GlobalWrite, Kind::GlobalRead]) {
                let expected = [
                    (MERGE, Kind::GlobalRead, "source", n * k * t),
                    (MERGE, Kind::GlobalWrite, "destination", n * k * t),
                    (MERGE, kind, "residual", if residual { 2 * n * k } else { 0 }),
                    (MERGE, Kind::GlobalRead, "a", factors),
                    (MERGE, Kind::GlobalRead, "b", factors),
                ];
                check_bytes(rows, &expected).map_err(|text| format!("{text} [{n}, {k}], seed {seed}"))?;
            }
        }
    }
    Ok(())
}

/// Without counting, and on another thread, nothing is counted.
fn off() -> Result<(), String> {
    let run = || Case::<f32, f32>::new(&Spec::new(3, 4, 5, 2, Numbers::Reals)).run_well(&Emulator::new(0)).map(drop);
    run()?;
    let (elsewhere, rows) = counters::count(|| std::thread::scope(|scope| scope.spawn(run).join()));
    elsewhere.map_err(|_| "a panic")??;
    if !counters::take().is_empty() || !rows.is_empty() { Err(format!("{rows:?}")) } else { Ok(()) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::counters::forward_bytes/f32", forward_bytes::<f32, f32>);
    trials.add("lora::counters::forward_bytes/bf16+f32", forward_bytes::<bf16, f32>);
    trials.add("lora::counters::forward_requests/f32", forward_requests::<f32, f32>);
    trials.add("lora::counters::forward_requests/bf16", forward_requests::<bf16, bf16>);
    trials.add("lora::counters::merge_bytes/f32", merge_bytes::<f32, f32>);
    trials.add("lora::counters::merge_bytes/bf16+f32", merge_bytes::<bf16, f32>);
    trials.add("lora::counters::off", off);
}
