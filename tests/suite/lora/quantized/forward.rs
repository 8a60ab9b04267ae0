//! Values of a forward call with a quantised W.

use half::bf16;
use peft_kernels::counters::Kind;
use peft_kernels::lora::{self, BlockFormat, Forward, Quantized, Target};
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, Emulator, HostQueue, Mat, MatMut, RawStream, Vector, Workspace};

use super::case::{QuantizedCase, QuantizedSpec, quantized};
use crate::buffer::Cell;
use crate::lora::case::{AdapterSpec, Arrangement, BaseSpec, BiasSpec, Case, RowSpec, Saved, Spec, TargetSpec};
use crate::lora::counters::{check_count, counted_case};
use crate::lora::forward::check_case;
use crate::lora::middle::case::{MiddleSpec, Part};
use crate::lora::run;
use crate::numbers::Numbers;
use crate::queues::{CHIPS, Runner, Trials, emulators};
use crate::streams::Exercise;

/// The kernels by number, and those that make the same sums of a W in memory.
const KERNELS: [[i32; 2]; 7] = [[0, 0], [6, 4], [5, 3], [2, 2], [3, 3], [1, 1], [4, 4]];

/// Gives the targets lists in place of their W, of descriptions from this number on.
pub fn quantize<T: Element + Cell, P: Element + Cell>(case: &mut Case<T, P>, first: usize) {
    let lists = quantized(first, case.targets.iter_mut().map(|target| target.w.as_mut()));
    case.targets.iter_mut().zip(lists).for_each(|(target, lists)| target.quantized = lists);
}

/// The bits of a call with a quantised W are those of the call with that W in memory, and within the bound.
fn check_on<T: Element + Cell, P: Element + Cell, Q: Runner>(
    case: &mut Case<T, P>,
    oracle: &[Vec<Terms>],
    queue: &Q,
    [algorithm, of_dense]: [i32; 2],
) -> Result<(), String> {
    case.spec.algorithm = algorithm;
    let got = check_case(case, oracle, queue)?;
    let again = case.run_well(queue)?;
    case.check_exact("the same call again", &again.y, &got)?;
    case.spec.algorithm = of_dense;
    let lists: Vec<_> = case.targets.iter_mut().map(|target| target.quantized.take()).collect();
    let expected = case.run_well(queue);
    case.targets.iter_mut().zip(lists).for_each(|(target, lists)| target.quantized = lists);
    let expected = expected?;
    case.check_exact(&format!("algorithm {algorithm} against {of_dense}"), &got, &expected.y)?;
    if again.kernel.rounding_steps != expected.kernel.rounding_steps {
        return Err(format!("{:?}, of a W in memory {:?}", again.kernel, expected.kernel));
    }
    Ok(())
}

fn check<T: Element + Cell, P: Element + Cell>(number: usize, spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    quantize(&mut case, number);
    let oracle = case.oracle();
    let say = |text: String| format!("{text} quantised as number {number}");
    if crate::cuda::is_active() {
        return KERNELS
            .into_iter()
            .try_for_each(|kernels| check_on(&mut case, &oracle, &RawStream::legacy(0), kernels))
            .map_err(say);
    }
    check_on(&mut case, &oracle, &Cpu, [0, 0]).map_err(say)?;
    // Each seed with another kernel, and each case with other ones.
    let kernels = KERNELS.into_iter().cycle().skip(number * emulators().count());
    for (queue, kernels) in emulators().zip(kernels) {
        check_on(&mut case, &oracle, &queue, kernels).map_err(|text| format!("{queue:?}: {}", say(text)))?;
    }
    Ok(())
}

/// On the CPU queue, and with each of these kernels.
fn check_with<T: Element + Cell, P: Element + Cell>(case: &mut Case<T, P>, kernels: &[[i32; 2]]) -> Result<(), String> {
    let oracle = case.oracle();
    if crate::cuda::is_active() {
        return kernels.iter().try_for_each(|&kernels| check_on(case, &oracle, &RawStream::legacy(0), kernels));
    }
    check_on(case, &oracle, &Cpu, [0, 0])?;
    kernels.iter().try_for_each(|&kernels| {
        let queue = Emulator::new(case.spec.seed + kernels[0] as u64);
        check_on(case, &oracle, &queue, kernels).map_err(|text| format!("{queue:?}: {text}"))
    })
}

/// Gives each target with a W in memory lists of its description in its place, where it has one.
fn describe<T: Element + Cell, P: Element + Cell>(case: &mut Case<T, P>, specs: &[Option<QuantizedSpec>]) {
    for (target, spec) in case.targets.iter_mut().zip(specs) {
        let w = target.w.as_mut().expect("a W in memory");
        target.quantized = spec.as_ref().map(|spec| QuantizedCase::new(spec, w));
    }
}

/// n and k: of one row, of blocks that run on across rows, of several slabs, of a k that blocks share.
const SHAPES: [[usize; 2]; 6] = [[33, 50], [300, 72], [40, 2100], [7, 16], [260, 264], [1, 130]];

