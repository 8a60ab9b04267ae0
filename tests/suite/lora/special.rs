//! Values that are no numbers, sums that leave sixteen bits, elements far apart, many tiles, and the same bits on every run.

use half::{bf16, f16};
use peft_kernels::{Cpu, Element, Emulator, MatMut, Workspace, lora, lora::Target};

use super::case::{ALGORITHMS, AdapterSpec, BaseSpec, BiasSpec, Case, RowSpec, Spec, TargetSpec};
use super::forward::{check_case, check_everywhere};
use crate::buffer::Cell;
use crate::numbers::{Numbers, Random};
use crate::queues::{CHIPS, Runner, Trials, emulators, seeds};
use crate::shapes::MANY_TILES;

/// A case after a change of its operands, on all queues against the plain formula; the elements of the first y that are NaN.
fn changed<T: Element + Cell, P: Element + Cell>(
    spec: &Spec,
    change: impl FnOnce(&mut Case<T, P>),
) -> Result<Vec<usize>, String> {
    let mut case = Case::<T, P>::new(spec);
    change(&mut case);
    let oracle = case.oracle();
    check_case(&case, &oracle, &Cpu)?;
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle()) {
        case.spec.algorithm = algorithm;
        check_case(&case, &oracle, &queue)?;
    }
    Ok((0..oracle[0].len()).filter(|&i| oracle[0][i].value.is_nan()).collect())
}

/// NaN and infinity pass through as arithmetic says, to exactly the outputs that depend on them.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (m, n, k, rank) = (6, 7, 20, 3);
    let nan = f64::NAN;
    let spec = Spec::new(m, n, k, rank, Numbers::Reals);
    let bias = TargetSpec { bias: BiasSpec::Shared(1), ..TargetSpec::dense(n, rank) };
    let spec = spec.with(|spec| spec.targets = vec![bias]);
    let row = |row: usize| (row * n..(row + 1) * n).collect::<Vec<_>>();
    let column = |column: usize| (0..m).map(|row| row * n + column).collect::<Vec<_>>();
    let all: Vec<usize> = (0..m * n).collect();

    assert_eq!(changed::<T, P>(&spec, |case| case.x.set([0, 2, k - 1], T::from_f64(nan)))?, row(2));
    assert_eq!(changed::<T, P>(&spec, |case| case.targets[0].factors[0].a.set([0, 1, 0], P::from_f64(nan)))?, all);
    assert_eq!(
        changed::<T, P>(&spec, |case| case.targets[0].factors[0].b.set([0, 4, 2], P::from_f64(nan)))?,
        column(4)
    );
    let w = |case: &mut Case<T, P>, value| case.targets[0].w.as_mut().unwrap().set([0, 5, 3], T::from_f64(value));
    assert_eq!(changed::<T, P>(&spec, |case| w(case, nan))?, column(5));
    let set_bias = |case: &mut Case<T, P>| case.targets[0].bias.as_mut().unwrap().set([0, 0, 6], T::from_f64(nan));
    assert_eq!(changed::<T, P>(&spec, set_bias)?, column(6));
    // An infinity alone makes infinities; two of different signs make NaN; so does 0 times infinity.
    assert_eq!(changed::<T, P>(&spec, |case| w(case, f64::INFINITY))?, [0usize; 0]);
    let two = |case: &mut Case<T, P>| {
        case.x.set([0, 1, 0], T::from_f64(f64::INFINITY));
        case.x.set([0, 1, 1], T::from_f64(f64::INFINITY));
        let w = case.targets[0].w.as_mut().unwrap();
        for column in 0..n {
            let sign = if column < 4 { 1.0 } else { -1.0 };
            w.set([0, column, 0], T::from_f64(sign));
            w.set([0, column, 1], T::from_f64(1.0));
        }
        case.targets[0].factors[0].scale = 1.0;
        let (a, b) = (&mut case.targets[0].factors[0].a, 0.0);
        (0..rank).for_each(|rank| (0..2).for_each(|k| a.set([0, rank, k], P::from_f64(1.0))));
        let factor = &mut case.targets[0].factors[0].b;
        (0..n * rank).for_each(|i| factor.set([0, i / rank, i % rank], P::from_f64(1.0 + b)));
    };
    assert_eq!(changed::<T, P>(&spec, two)?, (n + 4..2 * n).collect::<Vec<_>>());
    let scale_zero = |case: &mut Case<T, P>| {
        case.targets[0].factors[0].scale = 0.0;
        case.targets[0].factors[0].b.set([0, 3, 0], P::from_f64(f64::INFINITY));
    };
    assert_eq!(changed::<T, P>(&spec, scale_zero)?, column(3));
    // An infinite scale makes infinities of what there is, and nothing of the ranks that there are not.
    let one_rank = Spec::new(m, n, k, 1, Numbers::Reals);
    let infinite = |case: &mut Case<T, P>| case.targets[0].factors[0].scale = f32::INFINITY;
    assert_eq!(changed::<T, P>(&one_rank, infinite)?, [0usize; 0]);
    let zero = |case: &mut Case<T, P>| {
        case.x.set([0, 4, 3], T::from_f64(0.0));
        w(case, f64::INFINITY);
    };
    assert_eq!(changed::<T, P>(&spec, zero)?, [4 * n + 5]);

    // Rows poisoned by the adapter that they use, and no others; a y that holds NaN and is not read.
    let table = TargetSpec { adapters: AdapterSpec::Table(vec![2, 3]), ..TargetSpec::dense(n, 0) };
    let rows = RowSpec::Index(vec![0, 1, -1, 0, 0, 1]);
    let spec = spec.with(|spec| (spec.targets, spec.rows) = (vec![table], rows));
    let poisoned = changed::<T, P>(&spec, |case| case.targets[0].factors[1].a.set([0, 2, 7], P::from_f64(nan)))?;
    assert_eq!(poisoned, [row(1), row(5)].concat());
    // What y held is read where the base is in it, and only there.
    let spec = Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| spec.targets[0].base = BaseSpec::InY);
    assert_eq!(changed::<T, P>(&spec, |case| case.outputs[0].set([0, 3, 3], T::from_f64(nan)))?, [3 * n + 3]);
    Ok(())
}

