//! Values of the transforms, on every queue and in every kernel.

use half::{bf16, f16};
use peft_kernels::haar::{Axis, Bands, Boundary, Operation, Scaling};
use peft_kernels::{Cpu, Element, Emulator, RawStream};

use super::case::{Case, OPERATIONS, Spec};
use crate::buffer::{Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials};

const MODES: [Boundary; 4] = [Boundary::Zero, Boundary::Edge, Boundary::Symmetric, Boundary::Periodic];

/// Around every edge of a tile, and within it.
const EXTENTS: [[usize; 3]; 16] = [
    [1, 2, 2],
    [1, 2, 3],
    [3, 5, 4],
    [1, 7, 13],
    [2, 16, 16],
    [1, 31, 33],
    [2, 8, 128],
    [1, 64, 9],
    [1, 63, 65],
    [1, 65, 127],
    [1, 64, 128],
    [2, 64, 256],
    [1, 70, 257],
    [1, 129, 130],
    [1, 33, 300],
    [1, 3, 511],
];

/// Everything by chance that an operation and extents leave open.
fn random(operation: Operation, extents: [usize; 3], seed: u64) -> Spec {
    let mut random = Random(seed * 1000 + extents.iter().sum::<usize>() as u64);
    let axis = if random.coin() { Axis::Rows } else { Axis::Columns };
    let spec = Spec::new(operation, extents, 1).with(|spec| spec.axis = axis);
    let most = (0..2).filter(|&i| spec.along()[i]).map(|i| extents[i + 1].ilog2()).min().unwrap_or(1);
    let place = |random: &mut Random| Placement {
        column_major: random.coin(),
        gap: random.choose(&[0, 0, 3]),
        offset: random.choose(&[0, 0, 1]),
        batch_gap: random.choose(&[0, 5]),
    };
    spec.with(|spec| {
        spec.levels = 1 + random.below(most as usize) as u32;
        spec.boundary = random.choose(&MODES);
        spec.bands = random.choose(&[Bands::Mallat, Bands::Interleaved]);
        spec.scaling = random.choose(&[Scaling::Orthonormal, Scaling::Sums]);
        spec.adjoint = random.coin();
        spec.numbers = random.choose(&[Numbers::Integers, Numbers::Reals]);
        spec.placements = [place(&mut random), place(&mut random)];
        spec.seed = seed;
    })
}

fn values<T: Element + Cell>() -> Result<(), String> {
    for extents in EXTENTS {
        for operation in OPERATIONS {
            for seed in 0..2 {
                let spec = random(operation, extents, seed);
                if (0..2).all(|i| !spec.along()[i] || extents[i + 1] > 1) {
                    Case::<T>::new(spec).everywhere()?;
                }
            }
        }
    }
    Ok(())
}

/// Every number of levels of tiles whose bands are moved as vectors, in both layouts and orders.
fn levels<T: Element + Cell>() -> Result<(), String> {
    for operation in OPERATIONS {
        for axis in [Axis::Columns, Axis::Rows] {
            for levels in 1..=6 {
                for bands in [Bands::Mallat, Bands::Interleaved] {
                    let spec = Spec::new(operation, [1, 64, 256], levels).with(|spec| {
                        spec.axis = axis;
                        spec.bands = bands;
                        spec.numbers = if levels % 2 == 0 { Numbers::Integers } else { Numbers::Reals };
                        spec.placements.iter_mut().for_each(|to| to.column_major = levels % 3 == 0);
                        spec.seed = u64::from(levels);
                    });
                    Case::<T>::new(spec).everywhere()?;
                }
            }
        }
    }
    Ok(())
}

/// More levels than a tile holds, and the most that it does.
fn deep<T: Element + Cell>() -> Result<(), String> {
    for (operation, extents, levels, kernel) in [
        (Operation::Forward1d, [1, 8, 512], 7, "haar_forward_tile"),
        (Operation::Inverse1d, [1, 8, 512], 7, "haar_inverse_tile"),
        (Operation::Forward1d, [1, 2, 512], 9, "haar_forward_simt"),
        (Operation::Inverse1d, [1, 2, 512], 9, "haar_inverse_simt"),
        (Operation::Forward2d, [1, 128, 128], 7, "haar_forward_simt"),
        (Operation::Inverse2d, [1, 128, 128], 7, "haar_inverse_simt"),
    ] {
        let case = Case::<T>::new(Spec::new(operation, extents, levels));
        let (_, got) = case.run(&Emulator::new(0))?;
        if got.name != kernel {
            return Err(format!("{}, expected {kernel}", got.name));
        }
        case.everywhere()?;
    }
    Ok(())
}

/// In place, the bits of the transform to elsewhere.
fn in_place<T: Element + Cell>() -> Result<(), String> {
    for operation in OPERATIONS {
        for extents in [[1, 64, 256], [2, 8, 24], [1, 72, 264]] {
            for column_major in [false, true] {
                let elsewhere = Spec::new(operation, extents, 3).with(|spec| {
                    spec.bands = Bands::Interleaved;
                    spec.placements[1].column_major = column_major;
                });
                let placement = elsewhere.placements[1];
                let case = Case::<T>::new(elsewhere.with(|spec| {
                    spec.in_place = true;
                    spec.placements = [placement; 2];
                }));
                let (expected, _) =
                    Case::<T>::new(elsewhere.with(|spec| spec.placements = [placement; 2])).run(&Emulator::new(0))?;
                compare::exact(case.destination.layout.extents, &case.run(&Emulator::new(3))?.0, &expected)?;
                case.everywhere()?;
            }
        }
    }
    Ok(())
}

