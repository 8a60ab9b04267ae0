//! Merges of adapters with something between their factors, under a scale of rows: values on every queue, what is reported of the data, the workspace, and what is read and written.

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::lora::{self, Merge};
use peft_kernels::{Cpu, Element, Emulator, RawStream};

use super::case::{ALGORITHMS, Case, mat, mat_mut, plain};
use super::counted_case;
use crate::buffer::{Cell, Placement};
use crate::compare;
use crate::lora::case::Factors;
use crate::lora::counters::{Bytes, check_bytes, check_count};
use crate::lora::middle::case::{Listed, MiddleCase, MiddleSpec, Part};
use crate::lora::middle::counters::{MIDDLE, gathered};
use crate::lora::middle::values::listed;
use crate::lora::run::adapter;
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials, emulators};
use crate::shapes::RANKS;

type Adapters = Vec<(usize, MiddleSpec)>;

/// The i-th of many middles that a weight can have, for an adapter of this rank.
fn form(i: usize, rank: usize) -> MiddleSpec {
    let present = |bit: usize| if i >> bit & 1 == 1 { Part::Shared } else { Part::None };
    let ranks = match i / 4 % 3 {
        0 => Listed::All,
        kind => listed(rank, kind == 1),
    };
    let core = if ranks == Listed::All { present(1) } else { Part::None };
    let after = [rank + 3, rank, rank / 2 + 1, 1][i / 2 % 4];
    MiddleSpec { ranks, scale: present(0), gate: Part::None, core, after }
}

/// Adapters of every form: none, a scale, a core, both, and lists with and without a scale.
pub fn every_form(rank: usize) -> Adapters {
    [0, 1, 2, 3, 4, 5, 8, 9].into_iter().map(|i| (rank, form(i, rank))).collect()
}

fn values<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, rank) in RANKS.into_iter().chain([5, 17, 40]).enumerate() {
        let numbers = [Numbers::Integers, Numbers::Reals][i / 2 % 2];
        let case = Case::<T, P>::with_middles([9, 13], &[(rank, form(1 + 5 * i, rank))], numbers, i as u64);
        if i % 3 == 0 { case.scaled(1, &[]) } else { case }.everywhere()?;
    }
    for (i, extents) in [[0, 5], [5, 0], [1, 1], [1, 130], [130, 1], [17, 65], [33, 127]].into_iter().enumerate() {
        let mixed = [(3, form(3, 3)), (0, form(i, 0)), (8, MiddleSpec::default()), (6, form(4 + i, 6))];
        for (j, numbers) in [Numbers::Integers, Numbers::Reals].into_iter().enumerate() {
            let seed = (10 * i + j) as u64;
            Case::<T, P>::with_middles(extents, &mixed, numbers, seed).scaled(1 + j, &[]).everywhere()?;
            Case::<T, P>::with_middles(extents, &every_form(5)[i..i + 1], numbers, seed).everywhere()?;
            Case::<T, P>::with_middles(extents, &plain(&[4, 0, 3]), numbers, seed).scaled(2 - j, &[]).everywhere()?;
            Case::<T, P>::with_middles(extents, &[], numbers, seed).scaled(1, &[]).everywhere()?;
        }
    }
    // More than a launch of the middle's kernel takes.
    let many: Adapters = (0..64).map(|i| (2, form(i, 2))).collect();
    Case::<T, P>::with_middles([5, 7], &many, Numbers::Integers, 1).everywhere()?;
    Case::<T, P>::with_middles([70, 67], &every_form(9), Numbers::Reals, 2).scaled(1, &[]).everywhere()
}

fn on_device<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, extents) in [[0, 5], [1, 130], [130, 1], [33, 127], [200, 300]].into_iter().enumerate() {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            for rank in [0, 4, 33] {
                let mut case = Case::<T, P>::with_middles(extents, &every_form(rank), numbers, i as u64);
                if i % 2 == 1 {
                    case = case.scaled(2, &[]);
                }
                for algorithm in ALGORITHMS {
                    case.algorithm = algorithm;
                    let got = case.there_and_back(&RawStream::legacy(0))?;
                    if numbers == Numbers::Integers {
                        let expected = case.there_and_back(&Emulator::new(0))?;
                        compare::exact(case.source.layout.extents, &got, &expected)?;
                    }
                }
            }
        }
    }
    reported_on::<T, P, _>(&RawStream::legacy(0))
}

