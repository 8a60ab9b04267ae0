//! A fault in any shipped kernel is found: a copy of the kernels can be made wrong in one line of each source, and the program built from it, told which, must fail and name the kernel.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Run, file, numbers, safetensors};

struct Fault {
    what: &'static str,
    file: &'static str,
    /// An expression, or a statement with its semicolon; with what follows it, there is one.
    text: &'static str,
    follows: &'static str,
    planted: &'static str,
    /// Kernels, by how their names begin, of which at least one is named, and no other.
    kernels: &'static [&'static str],
}

const FORWARD: &str = "lora_forward_mma_";
const SHRINK: &str = "lora_shrink_mma";
const MERGE: &str = "lora_merge_mma";
const NORM: &str = "lora_weight_norm_mma";
const GRADIENT: &str = "lora_input_gradient_mma_";

const FAULTS: &[Fault] = &[
    Fault {
        what: "reads beyond the last row of x",
        file: "lora/shrink_simt.cuh",
        text: "load_global(x.at(row % problem.m, k))",
        follows: "",
        planted: "load_global(x.at(row % problem.m + 1, k))",
        kernels: &["lora_shrink_simt"],
    },
    Fault {
        what: "reads the rows' adapters while others write them",
        file: "lora/shrink_mma.cuh",
        text: "barrier();",
        follows: "\n\n  const int64_t stages",
        planted: ";",
        kernels: &[SHRINK],
    },
    Fault {
        what: "leaves out the last rank",
        file: "lora/merge_simt.cuh",
        text: "rank < adapter.rank",
        follows: "; ++rank) {",
        planted: "rank + 1 < adapter.rank",
        kernels: &["lora_merge_simt"],
    },
    Fault {
        what: "exchanges neighbours on the way to memory",
        file: "tile/quads.cuh",
        text: "at.column",
        follows: ", Vector<float, 4>",
        planted: "at.column ^ 4",
        // A forward fails before, in its shrink kernel.
        kernels: &[SHRINK, FORWARD, GRADIENT, MERGE, NORM],
    },
    Fault {
        what: "adds the branch twice",
        file: "lora/forward_simt.cuh",
        text: "fma(scale, branch[j], value)",
        follows: "",
        planted: "fma(2.0f * scale, branch[j], value)",
        kernels: &["lora_forward_simt"],
    },
    Fault {
        what: "leaves out the end of k",
        file: "lora/forward_mma.cuh",
        text: "stages * (split + 1) / problem.splits",
        follows: "",
        planted: "(stages * (split + 1) / problem.splits - 1)",
        kernels: &[FORWARD],
    },
    Fault {
        what: "adds what is to be taken away",
        file: "lora/merge_mma.cuh",
        text: "problem.direction * of.scale",
        follows: "",
        planted: "1.0f * of.scale",
        kernels: &[MERGE],
    },
    Fault {
        what: "scales H twice",
        file: "lora/branch.cuh",
        text: "adapter.scale * values.values[i]",
        follows: "",
        planted: "adapter.scale * adapter.scale * values.values[i]",
        kernels: &[FORWARD, GRADIENT],
    },
    Fault {
        what: "leaves out rows of the operands",
        file: "tile/operand.cuh",
        text: "kPassLines * pitch",
        follows: ";",
        planted: "(kPassLines + 1) * pitch",
        kernels: &[FORWARD, SHRINK, GRADIENT, MERGE, NORM],
    },
    Fault {
        what: "exchanges the halves of a step's depth in the left operand alone",
        file: "tile/fragments.cuh",
        text: "2 * step + in_warp / 16",
        follows: ")",
        planted: "2 * step + 1 - in_warp / 16",
        kernels: &[FORWARD, SHRINK, GRADIENT, MERGE, NORM],
    },
    Fault {
        what: "does not wait for the copies of the stage that is read",
        file: "tile/product.cuh",
        text: "wait_group<Config::kStages - 2>();",
        follows: "",
        planted: "wait_group<Config::kStages - 1>();",
        kernels: &[FORWARD, SHRINK, GRADIENT],
    },
];

/// What the fault's source gains: the number of the fault in force.
const CHOICE: &str = "PEFT_KERNELS_FAULT";
const HEADER: &str = r#"
#include <cstdlib>
inline const int planted_fault = std::getenv("PEFT_KERNELS_FAULT") == nullptr ? -1 : std::atoi(std::getenv("PEFT_KERNELS_FAULT"));
"#;

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

