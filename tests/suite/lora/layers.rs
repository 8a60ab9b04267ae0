//! Bases, biases, several targets, batches, tables, rows and segments.

use peft_kernels::{Element, Emulator};

use super::case::{AdapterSpec, Arrangement, BaseSpec, BiasSpec, Case, RowSpec, Spec, TargetSpec};
use super::forward::{check_case, check_everywhere};
use crate::buffer::Cell;
use crate::numbers::{Numbers, Random};
use crate::queues::Trials;

const BASES: [BaseSpec; 3] = [BaseSpec::None, BaseSpec::Dense, BaseSpec::InY];
const BIASES: [BiasSpec; 4] = [BiasSpec::None, BiasSpec::Shared(1), BiasSpec::Shared(3), BiasSpec::Batched(2)];

/// Both kinds of numbers, plain and with random strides.
fn variants<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<(), String> {
    for (numbers, arrangement) in [
        (Numbers::Integers, Arrangement::Random),
        (Numbers::Reals, Arrangement::Plain),
        (Numbers::Reals, Arrangement::Random),
    ] {
        check_everywhere::<T, P>(&Spec { numbers, arrangement, ..spec.clone() })?;
    }
    Ok(())
}

fn bases_and_biases<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, base) in BASES.into_iter().enumerate() {
        for (j, bias) in BIASES.into_iter().enumerate() {
            let row_scale = BIASES[(i + 2 * j) % 4];
            for adapters in [AdapterSpec::None, AdapterSpec::One(0), AdapterSpec::One(6)] {
                let spec = Spec::new(9, 11, 21, 0, Numbers::Reals);
                let target = TargetSpec { base, adapters, bias, row_scale, ..TargetSpec::dense(11, 0) };
                variants::<T, P>(&spec.with(|spec| (spec.batches, spec.targets) = (2, vec![target])))?;
            }
        }
    }
    Ok(())
}

/// q, k and v of different widths and ranks, in one buffer and in three.
fn several_targets<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for one_y in [false, true] {
        let targets = vec![TargetSpec::dense(70, 8), TargetSpec::dense(16, 3), TargetSpec::dense(17, 0)];
        let spec = Spec::new(13, 0, 40, 0, Numbers::Reals);
        variants::<T, P>(&spec.with(|spec| (spec.targets, spec.one_y) = (targets, one_y)))?;
    }
    // Bases and biases that differ between the targets.
    let bases = BASES.iter().zip(BIASES).enumerate();
    let mixed = bases.map(|(i, (&base, bias))| TargetSpec {
        base,
        adapters: AdapterSpec::One(i),
        bias,
        row_scale: BIASES[(i + 1) % 4],
        ..TargetSpec::dense(5 + i, 0)
    });
    let spec = Spec::new(6, 0, 9, 0, Numbers::Reals);
    variants::<T, P>(&spec.with(|spec| spec.targets = mixed.collect()))?;
    variants::<T, P>(&Spec::new(6, 0, 9, 0, Numbers::Reals).with(|spec| spec.targets.clear()))
}

/// More than a launch takes, some of no width.
fn many_targets<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for one_y in [false, true] {
        let targets = (0..19).map(|i| TargetSpec::dense([3, 0, 65, 1][i % 4], i % 5)).collect();
        let spec = Spec::new(7, 0, 12, 0, Numbers::Reals);
        variants::<T, P>(&spec.with(|spec| (spec.targets, spec.one_y) = (targets, one_y)))?;
    }
    Ok(())
}

/// x, W, A and B each one for all batches or one for each.
fn batches<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for shared in 0..32 {
        let bias = BIASES[shared as usize % 4];
        let target = TargetSpec { bias, ..TargetSpec::dense(10, 4) };
        let spec = Spec::new(5, 0, 18, 0, Numbers::Integers);
        let spec = spec.with(|spec| (spec.batches, spec.shared, spec.targets) = (3, shared, vec![target]));
        check_everywhere::<T, P>(&spec.with(|spec| spec.arrangement = Arrangement::Random))?;
    }
    for batches in [0, 1, 2, 70] {
        let spec = Spec::new(3, 4, 6, 2, Numbers::Reals);
        variants::<T, P>(&spec.with(|spec| spec.batches = batches))?;
    }
    Ok(())
}

fn table_targets() -> Vec<TargetSpec> {
    let table = |n, ranks: &[usize]| TargetSpec {
        base: BASES[n % 3],
        adapters: AdapterSpec::Table(ranks.to_vec()),
        bias: BIASES[n % 2],
        row_scale: BIASES[n % 3],
        ..TargetSpec::dense(n, 0)
    };
    vec![table(20, &[8, 0, 33, 1]), table(67, &[3, 16, 2, 9]), table(7, &[1, 1, 1, 1])]
}

