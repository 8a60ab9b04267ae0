//! The archives that the library's build script makes, the shared library made of them, and what they define.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{cargo, run};

/// The features of the builds that tools make of the device's kernels: one set, so that nvcc runs once for all of them.
pub const DEVICE_FEATURES: &str = "emulator,cuda,cudarc";

/// What a build of the library links.
pub struct Archives {
    /// The folder of the archives.
    folder: PathBuf,
    /// Folders of other libraries.
    search: Vec<PathBuf>,
}

impl Archives {
    /// Has a package's build script make them, with these features. Cargo checks the rest of the package: nobody links it.
    pub fn build(root: &Path, package: &str, features: &str) -> Result<Self, Box<dyn Error>> {
        let check = ["check", "--release", "--package", package, "--features", features];
        let text = run(cargo(root).args(check).args(["--message-format", "json-render-diagnostics"]))?;
        let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let is_of_package = |id: &str| id.contains(&format!("#{package}@")) || id.contains(&format!("/{package}#"));
        let script = messages
            .filter(|message| message["reason"] == "build-script-executed")
            .find(|message| message["package_id"].as_str().is_some_and(is_of_package))
            .filter(|script| script["linked_libs"].as_array().is_some_and(|libraries| !libraries.is_empty()))
            .ok_or("the build linked no archive: name the features `emulator` or `cuda`")?;
        let folder = PathBuf::from(script["out_dir"].as_str().ok_or("the build script has no folder")?);
        let paths = script["linked_paths"].as_array().into_iter().flatten();
        let search =
            paths.filter_map(|path| Some(PathBuf::from(path.as_str()?.trim_start_matches("native=")))).collect();
        Ok(Self { folder, search })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(format!("libpeft_kernels_{name}.a"));
        path.is_file().then_some(path)
    }

    /// The objects that nvcc made.
    pub fn device_objects(&self) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        objects(&self.folder.join("device"))
    }

    /// A folder for files that are not kept.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join("scratch").join(name)
    }

    /// Links `libpeft_kernels.so`, which exports the C interface and nothing else.
    pub fn link(&self, output: &Path) -> Result<(), Box<dyn Error>> {
        // It may be several words, as `ccache g++` is.
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let mut words = compiler.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("c++"));
        command.args(words).args([
            "-shared",
            "-Wl,--no-undefined",
            "-Wl,-soname,libpeft_kernels.so",
            "-Wl,--exclude-libs,libcudart_static.a",
        ]);
        command.arg("-o").arg(output).arg("-Wl,--whole-archive");
        command.args(["api", "device"].iter().filter_map(|name| self.path(name)));
        match (self.path("emulator"), self.path("device")) {
            (Some(_), Some(_)) => command.args(self.loadable_emulator()?),
            (emulator, _) => command.args(emulator),
        };
        command.arg("-Wl,--no-whole-archive");
        if self.path("device").is_some() {
            for folder in &self.search {
                command.arg("-L").arg(folder);
            }
            command.args(["-lcudart_static", "-ldl", "-lrt"]);
        }
        run(command.arg("-pthread"))?;
        Ok(())
    }

    /// The emulator's objects, compiled once more: with the CUDA runtime beside them, a running program could not load the library (cuda/emulator/block.h).
    fn loadable_emulator(&self) -> Result<Vec<PathBuf>, Box<dyn Error>> {
        let folder = self.scratch("shared");
        std::fs::create_dir_all(&folder)?;
        let mut units = Vec::new();
        for object in objects(&self.folder.join("emulator"))? {
            let output = folder.join(object.file_name().ok_or("an object without a name")?);
            let mut words = command_of(&object)?;
            let place = words.iter().position(|word| word == "-o").ok_or("a compiler call without -o")? + 1;
            words[place] = output.display().to_string();
            let mut command = Command::new(words.remove(0));
            command.args(words).arg("-DPK_SHARED_LIBRARY");
            units.push((command, output));
        }
        let threads = std::thread::available_parallelism()?.get();
        let queue = std::sync::Mutex::new(units);
        let compile = || -> Result<Vec<PathBuf>, String> {
            let mut made = Vec::new();
            while let Some((mut command, output)) = queue.lock().map_err(|error| error.to_string())?.pop() {
                run(&mut command).map_err(|error| error.to_string())?;
                made.push(output);
            }
            Ok(made)
        };
        let made = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(compile)).collect();
            let results = workers.into_iter().map(|worker| worker.join().map_err(|_| "a thread panicked")?);
            results.collect::<Result<Vec<_>, String>>()
        })?;
        let mut made = made.concat();
        made.sort();
        Ok(made)
    }

    /// Fails on a symbol that the emulator's and the device's archive both define, weak ones included: the linker would give one build the other's code.
    pub fn check_symbols(&self) -> Result<usize, Box<dyn Error>> {
        let emulator = defined(&self.path("emulator").ok_or("no archive of the emulator")?)?;
        let device = defined(&self.path("device").ok_or("no archive of the device build")?)?;
        let both: Vec<&String> = emulator.intersection(&device).filter(|name| !is_foreign(name)).collect();
        if !both.is_empty() {
            return Err(format!(
                "both builds define {} symbols:\n{}",
                both.len(),
                both.iter().map(|name| name.as_str()).collect::<Vec<_>>().join("\n")
            )
            .into());
        }
        Ok(emulator.len() + device.len())
    }
}

/// The objects of a folder, in a fixed order.
fn objects(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut objects = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    objects.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    objects.sort();
    Ok(objects)
}

/// How an object was compiled, as the build script noted it down beside it, a word a line.
pub fn command_of(object: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    Ok(std::fs::read_to_string(object.with_extension("command"))?.lines().map(str::to_string).collect())
}

/// Symbols of the C++ library and of the compiler: the same in every build, whoever compiles them.
fn is_foreign(name: &str) -> bool {
    let library = [
        "_ZNSt",
        "_ZNKSt",
        "_ZSt",
        "_ZTISt",
        "_ZTSSt",
        "_ZTVSt",
        "_ZTI",
        "_ZTS",
        "_ZN9__gnu_cxx",
        "_ZNK9__gnu_cxx",
        "_ZGVNSt",
        "__clang",
        "DW.ref.",
    ];
    library.iter().any(|prefix| name.starts_with(prefix)) && !name.contains("peft_kernels")
}

/// The global and weak symbols that an archive defines.
fn defined(archive: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let text = run(Command::new("nm").args(["--defined-only", "--extern-only", "--format=posix"]).arg(archive))?;
    Ok(text.lines().filter_map(|line| line.split_once(' ')).map(|(name, _)| name.to_string()).collect())
}
