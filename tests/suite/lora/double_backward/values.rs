//! Values: every shape, order, rank, type, subset of cotangents and of gradients, on every queue; what is picked for which call.

use half::bf16;
use peft_kernels::lora::{self, DoubleBackward, Gradient};
use peft_kernels::reference::Terms;
use peft_kernels::reference::lora as reference;
use peft_kernels::{Cpu, Element, Emulator, RawStream};

use super::case::{Case, Spec, Values};
use crate::buffer::Cell;
use crate::compare;
use crate::lora::case::Arrangement;
use crate::lora::gradient_case::{ALGORITHMS, Mode};
use crate::lora::pick::{matrix, matrix_mut};
use crate::numbers::Numbers;
use crate::queues::{CHIPS, Runner, Trials, emulators};
use crate::shapes::{LoraShape, SMALL};

fn compared<E: Element>(
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
fn check_case<T: Element + Cell, P: Element + Cell, Q: Runner>(
    case: &Case<T, P>,
    oracle: &[Vec<Terms>; 4],
    queue: &Q,
) -> Result<Values<T, P>, String> {
    let context = |error: String| format!("{:?}: {error} {:#?}", queue.place(), case.spec);
    let (values, kernel) = case.run(queue).map_err(context)?;
    let (numbers, steps, asked) = (case.spec.numbers, kernel.rounding_steps, case.spec.asked());
    let named = |name: &str, result: Result<(), String>| result.map_err(|text| context(format!("{name}: {text}")));
    for (i, name) in ["dy", "x"].into_iter().enumerate().filter(|(i, _)| asked[*i] != Mode::None) {
        let (extents, got) = (case.rows[i].layout.extents, &values.rows[i]);
        named(&format!("the gradient of {name}"), compared(numbers, extents, got, &oracle[i], steps))?;
    }
    for (i, name) in ["a", "b"].into_iter().enumerate().filter(|(i, _)| asked[2 + *i] != Mode::None) {
        let (extents, got) = (case.factors[i].layout.extents, &values.factors[i]);
        named(&format!("the gradient of {name}"), compared(numbers, extents, got, &oracle[2 + i], steps))?;
    }
    Ok(values)
}

/// The bits of everything.
fn same<T: Element + Cell, P: Element + Cell>(a: &Values<T, P>, b: &Values<T, P>) -> bool {
    fn bits<E: Element>(lists: &[Vec<E>; 2]) -> Vec<u64> {
        lists.iter().flatten().map(|value| value.to_f64().to_bits()).collect()
    }
    bits(&a.rows) == bits(&b.rows) && bits(&a.factors) == bits(&b.factors)
}

/// The reference's values and magnitudes are the plain formula's.
fn check_reference<T: Element + Cell, P: Element + Cell>(
    case: &Case<T, P>,
    oracle: &[Vec<Terms>; 4],
) -> Result<(), String> {
    case.reset();
    let terms = case.with_call(&Cpu, |call| reference::double_backward_terms(&call));
    let reference::DoubleBackwardTerms { dy, x, a, b } = terms.map_err(|error| error.to_string())?;
    for (name, got, expected) in
        [("dy", dy, &oracle[0]), ("x", x, &oracle[1]), ("a", a, &oracle[2]), ("b", b, &oracle[3])]
    {
        if got.len() != expected.len() {
            return Err(format!("the reference has {} of {name}, expected {}", got.len(), expected.len()));
        }
        for (got, expected) in got.iter().zip(expected) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + expected.magnitude);
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("{name}: the reference says {got:?}, expected {expected:?} {:#?}", case.spec));
            }
        }
    }
    Ok(())
}

/// On all queues, with every kernel; another seed gives the same bits.
fn check_everywhere<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    let oracle = case.oracle();
    check_reference(&case, &oracle)?;
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
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle().skip(spec.seed as usize % 4)) {
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
        check_everywhere::<T, P>(&Spec::new(m, n, k, rank, [Numbers::Integers, Numbers::Reals][i / 2 % 2]))?;
    }
    Ok(())
}

fn ranks<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, rank) in [0, 1, 7, 16, 17, 33, 64, 65, 300].into_iter().enumerate() {
        check_everywhere::<T, P>(&Spec::new(5, 9, 19, rank, [Numbers::Integers, Numbers::Reals][i % 2]))?;
    }
    Ok(())
}

