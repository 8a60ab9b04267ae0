//! The backward of backward: second derivatives of a layer.

pub mod case;
mod counters;
mod derivatives;
mod refused;
mod values;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    derivatives::trials(trials);
    values::trials(trials);
    counters::trials(trials);
    refused::trials(trials);
}
