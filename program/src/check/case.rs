//! A case: one operation on one layer in one combination of element types, on every queue.

use peft_kernels::{Cpu, ElementType, Emulator, Error, Kernel, reference::Terms};
use serde::Serialize;

use super::counters::Count;
use crate::memory::Host;
use crate::values::Value;

/// A queue that is there.
pub enum OpenQueue {
    Cpu(Host<Cpu>),
    Emulator(Host<Emulator>),
    #[cfg(feature = "cuda")]
    Cuda(crate::device::Device),
}

/// Evaluates an expression with the memory of whichever queue it is.
macro_rules! on_queue {
    ($queue:expr, $memory:ident => $result:expr) => {
        match $queue {
            $crate::check::case::OpenQueue::Cpu($memory) => $result,
            $crate::check::case::OpenQueue::Emulator($memory) => $result,
            #[cfg(feature = "cuda")]
            $crate::check::case::OpenQueue::Cuda($memory) => $result,
        }
    };
}
pub(crate) use on_queue;

impl OpenQueue {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Emulator(_) => "emulator",
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "cuda:0",
        }
    }

    /// How many of `rows` rows of an output to make, each of which takes so many multiply-adds: all, or what the emulator does in seconds.
    pub fn affordable(&self, rows: usize, products_a_row: usize) -> usize {
        const EMULATOR: usize = 1 << 28;
        match self {
            Self::Cpu(_) => rows,
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => rows,
            Self::Emulator(_) => (EMULATOR / products_a_row.max(1) / 64 * 64).max(64).min(rows),
        }
    }
}

/// What a family's file provides: something to run on every queue.
pub trait Case {
    /// The layer, as a heading above its rows.
    fn layer(&self) -> String;
    /// The operations that run, each of which makes a row for each queue.
    fn operations(&self) -> &'static [&'static str];
    /// Whether a queue runs it: the reference has no kernels to choose from.
    fn runs_on(&self, queue: &OpenQueue) -> bool;
    /// Of x or the weights, and of the adapters.
    fn element_types(&self) -> [ElementType; 2];
    /// The extents of what the queue computes, and which variant of the operation it is.
    fn shape(&self, queue: &OpenQueue) -> String;
    /// For each queue what became of each operation.
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>>;
}

/// Which kernel runs, and how much of a layer it computes.
#[derive(Clone, Copy)]
pub struct Choice {
    /// Its number, or 0 for the automatic choice.
    pub algorithm: i32,
    pub rows: usize,
    pub columns: usize,
}

impl Choice {
    pub const AUTOMATIC: Self = Self { algorithm: 0, rows: usize::MAX, columns: usize::MAX };

    pub fn runs_on(self, queue: &OpenQueue) -> bool {
        self.algorithm == 0 || !matches!(queue, OpenQueue::Cpu(_))
    }
}

/// Work done, for the speed.
#[derive(Clone, Copy)]
pub enum Work {
    Flops(f64),
    Bytes(f64),
}

/// What became of one operation on one queue.
pub struct Outcome {
    pub kernel: Option<Kernel>,
    pub seconds: f64,
    pub work: Work,
    pub counters: Vec<Count>,
    pub comparison: Result<Comparison, Error>,
}

/// One row of the report.
#[derive(Serialize)]
pub struct Row {
    pub op: &'static str,
    pub kernel: String,
    pub queue: &'static str,
    pub dtype: String,
    pub shape: String,
    pub layer: String,
    pub seed: u64,
    /// Of the worst element, which is the one with the largest part of its bound used; so is the bound.
    pub error: Option<f64>,
    pub bound: Option<f64>,
    pub seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flops_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<f64>,
    pub passed: bool,
    /// The kernel that failed: another than `kernel` where a call launches several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub counters: Vec<Count>,
}

