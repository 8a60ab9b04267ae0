//! Is every barrier, wait and bounds check of the shipped kernels needed, and do the tests see it? Removes each in turn, runs the family's tests on the emulator, and lists what survived. The
//! table is committed beside this program; `--check` says whether it still describes the sources.

mod mutants;
mod suite;
mod switches;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use mutants::Mutant;
use regex::Regex;
use suite::{Bench, Outcome};

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

/// A source by its path within `cuda/`.
type Sources = BTreeMap<PathBuf, String>;

/// One line of the table.
struct Case {
    path: PathBuf,
    mutant: Mutant,
}

impl Case {
    /// What the table says of it before the outcome, and how it is found in the table of other sources.
    fn description(&self) -> String {
        format!("`{}` | `{}`", self.mutant.removed.replace('|', "\\|"), self.mutant.replacement)
    }
}

/// The kernels of a family, and the tiles that they are made of.
fn sources(cuda: &Path, family: &str) -> Result<Sources, Box<dyn Error>> {
    let mut sources = Sources::new();
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
fn fingerprint(sources: &Sources) -> String {
    let bytes = sources.iter().flat_map(|(path, text)| [path.to_string_lossy().into_owned(), mutants::code(text)]);
    let hash = bytes
        .flat_map(String::into_bytes)
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

/// The tests that failed for the mutants of a table, by what was taken away.
fn known_failures(table: &str) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let row = Regex::new(r"(?m)^\| \S+ \| (`.*` \| `.*`) \| (\S+) fails \|$")?;
    Ok(row.captures_iter(table).map(|found| (found[1].to_string(), found[2].to_string())).collect())
}

/// Builds all mutants that can be chosen at run time into one suite; those that the compiler does not take so are left out. The suite, and which mutants it has.
fn build_switched(bench: &Bench, sources: &Sources, cases: &[Case]) -> Result<(PathBuf, Vec<bool>), Box<dyn Error>> {
    let copy = bench.copy.path();
    let header = copy.join("ptx/ptx.cuh");
    let plain_header = fs::read_to_string(&header)?;
    fs::write(&header, format!("{plain_header}{}", switches::HEADER))?;
    let mut chosen: Vec<bool> = cases
        .iter()
        .map(|case| switches::can_be_chosen(&mutants::without_comments(&sources[&case.path]), &case.mutant))
        .collect();
    loop {
        for (path, source) in sources {
            let here = cases.iter().enumerate().filter(|(i, case)| chosen[*i] && case.path == *path);
            let here: Vec<(usize, &Mutant)> = here.map(|(i, case)| (i, &case.mutant)).collect();
            fs::write(copy.join(path), switches::with_switches(source, &here))?;
        }
        let said = match bench.build()? {
            Ok(suite) => {
                // The suite of the next build lies elsewhere.
                let kept = copy.join("suite");
                fs::copy(suite, &kept)?;
                fs::write(&header, plain_header)?;
                for (path, source) in sources {
                    fs::write(copy.join(path), source)?;
                }
                return Ok((kept, chosen));
            }
            Err(said) => said,
        };
        let mut left_out = false;
        for (i, case) in cases.iter().enumerate() {
            let line = format!("{}:{}:", case.path.display(), case.mutant.line);
            if chosen[i] && said.lines().any(|text| text.contains(&line)) {
                (chosen[i], left_out) = (false, true);
            }
        }
        if !left_out {
            return Err(format!("the mutants do not compile:\n{said}").into());
        }
    }
}

/// The suite with one mutant alone.
fn build_alone(bench: &Bench, source: &str, case: &Case) -> Result<suite::Build, Box<dyn Error>> {
    let file = bench.copy.path().join(&case.path);
    let mut changed = source.to_string();
    changed.replace_range(case.mutant.range.clone(), &case.mutant.replacement);
    fs::write(&file, changed)?;
    let build = bench.build();
    fs::write(&file, source)?;
    build
}

/// Tests of a family, the likeliest to fail first.
struct Tests<'a> {
    bench: &'a Bench,
    family: &'a str,
    known: BTreeMap<String, String>,
    /// Those that failed for other mutants.
    seen: Mutex<Vec<String>>,
}

