//! Builds the C side: nothing without a feature, the kernels for this processor with `emulator`, for GPUs with `cuda`. Never looks for a GPU.
#![allow(missing_docs)]

#[cfg(any(feature = "emulator", feature = "cuda"))]
#[path = "build/objects.rs"]
mod objects;

#[cfg(any(feature = "emulator", feature = "cuda"))]
#[path = "build/host.rs"]
mod host;

#[cfg(feature = "cuda")]
#[path = "build/nvcc.rs"]
mod nvcc;

#[cfg(any(feature = "emulator", feature = "cuda"))]
fn build() -> Result<(), String> {
    use std::path::PathBuf;

    // Another copy of cuda/, for tests that plant a fault in it.
    println!("cargo::rerun-if-env-changed=PEFT_KERNELS_SOURCE");
    let source = match std::env::var_os("PEFT_KERNELS_SOURCE") {
        Some(folder) => PathBuf::from(folder),
        None => {
            PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?).join("cuda")
        }
    };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    println!("cargo::metadata=cuda={}", source.display());

    // One that is built already, with the same features.
    println!("cargo::rerun-if-env-changed=PEFT_KERNELS_LIBRARY_DIR");
    if let Some(folder) = std::env::var_os("PEFT_KERNELS_LIBRARY_DIR") {
        println!("cargo::rustc-link-search=native={}", PathBuf::from(folder).display());
        println!("cargo::rustc-link-lib=dylib=peft_kernels");
        // For the tests, which make streams and memory themselves.
        #[cfg(feature = "cuda")]
        let _ = nvcc::link_runtime();
        return Ok(());
    }

    // Archives are searched in this order: the interface calls into the builds.
    host::interface(&source, &out)?;
    #[cfg(feature = "emulator")]
    host::emulator(&source, &out)?;
    #[cfg(feature = "cuda")]
    {
        let mut sources = objects::sources(&source.join("device"), "cu")?;
        sources.extend(objects::families(&source)?);
        nvcc::compile("peft_kernels_device", sources, &out, None)?;
    }
    host::link_runtime();
    Ok(())
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    #[cfg(any(feature = "emulator", feature = "cuda"))]
    {
        // Without this, a build after one that had nothing to link would link nothing either.
        println!("cargo::rerun-if-env-changed=DOCS_RS");
        if std::env::var_os("DOCS_RS").is_some() {
            return;
        }
        if let Err(message) = build() {
            println!("cargo::error={}", message.replace('\n', "\ncargo::error="));
            std::process::exit(1);
        }
    }
}
