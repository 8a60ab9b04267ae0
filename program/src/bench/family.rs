//! Which family has a case, and what it asks of one.

use peft_kernels::Result;

use super::case::{Use, Work};
use super::catalog::Entry;
use super::clock::Timed;
use super::results::RowError;
use super::{haar, lora};

pub const FAMILIES: [&str; 2] = ["lora", "haar"];

fn is_of_haar(entry: &Entry) -> bool {
    entry.shape.operation.starts_with("haar.")
}

/// Every operand once, and the operations of the formula.
pub fn work(entry: &Entry) -> std::result::Result<Work, String> {
    if is_of_haar(entry) { haar::work(entry) } else { lora::work(entry) }
}

/// Makes a case's operands in the queue's memory, hands it to `with`, and compares with f64 if asked to.
pub fn run<M: Timed>(
    memory: &M,
    entry: &Entry,
    seed: u64,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    if is_of_haar(entry) {
        haar::run(memory, entry, seed, copies, compare, with)
    } else {
        lora::run(memory, entry, seed, copies, compare, with)
    }
}
