//! The README's table.

use super::{Comparison, FIGURES, Section, picture};
use crate::bench::results::{COPY, Row};
use crate::text::{number, time};

/// The arm that multiplies by W alone.
const MATMUL: &str = "matmul";

/// The arm that bounds what any kernel on the same product can do.
const ORACLE: &str = "oracle";

/// What stands between the README's markers.
pub fn of(sections: &[Section]) -> String {
    if sections.is_empty() {
        return "No GPU figures were taken yet.\n".into();
    }
    sections.iter().map(section).collect::<Vec<_>>().join("\n")
}

fn section(section: &Section) -> String {
    let device = &section.device;
    let run = |[date, commit]: &[String; 2]| {
        let day = date.split('T').next().unwrap_or(date);
        let short: String = commit.chars().take(12).collect();
        if commit.is_empty() { day.to_owned() } else { format!("{day} at {short}") }
    };
    let mut runs: Vec<_> = section.runs.iter().map(run).collect();
    runs.dedup();
    let mut text = format!(
        "{}, driver for CUDA {}, measured {}. Medians on the device, operands out of the L2 cache.\n\n",
        device.name,
        device.driver,
        runs.join(", ")
    );
    text += "| operation | shape | type | kernel | time | % of floor | % of copy's speed | of W alone | fastest peer | error |\n|---|---|---|---|---|---|---|---|---|---|\n";
    text.extend(section.comparisons.iter().map(row));
    for (family, comparisons) in section.families() {
        let roofline = picture("roofline", &device.name, family);
        text += &format!("\n![{family}: achieved rates under the device's roof]({FIGURES}/{roofline})\n");
        if comparisons.iter().any(|comparison| peers(comparison).next().is_some()) {
            let bars = picture("peers", &device.name, family);
            text += &format!("\n![{family}: times of peers beside ours]({FIGURES}/{bars})\n");
        }
    }
    text
}

/// The arms that do the same work.
pub fn peers(comparison: &Comparison) -> impl Iterator<Item = &Row> {
    comparison.others.iter().filter(|row| ![COPY, MATMUL, ORACLE].contains(&row.arm.as_str()))
}

fn row(comparison: &Comparison) -> String {
    let ours = &comparison.ours;
    let missing = || "-".to_owned();
    let percent = ours.percent_of_floor.map_or_else(missing, |percent| format!("{percent:.0}"));
    let copy = comparison.arm(COPY).map_or_else(missing, |row| format!("{:.0}", 100.0 * comparison.ratio(row)));
    let matmul = comparison.arm(MATMUL).map_or_else(missing, |row| format!("{:.2} ×", 1.0 / comparison.ratio(row)));
    let fastest = peers(comparison).min_by(|left, right| left.time.median_ns.total_cmp(&right.time.median_ns));
    let fastest = fastest.map_or_else(missing, |row| {
        let ratio = comparison.ratio(row);
        let verdict =
            if ratio >= 1.0 { format!("{ratio:.2} × as long") } else { format!("**{ratio:.2} ×: we lose**") };
        format!("{}, {verdict}", row.arm)
    });
    let error = ours.error.map_or_else(missing, |error| number(error.relative));
    let cache = if ours.cache == crate::bench::results::Cache::Warm { " (warm)" } else { "" };
    format!(
        "| {} | {}{cache} | {} | `{}` | {} | {percent} | {copy} | {matmul} | {fastest} | {error} |\n",
        ours.operation,
        ours.shape,
        ours.types,
        ours.kernel,
        time(ours.time.median_ns * 1e-9).trim_end(),
    )
}
