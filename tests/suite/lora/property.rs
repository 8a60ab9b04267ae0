//! Random calls. PEFT_KERNELS_TEST_SEED is the seed of the first (printed where one fails), PEFT_KERNELS_TEST_CASES their number.

use half::{bf16, f16};
use peft_kernels::{Cpu, Element, Emulator};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::case::{ALGORITHMS, AdapterSpec, Arrangement, BaseSpec, BiasSpec, Case, RowSpec, Saved, Spec, TargetSpec};
use super::forward::check_case;
use crate::buffer::Cell;
use crate::numbers::Numbers;
use crate::queues::Trials;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn target(table: bool) -> impl Strategy<Value = TargetSpec> {
    let base = prop_oneof![Just(BaseSpec::None), Just(BaseSpec::Dense), Just(BaseSpec::InY)];
    let row = || {
        prop_oneof![
            Just(BiasSpec::None),
            (1usize..3).prop_map(BiasSpec::Shared),
            (1usize..3).prop_map(BiasSpec::Batched)
        ]
    };
    let adapters = if table {
        prop::collection::vec(0usize..20, 0..4).prop_map(AdapterSpec::Table).boxed()
    } else {
        prop_oneof![1 => Just(AdapterSpec::None), 5 => (0usize..40).prop_map(AdapterSpec::One)].boxed()
    };
    let all = (0usize..90, base, adapters, row(), row());
    all.prop_map(|(n, base, adapters, bias, row_scale)| TargetSpec {
        base,
        adapters,
        bias,
        row_scale,
        ..TargetSpec::dense(n, 0)
    })
}

/// Sorted, disjoint runs within or beyond the rows, from distances and lengths.
fn segments() -> impl Strategy<Value = RowSpec> {
    let part = (0usize..12, 0usize..12, prop_oneof![4 => (0u32..5).prop_map(Some), 1 => Just(None)]);
    prop::collection::vec(part, 0..6).prop_map(|parts| {
        let mut row = 0;
        let mut place = |(gap, length, adapter): (usize, usize, Option<u32>)| {
            let begin = row + gap;
            row = begin + length;
            (begin, row, adapter)
        };
        RowSpec::Segments(parts.into_iter().map(&mut place).collect())
    })
}

fn rows(count: usize) -> impl Strategy<Value = RowSpec> {
    let index = prop_oneof![1 => Just(RowSpec::Same), 1 => segments().boxed()];
    prop_oneof![
        2 => index,
        1 => prop::collection::vec(prop_oneof![20 => -1i32..4, 1 => any::<i32>()], count).prop_map(RowSpec::Index)
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let extents = (prop_oneof![5 => Just(1usize), 3 => 2usize..4, 1 => Just(0)], 0usize..90, 0usize..140);
    extents
        .prop_flat_map(|(batches, m, k)| (Just((batches, m, k)), rows(batches * m)))
        .prop_flat_map(|(extents, rows)| {
            let table = rows != RowSpec::Same;
            (Just(extents), Just(rows), prop::collection::vec(target(table), 1..4))
        })
        .prop_flat_map(|(extents, rows, targets)| {
            let rest = (0u32..32, any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>());
            (Just(extents), Just(rows), Just(targets), rest)
        })
        .prop_map(|((batches, m, k), rows, targets, (shared, one_y, integers, plain, seed))| Spec {
            batches,
            m,
            k,
            targets,
            rows,
            shared,
            one_y,
            arrangement: if plain { Arrangement::Plain } else { Arrangement::Random },
            numbers: if integers { Numbers::Integers } else { Numbers::Reals },
            seed,
            algorithm: ALGORITHMS[(seed % ALGORITHMS.len() as u64) as usize],
            allow_tf32: seed & 1 << 40 != 0,
            batch_invariant: seed & 3 << 41 == 0,
            dropout: (seed & 3 << 43 == 0).then_some((0.5, seed, seed >> 20)),
            saved: [Saved::None, Saved::None, Saved::Own, Saved::F32][(seed >> 45) as usize % 4],
            slab_bytes: 0,
        })
}

/// One description on the CPU queue and, where asked for, on an emulator of a seed.
fn check<T: Element + Cell, P: Element + Cell>(spec: &Spec, emulated: bool) -> Result<(), String> {
    let case = Case::<T, P>::new(spec);
    let oracle = case.oracle();
    if emulated {
        check_case(&case, &oracle, &Emulator::new(spec.seed)).map(drop)
    } else {
        check_case(&case, &oracle, &Cpu).map(drop)
    }
}

fn check_types(types: usize, spec: &Spec, emulated: bool) -> Result<(), String> {
    match types {
        0 => check::<f32, f32>(spec, emulated),
        1 => check::<f16, f16>(spec, emulated),
        2 => check::<bf16, bf16>(spec, emulated),
        3 => check::<f16, f32>(spec, emulated),
        _ => check::<bf16, f32>(spec, emulated),
    }
}

fn property(cases: u64, emulated: bool) -> Result<(), String> {
    let seed = variable("PEFT_KERNELS_TEST_SEED").unwrap_or(20_260_101);
    let cases = variable("PEFT_KERNELS_TEST_CASES").unwrap_or(cases) as u32;
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner
        .run(&(0usize..5, spec()), |(types, spec)| check_types(types, &spec, emulated).map_err(TestCaseError::fail));
    result.map_err(|error| match error {
        TestError::Fail(reason, (types, _)) => format!("PEFT_KERNELS_TEST_SEED={seed}, types {types}: {reason}"),
        TestError::Abort(reason) => format!("PEFT_KERNELS_TEST_SEED={seed}: {reason}"),
    })
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::forward::property/cpu", || property(512, false));
    trials.add("lora::forward::property/emulator", || property(192, true));
}
