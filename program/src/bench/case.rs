//! What the cases of all families are made of.

use peft_kernels::{Kernel, Result};

use super::clock::Runner;
use super::results::RowError;
use crate::values::{Random, Value};

/// Bytes and operations of a case.
#[derive(Clone, Copy)]
pub struct Work {
    pub bytes: u64,
    pub flops: u64,
}

/// A case that is ready to run.
pub struct Ready<'c> {
    pub kernel: Kernel,
    pub copies: usize,
    pub runner: Runner<'c>,
}

/// What is done with a case while its operands live; afterwards the first copy's output is compared if `compare` asks for it.
pub type Use<'u> = &'u mut dyn FnMut(Ready<'_>) -> Result<()>;

/// Random numbers without a pattern that a kernel could see: a run of them, whose length is a prime, again and again.
pub fn numbers<T: Value>(random: &mut Random, count: usize, limit: f64) -> Vec<T> {
    const RUN: usize = 1_048_573;
    let run: Vec<T> = random.uniform(count.min(RUN), limit);
    run.iter().copied().cycle().take(count).collect()
}

/// Elements against their exact values, in pairs.
#[derive(Default)]
pub struct Errors {
    largest: f64,
    scale: f64,
}

impl Errors {
    pub fn add<T: Value>(&mut self, got: &[T], exact: impl Iterator<Item = f64>) {
        for (got, exact) in got.iter().zip(exact) {
            let error = (got.to_f64() - exact).abs();
            // max() would drop NaN.
            self.largest = if error.is_nan() || self.largest.is_nan() { f64::NAN } else { self.largest.max(error) };
            self.scale = self.scale.max(exact.abs());
        }
    }

    pub fn of_rows(&self, rows: usize) -> RowError {
        let finite = |value: f64| value.is_finite().then_some(value);
        let relative = if self.largest == 0.0 { 0.0 } else { self.largest / self.scale };
        RowError { largest: finite(self.largest), relative: finite(relative), rows: rows as u64 }
    }
}
