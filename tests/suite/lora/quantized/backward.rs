//! The gradient of x of a call with a quantised W.

use half::bf16;
use peft_kernels::{Cpu, Element, RawStream};

use super::case::quantized;
use crate::buffer::Cell;
use crate::lora::case::BiasSpec;
use crate::lora::gradient_case::{self, ALGORITHMS, Case, Mode, Spec, TargetSpec};
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials, emulators};
use crate::streams::Exercise;

/// The bits of all gradients are those of the call with that W in memory.
fn check_on<T: Element + Cell, P: Element + Cell, Q: Runner>(
    case: &mut Case<T, P>,
    queue: &Q,
    algorithm: i32,
) -> Result<(), String> {
    case.spec.algorithm = algorithm;
    let (got, kernel) = case.run(queue)?;
    let (again, _) = case.run(queue)?;
    let lists: Vec<_> = case.targets.iter_mut().map(|target| target.quantized.take()).collect();
    let dense = case.run(queue);
    case.targets.iter_mut().zip(lists).for_each(|(target, lists)| target.quantized = lists);
    let (expected, of_dense) = dense?;
    let rounding = (kernel.rounding_steps, of_dense.rounding_steps);
    if got != expected || again != expected || rounding.0 != rounding.1 || kernel.name != of_dense.name {
        let at = got.dx.iter().zip(&expected.dx).position(|(got, expected)| got != expected);
        return Err(format!("algorithm {algorithm}: element {at:?} of dx, {kernel:?}, {of_dense:?} {:#?}", case.spec));
    }
    Ok(())
}

/// Gives the targets lists in place of their W, of descriptions from this number on.
fn quantize<T: Element + Cell, P: Element + Cell>(case: &mut Case<T, P>, first: usize) {
    let lists = quantized(first, case.targets.iter_mut().map(|target| target.w.as_mut()));
    case.targets.iter_mut().zip(lists).for_each(|(target, lists)| target.quantized = lists);
}

fn check<T: Element + Cell, P: Element + Cell>(number: usize, spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    quantize(&mut case, number);
    let say = |text: String| format!("{text} quantised as number {number}");
    if crate::cuda::is_active() {
        return ALGORITHMS
            .into_iter()
            .try_for_each(|algorithm| check_on(&mut case, &RawStream::legacy(0), algorithm))
            .map_err(say);
    }
    check_on(&mut case, &Cpu, 0).map_err(say)?;
    let algorithms = ALGORITHMS.into_iter().cycle().skip(number * emulators().count());
    for (queue, algorithm) in emulators().zip(algorithms) {
        check_on(&mut case, &queue, algorithm).map_err(|text| format!("{queue:?}: {}", say(text)))?;
    }
    Ok(())
}

/// m, n, k: one slab and several, rows and columns that are no multiples of anything.
const SHAPES: [[usize; 3]; 6] = [[1, 33, 50], [3, 40, 300], [70, 130, 520], [200, 20, 264], [64, 1, 16], [17, 300, 7]];

fn shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, [m, n, k]) in SHAPES.into_iter().enumerate() {
        for j in 0..3 {
            let number = 3 * i + j;
            let spec = Spec::new(m, n, k, 4, Numbers::Reals).with(|spec| {
                (spec.slab_bytes, spec.allow_tf32) = (number % 2, number % 5 == 2);
                spec.x = if number % 3 == 1 { Mode::Accumulate } else { Mode::Overwrite };
                spec.dropout = (number % 4 == 3).then_some((0.25, 3, 5));
                let target = &mut spec.targets[0];
                target.rank = (number % 3 != 2).then_some(4);
                target.row_scale = if j == 1 { BiasSpec::Shared(1) } else { BiasSpec::None };
            });
            check::<T, P>(number, &spec)?;
        }
    }
    Ok(())
}

/// Several layers, of other books and none; batches; a gradient of x that nobody asks for.
fn others<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (number, (m, batches)) in [(9, 1), (40, 2), (70, 3)].into_iter().enumerate() {
        let spec = Spec::new(m, 0, 270, 4, Numbers::Reals).with(|spec| {
            spec.targets = [33, 64, 90].map(|n| TargetSpec::new(n, 3)).to_vec();
            spec.targets[1].dense = false;
            // W is one for all batches.
            (spec.batches, spec.shared, spec.slab_bytes) = (batches, 0b100, 1);
        });
        check::<T, P>(number, &spec)?;
        check::<T, P>(number + 3, &spec.with(|spec| spec.x = Mode::None))?;
    }
    Ok(())
}

/// A call as what a stream can be given.
pub fn exercise() -> Box<dyn Exercise> {
    let mut case = Case::<bf16, bf16>::new(&Spec::new(100, 72, 264, 16, Numbers::Reals));
    quantize(&mut case, 0);
    case.spec.slab_bytes = 1;
    gradient_case::exercise_of(case)
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::quantized::backward_shapes", shapes);
    for_types_and_devices!(trials, "lora::quantized::backward_others", others);
}
