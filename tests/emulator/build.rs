//! Compiles the emulator and the test kernels for the host.

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
}
