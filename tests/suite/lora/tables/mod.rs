//! Gradients of many adapters in one batch: tables of adapters, from which each row chooses.

mod alike;
pub mod case;
mod counters;
mod doctored;
pub mod exercise;
mod oracle;
mod refused;
pub mod values;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    doctored::trials(trials);
    alike::trials(trials);
    values::trials(trials);
    counters::trials(trials);
    refused::trials(trials);
}
