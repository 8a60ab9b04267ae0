//! Values of a backward call: every shape, order, rank, type and choice of gradients, on every queue.

use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, RawStream};

use super::case::{Arrangement, BiasSpec, Saved};
use super::gradient_case::{ALGORITHMS, Case, Mode, Oracle, Spec, TargetSpec, Values};
use crate::buffer::Cell;
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::shapes::{LoraShape, SMALL};

pub fn compared<E: Element>(
    numbers: Numbers,
    extents: [usize; 3],
    got: &[E],
    oracle: &[Terms],
    steps: usize,
) -> Result<(), String> {
    match numbers {
        Numbers::Integers => {
            let rounded: Vec<_> = oracle.iter().map(|terms| E::from_f64(terms.value)).collect();
            compare::exact(extents, got, &rounded)
        }
        Numbers::Reals => compare::bounded(extents, got, oracle, steps),
    }
}

/// On this queue: integers as the plain formula, bit for bit; reals within the bound.
pub fn check_case<T: Element + Cell, P: Element + Cell, Q: Runner>(
    case: &Case<T, P>,
    oracle: &Oracle,
    queue: &Q,
) -> Result<Values<T, P>, String> {
    let context = |error: String| format!("{:?}: {error} {:#?}", queue.place(), case.spec);
    let (values, kernel) = case.run(queue).map_err(context)?;
    let (numbers, steps) = (case.spec.numbers, kernel.rounding_steps);
    let named = |name: String, result: Result<(), String>| result.map_err(|text| context(format!("{name}: {text}")));
    if case.spec.x != Mode::None {
        // As so many more terms, where a row scale's product with W is rounded.
        let rounds = kernel.name.contains("mma");
        let more = |moved: f64| if rounds && moved > 0.0 { moved / (steps as f64 * 2f64.powi(-23)) } else { 0.0 };
        let terms = oracle.dx.iter().zip(&oracle.dx_rounded);
        let terms: Vec<_> =
            terms.map(|(terms, &moved)| Terms { magnitude: terms.magnitude + more(moved), ..*terms }).collect();
        named("dx".into(), compared(numbers, case.dx.layout.extents, &values.dx, &terms, steps))?;
    }
    for (i, (target, spec)) in case.targets.iter().zip(&case.spec.targets).enumerate() {
        let factors = [("da", &target.da, 0), ("db", &target.db, 1)];
        for (name, buffer, which) in factors.into_iter().filter(|_| spec.rank.is_some()) {
            if spec.modes[which] != Mode::None {
                let (got, oracle) = (&values.factors[i][which], &oracle.factors[i][which]);
                let result = compared(numbers, buffer.layout.extents, got, oracle, steps);
                named(format!("{name} of target {i}"), result)?;
            }
        }
        if spec.modes[2] != Mode::None {
            let result = compared(numbers, target.dbias.layout.extents, &values.bias[i], &oracle.bias[i], steps);
            named(format!("dbias of target {i}"), result)?;
        }
        let [scale, gate, core] = spec.middle_gradients().map(|mode| mode != Mode::None);
        let (got, of_middle) = (&values.middle[i], &oracle.middle[i]);
        if scale {
            let result = compared(numbers, target.dscale.layout.extents, &got.scale, &of_middle[0], steps);
            named(format!("dscale of target {i}"), result)?;
        }
        if gate {
            let result = compared(numbers, target.dgate.layout.extents, &got.gate, &of_middle[1], steps);
            named(format!("dgate of target {i}"), result)?;
        }
        if core {
            let result = compared(numbers, target.dcore.layout.extents, &got.core, &of_middle[2], steps);
            named(format!("dcore of target {i}"), result)?;
        }
    }
    Ok(values)
}

