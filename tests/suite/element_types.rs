//! Elements that no operation takes are refused by the name of an argument that the operation has.

use peft_kernels::haar::{self, Hadamard, Transform, Wara, WaraMerge};
use peft_kernels::lora::{self, Gradient, MagnitudeGradient, Merge, WeightNorm};
use peft_kernels::{Cpu, Mat, MatMut, VectorMut, Workspace};

use crate::queues::Trials;

fn refused() -> Result<(), String> {
    let (source, mut destinations, mut norm, mut gradient) = ([1.0f64; 4], [[7.0f64; 4]; 4], [7.0f32; 2], [7.0f32; 2]);
    let source = || Mat::new(&source, 2, 2).expect("it fits");
    let factor = |rows, columns| Mat::new(&[1.0f32; 2], rows, columns).expect("it fits");
    let adapter = Wara::new(factor(1, 2), factor(2, 1), 1.0);
    let [merged, transformed, in_place, updated] =
        destinations.each_mut().map(|elements| MatMut::new(elements, 2, 2).expect("it fits"));
    let of_norm = WeightNorm::<f64, f32, _>::new(source(), VectorMut::whole(&mut norm[..]));
    let of_magnitude = Gradient::overwrite(MatMut::new(&mut gradient, 1, 2).expect("it fits"));
    let of_magnitude = MagnitudeGradient::new(source(), source(), factor(1, 2), of_magnitude);
    let outcomes = [
        (lora::merge(&Cpu, Merge::<f64, f32, _>::in_place(merged)), "lora::merge: destination"),
        (lora::weight_norm(&Cpu, of_norm, Workspace::none()), "lora::weight_norm: w"),
        (lora::magnitude_gradient(&Cpu, of_magnitude, Workspace::none()), "lora::magnitude_gradient: dy"),
        (haar::forward_2d(&Cpu, Transform::new(source(), transformed, 1)), "haar::forward_2d: destination"),
        (haar::hadamard(&Cpu, Hadamard::in_place(in_place)), "haar::hadamard: destination"),
        (haar::wara_merge(&Cpu, WaraMerge::in_place(updated, adapter)), "haar::wara_merge: destination"),
    ];
    for (outcome, argument) in outcomes {
        let expected = format!("{argument} has element type f64, expected f32, f16 or bf16");
        match outcome {
            Err(error) if error.to_string() == expected => {}
            got => return Err(format!("{got:?}\nexpected\n{expected}")),
        }
    }
    match (destinations, norm, gradient) == ([[7.0; 4]; 4], [7.0; 2], [7.0; 2]) {
        true => Ok(()),
        false => Err("a refused call has written".into()),
    }
}

pub fn trials(trials: &mut Trials) {
    trials.add("element_types::refused", refused);
}
