//! A fault in any shipped kernel is found: each kernel's source is copied, one line of the copy is made wrong, and the program built from it must fail and name the kernel.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Run;

struct Fault {
    kernel: &'static str,
    file: &'static str,
    text: &'static str,
    planted: &'static str,
    /// The operations whose rows fail.
    operations: &'static [&'static str],
}

const FAULTS: &[Fault] = &[
    // Reads beyond the last row of x. The shrink kernel is the first launch of a forward.
    Fault {
        kernel: "lora_shrink_simt",
        file: "lora/shrink_simt.cuh",
        text: "x.at(row % problem.m, k)",
        planted: "x.at(row % problem.m + 1, k)",
        operations: &["lora.forward"],
    },
    // Adds the branch twice.
    Fault {
        kernel: "lora_forward_simt",
        file: "lora/forward_simt.cuh",
        text: "fma(adapter.scale,",
        planted: "fma(2.0f * adapter.scale,",
        operations: &["lora.forward"],
    },
    // Leaves out the last rank.
    Fault {
        kernel: "lora_merge_simt",
        file: "lora/merge_simt.cuh",
        text: "rank < adapters[i].rank;",
        planted: "rank + 1 < adapters[i].rank;",
        operations: &["lora.merge"],
    },
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file of a folder, relative to it.
fn files(folder: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder.join(below)).expect("a folder") {
        let entry = entry.expect("an entry");
        let path = below.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() { files(folder, &path, found) } else { found.push(path) }
    }
}

/// Makes `copy` the repository's `cuda/`, but for the fault; writes only what changes, so that only that is compiled again.
fn plant(copy: &Path, fault: Option<&Fault>) {
    let source = repository().join("cuda");
    fs::create_dir_all(copy).expect("folders can be made");
    let (mut names, mut old_names) = (Vec::new(), Vec::new());
    files(&source, Path::new(""), &mut names);
    files(copy, Path::new(""), &mut old_names);
    for name in old_names.iter().filter(|name| !names.contains(name)) {
        fs::remove_file(copy.join(name)).expect("the copy can be changed");
    }
    for name in names {
        let mut contents = fs::read(source.join(&name)).expect("a source file");
        if let Some(fault) = fault.filter(|fault| Path::new(fault.file) == name) {
            let text = String::from_utf8(contents).expect("UTF-8");
            let places = text.matches(fault.text).count();
            assert_eq!(places, 1, "`{}` is {places} times in {}, expected once", fault.text, fault.file);
            contents = text.replace(fault.text, fault.planted).into_bytes();
        }
        let path = copy.join(&name);
        if fs::read(&path).is_ok_and(|old| old == contents) {
            continue;
        }
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        fs::write(path, contents).expect("the copy can be written");
    }
}

/// Builds the program from a copy of `cuda/`, and runs it on the emulator.
fn run(copy: &Path, target: &Path) -> Run {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--target-dir"]).arg(target);
    if repository().join("Cargo.lock").exists() {
        build.arg("--offline");
    }
    build.current_dir(repository()).env("PEFT_KERNELS_SOURCE", copy).stdin(Stdio::null());
    let output = build.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let program = target.join("debug").join(format!("peft-kernels{}", std::env::consts::EXE_SUFFIX));
    Run::of(
        &Command::new(program).args(["check", "--queue", "emulator", "--json"]).output().expect("the program starts"),
    )
}

#[test]
fn every_planted_fault_is_found_and_named() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-faults");
    let (copy, target) = (folder.join("cuda"), folder.join("target"));

    plant(&copy, None);
    let sound = run(&copy, &target);
    assert_eq!(sound.status, Some(0), "without a fault: {}", sound.stderr);

    for fault in FAULTS {
        plant(&copy, Some(fault));
        let run = run(&copy, &target);
        assert_eq!(run.status, Some(1), "{}: {}", fault.kernel, run.stderr);
        let summary = run.stderr.lines().last().unwrap_or_default();
        assert!(summary.contains(&format!("({} x ", fault.kernel)), "{}: {summary}", fault.kernel);
        for row in run.rows() {
            // Every row of its operations, and no other row. (What merges wrong may unmerge as wrongly.)
            let operation = row["op"].as_str().unwrap_or_default();
            if fault.operations.contains(&operation) {
                assert_eq!(row["passed"], false, "{}: {row}", fault.kernel);
                assert_eq!(row["failed_kernel"], fault.kernel, "{row}");
                assert!(row["failure"].is_string(), "{row}");
            } else if operation != "lora.unmerge" {
                assert_eq!(row["passed"], true, "{}: {row}", fault.kernel);
            }
        }
    }
}
