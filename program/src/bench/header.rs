//! Where, when and of what the results are.

use std::collections::BTreeMap;
use std::process::Command;

use super::Arguments;
use super::results::{Device, Results, SCHEMA};
use crate::check::case::OpenQueue;

/// Results without a row yet.
pub fn header(arguments: &Arguments, queues: &[OpenQueue]) -> Result<Results, String> {
    Ok(Results {
        schema: SCHEMA,
        program: "peft-kernels bench".into(),
        date: jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())
            .map_err(|error| error.to_string())?
            .to_string(),
        commit: commit(),
        library: format!("{} (ABI {})", env!("CARGO_PKG_VERSION"), peft_kernels::ABI_VERSION),
        host: host(),
        device: device(queues)?,
        software: BTreeMap::new(),
        seed: arguments.seed,
        budget_s: arguments.budget,
        copies: Vec::new(),
        rows: Vec::new(),
        skipped: Vec::new(),
        absent: Vec::new(),
    })
}

/// What the program was built from: said when it was built or run, or else of the repository that it was built in, if that is still there.
fn commit() -> String {
    const VARIABLE: &str = "PEFT_KERNELS_COMMIT";
    let said = std::env::var(VARIABLE).ok().or(option_env!("PEFT_KERNELS_COMMIT").map(str::to_owned));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    said.or_else(|| {
        let commit = git(&["rev-parse", "HEAD"])?;
        let modified = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        Some(if modified { commit + "-modified" } else { commit })
    })
    .unwrap_or_default()
}

fn host() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    format!("{model}, {cores} cores")
}

#[cfg(not(feature = "cuda"))]
fn device(_: &[OpenQueue]) -> Result<Option<Device>, String> {
    Ok(None)
}

#[cfg(feature = "cuda")]
fn device(queues: &[OpenQueue]) -> Result<Option<Device>, String> {
    use cudarc::driver::sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
    };
    let open = queues.iter().find_map(|queue| match queue {
        OpenQueue::Cuda(device) => Some(device),
        _ => None,
    });
    let Some(open) = open else { return Ok(None) };
    let facts = || {
        let context = open.stream().context();
        let (major, minor) = context.compute_capability()?;
        let mut driver = 0;
        // SAFETY: writes the version.
        unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut driver) }.result()?;
        Ok::<_, cudarc::driver::DriverError>(Device {
            name: context.name()?,
            label: None,
            driver: format!("{}.{}", driver / 1000, driver % 1000 / 10),
            compute_capability: (10 * major + minor) as u32,
            multiprocessors: context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
            memory_bytes: context.total_mem()? as u64,
            l2_bytes: context.attribute(CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)? as u64,
        })
    };
    let device: Device = facts().map_err(|error| format!("the device's properties: {error}"))?;
    let label = super::catalog::peaks(&device.name)?.map(|peaks| peaks.label);
    Ok(Some(Device { label, ..device }))
}