/// An index per row, unsorted, with rows of no adapter.
fn row_adapters<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("row_adapters");
    for (batches, m) in [(1, 70), (3, 11), (1, 0), (0, 3)] {
        let index = (0..batches * m).map(|_| random.below(5) as i32 - 1).collect();
        let spec = Spec::new(m, 0, 25, 0, Numbers::Reals);
        let spec = spec
            .with(|spec| (spec.batches, spec.rows, spec.targets) = (batches, RowSpec::Index(index), table_targets()));
        variants::<T, P>(&spec)?;
    }
    Ok(())
}

/// More adapters than blocks share out, on depths that several blocks share.
fn many_adapters<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let table =
        |n, ranks: &[usize]| TargetSpec { adapters: AdapterSpec::Table(ranks.to_vec()), ..TargetSpec::dense(n, 0) };
    let targets = [table(21, &[3, 130, 0, 16, 1, 8, 2, 5, 7, 64, 4]), table(34, &[2; 11])];
    for (algorithm, m, k_bytes) in [(3, 35, 540), (4, 9, 4120)] {
        let index = (0..m).map(|row| (row * 7 % 12) - 1).collect();
        let spec = Spec::new(m as usize, 0, k_bytes / size_of::<T>(), 0, Numbers::Reals);
        let spec = spec.with(|spec| {
            (spec.algorithm, spec.rows, spec.targets) = (algorithm, RowSpec::Index(index), targets.to_vec());
        });
        if crate::cuda::is_active() {
            check_everywhere::<T, P>(&spec)?;
            continue;
        }
        let case = Case::<T, P>::new(&spec);
        for seed in [1, 6] {
            check_case(&case, &case.oracle(), &Emulator::new(seed))?;
        }
    }
    Ok(())
}

/// Indices that no table has: the first is named, its row is the base alone, all else is right.
fn bad_row_adapters<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (bad, value) in [(0, 4), (17, -2), (69, i32::MAX), (33, i32::MIN), (5, 1_000_000)] {
        let mut index: Vec<i32> = (0..70).map(|row| row % 5 - 1).collect();
        index[bad] = value;
        index[69] = 99;
        let spec = Spec::new(70, 0, 10, 0, Numbers::Reals);
        let spec = spec.with(|spec| (spec.rows, spec.targets) = (RowSpec::Index(index), table_targets()));
        assert_eq!(spec.first_bad_row(), Some(bad));
        variants::<T, P>(&spec)?;
    }
    // Tables of different lengths, one of them empty, and a target of no columns.
    let table =
        |n, ranks: &[usize]| TargetSpec { adapters: AdapterSpec::Table(ranks.to_vec()), ..TargetSpec::dense(n, 0) };
    for targets in [vec![table(5, &[2, 2]), table(5, &[2])], vec![table(5, &[])], vec![table(0, &[4])]] {
        let spec = Spec::new(9, 0, 10, 0, Numbers::Reals);
        let index = vec![-1, 0, 0, -1, 0, 1, 0, 0, 2];
        variants::<T, P>(&spec.with(|spec| (spec.rows, spec.targets) = (RowSpec::Index(index), targets)))?;
    }
    Ok(())
}

/// Runs of rows: touching, with gaps, empty, without an adapter, beyond the last row, out of the table.
fn segments<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let lists: [&[(usize, usize, Option<u32>)]; 10] = [
        &[],
        &[(0, 70, Some(2))],
        &[(0, 10, Some(0)), (10, 35, Some(1)), (35, 70, Some(3))],
        &[(3, 4, Some(0)), (20, 20, Some(1)), (20, 41, None), (60, 69, Some(2))],
        &[(50, 1000, Some(1))],
        &[(70, 90, Some(1)), (1 << 40, 1 << 41, Some(9))],
        &[(0, 5, Some(4)), (5, 9, Some(2))],
        &[(5, 9, Some(2)), (30, 31, Some(u32::MAX))],
        &[(5, 9, Some(2)), (30, usize::MAX, Some(3))],
        &[(8, 12, Some(1 << 31)), (64, usize::MAX, Some(i32::MAX as u32))],
    ];
    for list in lists {
        for batches in [1, 2] {
            let spec = Spec::new(70 / batches, 0, 15, 0, Numbers::Reals);
            let rows = RowSpec::Segments(list.to_vec());
            variants::<T, P>(
                &spec.with(|spec| (spec.batches, spec.rows, spec.targets) = (batches, rows, table_targets())),
            )?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::forward::bases_and_biases", bases_and_biases);
    for_types_and_devices!(trials, "lora::forward::several_targets", several_targets);
    for_types_and_devices!(trials, "lora::forward::many_targets", many_targets);
    for_types_and_devices!(trials, "lora::forward::batches", batches);
    for_types_and_devices!(trials, "lora::forward::row_adapters", row_adapters);
    for_types_and_devices!(trials, "lora::forward::many_adapters", many_adapters);
    for_types_and_devices!(trials, "lora::forward::bad_row_adapters", bad_row_adapters);
    for_types_and_devices!(trials, "lora::forward::segments", segments);
}