fn shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, m) in [1, 3, 16, 64, 65, 200].into_iter().enumerate() {
        for (j, [n, k]) in SHAPES.into_iter().enumerate() {
            let number = 6 * i + j;
            if n * k > 10_000 && (i + j) % 2 == 1 {
                // The emulator takes its time for them: every other one.
                continue;
            }
            let spec = Spec::new(m, n, k, [0, 5, 16][number % 3], Numbers::Reals).with(|spec| {
                spec.slab_bytes = number % 2;
                let target = &mut spec.targets[0];
                if number % 3 == 0 {
                    target.adapters = AdapterSpec::None;
                }
                target.bias = if number % 4 < 2 { BiasSpec::Shared(1) } else { BiasSpec::None };
                target.row_scale = if number % 5 == 0 { BiasSpec::Shared(2) } else { BiasSpec::None };
                (spec.batch_invariant, spec.allow_tf32) = (number % 7 == 3, number % 7 == 5);
            });
            check::<T, P>(number, &spec)?;
        }
    }
    Ok(())
}

/// Several layers, of which each has other books, and others no W at all; batches that share W; a table; what is between A and B; dropout and H.
fn others<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let specs = |m: usize, batches: usize| {
        let of = |n, base| TargetSpec { base, ..TargetSpec::dense(n, 4) };
        let layers = vec![
            of(300, BaseSpec::Dense),
            of(20, BaseSpec::InY),
            of(33, BaseSpec::Dense),
            of(9, BaseSpec::None),
            of(257, BaseSpec::Dense),
        ];
        let one = Spec::new(m, 70, 88, 6, Numbers::Reals).with(|spec| {
            // W is one for all batches.
            (spec.batches, spec.shared, spec.slab_bytes) = (batches, 0b10, 1);
        });
        [
            one.clone().with(|spec| spec.targets = layers),
            one.clone().with(|spec| {
                spec.targets[0].adapters = AdapterSpec::Table(vec![3, 0, 17]);
                spec.rows = RowSpec::Index((0..batches * m).map(|row| row as i32 % 4 - 1).collect());
                spec.targets[0].n = 280;
            }),
            one.clone().with(|spec| {
                let middle = &mut spec.targets[0].middle;
                *middle = MiddleSpec { scale: Part::Shared, core: Part::Shared, after: 9, ..MiddleSpec::default() };
                spec.saved = Saved::F32;
            }),
            one.with(|spec| (spec.dropout, spec.saved) = (Some((0.3, 7, 9)), Saved::Own)),
        ]
    };
    for (i, (m, batches)) in [(5, 1), (21, 3), (70, 2)].into_iter().enumerate() {
        for (j, spec) in specs(m, batches).iter().enumerate() {
            check::<T, P>(4 * i + j, spec)?;
        }
    }
    Ok(())
}

/// Of one book all layers share a launch; slabs of several layers share the workspace.
fn one_book<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (m, nested) in [(4, false), (40, true), (90, false), (90, true)] {
        let spec = Spec::new(m, 0, 96, 4, Numbers::Reals).with(|spec| {
            spec.targets = [200, 90, 130, 300].map(|n| TargetSpec::dense(n, 4)).to_vec();
            // Room for three of them.
            spec.slab_bytes = 512 * 96 * size_of::<T>();
        });
        let mut case = Case::<T, P>::new(&spec);
        describe(&mut case, &vec![Some(QuantizedSpec::nf4(nested)); 4]);
        check_with(&mut case, &[[0, 0], [6, 4], [5, 3], [1, 1]])?;
    }
    Ok(())
}

/// Both orders of x, y, a and b, with gaps and offsets: where columns of x are contiguous, its chunks are contiguous and aligned all the same.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let cases = [(0b00001, 0, 0), (0b11101, 8, 5), (0b00101, 3, 1), (0b00100, 8, 5), (0b00000, 1, 3)];
    for (number, (orders, gap, offset)) in cases.into_iter().enumerate() {
        let spec = Spec::new(24, 33, 40, 5, Numbers::Reals);
        let spec = spec.with(|spec| spec.arrangement = Arrangement::Orders { orders, gap, offset });
        let mut case = Case::<T, P>::new(&spec);
        quantize(&mut case, number);
        check_with(&mut case, &[[6, 4], [5, 3], [3, 3], [1, 1]])?;
    }
    Ok(())
}

/// Slabs whose tiles are shared by two blocks each, and of which the second has the end of one layer and all of another.
fn split_slabs<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    // Ten stages of 64 bytes: two parts.
    let spec = Spec::new(3, 0, 600 / size_of::<T>(), 4, Numbers::Reals).with(|spec| {
        spec.targets = [260, 20].map(|n| TargetSpec::dense(n, 4)).to_vec();
        spec.slab_bytes = 1;
    });
    let mut case = Case::<T, P>::new(&spec);
    describe(&mut case, &vec![Some(QuantizedSpec::nf4(false)); 2]);
    check_with(&mut case, &[[3, 3]])
}

