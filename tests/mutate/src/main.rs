//! Is every barrier, wait and bounds check of the shipped kernels needed, and do the tests see it? Removes each in turn, builds the family's tests with the emulator, runs them, and lists
//! what survived. The table is committed beside this program; `--check` says whether it still describes the sources.

mod mutants;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use mutants::Mutant;
use regex::Regex;
use wait_timeout::ChildExt;

#[derive(Parser)]
struct Arguments {
    /// The family whose kernels are changed, and whose tests are run.
    #[arg(long, default_value = "lora")]
    family: String,
    /// Runs nothing: fails if the committed table is of other sources, or has a survivor.
    #[arg(long)]
    check: bool,
    /// Runs only if the sources are not those of the committed table.
    #[arg(long)]
    changed: bool,
    /// Only mutants of files whose path contains this; the table is then not written.
    #[arg(long)]
    only: Option<String>,
}

/// A mutant that runs longer than this hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// The kernels of a family and the tiles that they are made of, by path within `cuda/`.
fn sources(cuda: &Path, family: &str) -> Result<BTreeMap<PathBuf, String>, Box<dyn Error>> {
    let mut sources = BTreeMap::new();
    for folder in ["tile", family] {
        for entry in fs::read_dir(cuda.join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "cuh") {
                sources.insert(path.strip_prefix(cuda)?.to_path_buf(), fs::read_to_string(&path)?);
            }
        }
    }
    Ok(sources)
}

/// Of the code alone, without comments and spaces: FNV-1a, which no version of a library changes.
fn fingerprint(sources: &BTreeMap<PathBuf, String>) -> String {
    let bytes = sources.iter().flat_map(|(path, text)| [path.to_string_lossy().into_owned(), mutants::code(text)]);
    let hash = bytes
        .flat_map(String::into_bytes)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// How a mutant ended.
enum Outcome {
    Killed(String),
    Survived,
}

/// A copy of `cuda/` to be changed, and where what is made of it goes.
struct Bench {
    root: PathBuf,
    copy: tempfile::TempDir,
    family: String,
}

impl Bench {
    fn new(root: &Path, family: &str) -> Result<Self, Box<dyn Error>> {
        let copy = tempfile::tempdir()?;
        copy_folder(&root.join("cuda"), copy.path())?;
        Ok(Self { root: root.to_path_buf(), copy, family: family.to_string() })
    }

    /// Builds the tests with the copy; the program, unless it does not compile.
    fn build(&self) -> Result<Option<PathBuf>, Box<dyn Error>> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(&self.root)
            .env("PEFT_KERNELS_SOURCE", self.copy.path())
            .args(["test", "--package", "peft-kernels", "--test", "suite", "--target-dir", "target/mutate"])
            .args(["--no-run", "--message-format", "json-render-diagnostics"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let program = Regex::new(r#""executable":"([^"]*/suite-[^"]*)""#)?;
        Ok(program.captures(&text).filter(|_| output.status.success()).map(|found| PathBuf::from(&found[1])))
    }

    /// Builds and runs the family's tests, until the first fails.
    fn run(&self) -> Result<Outcome, Box<dyn Error>> {
        let Some(program) = self.build()? else { return Ok(Outcome::Killed("does not compile".into())) };
        let log = self.copy.path().join("log");
        let mut child = Command::new(program)
            .current_dir(&self.root)
            .arg(&self.family)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log)?)
            .stderr(Stdio::null())
            .spawn()?;
        let failure = Regex::new(r"(?m)^test .*?(\S+)\s+\.\.\. .*FAILED")?;
        let begin = Instant::now();
        loop {
            let status = child.wait_timeout(Duration::from_millis(200))?;
            let text = fs::read_to_string(&log)?;
            let ended = match (failure.captures(&text), status) {
                (Some(found), _) => Outcome::Killed(format!("{} fails", &found[1])),
                (None, Some(status)) if status.success() => Outcome::Survived,
                (None, Some(status)) => Outcome::Killed(format!("the tests end with {status}")),
                (None, None) if begin.elapsed() > LIMIT => Outcome::Killed("hangs".into()),
                (None, None) => continue,
            };
            child.kill()?;
            child.wait()?;
            return Ok(ended);
        }
    }

    fn try_mutant(&self, path: &Path, source: &str, mutant: &Mutant) -> Result<Outcome, Box<dyn Error>> {
        let file = self.copy.path().join(path);
        let mut changed = source.to_string();
        changed.replace_range(mutant.range.clone(), &mutant.replacement);
        fs::write(&file, changed)?;
        let outcome = self.run();
        fs::write(&file, source)?;
        outcome
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no folder above the tests")?.to_path_buf();
    let table_path = root.join("tests/mutate").join(&arguments.family).with_extension("md");
    let sources = sources(&root.join("cuda"), &arguments.family)?;
    let fingerprint = fingerprint(&sources);
    let committed = fs::read_to_string(&table_path).unwrap_or_default();
    let current = committed.contains(&fingerprint);
    if arguments.check || arguments.changed && current {
        println!("{}: {}", table_path.display(), if current { "describes the sources" } else { "is of other sources" });
        return Ok(current && !committed.contains("| survived |"));
    }

    let bench = Bench::new(&root, &arguments.family)?;
    if let Outcome::Killed(how) = bench.run()? {
        return Err(format!("without a mutant: {how}").into());
    }
    let mut table = format!(
        "# What the tests of `{}` notice\n\nMade by `cargo run --release -p mutate -- --family {}`: each line of these sources was taken away, and the family's tests run on the emulator.\n\nSources: {fingerprint}\n\n| source | taken away | replaced by | outcome |\n|---|---|---|---|\n",
        arguments.family, arguments.family
    );
    let (mut count, mut survivors) = (0, 0);
    for (path, source) in &sources {
        if arguments.only.as_ref().is_some_and(|only| !path.to_string_lossy().contains(only)) {
            continue;
        }
        for mutant in mutants::find(source) {
            let begin = Instant::now();
            let outcome = match bench.try_mutant(path, source, &mutant)? {
                Outcome::Killed(how) => how,
                Outcome::Survived => {
                    survivors += 1;
                    "survived".into()
                }
            };
            count += 1;
            let removed = mutant.removed.replace('|', "\\|");
            let row =
                format!("| {}:{} | `{removed}` | `{}` | {outcome} |", path.display(), mutant.line, mutant.replacement);
            println!("{row} {:.0} s", begin.elapsed().as_secs_f64());
            writeln!(table, "{row}")?;
        }
    }
    writeln!(table, "\n{count} mutants, {survivors} survivors.")?;
    println!("{count} mutants, {survivors} survivors");
    if arguments.only.is_none() {
        fs::write(table_path, table)?;
    }
    Ok(survivors == 0)
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
