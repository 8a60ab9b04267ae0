//! The methods that this family is for, as their users would put them together: the public interface alone, against each method's formula on a weight that is
//! there in full.
//!
//! DP-LoRA is in `lora::dp_lora`, DoRA's forward alone in `lora::forward::equals_peft`.

mod adalora;
mod codyra;
mod dora;
mod dylora;
mod experts;
mod layer;
mod loldu;
mod lora_xs;
mod maestro;
mod matrix;
mod perk;
mod plain;
mod policy;
mod ppo;
mod stitching;
mod tina;

use peft_kernels::{Cpu, Emulator};

use crate::queues::Trials;

type Outcome<T = ()> = Result<T, String>;

fn text(error: peft_kernels::Error) -> String {
    error.to_string()
}

/// One trial on the reference, and one on the shipped kernels.
macro_rules! on_host_queues {
    ($trials:expr, $name:literal, $check:path) => {{
        $trials.add(concat!("lora::methods::", $name, "/cpu"), || $check(&Cpu));
        $trials.add(concat!("lora::methods::", $name, "/emulator"), || $check(&Emulator::new(0)));
    }};
}

pub fn trials(trials: &mut Trials) {
    on_host_queues!(trials, "lora", plain::lora);
    on_host_queues!(trials, "rslora", plain::rslora);
    on_host_queues!(trials, "adalora", adalora::adalora);
    on_host_queues!(trials, "adalora/orthogonality", adalora::orthogonality);
    on_host_queues!(trials, "adalora/importance", adalora::importance);
    on_host_queues!(trials, "dylora", dylora::dylora);
    on_host_queues!(trials, "codyra", codyra::codyra);
    on_host_queues!(trials, "lora_xs", lora_xs::lora_xs);
    on_host_queues!(trials, "lora_sb", lora_xs::lora_sb);
    on_host_queues!(trials, "fed_sb", lora_xs::fed_sb);
    on_host_queues!(trials, "maestro", maestro::maestro);
    on_host_queues!(trials, "mixture_of_rank_one_experts", experts::experts);
    on_host_queues!(trials, "dora", dora::dora);
    on_host_queues!(trials, "loldu", loldu::loldu);
    on_host_queues!(trials, "stitching", stitching::stitching);
    on_host_queues!(trials, "perk", perk::perk);
    on_host_queues!(trials, "tina", tina::tina);
    on_host_queues!(trials, "ppo", ppo::ppo);
}
