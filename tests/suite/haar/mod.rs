//! The Haar family.

pub mod case;
mod counters;
mod cpu;
pub mod exercises;
mod hadamard;
mod oracle;
mod pywavelets;
mod refused;
mod values;
mod wara;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    counters::trials(trials);
    cpu::trials(trials);
    hadamard::trials(trials);
    pywavelets::trials(trials);
    refused::trials(trials);
    values::trials(trials);
    wara::trials(trials);
}