/// The source with a fault in it that is there only if it is chosen.
fn planted(source: &str, number: usize, fault: &Fault) -> String {
    let place = [fault.text, fault.follows].concat();
    assert_eq!(source.matches(&place).count(), 1, "`{place}` in {}", fault.file);
    let Fault { text, planted, follows, .. } = fault;
    let choice = if text.ends_with(';') {
        format!("{{ if (planted_fault == {number}) {{ {planted} }} else {{ {text} }} }}{follows}")
    } else {
        format!("(planted_fault == {number} ? {planted} : {text}){follows}")
    };
    source.replace(&place, &choice)
}

/// Makes `copy` the repository's `cuda/` with all faults; writes only what changes, so that only that is compiled again.
fn plant(copy: &Path) {
    let source = repository().join("cuda");
    let (mut names, mut old_names) = (Vec::new(), Vec::new());
    fs::create_dir_all(copy).expect("folders can be made");
    files(&source, Path::new(""), &mut names);
    files(copy, Path::new(""), &mut old_names);
    for name in old_names.iter().filter(|name| !names.contains(name)) {
        fs::remove_file(copy.join(name)).expect("the copy can be changed");
    }
    for name in names {
        let mut text = fs::read_to_string(source.join(&name)).expect("a source file");
        for (number, fault) in FAULTS.iter().enumerate().filter(|(_, fault)| Path::new(fault.file) == name) {
            text = planted(&text, number, fault);
        }
        if name == Path::new("ptx/ptx.cuh") {
            text += HEADER;
        }
        let path = copy.join(&name);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            continue;
        }
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders can be made");
        fs::write(path, text).expect("the copy can be written");
    }
}

/// Builds the program from a copy of `cuda/`.
fn build(copy: &Path, target: &Path) -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--target-dir"]).arg(target);
    // It runs for seconds, and would take minutes to optimise.
    build.args(["--config", &format!("profile.dev.package.{}.opt-level=0", env!("CARGO_PKG_NAME"))]);
    if repository().join("Cargo.lock").exists() {
        build.arg("--offline");
    }
    build.current_dir(repository()).env("PEFT_KERNELS_SOURCE", copy).stdin(Stdio::null());
    let output = build.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(format!("peft-kernels{}", std::env::consts::EXE_SUFFIX))
}

/// Checks a layer on the emulator that is deep enough for every stage of the copies, with a fault.
fn check(program: &Path, fault: Option<usize>) -> Run {
    let (n, k) = (130, 336);
    let header = format!(r#"{{"w":{{"dtype":"BF16","shape":[{n},{k}],"data_offsets":[0,{}]}}}}"#, n * k * 2);
    // The upper halves of numbers that bf16 has exactly.
    let data: Vec<u8> = numbers(n * k).chunks(4).flat_map(|number| [number[2], number[3]]).collect();
    let weights = file("planted-faults.safetensors", &safetensors(&header, &data));
    let mut command = Command::new(program);
    command.args(["check", "--family", "lora", "--queue", "emulator", "--json", "--weights"]).arg(weights);
    if let Some(number) = fault {
        command.env(CHOICE, number.to_string());
    }
    Run::of(&command.output().expect("the program starts"))
}

#[test]
fn every_planted_fault_is_found_and_named() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted-faults");
    let copy = folder.join("cuda");
    plant(&copy);
    let program = build(&copy, &folder.join("target"));

    let sound = check(&program, None);
    assert_eq!(sound.status, Some(0), "without a fault: {}", sound.stderr);

    for (number, fault) in FAULTS.iter().enumerate() {
        let run = check(&program, Some(number));
        assert_eq!(run.status, Some(1), "{}: {}", fault.what, run.stderr);
        let summary = run.stderr.lines().last().unwrap_or_default();
        let named = |kernel: &&str| summary.contains(&format!("({kernel}")) || summary.contains(&format!(", {kernel}"));
        assert!(fault.kernels.iter().any(named), "{}: {summary}", fault.what);
        let blamed = |name: &str| fault.kernels.iter().any(|kernel| name.starts_with(kernel));
        // What one kernel merges wrong another may unmerge.
        for row in run.rows().iter().filter(|row| row["passed"] == false && row["op"] != "lora.unmerge") {
            assert!(row["failure"].is_string(), "{row}");
            assert!(row["failed_kernel"].as_str().is_some_and(blamed), "{}: {row}", fault.what);
        }
    }
}
