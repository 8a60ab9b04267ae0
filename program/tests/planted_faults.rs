//! A fault in any shipped kernel is found: each kernel's source is copied, one line of the copy is made wrong, and the program built from it must fail and name the kernel.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Run;

struct Fault {
    file: &'static str,
    text: &'static str,
    planted: &'static str,
    /// Kernels, by how their names begin, of which at least one is named; those of one round have no name in common.
    kernels: &'static [&'static str],
}

const FORWARD: &str = "lora_forward_mma_";
const SHRINK: &str = "lora_shrink_mma";
const MERGE: &str = "lora_merge_mma";

/// What is planted at once: building takes longer than running.
const ROUNDS: &[&[Fault]] = &[
    &[
        // Reads beyond the last row of x. The shrink kernel is the first launch of a forward.
        Fault {
            file: "lora/shrink_simt.cuh",
            text: "x.at(row % problem.m, k)",
            planted: "x.at(row % problem.m + 1, k)",
            kernels: &["lora_shrink_simt"],
        },
        // Reads the rows' adapters while others write them.
        Fault {
            file: "lora/shrink_mma.cuh",
            text: "  barrier();\n\n  const int64_t stages",
            planted: "\n  const int64_t stages",
            kernels: &[SHRINK],
        },
        // Leaves out the last rank.
        Fault {
            file: "lora/merge_simt.cuh",
            text: "rank < adapter.rank;",
            planted: "rank + 1 < adapter.rank;",
            kernels: &["lora_merge_simt"],
        },
        // Exchanges neighbours on the way to memory. (A forward fails before that, in its shrink kernel.)
        Fault {
            file: "tile/quads.cuh",
            text: "take(quad, at.row, at.column,",
            planted: "take(quad, at.row, at.column ^ 4,",
            kernels: &[MERGE],
        },
    ],
    &[
        // Adds the branch twice.
        Fault {
            file: "lora/forward_simt.cuh",
            text: "fma(scale, branch[j], value)",
            planted: "fma(2.0f * scale, branch[j], value)",
            kernels: &["lora_forward_simt"],
        },
        // Leaves out the end of k.
        Fault {
            file: "lora/forward_mma.cuh",
            text: "stages * (split + 1) / problem.splits",
            planted: "(stages * (split + 1) / problem.splits - 1)",
            kernels: &[FORWARD],
        },
        // Adds what is to be taken away.
        Fault {
            file: "lora/merge_mma.cuh",
            text: "problem.direction * of.scale",
            planted: "1.0f * of.scale",
            kernels: &[MERGE],
        },
    ],
    &[Fault {
        // Scales H twice.
        file: "lora/branch.cuh",
        text: "adapter.scale * load_h",
        planted: "adapter.scale * adapter.scale * load_h",
        kernels: &[FORWARD],
    }],
    &[Fault {
        // Leaves out rows of the operands.
        file: "tile/operand.cuh",
        text: "pass_ = kPassLines * pitch",
        planted: "pass_ = (kPassLines + 1) * pitch",
        kernels: &[FORWARD, SHRINK],
    }],
    &[Fault {
        // Exchanges the halves of a step's depth in the left operand alone.
        file: "tile/fragments.cuh",
        text: "2 * step + in_warp / 16)",
        planted: "2 * step + 1 - in_warp / 16)",
        kernels: &[FORWARD, SHRINK, MERGE],
    }],
    &[Fault {
        // Does not wait for the copies of the stage that is read.
        file: "tile/product.cuh",
        text: "wait_group<Config::kStages - 2>();",
        planted: "wait_group<Config::kStages - 1>();",
        kernels: &[FORWARD, SHRINK],
    }],
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

/// Makes `copy` the repository's `cuda/`, but for the faults; writes only what changes, so that only that is compiled again.
fn plant(copy: &Path, faults: &[Fault]) {
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
        if let Some(fault) = faults.iter().find(|fault| Path::new(fault.file) == name) {
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

    plant(&copy, &[]);
    let sound = run(&copy, &target);
    assert_eq!(sound.status, Some(0), "without a fault: {}", sound.stderr);

    for faults in ROUNDS {
        plant(&copy, faults);
        let run = run(&copy, &target);
        let files: Vec<_> = faults.iter().map(|fault| fault.file).collect();
        assert_eq!(run.status, Some(1), "{files:?}: {}", run.stderr);
        let summary = run.stderr.lines().last().unwrap_or_default();
        for fault in *faults {
            let named =
                |kernel: &&str| summary.contains(&format!("({kernel}")) || summary.contains(&format!(", {kernel}"));
            assert!(fault.kernels.iter().any(named), "{}: {summary}", fault.file);
        }
        // No other kernel is blamed. (What one merges wrong another may unmerge.)
        let blamed = |name: &str| faults.iter().flat_map(|fault| fault.kernels).any(|kernel| name.starts_with(kernel));
        for row in run.rows().iter().filter(|row| row["passed"] == false && row["op"] != "lora.unmerge") {
            assert!(row["failure"].is_string(), "{row}");
            assert!(row["failed_kernel"].as_str().is_some_and(blamed), "{files:?}: {row}");
        }
    }
}
