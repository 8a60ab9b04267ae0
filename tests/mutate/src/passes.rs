//! Shows the mutants to the tests: to those that likely see them first, to all in the end.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::builds::{Built, Switched};
use crate::suite::{Bench, Outcome, Tests};
use crate::table::{SURVIVED, Table};
use crate::{Case, Sources};

/// Which tests failed for the mutants of a source, and for how many.
type Failures = BTreeMap<PathBuf, BTreeMap<String, usize>>;

/// The tests that saw most mutants of a source.
fn frequent(failures: &Failures, path: &Path) -> Vec<String> {
    const TRIED: usize = 6;
    let mut tests: Vec<_> = failures.get(path).into_iter().flatten().collect();
    tests.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    tests.into_iter().take(TRIED).map(|(test, _)| test.clone()).collect()
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

/// What runs the mutants of a family.
struct Run<'a> {
    bench: &'a Bench,
    suite: PathBuf,
    tests: &'a str,
    known: BTreeMap<String, String>,
    failures: Mutex<Failures>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    /// What noticed a mutant, if anything did.
    fn judge(&self, case: &Case, built: &Built, pass: Pass) -> Result<Option<Seen>, Box<dyn Error>> {
        let mut likely: Vec<String> = self.known.get(&case.description()).cloned().into_iter().collect();
        likely.extend(frequent(&locked(&self.failures), &case.path));
        let stem = case.path.file_stem().unwrap_or_default().to_string_lossy();
        let namesakes = format!("{}::{stem}::", self.tests.trim_end_matches("::"));
        let likely = likely.iter().map(|test| Tests::One(test));
        let tests: Vec<Tests> = match pass {
            Pass::Likely => likely.chain([Tests::FamilyOnce(&namesakes)]).collect(),
            Pass::Once => likely.chain([Tests::FamilyOnce(self.tests)]).collect(),
            Pass::All => vec![Tests::Family(self.tests)],
        };
        for tests in tests {
            match self.bench.run(&self.suite, &built.library, built.number, tests)? {
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
                let mut failures = locked(&self.failures);
                *failures.entry(case.path.clone()).or_default().entry(test.clone()).or_default() += 1;
                Some(format!("{test} fails"))
            }
            Some(Seen::Otherwise(how)) => Some(how),
            None if pass == Pass::All => Some(SURVIVED.into()),
            None => None,
        };
        let said = outcome.as_deref().unwrap_or("not seen yet");
        if pass != Pass::Likely || outcome.is_some() {
            println!("{} {} {said} ({:.0} s)", case.place(), case.description(), begin.elapsed().as_secs_f64());
        }
        Ok(outcome)
    }

    /// All tests pass without a mutant: else a failure would say nothing of one.
    fn sound(&self, library: &Path) -> Result<(), Box<dyn Error>> {
        let begin = Instant::now();
        match self.bench.run(&self.suite, library, None, Tests::FamilyOnAllCores(self.tests))? {
            Outcome::Failed { test } => Err(format!("without a mutant: {test} fails").into()),
            Outcome::Ended { how } => Err(format!("without a mutant: {how}").into()),
            Outcome::Passed => {
                println!("without a mutant all tests pass ({:.0} s)", begin.elapsed().as_secs_f64());
                Ok(())
            }
        }
    }

    /// One pass of all mutants whose outcome is not known yet.
    fn pass(
        &self,
        pass: Pass,
        cases: &[Case],
        built: &[Option<Built>],
        outcomes: &[Mutex<Option<String>>],
    ) -> Result<(), String> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), String> {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(i) else { return Ok(()) };
                if let Some(built) = built[i].as_ref().filter(|_| locked(&outcomes[i]).is_none()) {
                    let outcome = self.one(case, built, pass).map_err(|error| error.to_string())?;
                    *locked(&outcomes[i]) = outcome;
                }
            }
        };
        std::thread::scope(|scope| {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| Err("a worker panicked".into())))
        })
    }
}

/// Finds out what becomes of each case of these sources. After each pass the table has what is known by then, and is saved.
pub fn run(
    bench: &Bench,
    tests: &str,
    sources: &Sources,
    cases: &[Case],
    table: &mut Table,
    save: &dyn Fn(&Table) -> std::io::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let switched = Switched::build(bench, sources, cases)?;
    let suite = bench.build_suite(&switched.library)?;
    let run = Run { bench, suite, tests, known: table.known_failures(), failures: Mutex::new(table.failures()) };
    run.sound(&switched.library)?;
    let built = switched.all(bench, sources, cases)?;
    let outcomes: Vec<Mutex<Option<String>>> =
        built.iter().map(|built| Mutex::new(built.is_none().then(|| "does not compile".into()))).collect();
    for pass in [Pass::Likely, Pass::Once, Pass::All] {
        run.pass(pass, cases, &built, &outcomes)?;
        let known: Vec<Option<String>> = outcomes.iter().map(|outcome| locked(outcome).clone()).collect();
        crate::record(table, sources, cases, &known);
        save(table)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_saw_most_are_tried_first() {
        let tests = [("b", 3), ("a", 1), ("c", 2)].map(|(test, count)| (test.to_string(), count));
        let failures = Failures::from([("lora/a.cuh".into(), BTreeMap::from(tests))]);
        assert_eq!(frequent(&failures, Path::new("lora/a.cuh")), ["b", "c", "a"]);
        assert!(frequent(&failures, Path::new("lora/b.cuh")).is_empty());
    }
}
