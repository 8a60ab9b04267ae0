//! `peft-kernels`: see `peft-kernels --help`.

fn main() -> std::process::ExitCode {
    peft_kernels_program::main()
}
