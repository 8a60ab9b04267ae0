//! WaRA.

pub mod case;
mod methods;
mod oracle;
mod refused;
mod values;

use crate::queues::Trials;

pub fn trials(trials: &mut Trials) {
    methods::trials(trials);
    refused::trials(trials);
    values::trials(trials);
}
