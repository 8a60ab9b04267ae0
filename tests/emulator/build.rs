//! Compiles the emulator and the test kernels for the host, and with the feature `cuda` those that are no faults for GPUs.

#[cfg(feature = "cuda")]
#[path = "../../build/nvcc.rs"]
mod nvcc;
#[cfg(feature = "cuda")]
#[path = "../../build/objects.rs"]
#[allow(dead_code)]
mod objects;

/// What runs on a GPU too.
#[cfg(feature = "cuda")]
const CONFORMANCE: [&str; 7] =
    ["clusters", "device", "hopper", "hopper_product", "matrices", "primitives", "tensor_product"];

#[cfg(feature = "cuda")]
fn device() -> Result<(), String> {
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let sources = CONFORMANCE.iter().map(|name| root.join("kernels").join(name).with_extension("cu")).collect();
    nvcc::compile("conformance_device", sources, &out, Some(&root.join("../../cuda")))
}

fn main() {
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).include("../../cuda");
    build.flag("-xc++").flag("-ffp-contract=off").flag("-Wno-unknown-pragmas").flag_if_supported("-Wno-psabi");
    for folder in ["../../cuda/emulator", "kernels"] {
        for entry in std::fs::read_dir(folder).expect("the folder is part of the repository") {
            let path = entry.expect("its entries can be listed").path();
            if path.extension().is_some_and(|extension| extension == "cpp" || extension == "cu") {
                build.file(path);
            }
        }
    }
    build.compile("emulator_tests");
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-changed=../../cuda");
    #[cfg(feature = "cuda")]
    if let Err(message) = device() {
        println!("cargo::error={}", message.replace('\n', "\ncargo::error="));
        std::process::exit(1);
    }
}
