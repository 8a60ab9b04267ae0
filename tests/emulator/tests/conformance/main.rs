//! Each primitive against its definition, on the emulator and, built with the feature `cuda`, with the same kernels on a GPU.
//!
//! PEFT_KERNELS_REQUIRE=device makes trials that need a device fail where there is none; otherwise they are ignored.

mod clusters;
mod hopper_copies;
mod hopper_product;
mod hopper_wgmma;
mod matrices;
mod primitives;
mod tensor_product;
mod warps_and_blocks;

use emulator_tests::Session;
use libtest_mimic::{Arguments, Trial};

/// Which devices have what a kernel uses.
#[derive(Clone, Copy)]
pub enum Chips {
    /// From 8.0 on.
    All,
    /// From 9.0 on: clusters, and launches that overlap.
    Clusters,
    /// 9.0.
    Hopper,
}

/// The trials, and what registers them.
#[derive(Default)]
pub struct Trials(Vec<Trial>);

impl Trials {
    fn on_emulator(&mut self, name: &str, test: fn()) {
        // In a thread of its own: some switch the detector of races off for theirs.
        self.0.push(Trial::test(format!("{name}/emulator"), move || {
            std::thread::spawn(test).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok(())
        }));
    }

    fn on_device(&mut self, name: &str, chips: Chips, test: fn()) {
        let reason = match (emulator_tests::device(), chips) {
            (Err(reason), _) => Some(reason),
            (Ok(chip), Chips::All) if chip < 80 => Some("needs a device of compute capability 8.0 or higher".into()),
            (Ok(chip), Chips::Clusters) if chip < 90 => {
                Some("needs a device of compute capability 9.0 or higher".into())
            }
            (Ok(chip), Chips::Hopper) if chip != 90 => Some("needs a device of compute capability 9.0".into()),
            (Ok(_), _) => None,
        };
        let name = format!("{name}/cuda");
        let Some(reason) = reason else {
            return self.0.push(Trial::test(name, move || {
                let _session = Session::begin();
                test();
                Ok(())
            }));
        };
        let required = std::env::var_os("PEFT_KERNELS_REQUIRE").is_some_and(|value| value != "0");
        let text = format!("PEFT_KERNELS_REQUIRE is set, and this {reason}");
        let trial = Trial::test(name, move || Err(text.into())).with_kind(reason);
        self.0.push(trial.with_ignored_flag(!required));
    }

    fn measurement(&mut self, name: &str, test: fn()) {
        let trial = Trial::test(name, move || {
            test();
            Ok(())
        });
        self.0.push(trial.with_kind("a measurement").with_ignored_flag(true));
    }
}

/// Registers functions that must pass on both.
#[macro_export]
macro_rules! conforms {
    ($trials:expr, $chips:expr, $($test:ident),+) => {$(
        let name = concat!(module_path!(), "::", stringify!($test)).trim_start_matches("conformance::");
        $trials.on_emulator(name, $test);
        $trials.on_device(name, $chips, $test);
    )+};
}

/// Registers functions about the emulator itself.
#[macro_export]
macro_rules! on_emulator {
    ($trials:expr, $($test:ident),+) => {$(
        $trials.on_emulator(concat!(module_path!(), "::", stringify!($test)).trim_start_matches("conformance::"), $test);
    )+};
}

/// Registers functions that measure, and run only when asked for.
#[macro_export]
macro_rules! measures {
    ($trials:expr, $($test:ident),+) => {$(
        $trials.measurement(concat!(module_path!(), "::", stringify!($test)).trim_start_matches("conformance::"), $test);
    )+};
}

fn main() -> std::process::ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = Trials::default();
    clusters::trials(&mut trials);
    hopper_copies::trials(&mut trials);
    hopper_product::trials(&mut trials);
    hopper_wgmma::trials(&mut trials);
    matrices::trials(&mut trials);
    primitives::trials(&mut trials);
    tensor_product::trials(&mut trials);
    warps_and_blocks::trials(&mut trials);
    libtest_mimic::run(&arguments, trials.0).exit_code()
}
