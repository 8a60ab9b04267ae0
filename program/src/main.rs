//! `peft-kernels`: checks the kernels on real weights, and says what was built and found.

mod check;
mod checkpoint;
#[cfg(feature = "cuda")]
mod device;
mod info;
mod memory;
mod subjects;
mod values;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::Parser;

/// Checks the kernels of peft-kernels on real weights, and says what was built and found.
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
    /// Says what was built, what was found, and what to do about what was not
    Info,
}

fn main() -> ExitCode {
    let program = Program::parse();
    let passed = match program.command.unwrap_or(Command::Check(program.check)) {
        Command::Check(arguments) => check::run(&arguments),
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
