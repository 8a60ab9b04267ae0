//! Is every barrier, wait and bounds check of the shipped kernels needed, and do the tests see it? Removes each in turn, runs the family's tests on the emulator, and lists what survived. The
//! table is committed beside this program; `--check` says whether it still describes the sources.

mod mutants;
mod suite;
mod switches;
mod table;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use mutants::Mutant;
use suite::{Bench, Outcome, Tests};
use table::{SURVIVED, Table};

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
    /// What the table says of it before the outcome, and how it is found in the table of other sources.
    fn description(&self) -> String {
        format!("`{}` | `{}`", self.mutant.removed.replace('|', "\\|"), self.mutant.replacement)
    }

    fn row(&self, outcome: &str) -> String {
        format!("| {}:{} | {} | {outcome} |", self.path.display(), self.mutant.line, self.description())
    }
}

/// The kernels of a folder of `cuda/`, not what launches them.
fn sources(cuda: &Path, family: &str) -> Result<Sources, Box<dyn Error>> {
    let mut sources = Sources::new();
    for entry in fs::read_dir(cuda.join(family))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".cuh") && !path.to_string_lossy().ends_with("_launch.cuh") {
            sources.insert(path.strip_prefix(cuda)?.to_path_buf(), fs::read_to_string(&path)?);
        }
    }
    Ok(sources)
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

/// Which tests failed for the mutants of a source, and for how many.
type Failures = Mutex<BTreeMap<PathBuf, BTreeMap<String, usize>>>;

/// The tests that saw most mutants of a source.
fn frequent(failures: &Failures, path: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    const TRIED: usize = 6;
    let all = failures.lock().map_err(|error| error.to_string())?;
    let mut tests: Vec<_> = all.get(path).into_iter().flatten().collect();
    tests.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    Ok(tests.into_iter().take(TRIED).map(|(test, _)| test.clone()).collect())
}

/// What noticed a mutant.
enum Seen {
    By(String),
    Otherwise(String),
}

/// How much of the tests a mutant is shown. Most are seen by few, so that all are shown those first.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pass {
    /// The test that failed for the same mutant before, those that saw others of its source, and those that have its name.
    Likely,
    /// What has seen others since, then all of the family, in one schedule.
    Once,
    /// In all schedules.
    All,
}

/// The suite that has a mutant, and the number that chooses it there.
struct Built {
    suite: PathBuf,
    number: Option<usize>,
}

/// What runs the mutants of a family.
struct Run<'a> {
    bench: &'a Bench,
    tests: &'a str,
    known: BTreeMap<String, String>,
    failures: Failures,
}

impl Run<'_> {
    /// What noticed a mutant, if anything did.
    fn judge(&self, case: &Case, built: &Built, pass: Pass) -> Result<Option<Seen>, Box<dyn Error>> {
        let mut likely: Vec<String> = self.known.get(&case.description()).cloned().into_iter().collect();
        likely.extend(frequent(&self.failures, &case.path)?);
        let stem = case.path.file_stem().unwrap_or_default().to_string_lossy();
        let namesakes = format!("{}::{stem}::", self.tests.trim_end_matches("::"));
        let likely = likely.iter().map(|test| Tests::One(test));
        let tests: Vec<Tests> = match pass {
            Pass::Likely => likely.chain([Tests::FamilyOnce(&namesakes)]).collect(),
            Pass::Once => likely.chain([Tests::FamilyOnce(self.tests)]).collect(),
            Pass::All => vec![Tests::Family(self.tests)],
        };
        for tests in tests {
            match self.bench.run(&built.suite, built.number, tests)? {
                Outcome::Failed { test } => return Ok(Some(Seen::By(test))),
                Outcome::Ended { how } => return Ok(Some(Seen::Otherwise(how))),
                Outcome::Passed => {}
            }
        }
        Ok(None)
    }

    /// One pass of one mutant; says what became of it, if that is known now.
    fn one(&self, case: &Case, built: &Built, pass: Pass) -> Result<Option<String>, Box<dyn Error>> {
        let begin = Instant::now();
        let outcome = match self.judge(case, built, pass)? {
            Some(Seen::By(test)) => {
                let mut failures = self.failures.lock().map_err(|error| error.to_string())?;
                *failures.entry(case.path.clone()).or_default().entry(test.clone()).or_default() += 1;
                Some(format!("{test} fails"))
            }
            Some(Seen::Otherwise(how)) => Some(how),
            None if pass == Pass::All => Some(SURVIVED.into()),
            None => None,
        };
        let said = outcome.as_deref().unwrap_or("not seen yet");
        if pass != Pass::Likely || outcome.is_some() {
            let (path, seconds) = (case.path.display(), begin.elapsed().as_secs_f64());
            println!("{path}:{} {} {said} ({seconds:.0} s)", case.mutant.line, case.description());
        }
        Ok(outcome)
    }

    /// All tests pass without a mutant.
    fn sound(&self, suite: &Path) -> Result<(), Box<dyn Error>> {
        match self.bench.run(suite, None, Tests::Family(self.tests))? {
            Outcome::Failed { test } => Err(format!("without a mutant: {test} fails").into()),
            Outcome::Ended { how } => Err(format!("without a mutant: {how}").into()),
            Outcome::Passed => Ok(()),
        }
    }
}

