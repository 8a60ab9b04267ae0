//! What must not compile, with what the compiler says. `TRYBUILD=overwrite` writes it anew.

use crate::queues::Trials;

/// The compiler whose messages the `.stderr` files hold.
const COMPILER: &str = "rustc 1.95.";

fn check(files: &str) {
    trybuild::TestCases::new().compile_fail(files);
}

fn is_pinned_compiler() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = std::process::Command::new(rustc).arg("--version").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with(COMPILER))
}

pub fn trials(trials: &mut Trials) {
    let devices = cfg!(all(feature = "cust", feature = "cudarc"));
    if std::env::var_os("CARGO_MANIFEST_DIR").is_none() {
        trials.needs("compile_fail", "needs cargo, to be started by it");
    } else if !is_pinned_compiler() {
        trials.needs("compile_fail", &format!("needs {COMPILER}x, whose messages are pinned"));
    } else {
        trials.check("compile_fail", || check("tests/compile_fail/*.rs"));
    }
    if is_pinned_compiler() && devices {
        trials.check("compile_fail/devices", || check("tests/compile_fail/devices/*.rs"));
    } else {
        trials.needs("compile_fail/devices", "needs the features `cust` and `cudarc`");
    }
}
