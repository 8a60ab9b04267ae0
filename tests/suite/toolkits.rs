//! Which CUDA toolkits the build script takes.

use crate::queues::Trials;

#[path = "../../build/release.rs"]
mod release;

/// As nvcc prints it.
fn version(release: &str) -> String {
    format!(
        "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2023 NVIDIA Corporation\nBuilt on Fri_Jan__6_16:45:21_PST_2023\n\
         Cuda compilation tools, release {release}, V{release}.140\nBuild cuda_{release}.r{release}/compiler.32267302_0\n"
    )
}

fn releases() -> Result<(), String> {
    let of = |version: &str| release::check("/cuda/bin/nvcc", version).err().unwrap_or_default();
    // By their numbers, not by their digits; a later minor number does not make up for an earlier major one.
    let cases = [
        ("9.2", false),
        ("11.8", false),
        ("12.0", false),
        ("12.1", true),
        ("12.10", true),
        ("13.0", true),
        ("20.0", true),
    ];
    for (release, right) in cases {
        let expected = match right {
            true => String::new(),
            false => format!(
                "/cuda/bin/nvcc is of CUDA {release}, expected CUDA 12.1 or later, whose kernels may have more than 4096 bytes of parameters"
            ),
        };
        let got = of(&version(release));
        if got != expected {
            return Err(format!("{release}: \"{got}\", expected \"{expected}\""));
        }
    }
    for text in ["", "clang version 18.1.3\n", "release twelve", "release 12", "release 12.x"] {
        let (got, expected) = (of(text), format!("but says \"{}\", expected CUDA 12.1 or later", text.trim()));
        if !got.contains(&expected) {
            return Err(format!("\"{got}\", expected \"{expected}\""));
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("toolkits::releases", releases);
}