/// What became of each case, in their order; and of none, which all tests must pass.
fn outcomes(
    bench: &Bench,
    tests: &str,
    sources: &Sources,
    cases: &[Case],
    table: &Table,
) -> Result<Vec<String>, Box<dyn Error>> {
    let (switched, chosen) = build_switched(bench, sources, cases)?;
    let mut built = Vec::new();
    for (i, case) in cases.iter().enumerate() {
        built.push(if chosen[i] {
            Some(Built { suite: switched.clone(), number: Some(i) })
        } else if let Ok(suite) = build_alone(bench, &sources[&case.path], case)? {
            // The suite of the next build lies where this one does.
            let kept = bench.copy.path().join(format!("suite-{i}"));
            fs::copy(suite, &kept)?;
            Some(Built { suite: kept, number: None })
        } else {
            None
        });
    }
    let run = Run { bench, tests, known: table.known_failures()?, failures: Failures::new(table.failures()?) };
    let outcomes: Vec<Mutex<Option<String>>> =
        built.iter().map(|built| Mutex::new(built.is_none().then(|| "does not compile".into()))).collect();
    let outcome_of = |i: usize| outcomes[i].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for pass in [Pass::Likely, Pass::Once, Pass::All] {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), String> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i > cases.len() {
                    return Ok(());
                }
                if i == cases.len() {
                    if pass == Pass::All {
                        run.sound(&switched).map_err(|error| error.to_string())?;
                    }
                } else if let Some(built) = built[i].as_ref().filter(|_| outcome_of(i).is_none()) {
                    let outcome = run.one(&cases[i], built, pass).map_err(|error| error.to_string())?;
                    *outcome_of(i) = outcome;
                }
            }
        };
        std::thread::scope(|scope| {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
        })?;
    }
    let decided = |i: usize| outcome_of(i).clone().ok_or("a mutant that nobody ran");
    Ok((0..cases.len()).map(decided).collect::<Result<_, _>>()?)
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

    let wanted = |path: &PathBuf| match &arguments.only {
        Some(only) => path.to_string_lossy().contains(only),
        None => !arguments.changed || stale.contains(&path),
    };
    let mut cases = Vec::new();
    for (path, source) in sources.iter().filter(|(path, _)| wanted(path)) {
        cases.extend(mutants::find(source).into_iter().map(|mutant| Case { path: path.clone(), mutant }));
    }
    let mut table = committed.of(&sources);
    if !cases.is_empty() {
        let outcomes = outcomes(&Bench::new(&root)?, tests, &sources, &cases, &table)?;
        for (path, source) in sources.iter().filter(|(path, _)| wanted(path)) {
            let of_file = cases.iter().zip(&outcomes).filter(|(case, _)| case.path == *path);
            table.set(path, source, of_file.map(|(case, outcome)| case.row(outcome)).collect());
        }
    }
    println!("{} mutants, {} survivors", table.mutants(), table.survivors());
    fs::write(path, table.text(&arguments.family))?;
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