/// The bits of everything.
pub fn same<T: Element + Cell, P: Element + Cell>(a: &Values<T, P>, b: &Values<T, P>) -> bool {
    fn bits<E: Element>(list: &[E]) -> Vec<u64> {
        list.iter().map(|value| value.to_f64().to_bits()).collect()
    }
    let all = |values: &Values<T, P>| {
        let mut all = bits(&values.dx);
        values.factors.iter().flatten().for_each(|list| all.extend(bits(list)));
        values.bias.iter().for_each(|list| all.extend(bits(list)));
        for middle in &values.middle {
            all.extend([bits(&middle.scale), bits(&middle.gate), bits(&middle.core)].concat());
        }
        all
    };
    all(a) == all(b)
}

/// On all queues, with every kernel; another seed gives the same bits.
pub fn check_everywhere<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    let oracle = case.oracle();
    if crate::cuda::is_active() {
        for algorithm in ALGORITHMS {
            case.spec.algorithm = algorithm;
            let first = check_case(&case, &oracle, &RawStream::legacy(0))?;
            if !same(&first, &check_case(&case, &oracle, &RawStream::per_thread(0))?) {
                return Err(format!("the device again: other bits {spec:#?}"));
            }
        }
        return Ok(());
    }
    check_case(&case, &oracle, &Cpu)?;
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle()) {
        case.spec.algorithm = algorithm;
        let first = check_case(&case, &oracle, &queue)?;
        if spec.seed % ALGORITHMS.len() as u64 == algorithm as u64 {
            let again = queue.seed(spec.seed + 100);
            if !same(&first, &case.run(&again)?.0) {
                return Err(format!("{again:?} against {queue:?}: other bits {spec:#?}"));
            }
        }
    }
    Ok(())
}

fn small_shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, LoraShape { m, n, k, rank }) in SMALL.into_iter().enumerate() {
        let spec = Spec::new(m, n, k, rank, [Numbers::Integers, Numbers::Reals][i / 2 % 2]);
        check_everywhere::<T, P>(&spec.with(|spec| {
            spec.dropout = [None, Some((0.5, 7, i as u64))][i % 2];
            spec.targets[0].h = [Saved::None, Saved::Own, Saved::F32][i % 3];
            spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(1)][i / 4 % 2];
        }))?;
    }
    Ok(())
}

fn ranks<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, rank) in [0, 1, 7, 16, 17, 33, 64, 65, 300, 512].into_iter().enumerate() {
        let numbers = [Numbers::Integers, Numbers::Reals][i % 2];
        check_everywhere::<T, P>(&Spec::new(5, 9, 19, rank, numbers))?;
    }
    Ok(())
}

/// Both orders of every operand, with gaps that leave rows at no multiple of 16 bytes.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..40u32 {
        let [gap, offset] = [[0, 0], [1, 1], [3, 5], [8, 0]][i as usize % 4];
        // Each operand alone, all but it, and mixtures.
        let orders = if i < 10 {
            1 << i
        } else if i < 20 {
            !(1 << (i - 10))
        } else {
            i.wrapping_mul(0x9e37_79b9) >> 7
        };
        check_everywhere::<T, P>(&Spec::new(19, 23, 37, 5, Numbers::Integers).with(|spec| {
            spec.arrangement = Arrangement::Orders { orders, gap, offset };
            spec.targets[0].h = [Saved::None, Saved::Own, Saved::F32][i as usize % 3];
            spec.targets[0].modes = [Mode::Accumulate; 3];
            spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(1 + i as usize / 20)][i as usize / 2 % 2];
        }))?;
    }
    Ok(())
}

/// Any subset of the gradients, each overwritten or added to.
fn choices<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let modes = [Mode::None, Mode::Overwrite, Mode::Accumulate];
    for i in 0..81usize {
        let mode = |axis: u32| modes[i / 3usize.pow(axis) % 3];
        check_everywhere::<T, P>(&Spec::new(11, 13, 18, 3, Numbers::Integers).with(|spec| {
            spec.x = mode(0);
            spec.targets[0].modes = [mode(1), mode(2), mode(3)];
            spec.targets[0].dense = i % 2 == 0;
            spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(1)][i / 2 % 2];
            spec.dropout = (i % 5 == 0).then_some((0.75, 3, 1 << 40));
            spec.arrangement = Arrangement::Random;
            spec.seed = i as u64;
        }))?;
    }
    Ok(())
}

