//! Builds the suite once, and the kernels' shared library for each change of them; runs a family's tests until the first fails.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use regex::Regex;
use wait_timeout::ChildExt;

use crate::{Sources, switches};

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
    /// As many at a time as there are cores, in as many schedules as there are unless somebody asks for more.
    FamilyOnAllCores(&'a str),
}

/// How the tests ended.
pub enum Outcome {
    Failed { test: String },
    Ended { how: String },
    Passed,
}

/// Where the changed kernels are built. All of it stays for the next run, which compiles what differs: the paths are the same then.
pub struct Bench {
    root: PathBuf,
    folder: PathBuf,
    /// One run at a time uses the folder.
    _lock: File,
}

/// The folder of a library, built, or what the compiler said.
pub type Build = Result<PathBuf, String>;

impl Bench {
    pub fn new(root: &Path) -> Result<Self, Box<dyn Error>> {
        let folder = root.join("target/mutate");
        fs::create_dir_all(&folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.lock()?;
        let libraries = folder.join("libraries");
        if libraries.exists() {
            fs::remove_dir_all(libraries)?;
        }
        Ok(Self { root: root.to_path_buf(), folder, _lock: lock })
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env_remove("PEFT_KERNELS_SOURCE").env_remove("PEFT_KERNELS_LIBRARY_DIR");
        command
    }

    /// The shared library of `cuda/` with these sources instead of its own.
    pub fn build_library(&self, name: &str, changed: &Sources) -> Result<Build, Box<dyn Error>> {
        let copy = self.folder.join("cuda");
        lay_out(&self.root.join("cuda"), &copy, changed)?;
        let library = self.folder.join("libraries").join(name);
        fs::create_dir_all(&library)?;
        let output = self
            .cargo()
            .env("PEFT_KERNELS_SOURCE", copy)
            // Of what the tool builds; the tool itself lies where it does for everybody.
            .env("CARGO_TARGET_DIR", &self.folder)
            .args(["run", "--quiet", "--package", "peft-kernels-tools", "--target-dir", "target"])
            .args(["--", "shared", "--features", "emulator", "--output"])
            .arg(library.join("libpeft_kernels.so"))
            .output()?;
        Ok(match output.status.success() {
            true => Ok(library),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        })
    }

    /// The suite, which takes the kernels from whatever library it finds when it runs.
    pub fn build_suite(&self, library: &Path) -> Result<PathBuf, Box<dyn Error>> {
        let output = self
            .cargo()
            .env("PEFT_KERNELS_LIBRARY_DIR", library)
            .args(["test", "--package", "peft-kernels", "--test", "suite", "--target-dir"])
            .arg(&self.folder)
            .args(["--no-run", "--message-format", "json-render-diagnostics"])
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let program = Regex::new(r#""executable":"([^"]*/suite-[^"]*)""#)?;
        match program.captures(&text).filter(|_| output.status.success()) {
            Some(found) => Ok(PathBuf::from(&found[1])),
            None => Err("the suite was not built".into()),
        }
    }

    /// Runs tests with a library, on one core unless they say otherwise, until the first fails.
    pub fn run(
        &self,
        suite: &Path,
        library: &Path,
        mutant: Option<usize>,
        tests: Tests<'_>,
    ) -> Result<Outcome, Box<dyn Error>> {
        let log = tempfile::NamedTempFile::new_in(&self.folder)?;
        let mut command = Command::new(suite);
        command.current_dir(&self.root).env("LD_LIBRARY_PATH", library).stdin(Stdio::null());
        match tests {
            Tests::One(name) => command.args(["--exact", name]).env(SEEDS, "1"),
            Tests::FamilyOnce(family) => command.arg(family).env(SEEDS, "1"),
            Tests::Family(family) => command.arg(family),
            Tests::FamilyOnAllCores(family) => command.arg(family).env_remove(SEEDS),
        };
        if !matches!(tests, Tests::FamilyOnAllCores(_)) {
            command.args(["--test-threads", "1"]);
        }
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

/// Makes `copy` what `cuda` is but for what changed and the switches' header; writes only what differs, so that only that is compiled again.
fn lay_out(cuda: &Path, copy: &Path, changed: &Sources) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(copy)?;
    let names = files(cuda)?;
    for name in files(copy)?.difference(&names) {
        fs::remove_file(copy.join(name))?;
    }
    for name in names {
        let mut text = match changed.get(&name) {
            Some(text) => text.clone(),
            None => fs::read_to_string(cuda.join(&name))?,
        };
        if name == Path::new("ptx/ptx.cuh") {
            text += switches::HEADER;
        }
        let path = copy.join(&name);
        if !fs::read_to_string(&path).is_ok_and(|old| old == text) {
            fs::create_dir_all(path.parent().ok_or("a file in no folder")?)?;
            fs::write(path, text)?;
        }
    }
    Ok(())
}

/// The files below a folder, by their paths within it.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>, Box<dyn Error>> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![folder.to_path_buf()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder)?.to_path_buf());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_written_where_it_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        let (cuda, copy) = (folder.path().join("cuda"), folder.path().join("copy"));
        for (name, text) in [("ptx/ptx.cuh", "primitives"), ("lora/a.cuh", "a"), ("lora/b.cuh", "b")] {
            let path = cuda.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
            fs::write(path, text).expect("files can be written");
        }
        let text = |name: &str| fs::read_to_string(copy.join(name)).ok();
        lay_out(&cuda, &copy, &Sources::new()).expect("a copy");
        assert_eq!(text("ptx/ptx.cuh"), Some(format!("primitives{}", switches::HEADER)));

        // A time that no writing gives.
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        for name in ["lora/a.cuh", "lora/b.cuh"] {
            let file = File::options().write(true).open(copy.join(name)).expect("a copied file");
            file.set_modified(long_ago).expect("times can be set");
        }
        fs::write(copy.join("lora/gone.cuh"), "").expect("files can be written");
        lay_out(&cuda, &copy, &Sources::from([("lora/a.cuh".into(), "changed".into())])).expect("a copy");
        let is_as_it_was =
            |name: &str| fs::metadata(copy.join(name)).and_then(|data| data.modified()).ok() == Some(long_ago);
        assert_eq!((text("lora/a.cuh").as_deref(), is_as_it_was("lora/a.cuh")), (Some("changed"), false));
        assert_eq!((text("lora/b.cuh").as_deref(), is_as_it_was("lora/b.cuh")), (Some("b"), true));
        assert_eq!(text("lora/gone.cuh"), None);
    }
}
