//! The report: an aligned table with a row for each operation, layer, type and queue, or the same rows as JSON.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write, stderr, stdout};

use indicatif::ProgressBar;

use super::case::{Case, OpenQueue, Row};
use crate::text::{number, progress, three_digits, time};

/// Things that were left out, by name, in the last line.
const NAMED: usize = 3;

pub struct Report {
    json: bool,
    color: bool,
    bar: ProgressBar,
    widths: Widths,
    layer: String,
    passed: usize,
    failed: usize,
    /// For each kernel that failed, in how many rows.
    failed_kernels: BTreeMap<String, usize>,
}

/// Of the columns whose longest entry depends on the cases.
#[derive(Default)]
struct Widths {
    operation: usize,
    queue: usize,
    shape: usize,
}

impl Report {
    pub fn new(json: bool, cases: &[Box<dyn Case + '_>], queues: &[OpenQueue]) -> io::Result<Self> {
        let mut widths = Widths { operation: "operation".len(), queue: "queue".len(), shape: "shape".len() };
        let mut rows = 0;
        for case in cases {
            for operation in case.operations() {
                widths.operation = widths.operation.max(operation.len());
            }
            for queue in queues.iter().filter(|queue| case.runs_on(queue)) {
                rows += case.operations().len();
                widths.queue = widths.queue.max(queue.name().len());
                widths.shape = widths.shape.max(case.shape(queue).chars().count());
            }
        }
        let bar = progress(rows);
        let color = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (layer, failed_kernels) = (String::new(), BTreeMap::new());
        let report = Self { json, color, bar, widths, layer, passed: 0, failed: 0, failed_kernels };
        if !json && rows > 0 {
            let columns = ["operation", "kernel", "queue", "type", "shape", "error", "allowed", "time", "speed"];
            writeln!(stdout(), "{}", report.line(columns))?;
        }
        Ok(report)
    }

    fn line(&self, columns: [&str; 9]) -> String {
        let [operation, kernel, queue, element_type, shape, error, bound, time, speed] = columns;
        let Widths { operation: operation_width, queue: queue_width, shape: shape_width } = self.widths;
        format!(
            "{operation:operation_width$}  {kernel:23}  {queue:queue_width$}  {element_type:8}  {shape:shape_width$}  \
             {error:>8}  {bound:>8}  {time:>7}  {speed:>12}"
        )
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into() }
    }

    /// Says what runs, where somebody waits for it.
    pub fn begin(&self, case: &dyn Case) {
        self.bar.set_message(format!("{} of {}", case.operations().join(", "), case.layer()));
    }

    pub fn row(&mut self, row: &Row) -> io::Result<()> {
        if row.passed {
            self.passed += 1;
        } else {
            self.failed += 1;
            *self.failed_kernels.entry(row.failed_kernel.clone().unwrap_or_default()).or_default() += 1;
        }
        let text = if self.json { serde_json::to_string(row)? } else { self.table_row(row) };
        self.bar.suspend(|| writeln!(stdout(), "{text}"))?;
        self.bar.inc(1);
        Ok(())
    }

    /// A line, under the layer's name where that is another than before.
    fn table_row(&mut self, row: &Row) -> String {
        let mut text = String::new();
        if self.layer != row.layer {
            self.layer.clone_from(&row.layer);
            text = format!("\n{}\n", self.paint(&row.layer, "1"));
        }
        let speed = match (row.flops_per_second, row.bytes_per_second) {
            (Some(flops), _) => format!("{} GFLOP/s", three_digits(flops / 1e9)),
            (_, Some(bytes)) => format!("{} GB/s   ", three_digits(bytes / 1e9)),
            _ => String::new(),
        };
        let (error, bound) = (number(row.error), number(row.bound));
        let time = if row.seconds > 0.0 { time(row.seconds) } else { "-".into() };
        let columns = [row.op, &row.kernel, row.queue, &row.dtype, &row.shape, &error, &bound, &time, &speed]
            .map(|column| column);
        text += self.line(columns).trim_end();
        if let Some(failure) = &row.failure {
            text += &format!("\n  {} {failure}", self.paint("FAILED", "1;31"));
        }
        for count in &row.counters {
            text += &format!("\n{}", count.line());
        }
        text
    }

    /// The last line, on stderr where stdout is for machines; whether everything passed.
    pub fn finish(self, not_run: &[String]) -> io::Result<bool> {
        self.bar.finish_and_clear();
        let mut text = format!("{} passed, {} failed", self.passed, self.failed);
        if !self.failed_kernels.is_empty() {
            let kernels: Vec<_> = self.failed_kernels.iter().map(|(name, rows)| format!("{name} x {rows}")).collect();
            text += &format!(" ({})", kernels.join(", "));
        }
        if !not_run.is_empty() {
            text += &format!("; not run: {}", not_run[..not_run.len().min(NAMED)].join(", "));
            if not_run.len() > NAMED {
                text += &format!(" and {} more", not_run.len() - NAMED);
            }
        }
        if self.json {
            writeln!(stderr(), "{text}")?;
        } else {
            let gap = if self.passed + self.failed > 0 { "\n" } else { "" };
            writeln!(stdout(), "{gap}{}", self.paint(&text, if self.failed > 0 { "1;31" } else { "1" }))?;
        }
        Ok(self.failed == 0)
    }
}
