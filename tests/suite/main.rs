//! All tests of the library, in one binary.
//!
//! PEFT_KERNELS_TEST_SEEDS is how many schedules of the emulator each test runs (3); PEFT_KERNELS_REQUIRE=device makes tests that need a CUDA device fail instead of being
//! ignored where there is none, any other value but 0 all tests that this machine cannot run.

mod buffer;
mod compare;
mod compare_checks;
mod compile_fail;
mod cuda;
mod element_types;
mod haar;
mod lora;
mod memory;
mod numbers;
mod operations;
mod queues;
/// Benches use all of them.
#[allow(dead_code)]
mod shapes;
mod storage;
/// Without a device, nobody enqueues.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
mod streams;
mod toolkits;
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
    element_types::trials(&mut trials);
    haar::trials(&mut trials);
    lora::trials(&mut trials);
    operations::trials(&mut trials);
    storage::trials(&mut trials);
    streams::trials(&mut trials);
    toolkits::trials(&mut trials);
    views::trials(&mut trials);
    // Most faults show in every element type: one type of everything comes first, so that they end a run early.
    trials.0.sort_by_key(|trial| !trial.name().ends_with("/f32"));
    libtest_mimic::run(&arguments, trials.0).exit_code()
}