impl Tests<'_> {
    /// How a mutant ended; `None` if it survived.
    fn outcome(&self, suite: &Path, number: Option<usize>, case: &Case) -> Result<Option<String>, Box<dyn Error>> {
        let mut first: Vec<String> = self.known.get(&case.description()).cloned().into_iter().collect();
        first.extend(self.seen.lock().map_err(|error| error.to_string())?.iter().take(4).cloned());
        let runs = first.iter().map(|test| (test.as_str(), true)).chain([(self.family, false)]);
        for (filter, exact) in runs {
            match self.bench.run(suite, number, filter, exact)? {
                Outcome::Failed { test } => {
                    let mut seen = self.seen.lock().map_err(|error| error.to_string())?;
                    seen.retain(|other| *other != test);
                    seen.insert(0, test.clone());
                    return Ok(Some(format!("{test} fails")));
                }
                Outcome::Ended { how } => return Ok(Some(how)),
                Outcome::Passed => {}
            }
        }
        Ok(None)
    }
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

    let mut cases = Vec::new();
    for (path, source) in &sources {
        if arguments.only.as_ref().is_none_or(|only| path.to_string_lossy().contains(only)) {
            cases.extend(mutants::find(source).into_iter().map(|mutant| Case { path: path.clone(), mutant }));
        }
    }
    let bench = Bench::new(&root)?;
    let (switched, chosen) = build_switched(&bench, &sources, &cases)?;
    let tests =
        Tests { bench: &bench, family: &arguments.family, known: known_failures(&committed)?, seen: Mutex::default() };
    if let Outcome::Failed { test } = bench.run(&switched, None, &arguments.family, false)? {
        return Err(format!("without a mutant: {test} fails").into());
    }

    let outcomes: Vec<Mutex<Option<String>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let next = AtomicUsize::new(0);
    let judge = |i: usize, suite: &Path, number: Option<usize>| -> Result<(), String> {
        let begin = Instant::now();
        let outcome = tests.outcome(suite, number, &cases[i]).map_err(|error| error.to_string())?;
        let outcome = outcome.unwrap_or_else(|| "survived".into());
        println!(
            "{}:{} {} {outcome} ({:.0} s)",
            cases[i].path.display(),
            cases[i].mutant.line,
            cases[i].description(),
            begin.elapsed().as_secs_f64()
        );
        *outcomes[i].lock().map_err(|error| error.to_string())? = Some(outcome);
        Ok(())
    };
    std::thread::scope(|scope| -> Result<(), String> {
        let work = || -> Result<(), String> {
            loop {
                match next.fetch_add(1, Ordering::Relaxed) {
                    i if i >= cases.len() => return Ok(()),
                    i if chosen[i] => judge(i, &switched, Some(i))?,
                    _ => {}
                }
            }
        };
        let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(1, |count| count.get()))
            .map(|_| scope.spawn(work))
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked".to_string())?)
    })?;
    for (i, case) in cases.iter().enumerate().filter(|(i, _)| !chosen[*i]) {
        match build_alone(&bench, &sources[&case.path], case)? {
            Ok(suite) => judge(i, &suite, None)?,
            Err(_) => *outcomes[i].lock().map_err(|error| error.to_string())? = Some("does not compile".into()),
        }
    }

    let mut table = format!(
        "# What the tests of `{}` notice\n\nMade by `cargo run --release -p mutate -- --family {}`: each line of these sources was taken away, and the family's tests run on the emulator.\n\nSources: {fingerprint}\n\n| source | taken away | replaced by | outcome |\n|---|---|---|---|\n",
        arguments.family, arguments.family
    );
    let mut survivors = 0;
    for (case, outcome) in cases.iter().zip(outcomes) {
        let outcome = outcome.into_inner()?.ok_or("a mutant was not judged")?;
        survivors += usize::from(outcome == "survived");
        writeln!(table, "| {}:{} | {} | {outcome} |", case.path.display(), case.mutant.line, case.description())?;
    }
    writeln!(table, "\n{} mutants, {survivors} survivors.", cases.len())?;
    println!("{} mutants, {survivors} survivors", cases.len());
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
