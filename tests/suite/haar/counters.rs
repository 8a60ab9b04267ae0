//! What the kernels read and write, counted by the emulator, against the formulas above them.

use half::bf16;
use peft_kernels::counters::{self, Kind, Row};
use peft_kernels::haar::{Axis, Bands, Operation};
use peft_kernels::{Element, Emulator};

use super::case::{Case, OPERATIONS, Spec};
use crate::buffer::Cell;
use crate::queues::Trials;

fn counted<T: Element + Cell>(spec: Spec) -> Result<Vec<Row>, String> {
    let case = Case::<T>::new(spec);
    let (outcome, rows) = counters::count(|| case.enqueue(&Emulator::new(spec.seed)));
    outcome.map_err(|error| error.to_string())?;
    Ok(rows)
}

fn total<'a>(rows: &'a [Row], kind: Kind, operand: &'a str) -> impl Iterator<Item = &'a Row> {
    rows.iter().filter(move |row| row.kind == kind && row.operand() == operand)
}

/// Of the bands that a tile of 64 rows of 512 bytes leaves as: each row of a band is whole sectors, or a part of one.
fn sectors_of_a_tile(spec: Spec) -> u64 {
    let row = |level: u32| (512u64 >> level).div_ceil(32);
    let [along_rows, along_columns] = spec.along();
    match (along_rows, along_columns) {
        (true, true) => {
            let level = |level: u32| 3 * (64 >> level) * row(level);
            (1..=spec.levels).map(level).sum::<u64>() + (64 >> spec.levels) * row(spec.levels)
        }
        (true, false) => 64 * row(0),
        _ => 64 * ((1..=spec.levels).map(row).sum::<u64>() + row(spec.levels)),
    }
}

/// At every depth that a tile holds: one read and one write, of whole sectors wherever a band of a tile has them, and no bank conflicts.
fn one_pass<T: Element + Cell>() -> Result<(), String> {
    let deepest = |operation, axis| match (operation, axis) {
        (Operation::Forward1d | Operation::Inverse1d, Axis::Columns) if size_of::<T>() == 2 => 8,
        (Operation::Forward1d | Operation::Inverse1d, Axis::Columns) => 7,
        _ => 6,
    };
    for operation in OPERATIONS {
        for axis in [Axis::Columns, Axis::Rows] {
            for bands in [Bands::Mallat, Bands::Interleaved] {
                for levels in 1..=deepest(operation, axis) {
                    let extents = [2, 128, 512];
                    let change =
                        |spec: &mut Spec| (spec.axis, spec.bands, spec.seed) = (axis, bands, u64::from(levels));
                    let spec = Spec::new(operation, extents, levels).with(change);
                    let rows = counted::<T>(spec)?;
                    let bytes = extents.iter().product::<usize>() as u64 * size_of::<T>() as u64;
                    for (kind, operand) in [(Kind::GlobalRead, "source"), (Kind::GlobalWrite, "destination")] {
                        let moved: u64 = total(&rows, kind, operand).map(|row| row.bytes).sum();
                        let sectors: u64 = total(&rows, kind, operand).map(|row| row.parts).sum();
                        let signal = (kind == Kind::GlobalRead) != spec.inverse();
                        let whole = signal || bands == Bands::Interleaved;
                        let most = if whole { bytes / 32 } else { bytes / (64 * 512) * sectors_of_a_tile(spec) };
                        if moved != bytes || sectors > most {
                            return Err(format!(
                                "{operand}: {moved} bytes of {bytes}, {sectors} sectors of {most} {spec:#?}"
                            ));
                        }
                    }
                    let shared = rows.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
                    let conflicts: u64 = shared.map(|row| row.parts - row.least).sum();
                    // Three levels are made in a thread's registers and a warp's shuffles.
                    let barriers: u64 = rows.iter().filter(|row| row.kind == Kind::Barriers).map(|row| row.count).sum();
                    if levels <= 3 && barriers != 0 {
                        return Err(format!("{barriers} barriers {spec:#?}"));
                    }
                    let launches: u64 = total(&rows, Kind::Launches, "").map(|row| row.count).sum();
                    if conflicts != 0 || launches != 1 {
                        return Err(format!("{conflicts} conflicts, {launches} launches {spec:#?}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Ragged tiles read nothing twice but what the boundary copies, and write every coefficient once.
fn ragged<T: Element + Cell>() -> Result<(), String> {
    use peft_kernels::haar::Boundary;
    for operation in OPERATIONS {
        for boundary in [Boundary::Zero, Boundary::Edge, Boundary::Periodic] {
            let spec = Spec::new(operation, [1, 67, 261], 1).with(|spec| spec.boundary = boundary);
            let rows = counted::<T>(spec)?;
            let case = Case::<T>::new(spec);
            let size = |extents: [usize; 3]| (extents.iter().product::<usize>() * size_of::<T>()) as u64;
            let (from, to) = (size(case.source.layout.extents), size(case.destination.layout.extents));
            let from = match operation {
                _ if boundary == Boundary::Zero => from,
                Operation::Forward1d => size([1, 67, 262]),
                Operation::Forward2d => size([1, 68, 262]),
                _ => from,
            };
            let read: u64 = total(&rows, Kind::GlobalRead, "source").map(|row| row.bytes).sum();
            let written: u64 = total(&rows, Kind::GlobalWrite, "destination").map(|row| row.bytes).sum();
            if (read, written) != (from, to) {
                return Err(format!("{read} and {written} bytes, expected {from} and {to} {spec:#?}"));
            }
        }
    }
    Ok(())
}

/// The definition reads an element for every coefficient that it is part of.
fn definition<T: Element + Cell>() -> Result<(), String> {
    for operation in OPERATIONS {
        for levels in 1..=3u64 {
            let spec = Spec::new(operation, [1, 16, 24], levels as u32).with(|spec| spec.algorithm = 1);
            let rows = counted::<T>(spec)?;
            let both = spec.along() == [true; 2];
            let reads = 16 * 24 * if both { 3 * levels + 1 } else { levels + 1 } * size_of::<T>() as u64;
            let read: u64 = total(&rows, Kind::GlobalRead, "source").map(|row| row.bytes).sum();
            if read != reads {
                return Err(format!("{read} bytes, the formula says {reads} {spec:#?}"));
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::counters::one_pass/f32", one_pass::<f32>);
    trials.add("haar::counters::one_pass/bf16", one_pass::<bf16>);
    trials.add("haar::counters::ragged/f32", ragged::<f32>);
    trials.add("haar::counters::ragged/bf16", ragged::<bf16>);
    trials.add("haar::counters::definition/f32", definition::<f32>);
    trials.add("haar::counters::definition/bf16", definition::<bf16>);
}
