//! Merges on the CPU queue, whose tiles are larger than the layers that kernels are tested with: the reference's values, rounded once, of elements of 16 bits within the error of sums in f32.

use half::{bf16, f16};
use peft_kernels::{Cpu, Element, haar};

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

pub fn trials(trials: &mut Trials) {
    trials.add("haar::wara::cpu::merges/f32", merges::<f32, f32>);
    trials.add("haar::wara::cpu::merges/f16", merges::<f16, f16>);
    trials.add("haar::wara::cpu::merges/bf16+f32", merges::<bf16, f32>);
}
