//! What the CPU queue makes fast is what is right: the reference's values, rounded once, of elements of 16 bits within the error of sums in f32.

use half::{bf16, f16};
use peft_kernels::haar::{Axis, Bands, Boundary, Scaling};
use peft_kernels::{Cpu, Element, reference};

use super::case::{Case, OPERATIONS, Spec};
use crate::buffer::{Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::Trials;

const MODES: [Boundary; 4] = [Boundary::Zero, Boundary::Edge, Boundary::Symmetric, Boundary::Periodic];

fn same<T: Element + Cell>(spec: Spec) -> Result<(), String> {
    let case = Case::<T>::new(spec);
    let terms = reference::haar::terms(spec.operation, &case.call(&Cpu)).map_err(|error| error.to_string())?;
    let (got, kernel) = case.run(&Cpu)?;
    let extents = case.destination.layout.extents;
    let compared = if kernel.rounding_steps == 0 || spec.exact() {
        let expected: Vec<_> = terms.iter().map(|terms| T::from_f64(terms.value)).collect();
        compare::exact(extents, &got, &expected)
    } else {
        compare::nearest(extents, &got, &terms, kernel.rounding_steps)
    };
    compared.map_err(|report| format!("{report} {spec:#?}"))
}

/// In one of the types, of strides by chance.
fn check(spec: Spec, random: &mut Random) -> Result<(), String> {
    let placement = |random: &mut Random| Placement {
        column_major: random.coin(),
        gap: random.choose(&[0, 3]),
        offset: random.choose(&[0, 1]),
        batch_gap: random.choose(&[0, 5]),
    };
    let [first, second] = [placement(random), placement(random)];
    let spec = spec.with(|spec| spec.placements = if spec.in_place { [second; 2] } else { [first, second] });
    match random.below(3) {
        0 => same::<f32>(spec),
        1 => same::<f16>(spec),
        _ => same::<bf16>(spec),
    }
}

/// Every operation, axis, number of levels, mode, layout and direction of a signal of these extents; all of them with integers where levels are so many that their sums are made in stages.
fn everything(extents: [usize; 3], levels: impl Fn(u32) -> bool, random: &mut Random) -> Result<(), String> {
    for (operation, axis) in OPERATIONS.into_iter().flat_map(|one| [(one, Axis::Columns), (one, Axis::Rows)]) {
        let spec = Spec::new(operation, extents, 1).with(|spec| spec.axis = axis);
        let most = (0..2).filter(|&i| spec.along()[i]).map(|i| extents[i + 1].ilog2()).min().unwrap_or(0);
        for levels in (1..=most).filter(|&number| levels(number)) {
            for boundary in MODES {
                for (bands, adjoint) in
                    [Bands::Mallat, Bands::Interleaved].map(|bands| [(bands, false), (bands, true)]).concat()
                {
                    let spec = spec.with(|spec| {
                        (spec.levels, spec.boundary, spec.bands, spec.adjoint) = (levels, boundary, bands, adjoint);
                        spec.scaling = random.choose(&[Scaling::Orthonormal, Scaling::Sums]);
                        if levels > 6 {
                            (spec.numbers, spec.scaling) = (Numbers::Integers, Scaling::Sums);
                        }
                        spec.seed = random.bits();
                    });
                    check(spec, random)?;
                    let whole = (0..2).all(|i| !spec.along()[i] || extents[i + 1].is_multiple_of(1 << levels));
                    if whole && bands == Bands::Interleaved {
                        check(spec.with(|spec| spec.in_place = true), random)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn small() -> Result<(), String> {
    let random = &mut Random(1);
    for extents in [[1, 2, 2], [1, 1, 3], [2, 5, 1], [3, 4, 7], [1, 13, 7], [2, 16, 24], [1, 31, 33]] {
        everything(extents, |_| true, random)?;
    }
    Ok(())
}

/// Several tiles, of which the last is ragged, and the first is what a periodic signal goes on with.
fn tiles() -> Result<(), String> {
    let random = &mut Random(2);
    for extents in [[1, 130, 71], [2, 64, 128], [1, 35, 4103], [1, 64, 4224]] {
        everything(extents, |levels| [1, 3, 5].contains(&levels), random)?;
    }
    Ok(())
}

/// More levels than a tile has.
fn stages() -> Result<(), String> {
    let random = &mut Random(3);
    everything([1, 259, 261], |levels| levels > 6, random)?;
    everything([1, 512, 256], |levels| levels == 8, random)?;
    everything([1, 8200, 3], |levels| levels == 7 || levels == 13, random)?;
    everything([1, 3, 8200], |levels| levels == 13, random)
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::cpu::small", small);
    trials.add("haar::cpu::tiles", tiles);
    trials.add("haar::cpu::stages", stages);
}
