//! Values of a forward call: every shape, order, rank and type, on every queue.

use peft_kernels::{Cpu, Element, Emulator, RawStream};

use super::case::{ALGORITHMS, Arrangement, Case, Spec};
use crate::buffer::Cell;
use crate::compare;
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials, emulators};
use crate::shapes::{DEPTHS, LONG, RANKS, SMALL};

/// On this queue: integers as the plain formula, bit for bit; reals within the bound.
pub fn check_case<T: Element + Cell, P: Element + Cell, Q: Runner>(
    case: &Case<T, P>,
    oracle: &[Vec<peft_kernels::reference::Terms>],
    queue: &Q,
) -> Result<Vec<Vec<T>>, String> {
    let outcome = case.run_well(queue).map_err(|error| format!("{:?}: {error} {:#?}", queue.place(), case.spec))?;
    case.check_saved(outcome.kernel.rounding_steps).map_err(|text| format!("{:?}: {text}", queue.place()))?;
    for (i, target) in case.targets.iter().enumerate() {
        let extents = target.y.1.extents;
        let rounded = || oracle[i].iter().map(|terms| T::from_f64(terms.value)).collect::<Vec<_>>();
        let verdict = match case.spec.numbers {
            Numbers::Integers => compare::exact(extents, &outcome.y[i], &rounded()),
            Numbers::Reals => compare::bounded(extents, &outcome.y[i], &oracle[i], outcome.kernel.rounding_steps),
        };
        verdict.map_err(|report| format!("{:?}, target {i}: {report}{:#?}", queue.place(), case.spec))?;
    }
    Ok(outcome.y)
}

/// On all queues, with every kernel; another seed gives the same bits.
pub fn check_everywhere<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Result<(), String> {
    let mut case = Case::<T, P>::new(spec);
    let oracle = case.oracle();
    if crate::cuda::is_active() {
        for algorithm in ALGORITHMS {
            case.spec.algorithm = algorithm;
            let first = check_case(&case, &oracle, &RawStream::legacy(0))?;
            case.check_exact("the device again", &case.run_well(&RawStream::per_thread(0))?.y, &first)?;
        }
        return Ok(());
    }
    check_case(&case, &oracle, &Cpu)?;
    // Each seed with another kernel, and one of them with two.
    for (queue, algorithm) in emulators().zip(ALGORITHMS.into_iter().cycle()) {
        case.spec.algorithm = algorithm;
        let first = check_case(&case, &oracle, &queue)?;
        if spec.seed % ALGORITHMS.len() as u64 == algorithm as u64 {
            let again = queue.seed(spec.seed + 100);
            case.check_exact(&format!("{again:?} against {queue:?}"), &case.run_well(&again)?.y, &first)?;
        }
    }
    Ok(())
}

fn small_shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for shape in SMALL {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            check_everywhere::<T, P>(&Spec::new(shape.m, shape.n, shape.k, shape.rank, numbers))?;
        }
    }
    Ok(())
}

fn ranks<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for rank in RANKS {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            check_everywhere::<T, P>(&Spec::new(5, 9, 19, rank, numbers))?;
        }
    }
    Ok(())
}

/// Both orders of x, w, y, a and b, with gaps that leave rows at no multiple of 16 bytes.
fn orders<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for orders in 0..32 {
        let [gap, offset] = [[0, 0], [1, 1], [3, 5], [8, 0]][orders as usize % 4];
        let spec = Spec::new(19, 23, 37, 5, Numbers::Integers);
        check_everywhere::<T, P>(&spec.with(|spec| spec.arrangement = Arrangement::Orders { orders, gap, offset }))?;
    }
    Ok(())
}

fn depths<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for k in DEPTHS {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            let spec = Spec::new(3, 5, k, 3, numbers);
            if k <= LONG || crate::cuda::is_active() {
                check_everywhere::<T, P>(&spec)?;
                continue;
            }
            let case = Case::<T, P>::new(&spec);
            let oracle = case.oracle();
            check_case(&case, &oracle, &Cpu)?;
            check_case(&case, &oracle, &Emulator::new(1))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::forward::small_shapes", small_shapes);
    for_types_and_devices!(trials, "lora::forward::ranks", ranks);
    for_types_and_devices!(trials, "lora::forward::orders", orders);
}

/// Sums as long as those of real layers.
pub fn long_trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::forward::depths", depths);
}
