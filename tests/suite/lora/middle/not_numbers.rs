//! NaN and infinities go where arithmetic says; of a rank that is not chosen, nowhere.

use peft_kernels::{Cpu, Element};

use super::case::{Listed, MiddleSpec, Part};
use crate::buffer::Cell;
use crate::lora::{backward, case, forward, gradient_case};
use crate::numbers::Numbers;
use crate::queues::{Trials, emulators};

const RANK: usize = 4;

fn spec(middle: MiddleSpec) -> case::Spec {
    case::Spec::new(6, 7, 10, RANK, Numbers::Reals).with(|spec| spec.targets[0].middle = middle)
}

/// Columns of y that hold NaN, row by row, on every queue and with every kernel; and within the bound elsewhere.
fn nans<T: Element + Cell, P: Element + Cell>(
    middle: MiddleSpec,
    change: impl FnOnce(&mut case::Case<T, P>),
) -> Result<Vec<bool>, String> {
    let mut case = case::Case::<T, P>::new(&spec(middle));
    change(&mut case);
    let oracle = case.oracle();
    let y = forward::check_case(&case, &oracle, &Cpu)?;
    for (queue, algorithm) in emulators().zip(case::ALGORITHMS.into_iter().cycle()) {
        case.spec.algorithm = algorithm;
        forward::check_case(&case, &oracle, &queue)?;
    }
    let of_row = |row: &[T]| row.iter().any(|value| value.to_f64().is_nan());
    Ok(y[0].chunks_exact(7).map(of_row).collect())
}

fn gate() -> MiddleSpec {
    MiddleSpec { gate: Part::Shared, scale: Part::Shared, ..MiddleSpec::default() }
}

/// Rank 2 of every row is chosen by the even rows alone.
fn choose<T: Element + Cell, P: Element + Cell>(case: &mut case::Case<T, P>) {
    let gate = case.targets[0].middle.gate.as_mut().expect("a gate");
    (0..6).for_each(|row| gate.set([0, row, 2], [0.5, 0.0][row % 2]));
}

fn forward<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let nan = f64::NAN;
    let even = vec![true, false, true, false, true, false];
    let got = nans::<T, P>(gate(), |case| {
        choose(case);
        case.targets[0].factors[0].a.set([0, 2, 3], P::from_f64(nan));
    })?;
    assert_eq!(got, even, "A of a rank");
    let got = nans::<T, P>(gate(), |case| {
        choose(case);
        case.targets[0].middle.scale.as_mut().expect("a scale").set([0, 0, 2], P::from_f64(f64::INFINITY));
        (0..10).for_each(|k| case.targets[0].factors[0].a.set([0, 2, k], P::from_f64(0.0)));
    })?;
    assert_eq!(got, even, "an infinite scale of a rank whose H is 0");
    // A scale of 0 is no choice.
    let got = nans::<T, P>(gate(), |case| {
        let gate = case.targets[0].middle.gate.as_mut().expect("a gate");
        (0..6).for_each(|row| gate.set([0, row, 2], 1.0));
        case.targets[0].middle.scale.as_mut().expect("a scale").set([0, 0, 2], P::from_f64(0.0));
        case.targets[0].factors[0].a.set([0, 2, 3], P::from_f64(nan));
    })?;
    assert_eq!(got, [true; 6]);
    let core = MiddleSpec { core: Part::Shared, after: 3, ..MiddleSpec::default() };
    let got = nans::<T, P>(core, |case| {
        case.targets[0].middle.core.as_mut().expect("a core").set([0, 1, 2], P::from_f64(nan));
    })?;
    assert_eq!(got, [true; 6]);
    // What is not listed is not read.
    for ranks in [Listed::Host(vec![3, 0]), Listed::Device(vec![1, 3])] {
        let listed = MiddleSpec { ranks, ..gate() };
        let got = nans::<T, P>(listed, |case| {
            let target = &mut case.targets[0];
            (0..10).for_each(|k| target.factors[0].a.set([0, 2, k], P::from_f64(nan)));
            (0..7).for_each(|n| target.factors[0].b.set([0, n, 2], P::from_f64(nan)));
            (0..6).for_each(|row| target.middle.gate.as_mut().expect("a gate").set([0, row, 2], f32::NAN));
            target.middle.scale.as_mut().expect("a scale").set([0, 0, 2], P::from_f64(nan));
        })?;
        assert_eq!(got, [false; 6]);
    }
    Ok(())
}

/// The gradients that depend on a NaN have it, and no others: all are compared.
fn backward<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    type Change<T, P> = fn(&mut gradient_case::TargetCase<T, P>);
    let core = MiddleSpec { core: Part::Shared, after: 3, ..gate() };
    let changes: [(MiddleSpec, Change<T, P>); 5] = [
        (gate(), |target| target.factors.as_mut().expect("an adapter").a.set([0, 2, 5], P::from_f64(f64::NAN))),
        (gate(), |target| target.factors.as_mut().expect("an adapter").b.set([0, 6, 1], P::from_f64(f64::NAN))),
        (gate(), |target| target.middle.gate.as_mut().expect("a gate").set([0, 3, 1], f32::NAN)),
        (core.clone(), |target| target.middle.core.as_mut().expect("a core").set([0, 1, 1], P::from_f64(f64::NAN))),
        (core, |target| target.dy.set([0, 1, 4], T::from_f64(f64::INFINITY))),
    ];
    for (middle, change) in changes {
        let spec = gradient_case::Spec::new(6, 7, 10, RANK, Numbers::Reals);
        let mut case = gradient_case::Case::<T, P>::new(&spec.with(|spec| spec.targets[0].middle = middle));
        change(&mut case.targets[0]);
        let gate = case.targets[0].middle.gate.as_mut().expect("a gate");
        (0..6).for_each(|row| gate.set([0, row, 2], [0.5, 0.0][row % 2]));
        let oracle = case.oracle();
        backward::check_case(&case, &oracle, &Cpu)?;
        for (queue, algorithm) in emulators().zip(gradient_case::ALGORITHMS.into_iter().cycle()) {
            case.spec.algorithm = algorithm;
            backward::check_case(&case, &oracle, &queue)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::middle::not_numbers", forward);
    for_types!(trials, "lora::middle::backward::not_numbers", backward);
}