/// x·Aᵀ far beyond the largest f16, y within it.
fn large_intermediate<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let spec = Spec::new(3, 4, 40, 2, Numbers::Integers);
    let nans = changed::<T, P>(&spec, |case| {
        for i in 0..40 {
            (0..3).for_each(|row| case.x.set([0, row, i], T::from_f64(256.0)));
            (0..2).for_each(|rank| case.targets[0].factors[0].a.set([0, rank, i], P::from_f64(512.0)));
            (0..4).for_each(|column| case.targets[0].w.as_mut().unwrap().set([0, column, i], T::from_f64(0.0)));
        }
        for i in 0..8 {
            case.targets[0].factors[0].b.set([0, i / 2, i % 2], P::from_f64(1.0 / 4096.0));
        }
        case.targets[0].factors[0].scale = 1.0 / 64.0;
    })?;
    assert!(nans.is_empty());
    Ok(())
}

fn bits_spec() -> Spec {
    let table = |n, ranks: &[usize]| TargetSpec {
        adapters: AdapterSpec::Table(ranks.to_vec()),
        bias: BiasSpec::Shared(1),
        ..TargetSpec::dense(n, 0)
    };
    let mut random = Random::of("same_bits");
    let rows = RowSpec::Index((0..130).map(|_| random.below(4) as i32 - 1).collect());
    let spec = Spec::new(65, 0, 200, 0, Numbers::Reals);
    spec.with(|spec| {
        (spec.batches, spec.targets, spec.rows) = (2, vec![table(70, &[9, 1, 40]), table(130, &[4, 4, 4])], rows)
    })
}

/// Twice, with every kernel, every seed and on every chip: what a kernel computes may depend on the chip, by the number of parts that its sums are made in.
fn same_bits<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut case = Case::<T, P>::new(&bits_spec());
    let cpu = case.run_well(&Cpu)?.y;
    case.check_exact("the reference again", &case.run_well(&Cpu)?.y, &cpu)?;
    for algorithm in ALGORITHMS {
        case.spec.algorithm = algorithm;
        let chip = Emulator::new(0).compute_capability(CHIPS[algorithm as usize]);
        let first = case.run_well(&chip)?.y;
        for run in 1..seeds() {
            let queue = chip.seed(run.wrapping_mul(0x1234_5678_9abc_def1));
            case.check_exact(&format!("{queue:?} against seed 0"), &case.run_well(&queue)?.y, &first)?;
        }
    }
    Ok(())
}

