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
    /// Builds the library with these features.
    pub fn build(root: &Path, features: &str) -> Result<Self, Box<dyn Error>> {
        let text = run(cargo(root).args([
            "build",
            "--release",
            "--package",
            "peft-kernels",
            "--features",
            features,
            "--message-format",
            "json-render-diagnostics",
        ]))?;
        let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let script = messages
            .filter(|message| message["reason"] == "build-script-executed")
            .find(|message| message["linked_libs"].to_string().contains("peft_kernels_api"))
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
        let folder = self.folder.join("device");
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut objects = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
        objects.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
        objects.sort();
        Ok(objects)
    }

    /// A folder for files that are not kept.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join("scratch").join(name)
    }

    /// Links `libpeft_kernels.so`, which exports the C interface and nothing else.
    pub fn link(&self, output: &Path) -> Result<(), Box<dyn Error>> {
        let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
        let mut command = Command::new(compiler);
        command.args([
            "-shared",
            "-Wl,--no-undefined",
            "-Wl,-soname,libpeft_kernels.so",
            "-Wl,--exclude-libs,libcudart_static.a",
        ]);
        command.arg("-o").arg(output).arg("-Wl,--whole-archive");
        command.args(["api", "emulator", "device"].iter().filter_map(|name| self.path(name)));
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
