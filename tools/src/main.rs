//! What the project's maintainers run: nothing here is needed to build or use the library.

mod archives;
mod bindings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
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
            archives::Archives::build(&root, &features)?.link(&output)?;
            println!("{}", output.display());
        }
        Command::Symbols => {
            let count = archives::Archives::build(&root, "emulator,cuda")?.check_symbols()?;
            println!("{count} symbols, none in both builds");
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