/// Entries of lists that name nothing, and rows of scale 0: the first is reported, everything is written.
fn reported_on<T: Element + Cell, P: Element + Cell, Q: Runner>(queue: &Q) -> Result<(), String> {
    for (i, list) in [vec![0, 5], vec![2, 1, 2], vec![1, 0, 0, -1, 7, 2, 3]].into_iter().enumerate() {
        let spec = MiddleSpec { ranks: Listed::Device(list), scale: Part::Shared, ..MiddleSpec::default() };
        let adapters = [(5, MiddleSpec::default()), (5, spec), (4, form(3, 4))];
        let case = Case::<T, P>::with_middles([9, 12], &adapters, Numbers::Integers, i as u64);
        case.scaled(1, &[]).there_and_back(queue)?;
    }
    for (seed, zeros) in [&[0][..], &[8], &[3, 5]].into_iter().enumerate() {
        for adapters in [plain(&[3]), every_form(4)] {
            let case = Case::<T, P>::with_middles([9, 12], &adapters, Numbers::Integers, seed as u64);
            let mut case = case.scaled(2, zeros);
            case.there_and_back(queue)?;
            case.residual = None;
            case.there_and_back(queue)?;
        }
    }
    Ok(())
}

fn reported<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    reported_on::<T, P, _>(&Cpu)?;
    emulators().try_for_each(|queue| reported_on::<T, P, _>(&queue))
}

/// An adapter without ranks is nothing, whatever its scale, its core and its B, and so is one whose core has no rows, whatever its A; a middle without parts changes no bit.
fn nothing<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    fn check<T: Element + Cell, P: Element + Cell, Q: Runner>(queue: &Q) -> Result<(), String> {
        for (rank, after) in [(0, 3), (3, 0)] {
            let core = MiddleSpec { core: Part::Shared, after, ..MiddleSpec::default() };
            let mut case = Case::<T, P>::with_middles([5, 6], &[(rank, core)], Numbers::Reals, 1);
            let Factors { a, b, scale } = &mut case.factors[0];
            let factor = if rank == 0 { b } else { a };
            factor.set([0, 2, 1], P::from_f64(f64::INFINITY));
            *scale = f32::INFINITY;
            case.run(queue, true)?;
            let extents = case.source.layout.extents;
            let [copied, original] = [&case.destination, &case.source].map(|buffer| buffer.elements(&buffer.layout));
            compare::exact(extents, &copied, &original)?;
        }

        let mut case = Case::<T, P>::new(17, 33, &[5], Numbers::Reals, 2);
        case.residual = None;
        let (plain, _) = case.merge(queue)?;
        let call = Merge::new(mat(queue, &case.source), mat_mut(queue, &case.destination));
        let call = call.adapter_with_middle(adapter(queue, &case.factors[0]), lora::Middle::new());
        if lora::merge_workspace(queue, &call).map_err(|error| error.to_string())? != 0 {
            return Err("a workspace for nothing".into());
        }
        case.destination.reset();
        lora::merge(queue, call).map_err(|error| error.to_string())?;
        compare::exact(case.source.layout.extents, &case.destination.elements(&case.destination.layout), &plain)
    }
    check::<T, P, _>(&Cpu)?;
    emulators().try_for_each(|queue| check::<T, P, _>(&queue))
}

