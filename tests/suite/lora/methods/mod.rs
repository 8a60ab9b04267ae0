//! The methods that this family is for, as their users would put them together.

mod dora;

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
    on_host_queues!(trials, "dora", dora::dora);
}
