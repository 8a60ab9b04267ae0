//! What the project's maintainers run: nothing here is needed to build or use the library.

mod archives;
mod bindings;
mod bundle;
mod disassembly;
mod ledger;
mod refusals;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode, Stdio};

use archives::{Archives, DEVICE_FEATURES};

#[derive(clap::Parser)]
enum Command {
    /// Regenerates src/ffi/bindings.rs.
    Bindings {
        /// Writes nothing, and fails if the committed file differs.
        #[arg(long)]
        check: bool,
    },
    /// Builds the shared library for C, C++ and Python programs.
    Shared {
        /// What it contains: emulator, cuda, or both.
        #[arg(long, default_value = "emulator")]
        features: String,
        /// Where it goes.
        #[arg(long, default_value = "target/libpeft_kernels.so")]
        output: PathBuf,
    },
    /// Checks that the emulator's and the device's archive define no symbol in common. Needs nvcc.
    Symbols,
    /// Writes docs/ledger: every compiled kernel's registers, code and matrix instructions. Refuses stacks, local memory, generic accesses and families over their budget. Needs nvcc and cuobjdump.
    Ledger {
        /// Writes nothing, and fails if the committed pages differ.
        #[arg(long)]
        check: bool,
    },
    /// Plants a spill, a use of local memory, a warning and a generic access, and fails unless each is refused for every architecture. Needs nvcc and cuobjdump.
    Refusals,
    /// Packs the test binaries, the program and the shared library with a script that runs them on a machine with a GPU, which needs no compiler. Needs nvcc.
    Bundle {
        /// Where it goes.
        #[arg(long, default_value = "target/peft-kernels-bundle.tar.gz")]
        output: PathBuf,
        /// Packs compute-sanitizer too, from SANITIZER_HOME.
        #[arg(long)]
        with_sanitizer: bool,
    },
}

const LIBRARY: &str = "peft-kernels";

/// What a program printed; an error if it failed.
fn run(command: &mut Process) -> Result<String, Box<dyn Error>> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that started this program; what it says goes to this program's standard error.
fn cargo(root: &Path) -> Process {
    let mut command = Process::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).stderr(Stdio::inherit());
    command
}

fn run_command() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tools have no parent folder")?.to_path_buf();
    match clap::Parser::parse() {
        Command::Bindings { check } => {
            let path: PathBuf = root.join("src/ffi/bindings.rs");
            let text = bindings::generate(&root)?;
            if !check {
                std::fs::write(path, text)?;
            } else if std::fs::read_to_string(&path)? != text {
                return Err(format!(
                    "{} is not what the header gives: run `cargo run -p peft-kernels-tools -- bindings`",
                    path.display()
                )
                .into());
            }
        }
        Command::Shared { features, output } => {
            Archives::build(&root, LIBRARY, &features)?.link(&output)?;
            println!("{}", output.display());
        }
        Command::Symbols => {
            let count = Archives::build(&root, LIBRARY, DEVICE_FEATURES)?.check_symbols()?;
            println!("{count} symbols, none in both builds");
        }
        Command::Refusals => {
            let count = refusals::run(&root, &Archives::build(&root, LIBRARY, DEVICE_FEATURES)?)?;
            println!("{count} planted faults, all refused");
        }
        Command::Ledger { check } => ledger::run_ledger(&root, check)?,
        Command::Bundle { output, with_sanitizer } => {
            let bytes = bundle::pack(&root, &output, with_sanitizer)?;
            println!("{}: {:.1} MiB", output.display(), bytes as f64 / f64::from(1 << 20));
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run_command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