/// NaN and infinities go where arithmetic says, through what a middle makes of A.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    type Change<P> = fn(&mut Factors<P>, &mut MiddleCase<P>);
    fn scale<P: Element + Cell>(middle: &mut MiddleCase<P>, rank: usize, value: f64) {
        middle.scale.as_mut().expect("a scale").set([0, 0, rank], P::from_f64(value));
    }
    fn core<P: Element + Cell>(middle: &mut MiddleCase<P>, value: f64) {
        middle.core.as_mut().expect("a core").set([0, 1, 2], P::from_f64(value));
    }
    let part = |scale, core| MiddleSpec { scale, core, after: 3, ..MiddleSpec::default() };
    let (there, none) = (Part::Shared, Part::None);
    let (scaled, cored, both) = (part(there, none), part(none, there), part(there, there));
    let listed = MiddleSpec { ranks: Listed::Host(vec![3, 0]), ..scaled.clone() };
    let changes: [(&MiddleSpec, Change<P>); 10] = [
        (&scaled, |_, middle| scale(middle, 2, f64::NAN)),
        (&scaled, |factors, middle| {
            scale(middle, 2, f64::INFINITY);
            factors.a.set([0, 2, 5], P::from_f64(0.0));
        }),
        (&cored, |factors, _| factors.a.set([0, 1, 3], P::from_f64(f64::NAN))),
        // Of either sign for each of the core's rows: with B first they would never meet.
        (&cored, |factors, _| factors.a.set([0, 1, 3], P::from_f64(f64::INFINITY))),
        (&both, |_, middle| scale(middle, 1, f64::INFINITY)),
        // And here with B first they would.
        (&cored, |factors, _| factors.b.set([0, 4, 1], P::from_f64(f64::INFINITY))),
        (&cored, |_, middle| core(middle, f64::INFINITY)),
        (&both, |_, middle| core(middle, f64::NAN)),
        (&cored, |factors, _| factors.scale = f32::INFINITY),
        // What is not listed is not read.
        (&listed, |factors, middle| {
            (0..12).for_each(|column| factors.a.set([0, 2, column], P::from_f64(f64::NAN)));
            scale(middle, 2, f64::NAN);
        }),
    ];
    for (i, (spec, change)) in changes.into_iter().enumerate() {
        let mut case = Case::<T, P>::with_middles([9, 12], &[(4, spec.clone())], Numbers::Reals, i as u64);
        case.residual = None;
        change(&mut case.factors[0], &mut case.middles[0]);
        let context = |text: String| format!("change {i}: {text}");
        case.merge(&Cpu).map_err(context)?;
        for algorithm in 0..=2 {
            case.algorithm = algorithm;
            case.merge(&Emulator::new(i as u64)).map_err(context)?;
        }
    }
    Ok(())
}

/// A list alone leaves factors in their type; a scale or a core makes an A of f32, and where factors are of 16 bits it widens all of them.
struct Sizes {
    widens: bool,
    /// Of each adapter its ranks and bytes of its part of the workspace.
    ranks: Vec<usize>,
    bytes: usize,
}

impl Sizes {
    fn new<P: Element>(adapters: &Adapters, [n, k]: [usize; 2]) -> Self {
        let p = size_of::<P>();
        let has = |(_, spec): &(usize, MiddleSpec)| spec.scale != Part::None || spec.core != Part::None;
        let widens = p < 4 && adapters.iter().any(has);
        let (mut ranks, mut bytes) = (Vec::new(), 0);
        for adapter @ (rank, spec) in adapters {
            let listed = if spec.ranks == Listed::All { 0 } else { spec.ranks(*rank).len() };
            let columns = spec.ranks(*rank).len();
            let after = if columns > 0 && spec.core != Part::None { spec.after } else { columns };
            let parts = [
                (listed > 0) as usize * 4 * listed,
                listed * k * p,
                listed * n * p,
                if widens || has(adapter) { after * k * 4 } else { 0 },
                if widens { after * n * 4 } else { 0 },
            ];
            bytes += parts.iter().map(|part| part.next_multiple_of(256)).sum::<usize>();
            ranks.push(after);
        }
        Self { widens, ranks, bytes }
    }
}

fn workspace<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut lists = vec![plain(&[3, 0, 8]), every_form(5), every_form(0)];
    lists.extend((0..12).map(|i| vec![(7, form(i, 7)), (4, MiddleSpec::default())]));
    for adapters in lists {
        let case = Case::<T, P>::with_middles([19, 45], &adapters, Numbers::Reals, 3).scaled(1, &[]);
        let queue = Emulator::new(0);
        let needed =
            |call: &Merge<'_, T, P, Emulator>| lora::merge_workspace(&queue, call).map_err(|error| error.to_string());
        let (got, expected) = (needed(&case.call(&queue, true))?, Sizes::new::<P>(&adapters, [19, 45]).bytes);
        let expected = if expected == 0 { 0 } else { expected + 255 };
        if got != expected {
            return Err(format!("{got} bytes, expected {expected}, of {adapters:?}"));
        }
        if lora::merge_workspace(&Cpu, &case.call(&Cpu, true)) != Ok(0) {
            return Err("the CPU queue needs no workspace".into());
        }
    }
    Ok(())
}

