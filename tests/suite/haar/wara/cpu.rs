//! Merges on the CPU queue, whose tiles are larger than the layers that kernels are tested with: the reference's values, rounded once, of elements of 16 bits within the error of sums in f32.

use half::{bf16, f16};
use peft_kernels::{Cpu, Element, Mat, MatMut, haar, reference};

use super::case::{Case, Operation, Spec};
use super::values::random;
use crate::buffer::Cell;
use crate::compare;
use crate::queues::Trials;

/// [n, k], levels, rank: several tiles of rows, of columns, of both, the last ones ragged; more levels than a tile has rows otherwise.
const LAYERS: [([usize; 2], u32, usize); 6] = [
    ([40, 4224], 1, 5),
    ([131, 2051], 2, 3),
    ([4160, 34], 3, 4),
    ([17, 2049], 1, 17),
    ([70, 2210], 6, 3),
    ([2250, 150], 6, 2),
];

fn merges<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, ([n, k], levels, rank)) in LAYERS.into_iter().enumerate() {
        for seed in 0..4 {
            let spec = random(Spec::new([1, n, k], rank).with(|spec| spec.levels = levels), 7 * i as u64 + seed);
            let case = Case::<T, P>::new(spec);
            let kernel = haar::wara_merge_kernel(&Cpu, &case.merge(&Cpu)).map_err(|error| error.to_string())?;
            for operation in [Operation::Merge, Operation::Unmerge] {
                case.merged.reset();
                let expected = case.reference(operation).map_err(|error| error.to_string())?.remove(0);
                let got = case.run(operation, &Cpu)?.of_x.remove(0);
                compare::nearest([1, n, k], &got, &expected, kernel.rounding_steps)
                    .map_err(|report| format!("{operation:?}: {report} {:#?}", case.spec))?;
            }
        }
    }
    Ok(())
}

/// A gain and a scale whose product f32 does not hold, with coefficients that make up for it.
fn gains_and_scales() -> Result<(), String> {
    let text = |error: peft_kernels::Error| error.to_string();
    for (gain, scale, b) in [(4.0, f32::MAX, 0.0), (1e-20, 1e-30, 1e19)] {
        let (a, b, mut w) = ([1e19f32, 0.0], [b, 0.0f32], [bf16::ZERO; 4]);
        let a = || Mat::new(&a, 1, 2).map_err(text);
        let b = || Mat::new(&b, 2, 1).map_err(text);
        let adapter = || Ok::<_, String>(haar::Wara::new(a()?, b()?, scale).gains(&[gain; 4]));
        let mut unchanged = w;
        let weights = MatMut::new(&mut unchanged, 2, 2).map_err(text)?;
        let call = haar::WaraMerge::in_place(weights, adapter()?);
        let steps = haar::wara_merge_kernel(&Cpu, &call).map_err(text)?.rounding_steps;
        let expected = reference::haar::wara_merge_terms(&call, 1.0).map_err(text)?;
        let weights = MatMut::new(&mut w, 2, 2).map_err(text)?;
        haar::wara_merge(&Cpu, haar::WaraMerge::in_place(weights, adapter()?)).map_err(text)?;
        compare::nearest([1, 2, 2], &w, &expected, steps).map_err(|report| format!("{report} gain {gain}"))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::wara::cpu::gains_and_scales", gains_and_scales);
    trials.add("haar::wara::cpu::merges/f32", merges::<f32, f32>);
    trials.add("haar::wara::cpu::merges/f16", merges::<f16, f16>);
    trials.add("haar::wara::cpu::merges/bf16+f32", merges::<bf16, f32>);
}