/// With `batch_invariant`, the rows of a call have the bits that each has alone.
fn batch_invariant<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let spec = |m| Spec::new(m, 70, 1000, 9, Numbers::Reals).with(|spec| (spec.batch_invariant, spec.seed) = (true, 1));
    let rows = 70;
    let all = Case::<T, P>::new(&spec(rows));
    let expected = all.run_well(&Emulator::new(1))?.y;
    for (first, count) in [(0, 1), (69, 1), (3, 16), (5, 65)] {
        let mut part = Case::<T, P>::new(&spec(rows));
        part.spec.m = count;
        part.x.layout.offset += first * part.x.layout.strides[1];
        part.x.layout.extents[1] = count;
        part.targets[0].y.1.extents[1] = count;
        let y = part.run_well(&Emulator::new(2))?.y;
        let expected = vec![expected[0][first * 70..(first + count) * 70].to_vec()];
        part.check_exact(&format!("rows {first} … of {count}"), &y, &expected)?;
    }
    Ok(())
}

/// f32 as one number of tf32 stays within the bound that its kernel names, and f32 in parts within a hundredth of its error.
fn tf32() -> Result<(), String> {
    let spec = Spec::new(70, 66, 500, 9, Numbers::Reals);
    let mut case = Case::<f32, f32>::new(&spec);
    let oracle = case.oracle();
    let mut largest = [0.0f64; 2];
    for (i, allow_tf32) in [false, true].into_iter().enumerate() {
        case.spec.allow_tf32 = allow_tf32;
        for algorithm in &ALGORITHMS[2..] {
            case.spec.algorithm = *algorithm;
            let y = check_case(&case, &oracle, &Emulator::new(3))?;
            let errors =
                y[0].iter().zip(&oracle[0]).map(|(y, terms)| (f64::from(*y) - terms.value).abs() / terms.magnitude);
            largest[i] = errors.fold(largest[i], f64::max);
        }
    }
    let [parts, one] = largest;
    // Where tf32 was not used at all, or f32 not in parts, the two would be alike.
    if parts < 1e-2 * one {
        Ok(())
    } else {
        Err(format!("relative errors of {parts:e} in parts and {one:e} as one number"))
    }
}

