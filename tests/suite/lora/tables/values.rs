//! Values: an index per row and segments, every mode, type and kernel, on every queue.

use half::bf16;
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, RawStream};

use super::case::{Case, Spec, TargetSpec, Values};
use super::oracle::Oracle;
use crate::buffer::Cell;
use crate::lora::backward::compared;
use crate::lora::case::{BiasSpec, RowSpec, Saved};
use crate::lora::gradient_case::{ALGORITHMS, Mode, Weights};
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};

const MODES: [Mode; 3] = [Mode::None, Mode::Overwrite, Mode::Accumulate];
const SAVED: [Saved; 3] = [Saved::None, Saved::Own, Saved::F32];
const NUMBERS: [Numbers; 2] = [Numbers::Integers, Numbers::Reals];

/// On this queue: integers as the plain formula, bit for bit; reals within the bound.
fn check_case<T: Element + Cell, P: Element + Cell, Q: Runner>(
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
        for (j, adapter) in target.adapters.iter().enumerate() {
            for (which, name) in ["da", "db"].into_iter().enumerate() {
                if spec.mode(j, which) != Mode::None {
                    let extents = adapter.gradients[which].layout.extents;
                    let (got, oracle) = (&values.factors[i][j][which], &oracle.factors[i][j][which]);
                    let result = compared(numbers, extents, got, oracle, steps);
                    named(format!("{name} of target {i}, adapter {j}"), result)?;
                }
            }
        }
        if spec.modes[2] != Mode::None {
            let result = compared(numbers, target.dbias.layout.extents, &values.bias[i], &oracle.bias[i], steps);
            named(format!("dbias of target {i}"), result)?;
        }
    }
    Ok(values)
}

/// The bits of everything.
pub fn bits<T: Element, P: Element>(values: &Values<T, P>) -> Vec<u64> {
    fn of<E: Element>(list: &[E]) -> impl Iterator<Item = u64> + '_ {
        list.iter().map(|value| value.to_f64().to_bits())
    }
    let factors = values.factors.iter().flatten().flatten().flat_map(|list| of(list));
    of(&values.dx).chain(factors).chain(values.bias.iter().flat_map(|list| of(list))).collect()
}

/// On all queues, with every kernel; another seed gives the same bits.
fn check_everywhere<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    let oracle = case.oracle();
    if crate::cuda::is_active() {
        for algorithm in ALGORITHMS {
            case.spec.algorithm = algorithm;
            let first = check_case(&case, &oracle, &RawStream::legacy(0))?;
            if bits(&first) != bits(&check_case(&case, &oracle, &RawStream::per_thread(0))?) {
                return Err(format!("the device again: other bits {spec:#?}"));
            }
        }
        return Ok(());
    }
    check_case(&case, &oracle, &Cpu)?;
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle().skip(spec.seed as usize % 2)) {
        case.spec.algorithm = algorithm;
        let first = check_case(&case, &oracle, &queue)?;
        if spec.seed % ALGORITHMS.len() as u64 == algorithm as u64 {
            let again = queue.seed(spec.seed + 100);
            if bits(&first) != bits(&case.run(&again)?.0) {
                return Err(format!("{again:?} against {queue:?}: other bits {spec:#?}"));
            }
        }
    }
    Ok(())
}

/// Ranks of every kind, none among them, and orders, saved intermediates and row scales that differ.
fn targets() -> Vec<TargetSpec> {
    let target = |i: usize, n, ranks: &[usize]| TargetSpec {
        dense: i != 1,
        row_scale: [BiasSpec::None, BiasSpec::Shared(2), BiasSpec::None][i],
        h: SAVED[i],
        ..TargetSpec::new(n, ranks)
    };
    vec![target(0, 20, &[8, 0, 33, 1]), target(1, 67, &[3, 16, 2, 9]), target(2, 7, &[1, 1, 1, 1])]
}

/// An index per row, unsorted, with rows of no adapter; no row, and no batch.
fn row_adapters<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("backward row_adapters");
    for (i, (batches, m)) in [(1, 70), (3, 11), (1, 0), (0, 3), (2, 40)].into_iter().enumerate() {
        let index = (0..batches * m).map(|_| random.below(5) as i32 - 1).collect();
        check_everywhere::<T, P>(&Spec::new(m, 25, index, targets(), NUMBERS[i % 2]).with(|spec| {
            (spec.batches, spec.seed, spec.shared) = (batches, i as u64, [0, 0b101][i % 2]);
            spec.dropout = (i % 3 == 1).then_some((0.5, 3, 1));
            spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Batched(1)][i % 2];
            spec.random = i != 4;
        }))?;
    }
    Ok(())
}

