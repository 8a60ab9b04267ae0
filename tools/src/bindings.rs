//! `src/ffi/bindings.rs` from `cuda/include/peft_kernels.h`. Needs libclang; users of the crate do not.

use std::path::Path;

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
        .generate()?;
    Ok(bindings.to_string())
}