/// Many calls at once, on queues of both kinds.
fn threads() -> Result<(), String> {
    let cases: Vec<_> = (0..4).map(|seed| Case::<bf16, f32>::new(&bits_spec().with(|spec| spec.seed = seed))).collect();
    let expected: Vec<_> = cases
        .iter()
        .map(|case| Ok((case.run_well(&Cpu)?.y, case.run_well(&Emulator::new(0))?.y)))
        .collect::<Result<_, String>>()?;
    let run = |case: &Case<bf16, f32>, (cpu, emulated): &(Vec<Vec<bf16>>, Vec<Vec<bf16>>)| {
        for seed in 0..3 {
            case.check_exact("the reference on a thread", &case.run_well(&Cpu)?.y, cpu)?;
            case.check_exact("the emulator on a thread", &case.run_well(&Emulator::new(seed))?.y, emulated)?;
        }
        Ok::<_, String>(())
    };
    std::thread::scope(|scope| {
        let threads = cases.iter().zip(&expected).map(|(case, expected)| scope.spawn(move || run(case, expected)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// A hash of the bits that the emulator computes: for [`emulator_threads`], in another process.
pub fn print_bits() -> Result<(), String> {
    let mut text = String::new();
    for seed in 0..2 {
        text += &format!("{:?}", Case::<f16, f16>::new(&bits_spec()).run_well(&Emulator::new(seed))?.y);
    }
    println!("{:016x}", Random::of(&text).bits());
    Ok(())
}

/// The same bits with any number of the emulator's threads, which a process reads once.
fn emulator_threads() -> Result<(), String> {
    let run = |threads: &str| {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = std::process::Command::new(program);
        command.env("PEFT_KERNELS_EMULATOR_THREADS", threads).env(crate::PRINT_BITS, "1");
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.len() == 17 { Ok(text) } else { Err(format!("{output:?}")) }
    };
    let one = run("1")?;
    for threads in ["2", "3", "16"] {
        assert_eq!(run(threads)?, one, "{threads} threads");
    }
    Ok(())
}

/// Rows, columns and batches 2^31 elements apart, of each operand.
#[cfg(unix)]
fn far_apart<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    const FAR: usize = (1 << 31) + 3;
    let spec = Spec::new(2, 2, 5, 2, Numbers::Integers).with(|spec| spec.batches = 2);
    for strides in [[64, FAR, 1], [64, 1, FAR], [FAR, 8, 1]] {
        for operand in 0..5 {
            let mut case = Case::<T, P>::new(&spec);
            let target = &mut case.targets[0];
            match operand {
                0 => case.x = case.x.spread(strides),
                1 => target.w = target.w.as_ref().map(|w| w.spread(strides)),
                2 => {
                    case.outputs[0] = case.outputs[0].spread(strides);
                    target.y.1.strides = strides;
                }
                3 => target.factors[0].a = target.factors[0].a.spread(strides),
                _ => target.factors[0].b = target.factors[0].b.spread(strides),
            }
            let oracle = case.oracle();
            check_case(&case, &oracle, &Cpu)?;
            check_case(&case, &oracle, &Emulator::new(1))?;
        }
    }
    Ok(())
}

fn many_tiles() -> Result<(), String> {
    let shape = MANY_TILES;
    let case = Case::<f16, f16>::new(&Spec::new(shape.m, shape.n, shape.k, shape.rank, Numbers::Integers));
    let oracle = case.oracle();
    check_case(&case, &oracle, &Cpu)?;
    check_case(&case, &oracle, &Emulator::new(1))?;
    Ok(())
}

/// The outputs of q, k and v in one buffer of the caller, by `split_columns`.
fn split_columns() -> Result<(), String> {
    fn run<Q: Runner + peft_kernels::HostQueue>(queue: &Q) -> peft_kernels::Result<Vec<f32>> {
        use peft_kernels::Mat;
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let w: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut y = vec![-1.0f32; 2 * 6];
        let (q, rest) = MatMut::new(&mut y, 2, 6)?.split_columns(3)?;
        let (k, v) = rest.split_columns(2)?;
        let w = Mat::new(&w, 6, 2)?;
        let call = lora::Forward::<f32, f32, Q>::new(Mat::new(&x, 2, 2)?)
            .target(Target::dense(w.narrow(0, 0..3)?, q))
            .target(Target::dense(w.narrow(0, 3..5)?, k))
            .target(Target::dense(w.narrow(0, 5..6)?, v));
        lora::forward(queue, call, Workspace::none())?;
        Ok(y)
    }
    let expected = [2.0, 8.0, 14.0, 20.0, 26.0, 32.0, 4.0, 18.0, 32.0, 46.0, 60.0, 74.0];
    assert_eq!(run(&Cpu).map_err(|error| error.to_string())?, expected);
    assert_eq!(run(&Emulator::new(1)).map_err(|error| error.to_string())?, expected);
    Ok(())
}

/// A target without adapters beside one with a table.
fn table_beside_none<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let table = TargetSpec { adapters: AdapterSpec::Table(vec![2, 1]), ..TargetSpec::dense(5, 0) };
    let none = TargetSpec { adapters: AdapterSpec::None, ..TargetSpec::dense(4, 0) };
    let spec = Spec::new(4, 0, 6, 0, Numbers::Integers);
    let rows = RowSpec::Index(vec![1, 0, -1, 1]);
    check_everywhere::<T, P>(&spec.with(|spec| (spec.targets, spec.rows) = (vec![table, none], rows)))
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::forward::not_numbers", not_numbers);
    for_types!(trials, "lora::forward::large_intermediate", large_intermediate);
    for_types!(trials, "lora::forward::same_bits", same_bits);
    for_types!(trials, "lora::forward::batch_invariant", batch_invariant);
    trials.add("lora::forward::tf32", tf32);
    for_types!(trials, "lora::forward::table_beside_none", table_beside_none);
    trials.add("lora::forward::threads", threads);
    trials.add("lora::forward::emulator_threads", emulator_threads);
    #[cfg(unix)]
    for_types!(trials, "lora::forward::far_apart", far_apart);
    #[cfg(not(unix))]
    trials.needs("lora::forward::far_apart", "needs memory that can be mapped sparsely");
    trials.add("lora::forward::many_tiles", many_tiles);
    trials.add("lora::forward::split_columns", split_columns);
}
