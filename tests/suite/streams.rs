//! What callers do with streams: capture calls into graphs, use several at once, call from threads and on devices of their own.

#[cfg(feature = "cuda")]
mod checks;
#[cfg(feature = "cuda")]
mod runtime;

use peft_kernels::RawStream;

use crate::queues::Trials;
use crate::{haar, lora, operations};

/// What enqueues a call; it can be run once.
pub type Launch<'a> = dyn FnMut() -> peft_kernels::Result<()> + 'a;
/// What is to be done with it.
pub type Run<'a> = dyn FnMut(&mut Launch) -> Result<(), String> + 'a;

/// A call with operands of its own, to be repeated on any stream: the same inputs give the same output.
pub trait Exercise: Send + Sync {
    /// Makes the call ready, allocating what that needs, and hands on what enqueues it.
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String>;
    /// The outputs as they were at first.
    fn reset(&self);
    fn output(&self) -> Vec<u8>;
}

/// How to exercise an operation.
pub struct Operation {
    /// In the C interface.
    pub name: &'static str,
    /// Which of its calls.
    pub of: &'static str,
    /// Whether making the call ready takes memory of the device, and so makes a context current.
    pub allocates: bool,
    /// Operands in the memory that this thread uses.
    pub make: fn() -> Box<dyn Exercise>,
}

impl Operation {
    pub const fn new(name: &'static str, of: &'static str, make: fn() -> Box<dyn Exercise>) -> Self {
        Self { name, of, allocates: false, make }
    }
}

/// Every family's.
const OPERATIONS: [&[Operation]; 2] = [haar::exercises::OPERATIONS, lora::exercises::OPERATIONS];

fn exercises_cover_every_operation() -> Result<(), String> {
    let known = |name: &str| OPERATIONS.iter().copied().flatten().any(|operation| operation.name == name);
    let missing: Vec<_> = operations::enqueueing().filter(|name| !known(name)).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no exercise of {missing:?}")) }
}

macro_rules! on_device {
    ($trials:expr, $add:ident, $($check:ident),+) => {$(
        #[cfg(feature = "cuda")]
        let check = checks::$check;
        // The trial says why instead.
        #[cfg(not(feature = "cuda"))]
        let check = || Err("built without the feature `cuda`".into());
        $trials.$add(concat!("streams::", stringify!($check), "/cuda"), check);
    )+};
}

pub fn trials(trials: &mut Trials) {
    trials.add("streams::exercises_cover_every_operation", exercises_cover_every_operation);
    on_device!(trials, add_on_device, each_call_gives_the_same_bits_twice);
    on_device!(trials, add_on_device, a_graph_replays_what_it_captured, two_streams_do_not_touch_each_other);
    on_device!(trials, add_on_device, a_thread_without_a_context_stays_so, a_context_of_the_caller_stays_current);
    on_device!(trials, add_on_two_devices, a_second_device_gives_the_same_bits);
}