/// Both orders of every operand, with gaps that leave rows at no multiple of 16 bytes.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..36u32 {
        let [gap, offset] = [[0, 0], [1, 1], [3, 5], [8, 0]][i as usize % 4];
        // Each operand alone, all but it, and mixtures.
        let orders = match i {
            0..12 => 1 << i,
            12..24 => !(1 << (i - 12)),
            _ => i.wrapping_mul(0x9e37_79b9) >> 7,
        };
        check_everywhere::<T, P>(&Spec::new(19, 23, 37, 5, Numbers::Integers).with(|spec| {
            (spec.arrangement, spec.seed) = (Arrangement::Orders { orders, gap, offset }, i.into());
            spec.modes = [[Mode::Accumulate; 4], [Mode::Overwrite; 4]][i as usize / 4 % 2];
        }))?;
    }
    Ok(())
}

/// Every subset of the cotangents with every subset of the gradients, each overwritten or added to; with a base and without, without an adapter.
fn choices<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..128usize {
        check_everywhere::<T, P>(&Spec::new(11, 13, 18, 3, Numbers::Integers).with(|spec| {
            spec.cotangents = std::array::from_fn(|axis| i >> axis & 1 == 1);
            spec.modes = std::array::from_fn(|axis| match (i >> (3 + axis) & 1, (i + axis) % 3) {
                (0, _) => Mode::None,
                (_, 0) => Mode::Accumulate,
                _ => Mode::Overwrite,
            });
            spec.dense = i % 5 != 0;
            spec.rank = if i % 11 == 7 { None } else { spec.rank };
            (spec.arrangement, spec.seed) = (Arrangement::Random, i as u64);
        }))?;
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
            spec.summed = [i & 1 != 0, i & 2 != 0];
            spec.modes = [[Mode::Overwrite; 4], [Mode::Accumulate; 4]][i as usize / 8 % 2];
        }))?;
    }
    for (i, batches) in [0, 1, 2, 40].into_iter().enumerate() {
        for summed in [false, true] {
            check_everywhere::<T, P>(&Spec::new(3, 4, 6, 2, Numbers::Reals).with(|spec| {
                (spec.batches, spec.summed, spec.seed) = (batches, [summed; 2], i as u64);
                spec.modes = [Mode::Overwrite, Mode::Accumulate, Mode::Accumulate, Mode::Overwrite];
            }))?;
        }
    }
    Ok(())
}

/// More tiles of rows and of columns than a block goes through at once, and depths that few rows are made in parts of.
fn many_tiles<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    check_everywhere::<T, P>(&Spec::new(200, 530, 5, 3, Numbers::Reals))?;
    check_everywhere::<T, P>(&Spec::new(140, 5, 270, 20, Numbers::Integers))?;
    for [n, k] in [[20, 1100], [1100, 20]] {
        check_everywhere::<T, P>(&Spec::new(3, n, k, 7, Numbers::Reals).with(|spec| spec.seed = k as u64))?;
    }
    Ok(())
}

fn tf32() -> Result<(), String> {
    for seed in 0..4 {
        let spec = Spec::new(70, 40, 90, 9, Numbers::Reals).with(|spec| (spec.allow_tf32, spec.seed) = (true, seed));
        check_everywhere::<f32, f32>(&spec)?;
    }
    Ok(())
}

/// NaN and infinities go to exactly the gradients that depend on them.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    type Change<T, P> = fn(&mut Case<T, P>);
    let changes: [Change<T, P>; 8] = [
        |case| case.x.set([0, 2, 3], T::from_f64(f64::NAN)),
        |case| case.dy.set([0, 1, 4], T::from_f64(f64::INFINITY)),
        |case| case.w.set([0, 3, 2], T::from_f64(f64::NAN)),
        |case| case.a.set([0, 1, 5], P::from_f64(f64::NAN)),
        |case| case.b.set([0, 6, 0], P::from_f64(f64::NAN)),
        |case| case.ux.set([0, 4, 9], T::from_f64(f64::NEG_INFINITY)),
        |case| case.ua.set([0, 0, 7], P::from_f64(f64::NAN)),
        |case| case.ub.set([0, 2, 1], P::from_f64(f64::NAN)),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut case = Case::<T, P>::new(&Spec::new(6, 7, 10, 2, Numbers::Reals).with(|spec| {
            spec.modes = [[Mode::Overwrite; 4], [Mode::Accumulate; 4]][i % 2];
        }));
        change(&mut case);
        let oracle = case.oracle();
        check_case(&case, &oracle, &Cpu)?;
        for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle().skip(i % 4)) {
            case.spec.algorithm = algorithm;
            check_case(&case, &oracle, &queue)?;
        }
    }
    Ok(())
}

