//! The LoRA family's cases.

mod backward;
mod forward;
mod merge;
mod quantize;
mod sample_norms;
mod weight_norm;

use half::{bf16, f16};
use peft_kernels::{ElementType, Result};
use serde::Deserialize;

use super::case::{Errors, Ready, Use, Work, numbers};
use super::catalog::Entry;
use super::clock::Timed;
use super::results::RowError;
use crate::values::{Random, Value};

/// Of a shape: x [m, k], a W [n, k] for each target, A [rank, k] and B [n, rank] of each adapter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extents {
    #[serde(default)]
    m: usize,
    n: Vec<usize>,
    k: usize,
    #[serde(default)]
    rank: usize,
    #[serde(default = "one")]
    adapters: usize,
}

fn one() -> usize {
    1
}

impl Extents {
    fn of(entry: &Entry) -> std::result::Result<Self, String> {
        serde_json::from_value(entry.shape.extents.clone().into())
            .map_err(|error| format!("benches/shapes.json: {}: {error}", entry.shape.name))
    }

    fn columns(&self) -> usize {
        self.n.iter().sum()
    }
}

/// Every operand once, and the operations of the formula.
pub fn work(entry: &Entry) -> std::result::Result<Work, String> {
    let extents = Extents::of(entry)?;
    let Extents { m, k, rank, adapters, .. } = extents;
    let (n, targets) = (extents.columns(), extents.n.len());
    let [x, p] = entry.types.map(ElementType::size);
    let factors = adapters * rank * (targets * k + n) * p;
    let (bytes, flops) = match entry.shape.operation.as_str() {
        "lora.forward" => {
            let rows = if adapters > 1 { 4 * m } else { 0 };
            (x * (m * k + n * k + m * n) + factors + rows, 2 * m * n * k + 2 * m * rank * (targets * k + n))
        }
        // H was saved.
        "lora.backward" => {
            (x * (2 * m * k + n * k + m * n + m * rank) + 2 * factors, 2 * m * n * k + 4 * m * rank * (k + n))
        }
        "lora.merge" => (2 * x * n * k + factors, 2 * n * k * rank * adapters),
        "lora.weight_norm" => (x * n * k + factors + 4 * n, 2 * n * k * (rank + 1)),
        // A and B count; H was saved.
        "lora.sample_norms" => {
            (x * (m * k + m * n + m * rank) + factors + 4 * sample_norms::SAMPLES, 2 * m * rank * (k + 2 * n))
        }
        "lora.quantize" | "lora.dequantize" => (x * n * k + (n * k).div_ceil(2) + 4 * (n * k).div_ceil(64), n * k),
        operation => return Err(format!("benches/shapes.json: {}: no operation {operation}", entry.shape.name)),
    };
    Ok(Work { bytes: bytes as u64, flops: flops as u64 })
}

/// Makes a case's operands in the queue's memory, hands it to `with`, and compares with f64 if asked to.
pub fn run<M: Timed>(
    memory: &M,
    entry: &Entry,
    seed: u64,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    // `work` has read the extents before.
    let Ok(extents) = Extents::of(entry) else { return Ok(None) };
    match entry.types {
        [ElementType::F16, ElementType::F16] => {
            typed::<f16, f16, M>(memory, entry, &extents, seed, copies, compare, with)
        }
        [ElementType::F16, _] => typed::<f16, f32, M>(memory, entry, &extents, seed, copies, compare, with),
        [ElementType::BF16, ElementType::BF16] => {
            typed::<bf16, bf16, M>(memory, entry, &extents, seed, copies, compare, with)
        }
        [ElementType::BF16, _] => typed::<bf16, f32, M>(memory, entry, &extents, seed, copies, compare, with),
        _ => typed::<f32, f32, M>(memory, entry, &extents, seed, copies, compare, with),
    }
}

fn typed<T: Value, P: Value, M: Timed>(
    memory: &M,
    entry: &Entry,
    extents: &Extents,
    seed: u64,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let random = &mut Random::new(seed, &entry.shape.name);
    match entry.shape.operation.as_str() {
        "lora.backward" => backward::run::<T, P, M>(memory, extents, random, copies, compare, with),
        "lora.merge" => merge::run::<T, P, M>(memory, extents, random, copies, compare, with),
        "lora.weight_norm" => weight_norm::run::<T, P, M>(memory, extents, random, copies, compare, with),
        "lora.sample_norms" => sample_norms::run::<T, P, M>(memory, extents, random, copies, compare, with),
        "lora.quantize" => quantize::quantize::<T, M>(memory, extents, random, copies, compare, with),
        "lora.dequantize" => quantize::dequantize::<T, M>(memory, extents, random, copies, compare, with),
        _ => forward::run::<T, P, M>(memory, extents, random, copies, compare, with),
    }
}

/// The factors of an adapter, on the host.
struct Factors<P> {
    /// [rank, k]
    a: Vec<P>,
    /// [n, rank]
    b: Vec<P>,
}

const SCALE: f32 = 0.5;

impl<P: Value> Factors<P> {
    fn new(random: &mut Random, [n, k]: [usize; 2], rank: usize) -> Self {
        let a = numbers(random, rank * k, 1.0 / (k as f64).sqrt());
        Self { a, b: numbers(random, n * rank, 0.1) }
    }
}

/// Rows of an output to compare: all of few, else some spread over it, the first and the last among them.
fn sample(rows: usize) -> Vec<usize> {
    const SAMPLE: usize = 16;
    if rows <= SAMPLE { (0..rows).collect() } else { (0..SAMPLE).map(|i| i * (rows - 1) / (SAMPLE - 1)).collect() }
}

/// Those rows of a matrix.
fn gather<T: Copy>(matrix: &[T], width: usize, rows: &[usize]) -> Vec<T> {
    rows.iter().flat_map(|&row| &matrix[row * width..(row + 1) * width]).copied().collect()
}
