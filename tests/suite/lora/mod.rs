//! The LoRA family.

pub mod case;
pub mod run;

use crate::queues::Trials;

/// Registers one trial for each combination of element types.
macro_rules! for_types {
    ($trials:expr, $name:literal, $test:ident) => {
        for_types!($trials, add, $name, $test)
    };
    ($trials:expr, $add:ident, $name:expr, $test:ident) => {{
        use half::{bf16, f16};
        $trials.$add(concat!($name, "/f32"), $test::<f32, f32>);
        $trials.$add(concat!($name, "/f16"), $test::<f16, f16>);
        $trials.$add(concat!($name, "/bf16"), $test::<bf16, bf16>);
        $trials.$add(concat!($name, "/f16+f32"), $test::<f16, f32>);
        $trials.$add(concat!($name, "/bf16+f32"), $test::<bf16, f32>);
    }};
}

/// And each of them once more on a CUDA device.
macro_rules! for_types_and_devices {
    ($trials:expr, $name:literal, $test:ident) => {{
        for_types!($trials, add, $name, $test);
        for_types!($trials, add_on_device, concat!($name, "/cuda"), $test);
    }};
}

mod add_noise;
mod autograd;
pub mod backward;
mod clip_weights;
mod counters;
mod counters_backward;
mod counters_mma;
mod derivatives;
pub mod doctored_table;
pub mod double_backward;
mod dp_lora;
mod dropout;
pub mod exercises;
mod forward;
pub mod gradient_case;
mod hf_peft;
mod layers;
mod magnitude_gradient;
mod merge;
mod methods;
pub mod middle;
mod pick;
mod property;
mod quantize;
mod quantize_fixtures;
pub mod quantized;
mod rank_zero;
mod refused;
mod refused_backward;
mod refused_merge_texts;
mod refused_texts;
mod row_scales;
mod sample_norms;
mod sample_norms_refused;
mod sample_weights;
pub mod special;
pub mod tables;
mod weight_norm;

/// Those that are quick and see most come first: a fault ends a run within seconds.
pub fn trials(trials: &mut Trials) {
    rank_zero::trials(trials);
    doctored_table::trials(trials);
    forward::trials(trials);
    layers::trials(trials);
    autograd::trials(trials);
    hf_peft::trials(trials);
    derivatives::trials(trials);
    dropout::trials(trials);
    backward::trials(trials);
    row_scales::trials(trials);
    double_backward::trials(trials);
    middle::trials(trials);
    tables::trials(trials);
    merge::trials(trials);
    counters_backward::trials(trials);
    counters_mma::trials(trials);
    counters::trials(trials);
    pick::trials(trials);
    quantize::trials(trials);
    quantize_fixtures::trials(trials);
    quantized::trials(trials);
    weight_norm::trials(trials);
    magnitude_gradient::trials(trials);
    sample_norms::trials(trials);
    sample_weights::trials(trials);
    clip_weights::trials(trials);
    add_noise::trials(trials);
    dp_lora::trials(trials);
    methods::trials(trials);
    sample_norms_refused::trials(trials);
    refused::trials(trials);
    refused_backward::trials(trials);
    special::trials(trials);
    property::trials(trials);
    forward::long_trials(trials);
}