/// Of rank 0 there is no branch, and no factor has a gradient, whatever the scale.
fn rank_zero() -> Result<(), String> {
    for scale in [f32::NAN, f32::INFINITY] {
        for mode in [Mode::Overwrite, Mode::Accumulate] {
            let mut case = Case::<f32, f32>::new(&Spec::new(5, 9, 7, 0, Numbers::Integers).with(|spec| {
                spec.modes = [mode; 4];
            }));
            case.scale = scale;
            let oracle = case.oracle();
            for (queue, algorithm) in emulators().zip([1, 2, 3]) {
                case.spec.algorithm = algorithm;
                check_case(&case, &oracle, &queue)?;
            }
            check_case(&case, &oracle, &Cpu)?;
        }
    }
    Ok(())
}

/// m, n, k, and the kernel that makes the gradient of dY.
const PICKED: &[(usize, usize, usize, &str)] = &[
    (0, 4096, 4096, "lora_input_gradient_mma_small"),
    (128, 4096, 4096, "lora_input_gradient_mma_small"),
    (129, 4096, 4096, "lora_input_gradient_mma_large"),
    (4096, 128, 4096, "lora_input_gradient_mma_small"),
    (4096, 14336, 4096, "lora_input_gradient_mma_large"),
    (1 << 38, 1, 1, "lora_input_gradient_simt"),
];

/// What is picked, and a workspace without a temporary of the size of y, x or W.
fn pick() -> Result<(), String> {
    const RANK: usize = 16;
    for &(m, n, k, name) in PICKED {
        for chip in CHIPS {
            let queue = Emulator::new(0).compute_capability(chip);
            let call = DoubleBackward::<bf16, bf16, _>::new(matrix(m, k), matrix(m, n))
                .dense(matrix(n, k))
                .adapter(matrix(RANK, k), matrix(n, RANK), 1.0)
                .x_cotangent(matrix(m, k))
                .a_cotangent(matrix(RANK, k))
                .b_cotangent(matrix(n, RANK))
                .dy_gradient(Gradient::overwrite(matrix_mut(m, n)))
                .x_gradient(Gradient::overwrite(matrix_mut(m, k)))
                .a_gradient(Gradient::overwrite(matrix_mut(RANK, k)))
                .b_gradient(Gradient::overwrite(matrix_mut(n, RANK)));
            let kernel = lora::double_backward_kernel(&queue, &call).map_err(|error| error.to_string())?;
            if kernel.name != name {
                return Err(format!("[{m}, {n}, {k}] on {queue:?}: {kernel:?}, expected {name}"));
            }
            // Parts of sums are at most 32 MiB; planes are for few rows.
            let bytes = lora::double_backward_workspace(&queue, &call).map_err(|error| error.to_string())?;
            if bytes > (40 << 20) + m * RANK * 4 * 5 {
                return Err(format!("[{m}, {n}, {k}]: a workspace of {bytes} bytes"));
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::double_backward::small_shapes", small_shapes);
    for_types!(trials, "lora::double_backward::not_numbers", not_numbers);
    for_types_and_devices!(trials, "lora::double_backward::ranks", ranks);
    for_types_and_devices!(trials, "lora::double_backward::orders", orders);
    for_types_and_devices!(trials, "lora::double_backward::choices", choices);
    for_types_and_devices!(trials, "lora::double_backward::batches", batches);
    for_types_and_devices!(trials, "lora::double_backward::many_tiles", many_tiles);
    trials.add("lora::double_backward::tf32", tf32);
    trials.add("lora::double_backward::rank_zero", rank_zero);
    trials.add("lora::double_backward::pick", pick);
}
