//! Compiles the C sources as C11, with nothing of this library but its header.

fn main() {
    let cuda = std::env::var("DEP_PEFT_KERNELS_CUDA").expect("the library's build script names its sources");
    let mut build = cc::Build::new();
    build.std("c11").warnings_into_errors(true).extra_warnings(true).flag_if_supported("-Wpedantic");
    build.include(format!("{cuda}/include"));
    build.file("c/layout.c").file("c/calls.c").file("c/pick.c").file("c/refusals.c").file("c/samples.c");
    build.file("c/weights.c").file("c/double_backward.c").file("c/tables.c").file("c/batches.c");
    build.compile("c_tests");
    println!("cargo::rerun-if-changed=c");
    println!("cargo::rerun-if-changed={cuda}/include");
}