fn counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for (i, extents @ [n, k]) in [[16, 64], [17, 65], [130, 70], [3, 200]].into_iter().enumerate() {
        for j in 0..12 {
            let rank = [5, 17, 70][(i + j) % 3];
            let adapters = vec![(rank, form(j, rank)), (3, MiddleSpec::default())];
            let Sizes { widens, ranks, .. } = Sizes::new::<P>(&adapters, extents);
            let placement = Placement { column_major: j % 2 == 1, gap: i, offset: j % 3, batch_gap: 0 };
            let mut case = Case::<T, P>::placed(extents, &adapters, Numbers::Reals, j as u64, |_| placement);
            (case.residual, case.algorithm) = (None, 1 + (j / 2 % 2) as i32);
            case = case.scaled(1, &[]);

            let (spec, columns) = (&adapters[0].1, adapters[0].1.ranks(rank).len());
            let [scaled, core] = [spec.scale, spec.core].map(|part| usize::from(part != Part::None));
            let list = usize::from(spec.ranks != Listed::All);
            let made = scaled | core | usize::from(widens);
            let widened = usize::from(widens);
            let times = made * if core == 1 { ranks[0].div_ceil(64) } else { 1 };
            let mut expected: Vec<Bytes> = gathered(spec, rank, extents, p);
            // A of the first, and where all are widened both B and the other A. Of listed ranks the copies.
            let [of_a, of_list] = if list == 1 { ["workspace"; 2] } else { ["a", "workspace"] };
            let of_b = if list == 1 { "workspace" } else { "b" };
            expected.extend([
                (MIDDLE, Kind::GlobalRead, of_a, times * columns * k * p),
                (MIDDLE, Kind::GlobalRead, of_list, list * times * columns * k * 4),
                (MIDDLE, Kind::GlobalRead, of_b, widened * n * ranks[0] * p),
                (MIDDLE, Kind::GlobalRead, "a", widened * 3 * k * p),
                (MIDDLE, Kind::GlobalRead, "b", widened * n * 3 * p),
                (MIDDLE, Kind::GlobalRead, "middle.scale", times * scaled * columns * k * p),
                (MIDDLE, Kind::GlobalRead, "middle.core", core * ranks[0] * rank * k.div_ceil(64) * p),
                (MIDDLE, Kind::GlobalWrite, "workspace", made * ranks[0] * k * 4),
                (MIDDLE, Kind::GlobalWrite, "workspace", widened * (3 * k + n * (ranks[0] + 3)) * 4),
            ]);
            // A factor of f32 beside one that is read where it is has its own size.
            let [a, b] = [if made == 1 { 4 } else { p }, if widens { 4 } else { p }];
            let other = if widens { 4 } else { p };
            let (kernel, a_times, b_times, g_times) = match case.algorithm {
                1 => ("lora_merge_simt", n, k, k),
                _ => ("lora_merge_mma", n.div_ceil(64), k.div_ceil(128), k.div_ceil(4)),
            };
            expected.extend([
                (kernel, Kind::GlobalRead, "source", n * k * t),
                (kernel, Kind::GlobalWrite, "destination", n * k * t),
                (kernel, Kind::GlobalRead, "a", (ranks[0] * a + 3 * other) * k * a_times),
                (kernel, Kind::GlobalRead, "b", (ranks[0] * b + 3 * other) * n * b_times),
                (kernel, Kind::GlobalRead, "row_scale", 4 * n * g_times),
            ]);
            let launches = if widens { 2 } else { made };
            for (rows, merging) in counted_case(&case, j as u64)?.iter().zip([true, false]) {
                let mut expected = expected.clone();
                if !merging {
                    expected.push(("lora_check_row_scale", Kind::GlobalRead, "row_scale", 4 * n));
                }
                check_bytes(rows, &expected)
                    .and_then(|()| check_count(rows, MIDDLE, Kind::Launches, "", launches))
                    .map_err(|text| format!("{text} {extents:?} {adapters:?}, merging {merging}"))?;
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::merge::forms::values", values);
    for_types!(trials, add_on_device, "lora::merge::forms::values/cuda", on_device);
    for_types!(trials, "lora::merge::forms::reported", reported);
    for_types!(trials, "lora::merge::forms::not_numbers", not_numbers);
    trials.add("lora::merge::forms::nothing/f32", nothing::<f32, f32>);
    trials.add("lora::merge::forms::nothing/bf16", nothing::<bf16, bf16>);
    trials.add("lora::merge::forms::workspace/f32", workspace::<f32, f32>);
    trials.add("lora::merge::forms::workspace/f16", workspace::<f16, f16>);
    trials.add("lora::merge::forms::workspace/bf16+f32", workspace::<bf16, f32>);
    trials.add("lora::merge::forms::counts/f32", counts::<f32, f32>);
    trials.add("lora::merge::forms::counts/bf16", counts::<bf16, bf16>);
    trials.add("lora::merge::forms::counts/f16+f32", counts::<f16, f32>);
}
