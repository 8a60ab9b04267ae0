//! The operations of the family as what a stream can be given.

use half::{bf16, f16};

use super::case::{AdapterSpec, BaseSpec, BiasSpec, RowSpec, Spec, TargetSpec};
use super::middle::case::{Listed, MiddleSpec, Part};
use super::{
    add_noise, clip_weights, double_backward, gradient_case, magnitude_gradient, merge, quantize, quantized, run,
    sample_norms, tables, weight_norm,
};
use crate::numbers::Numbers;
use crate::streams::Operation;

const FORWARD: &str = "pk_lora_forward";
const BACKWARD: &str = "pk_lora_backward";

fn prefill() -> Spec {
    Spec::new(200, 264, 328, 16, Numbers::Reals)
}

fn gradients() -> gradient_case::Spec {
    gradient_case::Spec::new(200, 136, 136, 16, Numbers::Reals)
}

fn decode() -> Spec {
    Spec::new(3, 264, 1032, 16, Numbers::Reals)
}

/// Few tiles, which share k.
fn few_rows() -> Spec {
    Spec::new(50, 264, 1032, 16, Numbers::Reals)
}

fn three_targets() -> Spec {
    let target = |n, base| TargetSpec {
        base,
        adapters: AdapterSpec::One(9),
        bias: BiasSpec::Shared(1),
        row_scale: BiasSpec::Shared(2),
        ..TargetSpec::dense(n, 0)
    };
    let targets = vec![target(72, BaseSpec::Dense), target(40, BaseSpec::Dense), target(33, BaseSpec::Dense)];
    prefill().with(|spec| spec.targets = targets)
}

fn table() -> Spec {
    prefill().with(|spec| {
        spec.targets[0].adapters = AdapterSpec::Table(vec![4, 0, 16]);
        spec.rows = RowSpec::Segments(vec![(0, 60, Some(2)), (70, 130, Some(0)), (130, 199, Some(1))]);
    })
}

fn gated_core() -> MiddleSpec {
    MiddleSpec { scale: Part::Shared, gate: Part::Shared, core: Part::Shared, after: 24, ..MiddleSpec::default() }
}

fn listed_ranks(host: bool) -> MiddleSpec {
    let ranks = if host { Listed::Host(vec![14, 3, 0, 7, 8]) } else { Listed::Device(vec![9, 2, 15, 4]) };
    MiddleSpec { ranks, scale: Part::Shared, ..MiddleSpec::default() }
}

/// Its table goes to the device when the call is made ready.
const TABLE: Operation =
    Operation { name: FORWARD, of: "a table", allocates: true, make: || run::exercise::<bf16, bf16>(&table()) };

const GRADIENT_TABLES: Operation =
    Operation { name: BACKWARD, of: "tables", allocates: true, make: tables::exercise::exercise };

pub const OPERATIONS: &[Operation] = &[
    Operation::new(FORWARD, "prefill", || run::exercise::<bf16, bf16>(&prefill())),
    Operation::new(FORWARD, "prefill, f32", || run::exercise::<f32, f32>(&prefill())),
    Operation::new(FORWARD, "decode", || run::exercise::<f16, f32>(&decode())),
    Operation::new(FORWARD, "few rows", || run::exercise::<bf16, bf16>(&few_rows())),
    Operation::new(FORWARD, "three targets", || run::exercise::<bf16, f32>(&three_targets())),
    TABLE,
    Operation::new(FORWARD, "a core", || {
        run::exercise::<bf16, bf16>(&prefill().with(|spec| spec.targets[0].middle = gated_core()))
    }),
    Operation::new(FORWARD, "listed ranks", || {
        run::exercise::<bf16, f32>(&few_rows().with(|spec| spec.targets[0].middle = listed_ranks(true)))
    }),
    Operation::new(BACKWARD, "prefill", || gradient_case::exercise::<bf16, bf16>(&gradients())),
    Operation::new(BACKWARD, "f32 adapters, dropout", || {
        gradient_case::exercise::<f16, f32>(&gradients().with(|spec| spec.dropout = Some((0.1, 1, 2))))
    }),
    Operation::new(BACKWARD, "weighted samples", || {
        let values = vec![1.0, 0.5, 0.25, 0.0];
        let weights = gradient_case::Weights { offsets: Some(vec![0, 50, 51, 130, 200]), values };
        gradient_case::exercise::<bf16, f32>(&gradients().with(|spec| spec.weights = Some(weights)))
    }),
    Operation::new(BACKWARD, "a core", || {
        gradient_case::exercise::<bf16, bf16>(&gradients().with(|spec| spec.targets[0].middle = gated_core()))
    }),
    Operation::new(BACKWARD, "listed ranks", || {
        gradient_case::exercise::<f16, f32>(&gradients().with(|spec| {
            (spec.targets[0].middle, spec.targets[0].row_scale) = (listed_ranks(false), BiasSpec::Shared(1));
        }))
    }),
    Operation::new(BACKWARD, "row scales", || {
        gradient_case::exercise::<bf16, bf16>(&gradients().with(|spec| spec.targets[0].row_scale = BiasSpec::Shared(1)))
    }),
    GRADIENT_TABLES,
    Operation::new("pk_lora_double_backward", "all gradients", || {
        let spec = double_backward::case::Spec::new(200, 136, 136, 16, Numbers::Reals);
        double_backward::case::exercise::<bf16, f32>(&spec)
    }),
    Operation::new("pk_lora_sample_norms", "packed samples", sample_norms::exercise),
    Operation::new("pk_lora_clip_weights", "a thousand", clip_weights::exercise),
    Operation::new("pk_lora_add_noise", "a matrix", add_noise::exercise),
    Operation::new("pk_lora_merge", "two adapters", || merge::exercise::<bf16, bf16>(true)),
    Operation::new("pk_lora_unmerge", "two adapters", || merge::exercise::<f16, f32>(false)),
    Operation::new("pk_lora_merge", "every form", || merge::exercise_of_forms::<bf16, bf16>(true)),
    Operation::new("pk_lora_unmerge", "every form", || merge::exercise_of_forms::<f16, f32>(false)),
    Operation::new("pk_lora_weight_norm", "two adapters", weight_norm::exercise),
    Operation::new("pk_lora_magnitude_gradient", "a matrix", magnitude_gradient::exercise),
    Operation::new(FORWARD, "codes of W, decode", || quantized::forward::exercise(3)),
    Operation::new(FORWARD, "codes of W, few rows", || quantized::forward::exercise(50)),
    Operation::new(FORWARD, "codes of W, slabs", || quantized::forward::exercise(100)),
    Operation::new(BACKWARD, "codes of W", quantized::backward::exercise),
    Operation::new("pk_lora_quantize", "nested", || quantize::exercise(true)),
    Operation::new("pk_lora_dequantize", "a matrix", || quantize::exercise(false)),
];
