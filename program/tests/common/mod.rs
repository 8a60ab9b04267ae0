//! The program, run as a user runs it, and files for it to read.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a run said.
pub struct Run {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Self { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The rows of a run with `--json`.
    pub fn rows(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }
}

pub fn program(arguments: &[&str]) -> Run {
    Run::of(&Command::new(env!("CARGO_BIN_EXE_peft-kernels")).args(arguments).output().expect("the program starts"))
}

/// A file of a test's own, in the folder that cargo gives to tests.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("the test's folder can be written to");
    path
}

pub fn check(path: &Path, more: &[&str]) -> Run {
    let path = path.to_str().expect("UTF-8");
    program(&[&["check", "--weights", path], more].concat())
}

/// A header of its right length, and data.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

/// Little-endian f32 numbers between −1 and 1.
pub fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| (((i * 37 + 11) % 64) as f32 / 32.0 - 1.0).to_le_bytes()).collect()
}