/// Several targets that share x, of other widths, ranks and choices.
fn several_targets<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("several_targets");
    for i in 0..8u64 {
        let count = [0, 1, 2, 3, 8][i as usize % 5];
        let targets = (0..count).map(|_| TargetSpec {
            n: random.choose(&[0, 1, 7, 66]),
            rank: random.choose(&[None, Some(0), Some(2), Some(17)]),
            dense: random.coin(),
            row_scale: random.choose(&[BiasSpec::None, BiasSpec::None, BiasSpec::Shared(1), BiasSpec::Shared(3)]),
            h: random.choose(&[Saved::None, Saved::Own, Saved::F32]),
            modes: std::array::from_fn(|_| random.choose(&[Mode::None, Mode::Overwrite, Mode::Accumulate])),
            ..TargetSpec::new(0, 0)
        });
        let targets = targets.collect();
        check_everywhere::<T, P>(&Spec::new(9, 0, 21, 0, [Numbers::Integers, Numbers::Reals][i as usize % 2]).with(
            |spec| {
                (spec.targets, spec.arrangement, spec.seed) = (targets, Arrangement::Random, i);
                spec.dropout = (i % 2 == 1).then_some((0.25, i, 0));
            },
        ))?;
    }
    Ok(())
}

/// Operands and gradients for each batch or for all; no batch, and more rows than one block has.
fn batches<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..24u32 {
        let spec = Spec::new(if i % 12 == 3 { 70 } else { 5 }, 10, 18, 4, Numbers::Integers);
        check_everywhere::<T, P>(&spec.with(|spec| {
            (spec.batches, spec.seed, spec.arrangement) = (3, i.into(), Arrangement::Random);
            spec.shared = i.wrapping_mul(0x9e37_79b9) >> 20;
            spec.targets[0].summed = [i & 1 != 0, i & 2 != 0, i & 4 != 0];
            spec.targets[0].modes = [[Mode::Overwrite; 3], [Mode::Accumulate; 3]][i as usize / 8 % 2];
            spec.targets[0].h = [Saved::None, Saved::Own][i as usize / 16];
            spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(2), BiasSpec::Batched(1)][i as usize % 3];
            spec.dropout = (i % 3 == 0).then_some((0.5, 1, 2));
        }))?;
    }
    for batches in [0, 1, 2, 40] {
        for summed in [false, true] {
            check_everywhere::<T, P>(&Spec::new(3, 4, 6, 2, Numbers::Reals).with(|spec| {
                (spec.batches, spec.targets[0].summed) = (batches, [summed; 3]);
                let own = (batches / 2 + usize::from(summed)) % 2;
                spec.targets[0].row_scale = [BiasSpec::Shared(1), BiasSpec::Batched(1)][own];
            }))?;
        }
    }
    Ok(())
}

/// More tiles of rows and of columns than a block goes through at once.
fn many_tiles<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    check_everywhere::<T, P>(&Spec::new(200, 530, 5, 3, Numbers::Reals))?;
    check_everywhere::<T, P>(&Spec::new(140, 5, 270, 20, Numbers::Integers))
}

/// Several stages of depth with a scale, in every order of dY and W, in copies and element by element, and of targets of which some have none.
fn row_scales<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..8u32 {
        let numbers = [Numbers::Integers, Numbers::Reals][i as usize / 4];
        check_everywhere::<T, P>(&Spec::new(72, 152, 72, 8, numbers).with(|spec| {
            // 16-bit rows of 152 are aligned; with one element more, none is.
            let gap = [0, 0, 0, 0, 8, 8, 8, 1][i as usize];
            spec.arrangement = Arrangement::Orders { orders: (i & 3) << 1, gap, offset: gap };
            spec.targets[0].row_scale = BiasSpec::Shared(1 + i as usize % 3);
            if i % 2 == 1 {
                spec.targets.insert(i as usize / 2 % 2, TargetSpec::new(104, 3));
            }
            spec.seed = i.into();
        }))?;
    }
    Ok(())
}

