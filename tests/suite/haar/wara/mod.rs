//! WaRA.

pub mod case;
mod cpu;
mod methods;
mod oracle;
mod refused;
mod values;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    cpu::trials(trials);
    methods::trials(trials);
    refused::trials(trials);
    values::trials(trials);
}
