//! Values of forward calls with middles, on every queue.

use peft_kernels::Element;

use super::case::{Listed, MiddleSpec, Part};
use crate::buffer::Cell;
use crate::lora::case::{Arrangement, BaseSpec, BiasSpec, Saved, Spec, TargetSpec};
use crate::lora::forward::check_everywhere;
use crate::numbers::Numbers;
use crate::queues::Trials;
use crate::shapes::{LoraShape, RANKS, SMALL};

const PARTS: [Part; 3] = [Part::None, Part::Shared, Part::Batched];

/// Some of an adapter's ranks, in no order.
pub fn listed(rank: usize, host: bool) -> Listed {
    let entries = (0..rank).filter(|i| i % 3 != 1).rev();
    match host {
        true => Listed::Host(entries.map(|i| i as u32).collect()),
        false => Listed::Device(entries.map(|i| i as i32).collect()),
    }
}

/// The i-th of many middles for an adapter of this rank: each part alone, and every mixture of them.
pub fn middle(i: usize, rank: usize) -> MiddleSpec {
    let present = |bit: usize| if i >> bit & 1 == 1 { Part::Shared } else { Part::None };
    let ranks = match i / 8 % 3 {
        0 => Listed::All,
        kind => listed(rank, kind == 1),
    };
    let core = if ranks == Listed::All { present(2) } else { Part::None };
    let after = [rank, rank / 2 + 1, rank + 3, 1][i % 4];
    MiddleSpec { ranks, scale: present(0), gate: present(1), core, after }
}

fn small_shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, LoraShape { m, n, k, rank }) in SMALL.into_iter().enumerate() {
        for (j, numbers) in [Numbers::Integers, Numbers::Reals].into_iter().enumerate() {
            let spec = Spec::new(m, n, k, rank, numbers);
            check_everywhere::<T, P>(&spec.with(|spec| {
                spec.targets[0].middle = middle(1 + (i * 5 + j * 11) % 23, rank);
                spec.saved = [Saved::None, Saved::Own, Saved::F32][i % 3];
                spec.dropout = (i % 4 == 3).then_some((0.5, 3, i as u64));
            }))?;
        }
    }
    Ok(())
}

/// Every mixture of parts, beside every rank.
fn mixtures<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, rank) in RANKS.into_iter().chain([0, 1, 5, 17, 40, 66, 3, 9, 130, 2]).enumerate() {
        let numbers = [Numbers::Integers, Numbers::Reals][i / 2 % 2];
        let spec = Spec::new([5, 66, 70][i % 3], 9, 19, rank, numbers);
        check_everywhere::<T, P>(&spec.with(|spec| spec.targets[0].middle = middle(i, rank)))?;
    }
    Ok(())
}

/// Both orders of every operand, with gaps that leave rows at no multiple of 16 bytes.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..16u32 {
        let [gap, offset] = [[0, 0], [1, 1], [3, 5], [8, 0]][i as usize % 4];
        let orders = (i.wrapping_mul(0x9e37_79b9) >> 8 & 0x1f) | (i & 3) << 5;
        let spec = Spec::new(19, 23, 37, 5, Numbers::Integers);
        check_everywhere::<T, P>(&spec.with(|spec| {
            spec.arrangement = Arrangement::Orders { orders, gap, offset };
            spec.targets[0].middle = middle([7, 15, 23, 3][i as usize / 4], 5);
            spec.seed = i.into();
        }))?;
    }
    Ok(())
}

/// Parts for each batch or for all; no batch; another base, a bias and a row scale.
fn batches<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..12usize {
        let spec = Spec::new(if i == 5 { 70 } else { 7 }, 10, 18, 4, Numbers::Integers);
        check_everywhere::<T, P>(&spec.with(|spec| {
            (spec.batches, spec.seed, spec.arrangement) = ([3, 3, 0, 1][i % 4], i as u64, Arrangement::Random);
            spec.shared = (i as u32).wrapping_mul(0x9e37_79b9) >> 20;
            let target = &mut spec.targets[0];
            let listed = i % 3 == 2;
            target.middle = MiddleSpec {
                ranks: if listed { listed_ranks(i) } else { Listed::All },
                scale: PARTS[i % 3],
                gate: PARTS[(i + 1) % 3],
                core: if listed { Part::None } else { PARTS[(i / 2 + 2) % 3] },
                after: 6,
            };
            target.base = [BaseSpec::Dense, BaseSpec::InY, BaseSpec::None][i % 3];
            (target.bias, target.row_scale) = (BiasSpec::Batched(1), BiasSpec::Shared(2));
        }))?;
    }
    Ok(())
}