/// What went there comes back: small integers bit for bit, everything within the bounds of both directions.
fn there_and_back<T: Element + Cell>() -> Result<(), String> {
    for (forward, inverse) in
        [(Operation::Forward1d, Operation::Inverse1d), (Operation::Forward2d, Operation::Inverse2d)]
    {
        for (extents, levels) in [([1, 64, 256], 2), ([1, 13, 27], 2), ([2, 5, 66], 1)] {
            for (i, boundary) in MODES.into_iter().enumerate() {
                for numbers in [Numbers::Integers, Numbers::Reals] {
                    let change = |spec: &mut Spec| {
                        (spec.boundary, spec.numbers) = (boundary, numbers);
                        // Of integers, those whose factors are powers of two.
                        let one_axis = forward == Operation::Forward1d && numbers == Numbers::Integers;
                        spec.scaling = if one_axis { Scaling::Sums } else { Scaling::Orthonormal };
                        spec.bands = if i % 2 == 0 { Bands::Mallat } else { Bands::Interleaved };
                    };
                    let [there, back] =
                        [forward, inverse].map(|operation| Spec::new(operation, extents, levels).with(change));
                    round_trip::<T, _>(there, back, &Cpu)?;
                    round_trip::<T, _>(there, back, &Emulator::new(1))?;
                }
            }
        }
    }
    Ok(())
}

fn round_trip<T: Element + Cell, Q: Runner>(there: Spec, back: Spec, queue: &Q) -> Result<(), String> {
    let (there, mut back) = (Case::<T>::new(there), Case::<T>::new(back));
    let exact = there.oracle();
    let (coefficients, kernel) = there.run(queue)?;
    let indices: Vec<_> = crate::buffer::indices(back.source.layout.extents).collect();
    let put = |back: &mut Case<T>, value: &dyn Fn(usize) -> T| {
        for (i, &index) in indices.iter().enumerate() {
            back.source.write(crate::buffer::position(&back.source.layout, index), value(i));
        }
        back.source.remember();
    };
    // What the errors that the coefficients are allowed come to in the signal.
    let errors: Vec<_> = exact.iter().map(|terms| terms.allowed_error::<T>(kernel.rounding_steps)).collect();
    put(&mut back, &|i| T::from_f64(errors[i]));
    let passed_on = back.oracle();
    put(&mut back, &|i| coefficients[i]);
    let (restored, kernel) = back.run(queue)?;
    let magnitudes = back.oracle();
    for (i, x) in there.source.elements(&there.source.layout).into_iter().enumerate() {
        // The errors were themselves rounded.
        let allowed = match there.spec.numbers {
            Numbers::Integers => 0.0,
            Numbers::Reals => {
                1.01 * passed_on[i].magnitude + magnitudes[i].allowed_error::<T>(kernel.rounding_steps.max(1))
            }
        };
        if (restored[i].to_f64() - x.to_f64()).abs() > allowed {
            return Err(format!(
                "element {i}: {x:?} came back as {:?}, allowed {allowed:e} {:#?}",
                restored[i], back.spec
            ));
        }
    }
    Ok(())
}

/// `⟨Fx, y⟩ = ⟨x, F*y⟩`, exactly, on integers.
fn adjoint() -> Result<(), String> {
    for (forward, inverse) in
        [(Operation::Forward1d, Operation::Inverse1d), (Operation::Forward2d, Operation::Inverse2d)]
    {
        for boundary in MODES {
            for axis in [Axis::Rows, Axis::Columns] {
                for (first, second) in [(forward, inverse), (inverse, forward)] {
                    let change = |spec: &mut Spec| {
                        spec.boundary = boundary;
                        spec.axis = axis;
                        spec.scaling = Scaling::Sums;
                        spec.numbers = Numbers::Integers;
                    };
                    let extents = [1, 11, 21];
                    let direct = Case::<f32>::new(Spec::new(first, extents, 3).with(change));
                    let back = Case::<f32>::new(
                        Spec::new(second, extents, 3).with(change).with(|spec| (spec.adjoint, spec.seed) = (true, 2)),
                    );
                    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                    let elements = |case: &Case<f32>| case.source.elements(&case.source.layout);
                    let (y, x) = (elements(&back), elements(&direct));
                    let (left, right) =
                        (dot(&direct.run(&Emulator::new(0))?.0, &y), dot(&x, &back.run(&Emulator::new(0))?.0));
                    if left != right || left == 0.0 {
                        return Err(format!("{left} and {right} {:#?}", back.spec));
                    }
                }
            }
        }
    }
    Ok(())
}

fn on_device<T: Element + Cell>() -> Result<(), String> {
    for extents in EXTENTS {
        for operation in OPERATIONS {
            for seed in 0..4 {
                let mut case = Case::<T>::new(random(operation, extents, seed));
                let oracle = case.oracle();
                for algorithm in [0, 1] {
                    case.spec.algorithm = algorithm;
                    case.check(&RawStream::legacy(0), &oracle)?;
                }
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    macro_rules! for_types {
        ($($name:literal $test:ident),*) => {$(
            trials.add(concat!("haar::", $name, "/f32"), $test::<f32>);
            trials.add(concat!("haar::", $name, "/f16"), $test::<f16>);
            trials.add(concat!("haar::", $name, "/bf16"), $test::<bf16>);
        )*};
    }
    for_types!("values" values, "levels" levels, "deep" deep, "in_place" in_place, "there_and_back" there_and_back);
    trials.add("haar::adjoint", adjoint);
    trials.add_on_device("haar::values/f32/cuda", on_device::<f32>);
    trials.add_on_device("haar::values/f16/cuda", on_device::<f16>);
    trials.add_on_device("haar::values/bf16/cuda", on_device::<bf16>);
}
