//! Values of backward calls with middles, on every queue.

use peft_kernels::Element;

use super::case::{Listed, MiddleSpec, Part};
use super::values::{listed, middle};
use crate::buffer::Cell;
use crate::lora::backward::check_everywhere;
use crate::lora::case::{Arrangement, BiasSpec, Saved};
use crate::lora::gradient_case::{Mode, Spec, TargetSpec, Weights};
use crate::numbers::Numbers;
use crate::queues::Trials;
use crate::shapes::{LoraShape, SMALL};

const MODES: [Mode; 3] = [Mode::None, Mode::Overwrite, Mode::Accumulate];
const SAVED: [Saved; 3] = [Saved::None, Saved::Own, Saved::F32];

fn small_shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, LoraShape { m, n, k, rank }) in SMALL.into_iter().enumerate() {
        let spec = Spec::new(m, n, k, rank, [Numbers::Integers, Numbers::Reals][i / 2 % 2]);
        check_everywhere::<T, P>(&spec.with(|spec| {
            spec.dropout = [None, Some((0.5, 7, i as u64))][i % 2];
            spec.targets[0].h = SAVED[i % 3];
            spec.targets[0].middle = middle(1 + i * 5 % 23, rank);
        }))?;
    }
    Ok(())
}

/// Every mixture of parts, beside every class of ranks.
fn mixtures<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..24 {
        let rank = [5, 1, 17, 0, 64, 9, 66, 130][(i + i / 8) % 8];
        let spec = Spec::new([5, 66, 70][i % 3], 9, 19, rank, [Numbers::Integers, Numbers::Reals][i / 3 % 2]);
        check_everywhere::<T, P>(&spec.with(|spec| {
            spec.targets[0].middle = middle(i, rank);
            spec.targets[0].h = SAVED[i / 2 % 3];
        }))?;
    }
    Ok(())
}

/// Any subset of the gradients, each overwritten or added to.
fn choices<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..81usize {
        let mode = |axis: u32| MODES[i / 3usize.pow(axis) % 3];
        check_everywhere::<T, P>(&Spec::new(11, 13, 18, 3, Numbers::Integers).with(|spec| {
            spec.x = mode(0);
            let target = &mut spec.targets[0];
            target.modes = [mode(1), MODES[i % 2], Mode::None];
            target.middle_modes = [mode(2), mode(3), MODES[(i / 7 + 1) % 3]];
            target.middle = middle([7, 3, 15, 5, 19][i % 5], 3);
            target.h = SAVED[i / 5 % 3];
            target.dense = i % 2 == 0;
            spec.dropout = (i % 4 == 0).then_some((0.75, 3, 1 << 40));
            spec.arrangement = Arrangement::Random;
            spec.seed = i as u64;
        }))?;
    }
    Ok(())
}

/// Both orders of every operand, with gaps that leave rows at no multiple of 16 bytes.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..20u32 {
        let [gap, offset] = [[0, 0], [1, 1], [3, 5], [8, 0]][i as usize % 4];
        let orders = (i.wrapping_mul(0x9e37_79b9) >> 7 & 0x3ff) | i << 10;
        check_everywhere::<T, P>(&Spec::new(19, 23, 37, 5, Numbers::Integers).with(|spec| {
            spec.arrangement = Arrangement::Orders { orders, gap, offset };
            spec.targets[0].middle = middle([7, 15, 23, 6][i as usize % 4], 5);
            spec.targets[0].h = SAVED[i as usize % 3];
            (spec.targets[0].modes, spec.targets[0].middle_modes) = ([Mode::Accumulate; 3], [Mode::Accumulate; 3]);
        }))?;
    }
    Ok(())
}

/// Operands and gradients for each batch or for all; no batch.
fn batches<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let part = |i: usize| [Part::None, Part::Shared, Part::Batched][i % 3];
    for i in 0..18usize {
        check_everywhere::<T, P>(&Spec::new(if i == 7 { 70 } else { 5 }, 10, 18, 4, Numbers::Integers).with(|spec| {
            (spec.batches, spec.seed, spec.arrangement) = ([3, 3, 2, 0, 1][i % 5], i as u64, Arrangement::Random);
            spec.shared = (i as u32).wrapping_mul(0x9e37_79b9) >> 20;
            let target = &mut spec.targets[0];
            target.summed = [i & 1 != 0, i & 2 != 0, i & 4 != 0];
            target.middle_summed = [i & 2 != 0, i & 4 != 0];
            target.modes = [[Mode::Overwrite; 3], [Mode::Accumulate; 3]][i / 8 % 2];
            target.middle_modes = [[Mode::Accumulate; 3], [Mode::Overwrite; 3]][i / 4 % 2];
            let ranks = if i % 4 == 3 { listed(4, i % 8 == 3) } else { Listed::All };
            let core = if ranks == Listed::All { part(i + 1) } else { Part::None };
            target.middle = MiddleSpec { ranks, scale: part(i), gate: part(i / 2), core, after: 5 };
            target.h = SAVED[i / 6];
        }))?;
    }
    Ok(())
}

