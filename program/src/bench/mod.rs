//! `peft-kernels bench`: how long every operation takes, beside the least time that the device could take and a copy of as many bytes.

pub mod case;
pub mod catalog;
pub mod clock;
pub mod family;
mod haar;
mod header;
mod lora;
pub mod results;

use std::io::{Write, stderr, stdout};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;

use crate::check::case::{OpenQueue, on_queue};
use crate::check::{self, Failure, QUEUES};
use crate::text;
use case::{Ready, Work};
use catalog::{Entry, Peaks, Set};
use clock::{Arm, Timed, interleaved};
use family::FAMILIES;
use results::{COPY, Cache, Clock, CopyBandwidth, LeftOut, OURS, Results, Row, RowError, Time};

#[derive(clap::Args)]
pub struct Arguments {
    /// Measures this family of operations only; can be given several times
    #[arg(long, value_parser = PossibleValuesParser::new(FAMILIES))]
    family: Vec<String>,
    /// Measures on this queue; can be given several times. [default: cuda:0 where there is one, else cpu]
    #[arg(long, value_parser = PossibleValuesParser::new(QUEUES))]
    queue: Vec<String>,
    /// Which shapes of benches/shapes.json: those for any queue, or all. [default: all on a device, else small]
    #[arg(long, value_parser = ["small", "all"])]
    shapes: Option<String>,
    /// Seconds for each family on each queue; shapes that no time is left for are listed as skipped
    #[arg(long, default_value_t = 120.0)]
    budget: f64,
    /// Rounds of each row, of which the median is taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// Compares some rows of each output with f64, and writes the error beside the time
    #[arg(long)]
    accuracy: bool,
    /// Writes the results to this file, after every row
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
    /// Operands are random numbers from this seed, which is also that of the emulator's schedules
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How long a round should take, as far as one call does not take longer.
const ROUND: Duration = Duration::from_millis(20);

/// Skipped shapes that the last line names; the results name all.
const NAMED: usize = 3;

/// One arm's figures.
struct Measured {
    arm: &'static str,
    kernel: String,
    time: Time,
    cache: Cache,
    clock: Clock,
    error: Option<RowError>,
}

/// Whether every row that there was time for could be measured, on every queue that was asked for.
pub fn run(arguments: &Arguments) -> Result<bool, Failure> {
    if !arguments.budget.is_finite() || arguments.budget <= 0.0 {
        return Err(Failure::Input(format!("--budget {}, expected seconds above 0", arguments.budget)));
    }
    let (queues, missing) = open(arguments);
    let results = header::header(arguments, &queues).map_err(Failure::Input)?;
    let mut bench = Bench { arguments, results, failed: 0 };
    for reason in &missing {
        bench.skip(reason.clone(), "not there");
    }
    // A file that cannot be written is better known now than after the first rows.
    bench.write()?;
    writeln!(
        stdout(),
        "{}",
        line(["operation", "kernel", "queue", "type", "shape", "time", "spread", "floor", "% of it", "error"])
    )?;
    for queue in &queues {
        let peaks = match &bench.results.device {
            Some(device) if queue.name() == check::CUDA => catalog::peaks(&device.name).map_err(Failure::Input)?,
            _ => None,
        };
        let families = FAMILIES
            .iter()
            .filter(|&&name| arguments.family.is_empty() || arguments.family.iter().any(|asked| asked == name));
        for family in families {
            on_queue!(queue, memory => bench.family(memory, queue.name(), family, peaks.as_ref()))?;
        }
    }
    bench.write()?;
    bench.finish()?;
    Ok(bench.failed == 0 && missing.is_empty())
}

/// The queues asked for that are there, and those that are not.
fn open(arguments: &Arguments) -> (Vec<OpenQueue>, Vec<String>) {
    if !arguments.queue.is_empty() {
        return check::queues(&arguments.queue, arguments.seed);
    }
    let (queues, _) = check::queues(&[check::CUDA.into()], arguments.seed);
    if queues.is_empty() { check::queues(&["cpu".into()], arguments.seed) } else { (queues, Vec::new()) }
}

/// The time that a family may take.
struct Budget {
    begin: Instant,
    seconds: f64,
    /// Of a call, as far as the calls so far tell.
    flops_per_second: f64,
}

impl Budget {
    fn left(&self) -> f64 {
        self.seconds - self.begin.elapsed().as_secs_f64()
    }
}

struct Bench<'a> {
    arguments: &'a Arguments,
    results: Results,
    failed: usize,
}