/// Numbers whose product with the row scale is f16's, where dY's is not.
fn large_gradients() -> Result<(), String> {
    let mut case = Case::<half::f16, half::f16>::new(&Spec::new(20, 40, 24, 3, Numbers::Reals).with(|spec| {
        spec.targets[0].row_scale = BiasSpec::Shared(1);
    }));
    let f16 = half::f16::from_f64;
    case.spec.targets[0].modes = [Mode::Overwrite, Mode::None, Mode::None];
    for (column, sign) in (0..40).zip([1.0, -1.0].into_iter().cycle()) {
        case.targets[0].row_scale.as_mut().expect("a row scale").set([0, 0, column], 1024.0);
        (0..20).for_each(|row| case.targets[0].dy.set([0, row, column], f16(sign * 4096.0)));
        for i in 0..24 {
            let w = case.targets[0].w.as_mut().expect("a base");
            w.set([0, column, i], f16(2f64.powi(-10) * (1.0 + (column + i) as f64 / 64.0)));
        }
        (0..3)
            .for_each(|rank| case.targets[0].factors.as_mut().expect("an adapter").b.set([0, column, rank], f16(0.0)));
    }
    let oracle = case.oracle();
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle()) {
        case.spec.algorithm = algorithm;
        let values = check_case(&case, &oracle, &queue)?;
        if !values.dx.iter().all(|value| value.is_finite()) {
            return Err("an intermediate has overflowed".into());
        }
    }
    Ok(())
}

/// NaN goes to exactly the gradients that depend on it; of a dropped element of x, to none.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    type Change<T, P> = fn(&mut Case<T, P>);
    let changes: [Change<T, P>; 5] = [
        |case| case.x.set([0, 2, 3], T::from_f64(f64::NAN)),
        |case| case.targets[0].dy.set([0, 1, 4], T::from_f64(f64::INFINITY)),
        |case| case.targets[0].w.as_mut().expect("a base").set([0, 3, 2], T::from_f64(f64::NAN)),
        |case| case.targets[0].factors.as_mut().expect("an adapter").a.set([0, 1, 5], P::from_f64(f64::NAN)),
        |case| case.targets[0].factors.as_mut().expect("an adapter").b.set([0, 6, 0], P::from_f64(f64::NAN)),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        for dropout in [None, Some((0.5, i as u64, 1))] {
            let mut case = Case::<T, P>::new(&Spec::new(6, 7, 10, 2, Numbers::Reals).with(|spec| {
                spec.dropout = dropout;
            }));
            change(&mut case);
            let oracle = case.oracle();
            check_case(&case, &oracle, &Cpu)?;
            for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle()) {
                case.spec.algorithm = algorithm;
                check_case(&case, &oracle, &queue)?;
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::backward::small_shapes", small_shapes);
    for_types!(trials, "lora::backward::not_numbers", not_numbers);
    for_types_and_devices!(trials, "lora::backward::ranks", ranks);
    for_types_and_devices!(trials, "lora::backward::orders", orders);
    for_types_and_devices!(trials, "lora::backward::choices", choices);
    for_types_and_devices!(trials, "lora::backward::several_targets", several_targets);
    for_types_and_devices!(trials, "lora::backward::batches", batches);
    for_types_and_devices!(trials, "lora::backward::many_tiles", many_tiles);
    for_types_and_devices!(trials, "lora::backward::row_scales", row_scales);
    trials.add("lora::backward::large_gradients", large_gradients);
}
