//! `peft-kernels`: checks the kernels on real weights, measures them, and says what was built and found. A library for the sake of `cargo bench`, which measures the same cases.

pub mod bench;
mod check;
mod checkpoint;
#[cfg(feature = "cuda")]
pub mod device;
mod info;
pub mod memory;
mod report;
mod subjects;
mod text;
mod values;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;

/// Checks the kernels of peft-kernels on real weights, measures them, and says what was built and found.
///
/// Exit status: 0 everything passed, 1 something failed, 2 wrong arguments or an unreadable file.
#[derive(Parser)]
#[command(name = "peft-kernels", version, args_conflicts_with_subcommands = true)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    check: check::Arguments,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Runs every operation in every element type on every queue, and compares every element with the reference (the default)
    Check(check::Arguments),
    /// Measures every operation beside the least time that the device could take and a copy of as many bytes
    Bench(bench::Arguments),
    /// Makes the README's figures and the pictures of docs/figures from the committed results
    Report(report::Arguments),
    /// Says what was built, what was found, and what to do about what was not
    Info,
}

/// The program.
pub fn main() -> ExitCode {
    let program = Program::parse();
    let passed = match program.command.unwrap_or(Command::Check(program.check)) {
        Command::Check(arguments) => check::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Report(arguments) => report::run(&arguments).map_err(check::Failure::Input),
        Command::Info => info::run().map_err(check::Failure::Output),
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the output has seen enough.
        Err(check::Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(check::Failure::Output(error)) => fail(&format!("the report cannot be written: {error}")),
        Err(check::Failure::Input(message)) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("peft-kernels: {message}");
    ExitCode::from(2)
}
