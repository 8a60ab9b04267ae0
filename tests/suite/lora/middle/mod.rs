//! What lies between A and B: scales, gates, cores and lists of ranks.

pub mod case;
pub mod counters;
mod derivatives;
mod gradients;
mod not_numbers;
pub mod refused;
pub mod values;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    values::trials(trials);
    gradients::trials(trials);
    not_numbers::trials(trials);
    derivatives::trials(trials);
    counters::trials(trials);
    refused::trials(trials);
}
