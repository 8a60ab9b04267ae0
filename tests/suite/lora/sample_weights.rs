//! Gradients in which rows count as their samples weigh.

use peft_kernels::{Cpu, Element};

use super::backward::{check_case, check_everywhere, same};
use super::case::{Arrangement, Saved};
use super::gradient_case::{Case, Mode, Spec, TargetSpec, Weights};
use crate::buffer::Cell;
use crate::compare;
use crate::numbers::Numbers;
use crate::queues::{Trials, emulators};

const VALUES: [f32; 5] = [1.0, 0.5, 0.0, -1.0, 2.0];

fn equal(count: usize) -> Option<Weights> {
    Some(Weights { offsets: None, values: VALUES.into_iter().cycle().take(count).collect() })
}

fn segments(offsets: &[i32]) -> Option<Weights> {
    let values = VALUES.into_iter().cycle().take(offsets.len() - 1).collect();
    Some(Weights { offsets: Some(offsets.to_vec()), values })
}

/// Every kernel, with H saved and made, and each gradient alone.
fn values<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..12usize {
        let numbers = [Numbers::Integers, Numbers::Reals][i % 2];
        check_everywhere::<T, P>(&Spec::new(12, 9, 19, [5, 17][i % 2], numbers).with(|spec| {
            spec.weights = if i % 2 == 0 { equal(4) } else { segments(&[0, 0, 3, 4, 11]) };
            spec.targets[0].h = [Saved::None, Saved::Own, Saved::F32][i % 3];
            let modes = [Mode::None, Mode::Overwrite, Mode::Accumulate];
            spec.targets[0].modes = [modes[(i + 1) % 3], modes[i / 3 % 3], modes[(i / 2 + 2) % 3]];
            spec.x = modes[i / 4 % 3];
            spec.dropout = (i % 5 == 0).then_some((0.5, 2, 3));
            spec.arrangement = Arrangement::Random;
            spec.seed = i as u64;
        }))?;
    }
    Ok(())
}

/// Samples across batches, gradients for each batch and for all, several targets; no batch, and rows before and after the samples.
fn batches<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for i in 0..6usize {
        check_everywhere::<T, P>(&Spec::new(4, 10, 18, 4, Numbers::Integers).with(|spec| {
            (spec.batches, spec.seed, spec.arrangement) = (3, i as u64, Arrangement::Random);
            spec.weights = [equal(3), segments(&[1, 6, 6, 10]), equal(12)][i % 3].clone();
            spec.targets[0].summed = [i % 2 == 0; 3];
            spec.targets[0].modes = [Mode::Accumulate; 3];
            if i % 2 == 0 {
                spec.targets.push(TargetSpec { h: Saved::Own, ..TargetSpec::new(7, 3) });
                spec.targets.push(TargetSpec { rank: None, ..TargetSpec::new(5, 0) });
                spec.targets.iter_mut().for_each(|target| target.summed = [true; 3]);
            }
        }))?;
    }
    for weights in [equal(2), segments(&[0, 0])] {
        check_everywhere::<T, P>(&Spec::new(3, 4, 6, 2, Numbers::Reals).with(|spec| {
            (spec.batches, spec.weights) = (0, weights);
            spec.targets[0].summed = [true; 3];
        }))?;
    }
    // Several blocks of rows, and more columns than one has.
    check_everywhere::<T, P>(&Spec::new(150, 300, 20, 3, Numbers::Reals).with(|spec| spec.weights = equal(5)))
}

/// dX, and with weights of 1 all gradients, are those without weights.
fn ones() -> Result<(), String> {
    let spec = Spec::new(9, 11, 14, 3, Numbers::Reals);
    let plain = Case::<f32, f32>::new(&spec);
    let with = |values: Vec<f32>| {
        let mut spec = spec.clone();
        spec.weights = Some(Weights { offsets: None, values });
        Case::<f32, f32>::new(&spec)
    };
    let [ones, others] = [with(vec![1.0; 3]), with(vec![0.25, -3.0, 0.0])];
    for queue in emulators() {
        let expected = plain.run(&queue)?.0;
        if !same(&ones.run(&queue)?.0, &expected) {
            return Err("weights of 1 change something".into());
        }
        let got = others.run(&queue)?.0;
        compare::exact([1, 9, 14], &got.dx, &expected.dx)?;
        if got.factors == expected.factors || got.bias == expected.bias {
            return Err("weights change nothing".into());
        }
    }
    check_case(&ones, &plain.oracle(), &Cpu).map(drop)
}

pub fn trials(trials: &mut Trials) {
    for_types_and_devices!(trials, "lora::sample_weights::values", values);
    for_types_and_devices!(trials, "lora::sample_weights::batches", batches);
    trials.add("lora::sample_weights::ones", ones);
}
