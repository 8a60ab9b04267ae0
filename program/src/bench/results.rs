//! The schema of results, as `benches/results.schema.json` describes it: what benches write and `report` reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the schema.
pub const SCHEMA: u32 = 1;
/// The arm that is this library.
pub const OURS: &str = "ours";
/// The arm that copies as many bytes.
pub const COPY: &str = "copy";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    pub schema: u32,
    pub program: String,
    pub date: String,
    pub commit: String,
    pub library: String,
    pub host: String,
    pub device: Option<Device>,
    pub software: BTreeMap<String, String>,
    pub seed: u64,
    pub budget_s: f64,
    pub copies: Vec<CopyBandwidth>,
    pub rows: Vec<Row>,
    pub skipped: Vec<LeftOut>,
    pub absent: Vec<LeftOut>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub name: String,
    /// Of `benches/devices.json`, if that has it.
    pub label: Option<String>,
    pub driver: String,
    /// Times ten.
    pub compute_capability: u32,
    pub multiprocessors: u32,
    pub memory_bytes: u64,
    pub l2_bytes: u64,
}

/// Of a large copy, read and write together.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyBandwidth {
    pub queue: String,
    pub bytes: u64,
    pub bytes_per_second: f64,
}

/// Something that has no row, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    pub what: String,
    pub reason: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub family: String,
    pub operation: String,
    pub shape: String,
    pub arm: String,
    pub kernel: String,
    pub types: String,
    pub extents: serde_json::Map<String, serde_json::Value>,
    pub queue: String,
    pub cache: Cache,
    pub clock: Clock,
    #[serde(flatten)]
    pub time: Time,
    pub eager_ns: Option<f64>,
    pub bytes: u64,
    pub flops: u64,
    pub floor: Option<Floor>,
    pub percent_of_floor: Option<f64>,
    pub error: Option<RowError>,
}

/// Whether operands may be found in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    Cold,
    Warm,
}

/// What measured the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    Device,
    Wall,
}

/// Of one call, over rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    pub median_ns: f64,
    pub lowest_ns: f64,
    pub highest_ns: f64,
    pub rounds: u32,
}

impl Time {
    /// Of at least one round.
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let middle = rounds.len() / 2;
        let median = if rounds.len() % 2 == 1 { rounds[middle] } else { (rounds[middle - 1] + rounds[middle]) / 2.0 };
        Self {
            median_ns: median,
            lowest_ns: rounds[0],
            highest_ns: rounds[rounds.len() - 1],
            rounds: rounds.len() as u32,
        }
    }
}

/// The least time that the device can take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    pub ns: f64,
    /// `bandwidth`, or the unit whose rate it is.
    pub bound: String,
}

/// Against f64 from the same rounded inputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowError {
    /// Of any element compared; none where one is not finite.
    pub largest: Option<f64>,
    /// That, over the largest exact value.
    pub relative: Option<f64>,
    /// Of the output that were compared.
    pub rows: u64,
}

impl Results {
    /// What serde cannot see: that a reader of this version understands it, and that figures can be figures.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {}, expected {SCHEMA}", self.schema));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        for row in &self.rows {
            let name = || format!("row {} {} {} on {}", row.shape, row.types, row.arm, row.queue);
            let Time { median_ns, lowest_ns, highest_ns, rounds } = row.time;
            let ordered = positive(lowest_ns) && lowest_ns <= median_ns && median_ns <= highest_ns;
            if !(ordered && highest_ns.is_finite() && rounds >= 3) {
                return Err(format!("{}: {:?}, expected ordered times of at least 3 rounds", name(), row.time));
            }
            let percent = row.floor.as_ref().map(|floor| 100.0 * floor.ns / median_ns);
            let agree = match (percent, row.percent_of_floor) {
                (None, None) => true,
                (Some(expected), Some(got)) => (expected - got).abs() <= 0.01 * expected,
                _ => false,
            };
            if !agree {
                return Err(format!("{}: {:?} % of a floor of {:?}", name(), row.percent_of_floor, row.floor));
            }
            let needs_device = row.clock == Clock::Device || row.floor.is_some();
            if needs_device && self.device.is_none() {
                return Err(format!("{}: measured on a device, and the results name none", name()));
            }
        }
        Ok(())
    }

    /// As it is committed: one row a line, so that differences can be read.
    pub fn to_text(&self) -> serde_json::Result<String> {
        let mut head = serde_json::to_value(self)?;
        let lists = ["rows", "skipped", "absent"].map(|name| (name, head[name].take()));
        let mut text = serde_json::to_string_pretty(&head)?;
        for (name, list) in lists {
            let lines = list.as_array().into_iter().flatten().map(serde_json::Value::to_string);
            let lines = lines.collect::<Vec<_>>().join(",\n    ");
            let lines = if lines.is_empty() { "[]".into() } else { format!("[\n    {lines}\n  ]") };
            text = text.replacen(&format!("\"{name}\": null"), &format!("\"{name}\": {lines}"), 1);
        }
        Ok(text + "\n")
    }
}
