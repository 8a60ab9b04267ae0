//! Which nvcc is new enough.

/// CUDA 12.1: the first whose kernels may have more than 4096 bytes of parameters, as those that read a quantised W have.
const LEAST: (u32, u32) = (12, 1);

/// Of "Cuda compilation tools, release 12.0, V12.0.140" 12 and 0.
fn release(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once("release ")?.1.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// An error unless the nvcc of this path, which says this of its version, is new enough.
pub fn check(nvcc: &str, version: &str) -> Result<(), String> {
    let found = match release(version) {
        Some(release) if release >= LEAST => return Ok(()),
        Some((major, minor)) => format!("is of CUDA {major}.{minor}"),
        None => format!("names no release where it is asked for its version, but says \"{}\"", version.trim()),
    };
    let (major, minor) = LEAST;
    Err(format!(
        "{nvcc} {found}, expected CUDA {major}.{minor} or later, whose kernels may have more than 4096 bytes of parameters"
    ))
}