/// Layers with a W in memory beside others; of one book blocks of every length, which share a launch, nested ones another than plain ones.
fn side_by_side<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let of = |block, nested| Some(QuantizedSpec { block, nested, ..QuantizedSpec::nf4(false) });
    let calls = [
        vec![(20, None), (33, of(64, None)), (9, None), (40, of(64, None))],
        vec![
            (33, of(64, Some(256))),
            (24, of(16, Some(16))),
            (40, of(256, Some(32))),
            (20, of(32, None)),
            (9, of(128, None)),
        ],
    ];
    for layers in calls {
        let (columns, specs): (Vec<_>, Vec<_>) = layers.into_iter().unzip();
        let spec = Spec::new(20, 0, 40, 4, Numbers::Reals);
        let spec = spec.with(|spec| spec.targets = columns.into_iter().map(|n| TargetSpec::dense(n, 4)).collect());
        let mut case = Case::<T, P>::new(&spec);
        describe(&mut case, &specs);
        check_with(&mut case, &[[1, 1], [3, 3], [6, 4]])?;
        case.spec.algorithm = 6;
        check_count(&counted_case(&case, 0)?, "lora_forward_quantized_decode", Kind::Launches, "", 2)?;
    }
    Ok(())
}

/// A row ends within a chunk of codes: what is beyond is nothing, and not an infinite absmax times a code, which x's zeros there would make NaN.
fn infinite_block<Q: HostQueue>(queue: &Q, algorithm: i32) {
    // All are 1 in NF4, and what follows them −1.
    let (codes, absmax) = ([0xffu8; 5], [f32::INFINITY]);
    let w = Quantized::new(Vector::whole(&codes), Vector::whole(&absmax));
    let w = w.format(BlockFormat::default().block(16).short_block());
    let (x, mut y) = ([1.0f32; 30], [0.0f32; 3]);
    let target = Target::quantized(&w, MatMut::new(&mut y, 3, 1).unwrap());
    let call = Forward::<f32, f32, _>::new(Mat::new(&x, 3, 10).unwrap()).target(target).algorithm(algorithm);
    let mut workspace = vec![0u8; lora::forward_workspace(queue, &call).unwrap()];
    lora::forward(queue, call, Workspace::new(&mut workspace)).unwrap();
    assert_eq!(y, [f32::INFINITY; 3], "algorithm {algorithm}");
}

/// Every kernel on every chip.
fn every_chip<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut case = Case::<T, P>::new(&Spec::new(5, 9, 34, 3, Numbers::Reals));
    quantize(&mut case, 0);
    let oracle = case.oracle();
    for chip in CHIPS {
        let queue = Emulator::new(chip as u64).compute_capability(chip);
        KERNELS.into_iter().try_for_each(|kernels| check_on(&mut case, &oracle, &queue, kernels))?;
    }
    Ok(())
}

/// No rows, no columns, no depth.
fn empty<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, [m, n, k]) in [[0, 5, 16], [3, 0, 16], [3, 5, 0], [70, 5, 0]].into_iter().enumerate() {
        for number in [0, 7] {
            check::<T, P>(4 * number + i, &Spec::new(m, n, k, 2, Numbers::Reals))?;
        }
    }
    Ok(())
}

/// A call of so many rows as what a stream can be given.
pub fn exercise(m: usize) -> Box<dyn Exercise> {
    let mut case = Case::<bf16, bf16>::new(&Spec::new(m, 264, 1032, 16, Numbers::Reals));
    quantize(&mut case, 0);
    case.spec.slab_bytes = 1;
    run::exercise_of(case)
}

pub fn trials(trials: &mut Trials) {
    trials.check("lora::quantized::infinite_block", || {
        infinite_block(&Cpu, 0);
        KERNELS.into_iter().for_each(|[algorithm, _]| infinite_block(&Emulator::new(0), algorithm));
    });
    for_types!(trials, "lora::quantized::empty", empty);
    for_types!(trials, "lora::quantized::every_chip", every_chip);
    trials.add("lora::quantized::one_book/f32", one_book::<f32, f32>);
    trials.add("lora::quantized::one_book/bf16", one_book::<bf16, bf16>);
    trials.add("lora::quantized::orders/f32", orders::<f32, f32>);
    trials.add("lora::quantized::orders/bf16", orders::<bf16, bf16>);
    trials.add_on_device("lora::quantized::orders/cuda/bf16", orders::<bf16, bf16>);
    trials.add("lora::quantized::split_slabs/f32", split_slabs::<f32, f32>);
    trials.add("lora::quantized::split_slabs/bf16", split_slabs::<bf16, bf16>);
    trials.add_on_device("lora::quantized::split_slabs/cuda/bf16", split_slabs::<bf16, bf16>);
    trials.add("lora::quantized::side_by_side/f32", side_by_side::<f32, f32>);
    trials.add("lora::quantized::side_by_side/bf16", side_by_side::<bf16, bf16>);
    for_types_and_devices!(trials, "lora::quantized::others", others);
    for_types_and_devices!(trials, "lora::quantized::shapes", shapes);
}
