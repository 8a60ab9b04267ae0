//! What the host's C++ compiler builds: the C interface, and the kernels for the emulator. Needs nothing of CUDA.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::objects::{self, Unit};

/// `-O2` in every profile: the kernels and the emulator are what the tests run. With sanitizers `-O1`, which takes half as long to compile and leaves them more to see.
fn compiler() -> Result<cc::Tool, String> {
    let mut build = cc::Build::new();
    let level = if sanitized() { 1 } else { 2 };
    build.cpp(true).std("c++17").opt_level(level).pic(true).warnings(true).extra_warnings(true);
    // Lines are what reports need.
    build.flag("-g1");
    // A product and a sum are rounded one by one unless the kernel says fma.
    build.flag("-ffp-contract=off").flag("-Wno-unknown-pragmas").flag("-fvisibility=hidden");
    // A tensor map by value is passed as g++ 4.6 did not: all that is linked here is built alike.
    build.flag_if_supported("-Wno-psabi");
    if sanitized() {
        build
            .flag("-fsanitize=address,undefined")
            .flag("-fno-sanitize=vptr,function")
            .flag("-fno-sanitize-recover=undefined");
        build.flag("-fno-omit-frame-pointer");
    }
    build.try_get_compiler().map_err(|error| {
        format!(
            "no C++ compiler, which the features `emulator` and `cuda` need ({error}): install g++ or clang++ (Debian: apt-get install g++), \
             or name one in CXX, or leave the features out: the library then runs on the CPU queue alone"
        )
    })
}

/// PEFT_KERNELS_SANITIZE=1 builds for AddressSanitizer and UndefinedBehaviorSanitizer, which the tests are then linked with.
fn sanitized() -> bool {
    println!("cargo::rerun-if-env-changed=PEFT_KERNELS_SANITIZE");
    std::env::var_os("PEFT_KERNELS_SANITIZE").is_some_and(|value| value == "1")
}

fn unit(source: PathBuf, out: &Path, build: &str, flags: &[&str]) -> Result<Unit, String> {
    let object = objects::object_path(out, build, &source)?;
    let mut command = compiler()?.to_command();
    // Reports name kernels as cuda/lora/…, wherever they were compiled.
    let folder = source.ancestors().nth(2).unwrap_or(&source).display().to_string();
    command.arg(format!("-ffile-prefix-map={folder}=cuda"));
    command.args(flags).arg("-MMD").args([OsStr::new("-x"), OsStr::new("c++"), OsStr::new("-c")]);
    command.arg(&source).arg("-o").arg(&object);
    Ok(Unit { source, object, command })
}

fn archive(name: &str, objects: &[PathBuf]) -> Result<(), String> {
    cc::Build::new().cargo_metadata(true).objects(objects).try_compile(name).map_err(|error| error.to_string())
}

/// The C interface: checks, choice of kernel, dispatch to the builds.
pub fn interface(source: &Path, out: &Path) -> Result<(), String> {
    let mut flags = Vec::new();
    if cfg!(feature = "emulator") {
        flags.push("-DPK_WITH_EMULATOR");
    }
    if cfg!(feature = "cuda") {
        flags.push("-DPK_WITH_CUDA");
    }
    let sources = objects::sources(&source.join("api"), "cpp")?;
    let units = sources.into_iter().map(|source| unit(source, out, "api", &flags)).collect::<Result<_, _>>()?;
    archive("peft_kernels_api", &objects::compile(units)?)
}

/// The shipped kernels and launchers, and the emulator that runs them.
#[cfg(feature = "emulator")]
pub fn emulator(source: &Path, out: &Path) -> Result<(), String> {
    let mut sources = objects::sources(&source.join("emulator"), "cpp")?;
    sources.extend(objects::families(source)?);
    let units = sources.into_iter().map(|source| unit(source, out, "emulator", &[])).collect::<Result<_, _>>()?;
    archive("peft_kernels_emulator", &objects::compile(units)?)
}

/// The C++ library behind all archives.
pub fn link_runtime() {
    let target = std::env::var("CARGO_CFG_TARGET_VENDOR").unwrap_or_default();
    let library = if target == "apple" { "c++" } else { "stdc++" };
    println!("cargo::rustc-link-lib={library}");
    println!("cargo::rustc-link-lib=pthread");
    if sanitized() {
        println!("cargo::rustc-link-arg-tests=-fsanitize=address,undefined");
    }
}