/// Runs of rows: touching, with gaps, empty, without an adapter, beyond the last row.
fn segments<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let lists: [&[(usize, usize, Option<u32>)]; 6] = [
        &[],
        &[(0, 70, Some(2))],
        &[(0, 10, Some(0)), (10, 35, Some(1)), (35, 70, Some(3))],
        &[(3, 4, Some(0)), (20, 20, Some(1)), (20, 41, None), (60, 69, Some(2))],
        &[(50, 1000, Some(1))],
        &[(0, 5, Some(3)), (5, 66, Some(0)), (66, usize::MAX, Some(3))],
    ];
    for (i, list) in lists.into_iter().enumerate() {
        let spec = Spec::new(70 / (1 + i % 2), 15, Vec::new(), targets(), NUMBERS[i / 2 % 2]);
        check_everywhere::<T, P>(&spec.with(|spec| {
            (spec.batches, spec.seed, spec.rows) = (1 + i % 2, i as u64, RowSpec::Segments(list.to_vec()));
            spec.targets[1].modes = [Mode::Accumulate; 3];
        }))?;
    }
    Ok(())
}

/// Any subset of the gradients and of the adapters that have them, each overwritten or added to.
fn choices<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..27usize {
        let index = (0..23).map(|row| [2, -1, 0, 2, 3][row % 5]).collect();
        check_everywhere::<T, P>(
            &Spec::new(23, 18, index, vec![TargetSpec::new(13, &[3, 2, 5, 0])], NUMBERS[0]).with(|spec| {
                let mode = |axis: u32| MODES[i / 3usize.pow(axis) % 3];
                (spec.x, spec.seed) = (mode(2), i as u64);
                spec.targets[0].modes = [mode(0), mode(1), mode(2)];
                spec.targets[0].asked = [[!0, 0b1101][i % 2], [0b0110, !0][i / 2 % 2]];
                spec.targets[0].h = SAVED[i % 3];
                spec.targets[0].dense = i % 4 != 0;
                spec.dropout = (i % 5 == 0).then_some((0.75, 3, 1 << 40));
            }),
        )?;
    }
    Ok(())
}

/// More adapters than blocks share out, more rows of one than a block goes through at once, more ranks than a tile has.
fn many_adapters<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let ranks: Vec<usize> = (0..40).map(|i| [2, 70, 0, 17, 1][i % 5]).collect();
    let rows = |row: usize| if row.is_multiple_of(3) { (row / 3 * 7 % 41) as i32 - 1 } else { 1 };
    for (i, numbers) in NUMBERS.into_iter().enumerate() {
        let table = vec![TargetSpec::new(70, &ranks), TargetSpec::new(9, &[2; 40])];
        check_everywhere::<T, P>(&Spec::new(140, 66, (0..140).map(rows).collect(), table, numbers).with(|spec| {
            (spec.seed, spec.targets[i].h) = (i as u64, Saved::F32);
        }))?;
    }
    Ok(())
}

/// More rows than one block finds the adapters of, and than the warps that list them have lanes.
fn many_rows<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let index = (0..700).map(|row| [0, 2, -1, 1, 2][row * 7 / 3 % 5]).collect();
    let runs = vec![(0, 290, Some(1)), (290, 300, None), (300, 690, Some(2)), (695, 700, Some(0))];
    for (i, rows) in [RowSpec::Index(index), RowSpec::Segments(runs)].into_iter().enumerate() {
        let table = vec![TargetSpec::new(2, &[1, 3, 2])];
        check_everywhere::<T, P>(&Spec::new([350, 700][i], 3, Vec::new(), table, NUMBERS[i]).with(|spec| {
            (spec.batches, spec.rows, spec.seed) = ([2, 1][i], rows, i as u64);
        }))?;
    }
    Ok(())
}

/// Of an adapter without rows zeros are written, whatever its scale, and nothing is added.
fn without_rows<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..6usize {
        let mode = [Mode::Overwrite, Mode::Accumulate][i % 2];
        let spec = Spec::new(9, 10, vec![1; 9], vec![TargetSpec::new(8, &[3, 2, 4])], Numbers::Reals);
        let mut case = Case::<T, P>::new(&spec.with(|spec| spec.targets[0].modes = [mode; 3]));
        for adapter in [0, 2] {
            let adapter = &mut case.targets[0].adapters[adapter];
            adapter.factors.scale = f32::INFINITY;
            if mode == Mode::Accumulate {
                // Which adding a zero to would change.
                adapter.gradients.iter_mut().for_each(|gradient| gradient.set([0, 1, 1], P::from_f64(-0.0)));
            }
        }
        let before = case.targets[0]
            .adapters
            .iter()
            .map(|adapter| adapter.gradients.each_ref().map(|gradient| gradient.elements(&gradient.layout)));
        let before: Vec<_> = before.collect();
        let check = |values: Values<T, P>| {
            let equal = |a: &[P], b: &[P]| a.iter().zip(b).all(|(a, b)| a.to_f64().to_bits() == b.to_f64().to_bits());
            for (adapter, which) in [(0, 0), (0, 1), (2, 0), (2, 1)] {
                let got = &values.factors[0][adapter][which];
                let zeros = vec![P::from_f64(0.0); got.len()];
                if !equal(got, if mode == Mode::Accumulate { &before[adapter][which] } else { &zeros }) {
                    return Err(format!("{mode:?}, gradient {which} of adapter {adapter}: {got:?}"));
                }
            }
            Ok(())
        };
        let oracle = case.oracle();
        check(check_case(&case, &oracle, &Cpu)?)?;
        for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle().skip(i / 2)) {
            case.spec.algorithm = algorithm;
            check(check_case(&case, &oracle, &queue)?)?;
        }
    }
    Ok(())
}

