//! Is every barrier, wait and bounds check of the shipped kernels needed, and do the tests see it? Removes each in turn, runs the family's tests on the emulator, and lists what survived. The
//! table is committed beside this program; `--check` says whether it still describes the sources.

mod builds;
mod mutants;
mod passes;
mod suite;
mod switches;
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use mutants::Mutant;
use suite::Bench;
use table::{Row, Table};

#[derive(Parser)]
struct Arguments {
    /// The family whose kernels are changed, and whose tests are run; or `tile`, which all families are made of and all tests are run for.
    #[arg(long, default_value = "lora")]
    family: String,
    /// Runs nothing: fails if the committed table is of other sources, or has a survivor.
    #[arg(long)]
    check: bool,
    /// Only mutants of files that are not as they were for the committed table.
    #[arg(long)]
    changed: bool,
    /// Only mutants of files whose path contains this.
    #[arg(long)]
    only: Option<String>,
}

/// A source by its path within `cuda/`.
type Sources = BTreeMap<PathBuf, String>;

struct Case {
    path: PathBuf,
    mutant: Mutant,
}

impl Case {
    fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.mutant.line)
    }

    /// What the table says of it before the outcome, and how it is found in the table of other sources.
    fn description(&self) -> String {
        format!("`{}` | `{}`", self.mutant.removed.replace('|', "\\|"), self.mutant.replacement)
    }

    fn row(&self, outcome: Option<String>) -> Row {
        Row { place: self.place(), description: self.description(), outcome }
    }
}

/// Whether a source has kernels, and not only what launches them: most are in headers.
fn has_kernels(path: &Path, source: &str) -> bool {
    let name = path.to_string_lossy();
    let is_unit = name.ends_with(".cu") && mutants::without_comments(source).contains("PK_KERNEL");
    is_unit || name.ends_with(".cuh") && !name.ends_with("_launch.cuh")
}

/// The kernels of a folder of `cuda/`.
fn sources(cuda: &Path, family: &str) -> Result<Sources, Box<dyn Error>> {
    let mut sources = Sources::new();
    for entry in fs::read_dir(cuda.join(family))? {
        let path = entry?.path();
        let source = fs::read_to_string(&path)?;
        if has_kernels(&path, &source) {
            sources.insert(path.strip_prefix(cuda)?.to_path_buf(), source);
        }
    }
    Ok(sources)
}

/// The rows of these sources, with the outcomes of their cases as far as they are known.
fn record(table: &mut Table, sources: &Sources, cases: &[Case], outcomes: &[Option<String>]) {
    for (path, source) in sources {
        let here = cases.iter().zip(outcomes).filter(|(case, _)| case.path == *path);
        table.set(path, source, here.map(|(case, outcome)| case.row(outcome.clone())).collect());
    }
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    // Whatever has a family's name, or another's: not what needs cargo.
    let tests = if arguments.family == "tile" { "::" } else { &arguments.family };
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no folder above the tests")?.to_path_buf();
    let path = root.join("tests/mutate").join(&arguments.family).with_extension("md");
    let sources = sources(&root.join("cuda"), &arguments.family)?;
    let committed = Table::read(&fs::read_to_string(&path).unwrap_or_default())?;
    let stale: Vec<&PathBuf> =
        sources.iter().filter(|(path, source)| !committed.describes(path, source)).map(|(path, _)| path).collect();
    for path in &stale {
        println!("{}: not as in the table", path.display());
    }
    if arguments.check {
        return Ok(stale.is_empty() && committed.survivors() == 0);
    }

    let mut wanted = sources.clone();
    wanted.retain(|path, _| match &arguments.only {
        Some(only) => path.to_string_lossy().contains(only),
        None => !arguments.changed || stale.contains(&path),
    });
    let mut cases = Vec::new();
    for (path, source) in &wanted {
        cases.extend(mutants::find(source).into_iter().map(|mutant| Case { path: path.clone(), mutant }));
    }
    let mut table = committed.of(&sources);
    let save = |table: &Table| fs::write(&path, table.text(&arguments.family));
    if cases.is_empty() {
        record(&mut table, &wanted, &[], &[]);
        save(&table)?;
    } else {
        passes::run(&Bench::new(&root)?, tests, &wanted, &cases, &mut table, &save)?;
    }
    println!("{} mutants, {} survivors", table.mutants(), table.survivors());
    Ok(table.survivors() == 0)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_in_headers_and_in_some_units() {
        assert!(has_kernels(Path::new("lora/outer.cuh"), ""));
        assert!(!has_kernels(Path::new("lora/outer_launch.cuh"), "PK_KERNEL"));
        assert!(has_kernels(Path::new("lora/noise.cu"), "PK_KERNEL void lora_add_noise() {}"));
        assert!(!has_kernels(Path::new("lora/lora.cu"), "// no PK_KERNEL\nint32_t launch();"));
        assert!(!has_kernels(Path::new("lora/plan.h"), "PK_KERNEL"));
    }
}
