//! Builds the suite with a changed copy of the kernels, and runs a family's tests until the first fails.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use wait_timeout::ChildExt;

use crate::switches;

/// Where no test ends for so long, one hangs: many of the family's, or one that was quick before.
const LIMIT: Duration = Duration::from_secs(300);
const LIMIT_OF_ONE: Duration = Duration::from_secs(120);

/// How many of the emulator's schedules a test runs.
const SEEDS: &str = "PEFT_KERNELS_TEST_SEEDS";

/// Which tests to run.
#[derive(Clone, Copy)]
pub enum Tests<'a> {
    /// One, in one schedule.
    One(&'a str),
    /// All of a family, in one schedule.
    FamilyOnce(&'a str),
    /// All of a family, in all schedules.
    Family(&'a str),
}

/// How the tests ended.
pub enum Outcome {
    Failed { test: String },
    Ended { how: String },
    Passed,
}

/// A copy of `cuda/` to be changed, and where what is made of it goes.
pub struct Bench {
    root: PathBuf,
    pub copy: tempfile::TempDir,
}

/// The suite, built, or what the compiler said.
pub type Build = Result<PathBuf, String>;

impl Bench {
    pub fn new(root: &Path) -> Result<Self, Box<dyn Error>> {
        let copy = tempfile::tempdir()?;
        copy_folder(&root.join("cuda"), copy.path())?;
        Ok(Self { root: root.to_path_buf(), copy })
    }

    pub fn build(&self) -> Result<Build, Box<dyn Error>> {
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(&self.root)
            .env("PEFT_KERNELS_SOURCE", self.copy.path())
            .args(["test", "--package", "peft-kernels", "--test", "suite", "--target-dir", "target/mutate"])
            .args(["--no-run", "--message-format", "json-render-diagnostics"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let program = Regex::new(r#""executable":"([^"]*/suite-[^"]*)""#)?;
        Ok(match program.captures(&text).filter(|_| output.status.success()) {
            Some(found) => Ok(PathBuf::from(&found[1])),
            None => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        })
    }

    /// Runs tests on one core until the first fails.
    pub fn run(&self, suite: &Path, mutant: Option<usize>, tests: Tests<'_>) -> Result<Outcome, Box<dyn Error>> {
        let log = tempfile::NamedTempFile::new_in(self.copy.path())?;
        let mut command = Command::new(suite);
        command.current_dir(&self.root).args(["--test-threads", "1"]).stdin(Stdio::null());
        match tests {
            Tests::One(name) => command.args(["--exact", name]).env(SEEDS, "1"),
            Tests::FamilyOnce(family) => command.arg(family).env(SEEDS, "1"),
            Tests::Family(family) => command.arg(family),
        };
        if let Some(number) = mutant {
            command.env(switches::CHOICE, number.to_string());
        }
        let limit = if matches!(tests, Tests::One(_)) { LIMIT_OF_ONE } else { LIMIT };
        let mut child = command.stdout(log.reopen()?).stderr(Stdio::null()).spawn()?;
        let failure = Regex::new(r"(?m)^test .*?(\S+)\s+\.\.\. .*FAILED")?;
        let (mut ended, mut said) = (Instant::now(), 0);
        loop {
            let status = child.wait_timeout(Duration::from_millis(100))?;
            let text = fs::read_to_string(log.path())?;
            if text.len() > said {
                (ended, said) = (Instant::now(), text.len());
            }
            let outcome = match (failure.captures(&text), status) {
                (Some(found), _) => Outcome::Failed { test: found[1].to_string() },
                (None, Some(status)) if status.success() => Outcome::Passed,
                (None, Some(status)) => Outcome::Ended { how: format!("the tests end with {status}") },
                (None, None) if ended.elapsed() > limit => Outcome::Ended { how: "hangs".into() },
                (None, None) => continue,
            };
            child.kill()?;
            child.wait()?;
            return Ok(outcome);
        }
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
