//! All tests of the library, in one binary.
//!
//! PEFT_KERNELS_TEST_SEEDS is how many schedules of the emulator each test runs (5); PEFT_KERNELS_REQUIRE makes tests that this machine cannot run fail instead of being ignored.

mod buffer;
mod compare;
mod compare_checks;
mod compile_fail;
mod cuda;
mod lora;
mod memory;
mod numbers;
mod queues;
/// Benches use all of them.
#[allow(dead_code)]
mod shapes;
mod storage;
mod views;

/// Set where this program runs itself for the bits that it computes.
const PRINT_BITS: &str = "PEFT_KERNELS_TEST_PRINT_BITS";

fn main() -> std::process::ExitCode {
    if std::env::var_os(PRINT_BITS).is_some() {
        return match lora::special::print_bits() {
            Ok(()) => std::process::ExitCode::SUCCESS,
            Err(_) => std::process::ExitCode::FAILURE,
        };
    }
    let arguments = libtest_mimic::Arguments::from_args();
    let mut trials = queues::Trials::default();
    compare_checks::trials(&mut trials);
    compile_fail::trials(&mut trials);
    lora::trials(&mut trials);
    storage::trials(&mut trials);
    views::trials(&mut trials);
    libtest_mimic::run(&arguments, trials.0).exit_code()
}