fn listed_ranks(i: usize) -> Listed {
    [Listed::Host(vec![3, 0, 1]), Listed::Device(vec![2, 0])][i % 2].clone()
}

/// Targets with and without a middle in one call, more than one launch has, and none with an adapter.
fn several_targets<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for count in [2, 3, 10] {
        let target = |i: usize| {
            let rank = [4, 0, 9, 3][i % 4];
            let middle = if i % 3 == 2 { MiddleSpec::default() } else { middle(i * 5 + 1, rank) };
            TargetSpec { middle, ..TargetSpec::dense(7 + i, rank) }
        };
        let spec = Spec::new(21, 0, 33, 0, [Numbers::Reals, Numbers::Integers][count % 2]);
        check_everywhere::<T, P>(&spec.with(|spec| {
            spec.targets = (0..count).map(target).collect();
            (spec.saved, spec.arrangement, spec.seed) = (Saved::F32, Arrangement::Random, count as u64);
        }))?;
    }
    Ok(())
}

/// Few rows and a long k: H comes in planes, y in parts, and both wait for the middle.
fn planes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, m) in [1, 5, 40].into_iter().enumerate() {
        let spec = Spec::new(m, 70, 1024, 8, Numbers::Reals);
        check_everywhere::<T, P>(&spec.with(|spec| spec.targets[0].middle = middle([3, 7, 11][i], 8)))?;
    }
    Ok(())
}

/// A list in the queue's memory with entries that name nothing, or that are there before: they count as zeros, and the first is reported.
fn bad_entries<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let lists = [vec![-1], vec![0, 5], vec![2, 1, 2], vec![i32::MAX, 4, i32::MIN, 4, 0], vec![1, 0, 0, 1, 7, 2, 3]];
    // Of an adapter of no ranks an entry names nothing, whatever it is.
    let of_none = [vec![0], vec![1, 0, -1]].map(|list| (0, list));
    for (i, (rank, list)) in lists.map(|list| (5, list)).into_iter().chain(of_none).enumerate() {
        let spec = Spec::new(9, 7, 12, rank, Numbers::Integers);
        check_everywhere::<T, P>(&spec.with(|spec| {
            let ranks = Listed::Device(list);
            let (scale, gate) = ([Part::Shared, Part::None][i % 2], [Part::None, Part::Shared][i / 2 % 2]);
            spec.targets[0].middle = MiddleSpec { ranks, scale, gate, ..MiddleSpec::default() };
        }))?;
    }
    Ok(())
}

/// More entries on the host than one launch carries.
fn long_list() -> Result<(), String> {
    let rank = 1100;
    let entries = (0..rank as u32).filter(|i| i % 17 != 3).rev().collect();
    check_everywhere::<f32, f32>(&Spec::new(3, 5, 6, rank, Numbers::Integers).with(|spec| {
        spec.targets[0].middle = MiddleSpec { ranks: Listed::Host(entries), ..MiddleSpec::default() };
    }))
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::middle::small_shapes", small_shapes);
    for_types_and_devices!(trials, "lora::middle::mixtures", mixtures);
    for_types_and_devices!(trials, "lora::middle::batches", batches);
    for_types_and_devices!(trials, "lora::middle::bad_entries", bad_entries);
    for_types_and_devices!(trials, "lora::middle::orders", orders);
    for_types_and_devices!(trials, "lora::middle::several_targets", several_targets);
    for_types_and_devices!(trials, "lora::middle::planes", planes);
    trials.add("lora::middle::long_list", long_list);
}