impl Row {
    pub fn new(case: &dyn Case, op: &'static str, queue: &OpenQueue, seed: u64, outcome: Outcome) -> Self {
        let [x, adapters] = case.element_types();
        let kernel = outcome.kernel.map_or_else(|| "-".into(), |kernel| kernel.name);
        let (worst, failure, faulty) = match outcome.comparison {
            Ok(Comparison { worst, failure }) => (Some(worst), failure, None),
            Err(error) => (None, Some(error.to_string()), kernel_in_report(&error)),
        };
        let per_second = |work| if outcome.seconds > 0.0 { Some(work / outcome.seconds) } else { None };
        let (flops_per_second, bytes_per_second) = match outcome.work {
            _ if worst.is_none() => (None, None),
            Work::Flops(flops) => (per_second(flops), None),
            Work::Bytes(bytes) => (None, per_second(bytes)),
        };
        Self {
            op,
            queue: queue.name(),
            dtype: if x == adapters { x.to_string() } else { format!("{x}+{adapters}") },
            shape: case.shape(queue),
            layer: case.layer(),
            seed,
            error: worst.map(|worst| worst.error),
            bound: worst.map(|worst| worst.bound),
            seconds: outcome.seconds,
            flops_per_second,
            bytes_per_second,
            passed: failure.is_none(),
            failed_kernel: failure.as_ref().map(|_| faulty.unwrap_or_else(|| kernel.clone())),
            failure,
            counters: outcome.counters,
            kernel,
        }
    }
}

/// The emulator's reports begin with the name of the kernel.
fn kernel_in_report(error: &Error) -> Option<String> {
    let Error::Emulator { report, .. } = error else { return None };
    let name: String = report.chars().take_while(|&letter| letter.is_ascii_alphanumeric() || letter == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// An element's error and what it may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Worst {
    pub error: f64,
    pub bound: f64,
}

impl Worst {
    /// The part of the bound that is used; NaN is more than anything.
    fn ratio(&self) -> f64 {
        if self.error.is_nan() {
            f64::INFINITY
        } else if self.error == 0.0 {
            0.0
        } else {
            self.error / self.bound
        }
    }
}

/// All elements of an output against what they should be.
#[derive(Debug, Default)]
pub struct Comparison {
    pub worst: Worst,
    /// The first element that is wrong, in words.
    pub failure: Option<String>,
}

impl Comparison {
    /// One element against the reference; `place` says which it is.
    pub fn element<T: Value>(&mut self, got: T, terms: &Terms, rounding_steps: usize, place: impl FnOnce() -> String) {
        let bound = terms.allowed_error::<T>(rounding_steps);
        let got = got.to_f64();
        let mut error = (got - terms.value).abs();
        if got.is_infinite() {
            // Right where a value within the bound rounds to infinity.
            let reach = T::from_f64(terms.value + bound.copysign(terms.value)).to_f64();
            error = if reach == got { 0.0 } else { f64::INFINITY };
        }
        self.add(Worst { error, bound }, || {
            let (place, expected) = (place(), terms.value);
            if got.is_nan() {
                format!("{place} is NaN or was never written, expected {expected:.8e}")
            } else {
                format!("{place} is {got:.8e}, expected {expected:.8e} within {bound:.2e}")
            }
        });
    }

    /// One element that must have exactly these bits.
    pub fn same_bits<T: Value>(&mut self, got: T, expected: T, place: impl FnOnce() -> String) {
        if got.bits() == expected.bits() {
            return;
        }
        // Different bits of one value, as those of the two zeroes, are wrong too.
        let error = (got.to_f64() - expected.to_f64()).abs();
        let error = if error == 0.0 { f64::NAN } else { error };
        self.add(Worst { error, bound: 0.0 }, || format!("{} is {got:?}, expected {expected:?}", place()));
    }

    /// Elements that are no part of the output and held NaN before.
    pub fn untouched<T: Value>(&mut self, margins: &[T]) {
        if margins.iter().any(|value| !value.to_f64().is_nan()) {
            self.failure.get_or_insert_with(|| "elements beside the output were written".into());
        }
    }

    fn add(&mut self, element: Worst, failure: impl FnOnce() -> String) {
        if self.worst.bound == 0.0 && self.worst.error == 0.0 || element.ratio() > self.worst.ratio() {
            self.worst = element;
        }
        let within = element.error <= element.bound;
        if !within && self.failure.is_none() {
            self.failure = Some(failure());
        }
    }
}