/// Indices that no table has: the first is named, its row is the base alone and in no sum, all else is right.
fn bad_rows<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, (bad, value)) in [(0, 4), (17, -2), (69, i32::MAX), (33, i32::MIN)].into_iter().enumerate() {
        let mut index: Vec<i32> = (0..70).map(|row| row % 5 - 1).collect();
        index[bad] = value;
        index[69] = 99;
        let spec = Spec::new(70, 10, index, targets(), Numbers::Reals).with(|spec| spec.seed = i as u64);
        assert_eq!(spec.first_bad_row(), Some(bad));
        check_everywhere::<T, P>(&spec)?;
    }
    // Tables of different lengths, one of them empty, a target of no columns; the bias' gradient alone.
    let table = TargetSpec::new;
    let lists =
        [vec![table(5, &[2, 2]), table(5, &[2])], vec![table(5, &[])], vec![table(0, &[4])], vec![table(6, &[1])]];
    for (i, targets) in lists.into_iter().enumerate() {
        let index = vec![-1, 0, 0, -1, 0, 1, 0, 0, 2];
        check_everywhere::<T, P>(&Spec::new(9, 10, index, targets, Numbers::Reals).with(|spec| {
            spec.seed = i as u64;
            if i == 3 {
                (spec.x, spec.targets[0].modes) = (Mode::None, [Mode::None, Mode::None, Mode::Overwrite]);
            }
        }))?;
    }
    Ok(())
}

/// Rows that count as their samples weigh, in the gradients of factors and of the bias.
fn sample_weights<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let weights = [
        Weights { offsets: None, values: vec![1.0, 0.5, 0.0, -1.0] },
        Weights { offsets: Some(vec![0, 0, 3, 9, 21]), values: vec![2.0, 0.5, -1.0, 1.0] },
    ];
    for i in 0..6usize {
        let index = (0..24).map(|row| row * 5 % 4 - 1).collect();
        let tables = vec![TargetSpec::new(9, &[5, 0, 2]), TargetSpec::new(11, &[1, 20, 4])];
        check_everywhere::<T, P>(&Spec::new(12, 19, index, tables, NUMBERS[i % 2]).with(|spec| {
            (spec.batches, spec.seed) = (2, i as u64);
            spec.weights = Some(weights[i / 2 % 2].clone());
            spec.targets[0].h = SAVED[i % 3];
            spec.targets[1].modes = [MODES[i % 3], Mode::Accumulate, MODES[(i + 1) % 3]];
            spec.dropout = (i % 2 == 1).then_some((0.5, 2, 3));
        }))?;
    }
    Ok(())
}

/// NaN goes to exactly the gradients that depend on it.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    type Change<T, P> = fn(&mut Case<T, P>);
    let changes: [Change<T, P>; 5] = [
        |case| case.x.set([0, 2, 3], T::from_f64(f64::NAN)),
        |case| case.targets[0].dy.set([0, 1, 4], T::from_f64(f64::INFINITY)),
        |case| case.targets[0].adapters[1].factors.a.set([0, 1, 5], P::from_f64(f64::NAN)),
        |case| case.targets[0].adapters[2].factors.b.set([0, 6, 0], P::from_f64(f64::NAN)),
        |case| case.targets[0].adapters[0].factors.scale = f32::NAN,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let index = vec![2, 1, -1, 0, 1, 2, 2];
        let spec = Spec::new(7, 10, index, vec![TargetSpec::new(7, &[1, 3, 2])], Numbers::Reals);
        let mut case = Case::<T, P>::new(&spec.with(|spec| spec.dropout = (i % 2 == 1).then_some((0.5, i as u64, 1))));
        change(&mut case);
        let oracle = case.oracle();
        check_case(&case, &oracle, &Cpu)?;
        for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle().skip(i % 2)) {
            case.spec.algorithm = algorithm;
            check_case(&case, &oracle, &queue)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::backward::tables::row_adapters", row_adapters);
    for_types_and_devices!(trials, "lora::backward::tables::segments", segments);
    for_types_and_devices!(trials, "lora::backward::tables::choices", choices);
    for_types_and_devices!(trials, "lora::backward::tables::many_adapters", many_adapters);
    trials.add("lora::backward::tables::many_rows", many_rows::<bf16, f32>);
    trials.add_on_device("lora::backward::tables::many_rows/cuda", many_rows::<bf16, f32>);
    for_types!(trials, "lora::backward::tables::without_rows", without_rows);
    for_types_and_devices!(trials, "lora::backward::tables::bad_rows", bad_rows);
    for_types_and_devices!(trials, "lora::backward::tables::sample_weights", sample_weights);
    for_types!(trials, "lora::backward::tables::not_numbers", not_numbers);
}
