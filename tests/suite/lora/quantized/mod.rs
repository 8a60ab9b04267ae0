//! A quantised W as the base of a forward or a backward call: everywhere the bits of the call with what dequantisation makes of it.

pub mod backward;
pub mod case;
mod counters;
pub mod forward;
mod pick;
mod refused;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    refused::trials(trials);
    pick::trials(trials);
    forward::trials(trials);
    backward::trials(trials);
    counters::trials(trials);
}
