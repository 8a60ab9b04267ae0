//! Compiles sources to objects, side by side, and only those whose source, headers or command have changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// The extension of the file beside an object to which nvcc appends how long each of its phases took.
pub const SECONDS: &str = "seconds";

/// One compiler call, which also writes the object's dependencies in make's syntax.
pub struct Unit {
    pub source: PathBuf,
    pub object: PathBuf,
    pub command: Command,
}

impl Unit {
    fn dependency_file(&self) -> PathBuf {
        self.object.with_extension("d")
    }

    fn command_file(&self) -> PathBuf {
        self.object.with_extension("command")
    }

    /// A word a line.
    fn command_text(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join("\n")
    }

    fn is_fresh(&self) -> bool {
        let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        let Some(object) = modified(&self.object) else { return false };
        let older = |path: &PathBuf| modified(path).is_some_and(|time: SystemTime| time < object);
        let same_command = fs::read_to_string(self.command_file()).is_ok_and(|text| text == self.command_text());
        let dependencies = dependencies(&self.dependency_file());
        same_command && !dependencies.is_empty() && dependencies.iter().all(older)
    }

    fn compile(&mut self) -> Result<(), String> {
        if self.is_fresh() {
            return Ok(());
        }
        let text = self.command_text();
        let _ = fs::remove_file(self.object.with_extension(SECONDS));
        let shown = text.replace('\n', " ");
        let output = self.command.output().map_err(|error| format!("could not run {shown}: {error}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("compiling {} failed:\n{shown}\n{said}", self.source.display()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        said.lines().for_each(|line| println!("cargo::warning={line}"));
        fs::write(self.command_file(), text).map_err(|error| error.to_string())
    }
}

/// The files that an object was made from, as the compiler listed them.
fn dependencies(path: &Path) -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let text = text.replace("\\\n", " ");
    let Some((_, list)) = text.split_once(": ") else { return Vec::new() };
    let list = list.lines().next().unwrap_or_default().replace("\\ ", "\u{0}");
    list.split_whitespace().map(|path| PathBuf::from(path.replace('\u{0}', " "))).collect()
}

/// Compiles what is stale; the objects, in the units' order. Cargo looks again when a source or header changes.
pub fn compile(mut units: Vec<Unit>) -> Result<Vec<PathBuf>, String> {
    let threads = std::env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1usize);
    let next = AtomicUsize::new(0);
    let cells: Vec<_> = units.iter_mut().map(std::sync::Mutex::new).collect();
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let run = || {
            while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                cell.lock().map_err(|error| error.to_string())?.compile()?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| Err("a compiler thread panicked".into())))
            .collect()
    });
    drop(cells);
    results.into_iter().collect::<Result<(), _>>()?;
    for unit in &units {
        for dependency in dependencies(&unit.dependency_file()) {
            println!("cargo::rerun-if-changed={}", dependency.display());
        }
    }
    Ok(units.into_iter().map(|unit| unit.object).collect())
}

/// The sources of a folder with one extension, in a fixed order.
pub fn sources(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    Ok(files)
}

/// The units of all families: the `.cu` files of each folder of `cuda/` that has one of its own name.
pub fn families(source: &Path) -> Result<Vec<PathBuf>, String> {
    println!("cargo::rerun-if-changed={}", source.display());
    let entries = fs::read_dir(source).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    folders.retain(|folder| folder.file_name().is_some_and(|name| folder.join(name).with_extension("cu").exists()));
    folders.sort();
    Ok(folders.iter().map(|folder| sources(folder, "cu")).collect::<Result<Vec<_>, _>>()?.concat())
}

/// Where the object of a source goes.
pub fn object_path(out: &Path, build: &str, source: &Path) -> Result<PathBuf, String> {
    let name = source.file_stem().ok_or("a source without a name")?;
    let folder = out.join(build);
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder.join(name).with_extension("o"))
}
