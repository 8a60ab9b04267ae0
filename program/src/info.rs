//! `peft-kernels info`: what was built, what was found, and what to do about what was not.

use std::env;
use std::io::{self, Write, stdout};
use std::path::PathBuf;
use std::process::Command;

use peft_kernels::{ABI_VERSION, HAS_CUDA, HAS_EMULATOR, device_count};

/// A line, and what to do where what it is about is not there.
struct Fact {
    name: &'static str,
    found: String,
    advice: Option<&'static str>,
}

pub fn run() -> io::Result<bool> {
    let mut out = stdout().lock();
    for Fact { name, found, advice } in facts() {
        writeln!(out, "{name:14}{found}")?;
        if let Some(advice) = advice {
            writeln!(out, "{:14}-> {advice}", "")?;
        }
    }
    Ok(true)
}

fn facts() -> Vec<Fact> {
    let fact = |name, found: String| Fact { name, found, advice: None };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let features: Vec<_> = [("emulator", HAS_EMULATOR), ("cuda", HAS_CUDA)]
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name)
        .collect();
    let cores = std::thread::available_parallelism().map_or("unknown".into(), |cores| cores.to_string());
    vec![
        fact("version", format!("{} ({build} build, ABI {})", env!("CARGO_PKG_VERSION"), ABI_VERSION)),
        fact("features", features.join(", ")),
        fact("platform", format!("{} {}, {cores} cores", env::consts::OS, env::consts::ARCH)),
        emulator(),
        devices(),
        tool(
            "C++ compiler",
            &[env::var_os("CXX").map(PathBuf::from), Some("c++".into()), Some("g++".into()), Some("clang++".into())],
            "install g++ or clang++, or name one in CXX: the emulator and the C interface are built with it",
        ),
        tool(
            "nvcc",
            &[
                env::var_os("NVCC").map(PathBuf::from),
                env::var_os("CUDA_HOME").map(|folder| PathBuf::from(folder).join("bin/nvcc")),
                env::var_os("CUDA_PATH").map(|folder| PathBuf::from(folder).join("bin/nvcc")),
                Some("nvcc".into()),
            ],
            "to build with `--features cuda`: eval \"$(tools/install-nvcc.sh)\", or set CUDA_HOME to a toolkit, or NVCC to the program",
        ),
    ]
}

fn emulator() -> Fact {
    if HAS_EMULATOR {
        let threads = env::var("PEFT_KERNELS_EMULATOR_THREADS").ok().and_then(|text| text.parse().ok());
        let threads: Option<usize> = threads.filter(|&threads| threads > 0);
        let threads = threads.map_or("all cores".into(), |threads| format!("{threads} threads"));
        let found = format!("built in, imitates compute capability 9.0, on {threads}");
        return Fact { name: "emulator", found, advice: None };
    }
    let advice = Some("build with `--features emulator` and a C++17 compiler");
    Fact { name: "emulator", found: "not built".into(), advice }
}

fn devices() -> Fact {
    let name = "CUDA devices";
    if !HAS_CUDA {
        let advice = Some("build with `--features cuda`, which needs nvcc");
        return Fact { name, found: "not looked for: built without the feature cuda".into(), advice };
    }
    match device_count() {
        Ok(0) => Fact { name, found: "none".into(), advice: Some("check `nvidia-smi` and CUDA_VISIBLE_DEVICES") },
        Ok(count) => Fact { name, found: count.to_string(), advice: None },
        Err(error) => {
            let advice = Some("install the NVIDIA driver; check that `nvidia-smi` lists a device");
            Fact { name, found: format!("none: {error}"), advice }
        }
    }
}

/// The first of some programs that says its version.
fn tool(name: &'static str, candidates: &[Option<PathBuf>], advice: &'static str) -> Fact {
    let version = |path: &PathBuf| {
        let output = Command::new(path).arg("--version").output().ok().filter(|output| output.status.success())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // nvcc says its version in a later line than others.
        let line = text.lines().find(|line| line.contains("release")).or(text.lines().next())?;
        Some(format!("{} ({})", path.display(), line.trim()))
    };
    match candidates.iter().flatten().find_map(version) {
        Some(found) => Fact { name, found, advice: None },
        None => Fact { name, found: "not found".into(), advice: Some(advice) },
    }
}