/// Several targets that share x, with and without middles, of other ranks and choices.
fn several_targets<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for count in [2, 3, 8] {
        let target = |i: usize| {
            let rank = [4, 0, 9, 3, 17][i % 5];
            TargetSpec {
                middle: if i % 3 == 1 { MiddleSpec::default() } else { middle(i * 5 + 7, rank) },
                row_scale: [BiasSpec::None, BiasSpec::Shared(1)][i / 2 % 2],
                h: SAVED[i % 3],
                modes: [MODES[(i + 1) % 3], MODES[(i + 2) % 3], MODES[i % 3]],
                ..TargetSpec::new(7 + i, rank)
            }
        };
        check_everywhere::<T, P>(&Spec::new(9, 0, 21, 0, [Numbers::Reals, Numbers::Integers][count % 2]).with(
            |spec| {
                spec.targets = (0..count).map(target).collect();
                (spec.arrangement, spec.seed) = (Arrangement::Random, count as u64);
                spec.dropout = (count % 2 == 0).then_some((0.25, 9, 0));
            },
        ))?;
    }
    Ok(())
}

/// Rows that count as their samples weigh: in the sums over rows, but neither in dX nor in a gate's gradient.
fn weighed<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..10usize {
        let values = [1.0, 0.5, 0.0, -1.0].into_iter().cycle().take(4).collect();
        let offsets = (i % 2 == 1).then(|| vec![0, 3, 4, 4, 11]);
        check_everywhere::<T, P>(&Spec::new(12, 9, 19, 5, [Numbers::Integers, Numbers::Reals][i / 2 % 2]).with(
            |spec| {
                spec.weights = Some(Weights { offsets, values });
                spec.targets[0].middle = middle([7, 3, 9, 4, 18][i % 5], 5);
                spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(1)][i / 4 % 2];
                spec.targets[0].h = SAVED[i % 3];
                spec.targets[0].modes = [MODES[i % 3], MODES[(i + 1) % 3], MODES[(i + 2) % 3]];
                (spec.seed, spec.arrangement) = (i as u64, Arrangement::Random);
            },
        ))?;
    }
    Ok(())
}

/// Every mixture of parts below a row scale, one for all batches or one of each, beside what dropout leaves and sums over batches.
fn row_scales<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..24usize {
        let numbers = [Numbers::Integers, Numbers::Reals][i / 3 % 2];
        check_everywhere::<T, P>(&Spec::new([5, 66, 9][i % 3], [9, 72][i / 2 % 2], 19, 5, numbers).with(|spec| {
            (spec.batches, spec.seed) = (1 + i % 5 % 3, i as u64);
            spec.dropout = (i / 4 % 2 == 0).then_some((0.5, 7, i as u64));
            let target = &mut spec.targets[0];
            target.middle = middle(i, 5);
            target.row_scale = [BiasSpec::Batched(1), BiasSpec::Shared(2), BiasSpec::Batched(3)][i / 3 % 3];
            target.h = SAVED[i / 2 % 3];
            (target.summed, target.middle_summed) = ([i % 2 == 0; 3], [i % 4 == 3; 2]);
        }))?;
    }
    Ok(())
}

/// More rows, ranks and columns than a block has at once.
fn many_tiles<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    check_everywhere::<T, P>(&Spec::new(200, 70, 5, 66, Numbers::Reals).with(|spec| {
        spec.targets[0].middle = MiddleSpec { after: 130, ..middle(7, 66) };
    }))?;
    check_everywhere::<T, P>(&Spec::new(140, 5, 70, 70, Numbers::Integers).with(|spec| {
        spec.targets[0].middle = middle(11, 70);
        spec.targets[0].h = Saved::F32;
    }))
}

/// A list in the queue's memory with entries that name nothing, or that are there before; of an adapter of no ranks all of them.
fn bad_entries<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let lists = [(4, vec![-1, 0]), (4, vec![2, 1, 2]), (4, vec![4, 3, 9, 0]), (0, vec![0]), (0, vec![1, 0, -1])];
    for (i, (rank, list)) in lists.into_iter().enumerate() {
        check_everywhere::<T, P>(&Spec::new(9, 7, 12, rank, Numbers::Integers).with(|spec| {
            let (scale, gate) = ([Part::Shared, Part::None][i % 2], [Part::None, Part::Shared][i / 2 % 2]);
            spec.targets[0].middle = MiddleSpec { ranks: Listed::Device(list), scale, gate, ..MiddleSpec::default() };
            spec.targets[0].middle_modes = [Mode::Accumulate; 3];
        }))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::middle::backward::small_shapes", small_shapes);
    for_types_and_devices!(trials, "lora::middle::backward::mixtures", mixtures);
    for_types_and_devices!(trials, "lora::middle::backward::batches", batches);
    for_types_and_devices!(trials, "lora::middle::backward::bad_entries", bad_entries);
    for_types_and_devices!(trials, "lora::middle::backward::choices", choices);
    for_types_and_devices!(trials, "lora::middle::backward::orders", orders);
    for_types_and_devices!(trials, "lora::middle::backward::several_targets", several_targets);
    for_types_and_devices!(trials, "lora::middle::backward::weighed", weighed);
    for_types_and_devices!(trials, "lora::middle::backward::row_scales", row_scales);
    for_types_and_devices!(trials, "lora::middle::backward::many_tiles", many_tiles);
}
