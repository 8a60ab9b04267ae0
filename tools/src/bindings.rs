//! `src/ffi/bindings.rs` from `cuda/include/peft_kernels.h`. Needs libclang; users of the crate do not.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The text of the bindings.
pub fn generate(root: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let header = root.join("cuda/include/peft_kernels.h");
    let bindings = bindgen::Builder::default()
        .header(header.to_str().ok_or("the path of the header is not UTF-8")?)
        .clang_args(["-x", "c", "-std=c11"])
        .use_core()
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .allowlist_item("pk_.*|PK_.*")
        .derive_default(true)
        .derive_eq(true)
        .layout_tests(true)
        .generate_comments(false)
        .merge_extern_blocks(true)
        .raw_line("// Generated from cuda/include/peft_kernels.h by `cargo run -p peft-kernels-tools -- bindings`: do not edit.")
        .raw_line("#![allow(missing_docs, dead_code, non_camel_case_types, clippy::all, clippy::undocumented_unsafe_blocks)]")
        .disable_header_comment()
        .formatter(bindgen::Formatter::None)
        .generate()?;
    formatted(root, &bindings.to_string())
}

/// As `cargo fmt` leaves it.
fn formatted(root: &Path, text: &str) -> Result<String, Box<dyn std::error::Error>> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(root);
    let mut child = rustfmt.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // It reads all of it before it writes.
    child.stdin.take().ok_or("no pipe")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("rustfmt: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
