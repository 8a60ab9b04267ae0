//! One archive with everything that a machine with a GPU runs, and that needs nothing there but a driver and a shell.

use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archives::{Archives, DEVICE_FEATURES};
use crate::{cargo, run};

/// The folder in the archive.
const NAME: &str = "peft-kernels-bundle";
/// It travels with a working tree.
const MOST_BYTES: u64 = 24 << 20;

/// Builds, packs, and returns the archive's bytes.
pub fn pack(root: &Path, output: &Path, with_sanitizer: bool) -> Result<u64, Box<dyn Error>> {
    let archives = Archives::build(root, "peft-kernels", DEVICE_FEATURES)?;
    let folder = archives.scratch(NAME);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;

    archives.link(&folder.join("libpeft_kernels.so"))?;
    let test = ["test", "--no-run", "--package"];
    let suite = [&test[..], &["peft-kernels", "--features", DEVICE_FEATURES, "--test", "suite"]].concat();
    fs::copy(executable(root, "suite", &suite, Some(&folder))?, folder.join("suite"))?;
    let conformance = [&test[..], &["emulator-tests", "--features", "cuda", "--test", "conformance"]].concat();
    fs::copy(executable(root, "conformance", &conformance, None)?, folder.join("conformance"))?;
    let program = ["build", "--package", "peft-kernels-program", "--features", "cuda"];
    fs::copy(executable(root, "peft-kernels", &program, Some(&folder))?, folder.join("peft-kernels"))?;
    let binaries = ["libpeft_kernels.so", "suite", "conformance", "peft-kernels"].map(|name| folder.join(name));
    for binary in &binaries {
        run(Command::new("strip").arg("--strip-unneeded").arg(binary))?;
    }

    fs::copy(root.join("tools/bundle/run.sh"), folder.join("run.sh"))?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        fs::copy(root.join(licence), folder.join(licence))?;
    }
    if with_sanitizer {
        pack_sanitizer(&folder.join("sanitizer"))?;
    }
    fs::write(folder.join("VERSION"), version(root, &binaries)?)?;
    write_sums(&folder)?;
    archive(&folder, output)?;
    let bytes = fs::metadata(output)?.len();
    match bytes > MOST_BYTES {
        true => Err(format!("{} has {bytes} bytes, more than {MOST_BYTES}", output.display()).into()),
        false => Ok(bytes),
    }
}

/// Builds a target in the release profile, which finds the kernels in the shared library of a folder, if one is given; where cargo put it.
fn executable(
    root: &Path,
    target: &str,
    arguments: &[&str],
    library: Option<&Path>,
) -> Result<PathBuf, Box<dyn Error>> {
    let (command, rest) = arguments.split_first().ok_or("no command")?;
    let mut cargo = cargo(root);
    if let Some(folder) = library {
        cargo.env("PEFT_KERNELS_LIBRARY_DIR", folder);
    }
    let text = run(cargo.arg(command).args(["--release", "--message-format", "json-render-diagnostics"]).args(rest))?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let path = messages.filter(|message| message["target"]["name"] == target).find_map(|message| {
        let path = message["executable"].as_str()?;
        Some(PathBuf::from(path))
    });
    path.ok_or_else(|| format!("cargo built no {target}").into())
}

/// All files in one folder, as in the toolkit: the program looks for its libraries beside itself.
fn pack_sanitizer(folder: &Path) -> Result<(), Box<dyn Error>> {
    let home = std::env::var_os("SANITIZER_HOME").map(PathBuf::from);
    let home = home.ok_or("no compute-sanitizer: run `eval \"$(tools/install-sanitizer.sh)\"`")?;
    fs::create_dir_all(folder)?;
    for part in ["lib", "bin"] {
        for entry in fs::read_dir(home.join(part))? {
            let path = entry?.path();
            if path.is_file() {
                fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
            }
        }
    }
    Ok(())
}

/// What this was made from, and the oldest C library that can start it.
fn version(root: &Path, binaries: &[PathBuf]) -> Result<String, Box<dyn Error>> {
    let git = |arguments: &[&str]| run(Command::new("git").current_dir(root).args(arguments));
    let commit = git(&["rev-parse", "HEAD"]).unwrap_or_else(|_| "unknown".into());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_ok_and(|text| !text.trim().is_empty());
    let rustc = run(Command::new("rustc").arg("--version"))?;
    let mut text = format!("commit {}{}\n", commit.trim(), if changed { ", with changes" } else { "" });
    let _ = writeln!(text, "compiler {}", rustc.trim());
    let _ = writeln!(text, "features {DEVICE_FEATURES}");
    for library in ["GLIBC_", "GLIBCXX_"] {
        let mut needed = Vec::new();
        for binary in binaries {
            let symbols = run(Command::new("objdump").arg("-T").arg(binary))?;
            let marked = symbols.split(library).skip(1);
            needed.extend(marked.filter_map(|rest| {
                let number: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                let parts: Option<Vec<u32>> = number.split('.').map(|part| part.parse().ok()).collect();
                Some((parts?, number))
            }));
        }
        let (_, newest) = needed.into_iter().max().ok_or_else(|| format!("no binary needs {library}"))?;
        let _ = writeln!(text, "needs {library}{newest}");
    }
    Ok(text)
}

/// The files below a folder, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn write_sums(folder: &Path) -> Result<(), Box<dyn Error>> {
    let names = files(folder)?.into_iter().map(|path| Ok(path.strip_prefix(folder)?.to_path_buf()));
    let names = names.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let sums = run(Command::new("sha256sum").current_dir(folder).arg("--").args(names))?;
    Ok(fs::write(folder.join("SHA256SUMS"), sums)?)
}

/// The same files give the same bytes.
fn archive(folder: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let compressed = flate2::write::GzEncoder::new(File::create(output)?, flate2::Compression::best());
    let mut archive = tar::Builder::new(compressed);
    for path in files(folder)? {
        let bytes = fs::read(&path)?;
        let name = Path::new(NAME).join(path.strip_prefix(folder)?);
        let is_program = bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"#!");
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(if is_program { 0o755 } else { 0o644 });
        archive.append_data(&mut header, name, &bytes[..])?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}
