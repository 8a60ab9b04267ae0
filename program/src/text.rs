//! Figures and progress, for people.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over so many rows, where somebody looks at it.
pub fn progress(rows: usize) -> ProgressBar {
    let bar = if stderr().is_terminal() { ProgressBar::new(rows as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {elapsed}  {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

/// A small number; `-` for none.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(0.0) => "0".into(),
        Some(value) if !value.is_finite() => value.to_string(),
        Some(value) => format!("{value:.2e}"),
    }
}

/// Three digits, of which those before the point are never cut.
pub fn three_digits(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}")
}

/// A time with its unit.
pub fn time(seconds: f64) -> String {
    match seconds {
        0.9995.. => format!("{} s ", three_digits(seconds)),
        0.9995e-3.. => format!("{} ms", three_digits(seconds * 1e3)),
        _ => format!("{} µs", three_digits(seconds * 1e6)),
    }
}
