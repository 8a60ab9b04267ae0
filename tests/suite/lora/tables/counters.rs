//! What the kernels of tables read and write, counted by the emulator, against the formulas above them.

use peft_kernels::counters::{self, Kind, Row};
use peft_kernels::{Element, Emulator};

use super::case::{Case, Spec, TargetSpec};
use crate::buffer::Cell;
use crate::lora::case::Saved;
use crate::lora::gradient_case::Mode;
use crate::numbers::Numbers;
use crate::queues::Trials;

/// Bytes of all operands of a name.
fn check(rows: &[Row], kernel: &str, kind: Kind, operand: &str, expected: usize) -> Result<(), String> {
    let of = |row: &&Row| row.kernel() == kernel && row.kind == kind && row.operand() == operand;
    let bytes: u64 = rows.iter().filter(of).map(|row| row.bytes).sum();
    if bytes == expected as u64 {
        return Ok(());
    }
    Err(format!("{kernel}, {kind:?} of {operand}: {bytes} bytes, the formula says {expected}"))
}

fn counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (m, n, k, ranks) = (150, 70, 130, [3usize, 0, 70, 7]);
    let index: Vec<i32> = (0..m).map(|row| [2, 0, -1, 2, 1, 2][row % 6]).collect();
    let of = |adapter: usize| index.iter().filter(|&&index| index == adapter as i32).count();
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for (algorithm, kernel, tile) in [(1, "lora_outer_list_simt", [1, 8]), (3, "lora_outer_list_mma", [64, 64])] {
        for mode in [Mode::Overwrite, Mode::Accumulate] {
            let target = TargetSpec { modes: [mode; 3], h: Saved::F32, ..TargetSpec::new(n, &ranks) };
            let spec = Spec::new(m, k, index.clone(), vec![target], Numbers::Reals).with(|spec| {
                (spec.algorithm, spec.random) = (algorithm, false);
            });
            let case = Case::<T, P>::new(&spec);
            let (outcome, rows) = counters::count(|| case.run(&Emulator::new(1)));
            outcome?;
            let [columns_of_tile, ranks_of_tile] = tile;
            // Each tile of ranks reads an adapter's rows again, each tile of columns, or each lane, its ranks.
            let left =
                |columns: usize| -> usize { (0..4).map(|i| of(i) * columns * ranks[i].div_ceil(ranks_of_tile)).sum() };
            let h = |columns: usize| -> usize {
                (0..4).map(|i| of(i) * ranks[i]).sum::<usize>() * columns.div_ceil(columns_of_tile)
            };
            let all_ranks: usize = ranks.iter().sum();
            // Of one without rows nothing is added.
            let added: usize = (0..4).filter(|&i| of(i) > 0).map(|i| ranks[i]).sum();
            let written = if mode == Mode::Accumulate { added } else { all_ranks };
            let read = if mode == Mode::Accumulate { added } else { 0 };
            check(&rows, kernel, Kind::GlobalRead, "dy", left(n) * t)?;
            check(&rows, kernel, Kind::GlobalRead, "x", left(k) * t)?;
            check(&rows, kernel, Kind::GlobalRead, "saved h", 4 * h(n))?;
            check(&rows, kernel, Kind::GlobalRead, "da", read * k * p)?;
            check(&rows, kernel, Kind::GlobalRead, "db", read * n * p)?;
            check(&rows, kernel, Kind::GlobalWrite, "da", written * k * p)?;
            check(&rows, kernel, Kind::GlobalWrite, "db", written * n * p)?;
            check(&rows, "lora_row_adapters", Kind::GlobalRead, "row_adapter", 4 * m)?;
            check(&rows, "lora_row_adapters", Kind::GlobalWrite, "workspace", 4 * m)?;
            // Rows of adapters of rank 0 are in no list.
            let listed: usize = (0..4).filter(|&i| ranks[i] > 0).map(of).sum();
            check(&rows, "lora_row_lists", Kind::GlobalWrite, "workspace", 8 * (listed + ranks.len() + 1))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::backward::tables::counts", counts);
}
