//! What nvcc builds: the kernels for GPUs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::objects::{self, Unit};

#[path = "release.rs"]
mod release;

/// Where an nvcc was found.
struct Toolkit {
    nvcc: PathBuf,
    root: PathBuf,
    /// Whether it can make machine code small at some cost of loading it: half of it is the numbers of lines.
    compresses: bool,
}

const NOT_FOUND: &str = "no nvcc, which the feature `cuda` needs. Three ways to get one:\n\
    1. tools/install-nvcc.sh installs a pinned one (CUDA 13.0) from Python wheels, without root, and prints the variable to set\n\
    2. install the CUDA toolkit, 12.1 or later, and set CUDA_HOME (or CUDA_PATH) to its folder\n\
    3. set NVCC to the program itself, or put it in PATH";

fn toolkit() -> Result<Toolkit, String> {
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "PATH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let in_folder = |name: &str| env::var_os(name).map(|folder| PathBuf::from(folder).join("bin/nvcc"));
    let in_path =
        || env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("nvcc")).find(|file| file.is_file());
    let named = env::var_os("NVCC").map(PathBuf::from);
    let candidates = [named, in_folder("CUDA_HOME"), in_folder("CUDA_PATH"), in_path()];
    let nvcc = candidates.into_iter().flatten().find(|file| file.is_file()).ok_or(NOT_FOUND)?;
    let nvcc = nvcc.canonicalize().map_err(|error| format!("{}: {error}", nvcc.display()))?;
    let root = nvcc.parent().and_then(Path::parent).ok_or("nvcc is in no folder")?.to_path_buf();
    let compresses = said(&nvcc, "--help")?.contains("--compress-mode");
    Ok(Toolkit { nvcc, root, compresses })
}

/// What nvcc prints when it is asked.
fn said(nvcc: &Path, question: &str) -> Result<String, String> {
    let output = Command::new(nvcc).arg(question).output().map_err(|error| format!("{}: {error}", nvcc.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `80;90a;90-ptx` becomes the flags for machine code of 8.0 and 9.0a, and PTX of 9.0 for later chips.
fn architectures() -> Result<Vec<String>, String> {
    println!("cargo::rerun-if-env-changed=PEFT_KERNELS_ARCH");
    let list = env::var("PEFT_KERNELS_ARCH").unwrap_or_else(|_| "80;90a;90-ptx".into());
    list.split([';', ',']).map(str::trim).filter(|name| !name.is_empty()).map(gencode).collect()
}

fn gencode(name: &str) -> Result<String, String> {
    let (number, ptx) = name.strip_suffix("-ptx").map_or((name, false), |number| (number, true));
    let digits = number.trim_end_matches(['a', 'f']);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "PEFT_KERNELS_ARCH names `{name}`, expected compute capabilities such as 80, 90a or 90-ptx, separated by semicolons"
        ));
    }
    // Kernels need the tensor cores and copies of 8.0. On chips from 9.0 on their launches overlap, which code for earlier ones would not wait for.
    let least = if ptx { 90 } else { 80 };
    if digits.parse::<u32>().is_ok_and(|number| number < least) {
        return Err(format!(
            "PEFT_KERNELS_ARCH names `{name}`, expected at least 80, and for PTX, which later chips run, at least 90-ptx"
        ));
    }
    let code = if ptx { "compute" } else { "sm" };
    Ok(format!("-gencode=arch=compute_{number},code={code}_{number}"))
}

fn unit(
    toolkit: &Toolkit,
    source: PathBuf,
    out: &Path,
    include: Option<&Path>,
    architectures: &[String],
) -> Result<Unit, String> {
    let object = objects::object_path(out, "device", &source)?;
    let mut command = Command::new(&toolkit.nvcc);
    // A product and a sum are rounded one by one unless the kernel says fma. A spill or a use of local memory is an error.
    command.args([
        "-std=c++17",
        "-O3",
        "-fmad=false",
        "--cudart=static",
        "-Werror",
        "all-warnings",
        "-Xcompiler",
        "-fPIC,-Wall,-fvisibility=hidden",
    ]);
    command.args(["-Xptxas", "--warn-on-spills,--warn-on-local-memory-usage"]);
    // Half of the machine code's size.
    if env::var("PEFT_KERNELS_LINE_INFO").is_ok_and(|value| value == "1") {
        command.arg("-lineinfo");
    }
    if toolkit.compresses {
        command.arg("--compress-mode=size");
    }
    command
        .args(architectures)
        .arg("-MMD")
        .arg("-MF")
        .arg(object.with_extension("d"))
        .arg("--time")
        .arg(object.with_extension(objects::SECONDS))
        .arg("-c")
        .arg(&source)
        .arg("-o")
        .arg(&object);
    if let Some(folder) = include {
        command.arg("-I").arg(folder);
    }
    if let Some(compiler) = env::var_os("NVCC_CCBIN") {
        command.arg("-ccbin").arg(compiler);
    }
    Ok(Unit { source, object, command })
}

/// An archive of these sources, and the CUDA runtime linked into it: no CUDA library is needed to start what links this.
pub fn compile(archive: &str, sources: Vec<PathBuf>, out: &Path, include: Option<&Path>) -> Result<(), String> {
    println!("cargo::rerun-if-env-changed=NVCC_CCBIN");
    println!("cargo::rerun-if-env-changed=PEFT_KERNELS_LINE_INFO");
    let toolkit = toolkit()?;
    release::check(&toolkit.nvcc.display().to_string(), &said(&toolkit.nvcc, "--version")?)?;
    let architectures = architectures()?;
    let units = sources
        .into_iter()
        .map(|source| unit(&toolkit, source, out, include, &architectures))
        .collect::<Result<_, _>>()?;
    let objects = objects::compile(units)?;
    cc::Build::new().objects(&objects).try_compile(archive).map_err(|error| error.to_string())?;
    link_runtime()
}

/// The CUDA runtime, statically.
pub fn link_runtime() -> Result<(), String> {
    let toolkit = toolkit()?;
    let libraries =
        ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"].map(|folder| toolkit.root.join(folder));
    let folder = libraries.iter().find(|folder| folder.join("libcudart_static.a").is_file());
    let folder = folder
        .ok_or_else(|| format!("no libcudart_static.a in lib64, lib or targets of {}", toolkit.root.display()))?;
    println!("cargo::rustc-link-search=native={}", folder.display());
    println!("cargo::rustc-link-lib=static=cudart_static");
    for library in ["dl", "rt", "pthread"] {
        println!("cargo::rustc-link-lib={library}");
    }
    Ok(())
}
