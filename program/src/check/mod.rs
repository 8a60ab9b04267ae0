//! `peft-kernels check`: every operation, element type and queue on real weights, against the reference.

pub mod case;
pub mod counters;
mod haar;
mod lora;
mod output;
mod report;

use std::io;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use peft_kernels::{Cpu, Emulator};

use crate::memory::Host;
use crate::subjects::Subjects;
use case::{Case, OpenQueue, Row};
use report::Report;

/// A family of operations, and its cases.
pub struct Family {
    pub name: &'static str,
    pub cases: for<'a> fn(&'a Subjects) -> Vec<Box<dyn Case + 'a>>,
}

const FAMILIES: &[Family] = &[lora::FAMILY, haar::FAMILY];
pub const CUDA: &str = "cuda:0";
pub const QUEUES: [&str; 3] = ["cpu", "emulator", CUDA];

#[derive(clap::Args)]
pub struct Arguments {
    /// Prints one JSON object a line instead of the table
    #[arg(long)]
    json: bool,
    /// Checks this family of operations only; can be given several times
    #[arg(long, value_parser = PossibleValuesParser::new(FAMILIES.iter().map(|family| family.name)))]
    family: Vec<String>,
    /// Checks on this queue only; can be given several times
    #[arg(long, value_parser = PossibleValuesParser::new(QUEUES))]
    queue: Vec<String>,
    /// Under each row of the emulator: what its kernels read and wrote, operand by operand, beside the formula where a kernel has one
    #[arg(long)]
    counters: bool,
    /// Adapters are random numbers from this seed, which is also that of the emulator's schedules
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Checks every matrix of this file, as it is stored, instead of the layer that is part of the program
    #[arg(long, value_name = "FILE.safetensors")]
    weights: Option<PathBuf>,
}

/// Why a check could not be made, or be reported.
pub enum Failure {
    Input(String),
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Calls a generic method with the types that two [`ElementType`]s stand for.
macro_rules! with_types {
    ($types:expr, $self:ident.$method:ident($($argument:expr),*)) => {
        match $types {
            [ElementType::F16, ElementType::F16] => $self.$method::<f16, f16>($($argument),*),
            [ElementType::F16, _] => $self.$method::<f16, f32>($($argument),*),
            [ElementType::BF16, ElementType::BF16] => $self.$method::<bf16, bf16>($($argument),*),
            [ElementType::BF16, _] => $self.$method::<bf16, f32>($($argument),*),
            _ => $self.$method::<f32, f32>($($argument),*),
        }
    };
}
pub(crate) use with_types;

/// Whether everything passed.
pub fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let subjects = match &arguments.weights {
        Some(path) => Subjects::open(path, arguments.seed),
        None => Subjects::embedded(arguments.seed),
    };
    let subjects = subjects.map_err(Failure::Input)?;
    let (queues, mut not_run) = queues(&arguments.queue, arguments.seed);
    let asked_in_vain = !arguments.queue.is_empty() && !not_run.is_empty();
    not_run.extend(subjects.left_out.iter().cloned());

    let wanted =
        |family: &&Family| arguments.family.is_empty() || arguments.family.iter().any(|name| name == family.name);
    let cases: Vec<_> = FAMILIES.iter().filter(wanted).flat_map(|family| (family.cases)(&subjects)).collect();
    let _counting = arguments.counters.then(peft_kernels::counters::Counting::begin);
    let mut report = Report::new(arguments.json, &cases, &queues)?;
    for case in &cases {
        report.begin(&**case);
        let queues: Vec<_> = queues.iter().filter(|queue| case.runs_on(queue)).collect();
        for (queue, outcomes) in queues.iter().zip(case.run(&queues)) {
            for (operation, outcome) in case.operations().iter().zip(outcomes) {
                report.row(&Row::new(&**case, operation, queue, arguments.seed, outcome))?;
            }
        }
    }
    Ok(report.finish(&not_run)? && !asked_in_vain)
}

/// The queues that are there, of those asked for (none is all), and why the others are not.
pub fn queues(asked: &[String], seed: u64) -> (Vec<OpenQueue>, Vec<String>) {
    let (mut open, mut not_run) = (Vec::new(), Vec::new());
    for name in QUEUES {
        if !asked.is_empty() && !asked.iter().any(|asked| asked == name) {
            continue;
        }
        match name {
            "cpu" => open.push(OpenQueue::Cpu(Host(Cpu))),
            "emulator" => open.push(OpenQueue::Emulator(Host(Emulator::new(seed)))),
            _ => match cuda() {
                Ok(queue) => open.push(queue),
                Err(reason) => not_run.push(format!("{CUDA} ({reason})")),
            },
        }
    }
    (open, not_run)
}

/// The first device, or why the checks do not run on it.
#[cfg(feature = "cuda")]
fn cuda() -> Result<OpenQueue, String> {
    match peft_kernels::device_count() {
        Ok(0) => Err("no device".into()),
        Ok(_) => crate::device::Device::open().map(OpenQueue::Cuda).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Why the checks do not run on a GPU.
#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<OpenQueue, String> {
    Err("built without the feature cuda".into())
}