impl Bench<'_> {
    fn skip(&mut self, what: String, reason: &str) {
        self.results.skipped.push(LeftOut { what, reason: reason.into() });
    }

    /// What was measured so far, so that a run that is cut short has results.
    fn write(&self) -> Result<(), Failure> {
        let Some(path) = &self.arguments.output else { return Ok(()) };
        let text = self.results.to_text().map_err(|error| Failure::Input(error.to_string()))?;
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| std::fs::write(path, text));
        written.map_err(|error| Failure::Input(format!("{}: {error}", path.display())))
    }

    fn family<M: Timed>(
        &mut self,
        memory: &M,
        queue: &str,
        family: &str,
        peaks: Option<&Peaks>,
    ) -> Result<(), Failure> {
        let all = self.arguments.shapes.as_deref().map_or(queue == check::CUDA, |shapes| shapes == "all");
        let entries = catalog::shapes(family).map_err(Failure::Input)?;
        let entries: Vec<_> = entries.into_iter().filter(|entry| all || entry.shape.set == Set::Small).collect();
        let bar = text::progress(entries.len());
        let mut budget = Budget { begin: Instant::now(), seconds: self.arguments.budget, flops_per_second: 0.0 };
        if let Err(error) = self.prepare(memory, queue, family, &mut budget) {
            bar.finish_and_clear();
            self.failed += 1;
            self.skip(format!("{family} on {queue}"), &error);
            return Ok(writeln!(stderr(), "{family} on {queue}: {error}")?);
        }
        for entry in &entries {
            let what = format!("{} {} on {queue}", entry.shape.name, entry.type_names());
            bar.set_message(what.clone());
            let work = family::work(entry).map_err(Failure::Input)?;
            // As many calls as there are rounds, and two to find out how many make a round.
            let calls = f64::from(self.arguments.rounds + 2);
            if budget.left() <= calls * work.flops as f64 / budget.flops_per_second {
                self.skip(what, &format!("no time left of {} s", self.arguments.budget));
            } else {
                match self.case(memory, entry, work) {
                    Ok(measured) => {
                        let rows = measured.map(|measured| row(queue, entry, work, peaks, measured));
                        let rate = work.flops as f64 / rows[0].time.median_ns * 1e9;
                        budget.flops_per_second = budget.flops_per_second.max(rate);
                        bar.suspend(|| rows.iter().try_for_each(|row| writeln!(stdout(), "{}", row_line(row))))?;
                        self.results.rows.extend(rows);
                        self.write()?;
                    }
                    Err(error) => {
                        self.failed += 1;
                        bar.suspend(|| writeln!(stderr(), "{what}: {error}"))?;
                        self.skip(what, &error.to_string());
                    }
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Loads the kernels, measures a large copy, and finds out how fast the smallest case is, so that none is begun that cannot end in time.
    fn prepare<M: Timed>(&mut self, memory: &M, queue: &str, family: &str, budget: &mut Budget) -> Result<(), String> {
        let say = |error: peft_kernels::Error| error.to_string();
        peft_kernels::prepare(memory.queue()).map_err(say)?;
        if !self.results.copies.iter().any(|copy| copy.queue == queue) {
            let bytes = 1 << if queue == check::CUDA { 31 } else { 26 };
            let mut arms = [Arm { runner: memory.copier(1, bytes).map_err(say)?, copies: 1 }];
            let times = interleaved(&mut arms, 3, ROUND).map_err(say)?;
            let bytes_per_second = bytes as f64 / times[0].median_ns * 1e9;
            self.results.copies.push(CopyBandwidth { queue: queue.into(), bytes, bytes_per_second });
        }
        let mut smallest = None;
        for entry in catalog::shapes(family)? {
            let work = family::work(&entry)?;
            if smallest.as_ref().is_none_or(|&(flops, _)| work.flops < flops) {
                smallest = Some((work.flops, entry));
            }
        }
        let (flops, entry) = smallest.ok_or_else(|| format!("no shape of {family}"))?;
        let mut seconds = 0.0;
        let mut with = |mut ready: Ready<'_>| {
            (ready.runner)(1)?;
            seconds = (ready.runner)(1)?.as_secs_f64();
            Ok(())
        };
        family::run(memory, &entry, self.arguments.seed, 1, false, &mut with).map_err(say)?;
        budget.flops_per_second = flops as f64 / seconds.max(1e-9);
        Ok(())
    }

    /// Ours and a copy of as many bytes.
    fn case<M: Timed>(&self, memory: &M, entry: &Entry, work: Work) -> peft_kernels::Result<[Measured; 2]> {
        let (copies, cache) = memory.rotation(work.bytes);
        let mut times = Vec::new();
        let mut kernel = String::new();
        let mut with = |ready: Ready<'_>| {
            kernel.clone_from(&ready.kernel.name);
            let copier = memory.copier(copies, work.bytes)?;
            let mut arms = [Arm { runner: ready.runner, copies: ready.copies }, Arm { runner: copier, copies }];
            times = interleaved(&mut arms, self.arguments.rounds as usize, ROUND)?;
            Ok(())
        };
        let (seed, compare) = (self.arguments.seed, self.arguments.accuracy);
        let error = family::run(memory, entry, seed, copies, compare, &mut with)?;
        let ours = Measured { arm: OURS, kernel, time: times[0], cache, clock: M::CLOCK, error };
        Ok([ours, Measured { arm: COPY, kernel: String::new(), time: times[1], cache, clock: M::CLOCK, error: None }])
    }

    fn finish(&self) -> Result<(), Failure> {
        let Results { rows, skipped, .. } = &self.results;
        let mut text = format!("{} rows, {} failed", rows.len(), self.failed);
        if !skipped.is_empty() {
            let names = skipped.iter().take(NAMED).map(|left| format!("{} ({})", left.what, left.reason));
            text += &format!("; skipped {}: {}", skipped.len(), names.collect::<Vec<_>>().join(", "));
            text += if skipped.len() > NAMED { ", ..." } else { "" };
        }
        Ok(writeln!(stdout(), "\n{text}")?)
    }
}

fn row(queue: &str, entry: &Entry, work: Work, peaks: Option<&Peaks>, measured: Measured) -> Row {
    let flops = if measured.arm == OURS { work.flops } else { 0 };
    let floor = peaks.map(|peaks| peaks.floor(work.bytes, flops, entry.types[0]));
    Row {
        family: entry.shape.operation.split('.').next().unwrap_or_default().into(),
        operation: entry.shape.operation.clone(),
        shape: entry.shape.name.clone(),
        arm: measured.arm.into(),
        kernel: measured.kernel,
        types: entry.type_names(),
        extents: entry.shape.extents.clone(),
        queue: queue.into(),
        cache: measured.cache,
        clock: measured.clock,
        time: measured.time,
        eager_ns: None,
        bytes: work.bytes,
        flops,
        percent_of_floor: floor.as_ref().map(|floor| 100.0 * floor.ns / measured.time.median_ns),
        floor,
        error: measured.error,
    }
}

fn line(columns: [&str; 10]) -> String {
    let [operation, kernel, queue, types, shape, time, spread, floor, percent, error] = columns;
    let line = format!(
        "{operation:15}  {kernel:20}  {queue:8}  {types:8}  {shape:40}  {time:>8}  {spread:>7}  {floor:>8}  {percent:>6}  {error:>8}"
    );
    line.trim_end().into()
}

fn row_line(row: &Row) -> String {
    let seconds = |ns: f64| text::time(ns * 1e-9);
    let Time { median_ns, lowest_ns, highest_ns, .. } = row.time;
    line([
        &row.operation,
        if row.kernel.is_empty() { &row.arm } else { &row.kernel },
        &row.queue,
        &row.types,
        &row.shape,
        &seconds(median_ns),
        &format!("{:.1} %", 100.0 * (highest_ns - lowest_ns) / median_ns),
        &row.floor.as_ref().map_or_else(String::new, |floor| seconds(floor.ns)),
        &row.percent_of_floor.map_or_else(String::new, |percent| format!("{percent:.1}")),
        &row.error.map_or_else(String::new, |error| text::number(error.relative)),
    ])
}
