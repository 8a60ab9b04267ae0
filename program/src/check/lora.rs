//! The cases of the LoRA family.

mod backward;
mod double_backward;
mod formulas;
mod forward;
mod magnitude_gradient;
mod merge;
mod privacy;
mod quantize;
mod sample_norms;
mod weight_norm;

use std::ops::Range;

use peft_kernels::{Result, lora};

use super::Family;
use super::case::{Case, Choice};
use super::output::{MARGIN, heading, with_margins, without_margins};
use super::with_types;
use crate::memory::Memory;
use crate::subjects::Subjects;
use crate::values::{Random, Value};

pub const FAMILY: Family = Family { name: "lora", cases };

/// The kernels by number, each on a small part of a layer where its tiles differ from the others'.
const FORWARD: [Choice; 4] = [
    Choice { algorithm: 1, rows: 33, columns: 72 },
    Choice { algorithm: 2, rows: 61, columns: 264 },
    Choice { algorithm: 3, rows: 35, columns: 72 },
    Choice { algorithm: 4, rows: 5, columns: 40 },
];
const BACKWARD: [Choice; 3] = [
    Choice { algorithm: 1, rows: 33, columns: 72 },
    Choice { algorithm: 2, rows: 130, columns: 264 },
    Choice { algorithm: 3, rows: 35, columns: 72 },
];
const MERGE: [Choice; 2] =
    [Choice { algorithm: 1, rows: 20, columns: usize::MAX }, Choice { algorithm: 2, rows: 70, columns: usize::MAX }];

/// Elements of a reference that are computed at a time.
const REFERENCE_ELEMENTS: usize = 1 << 21;

fn cases(subjects: &Subjects) -> Vec<Box<dyn Case + '_>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    for (index, layer) in subjects.layers.iter().enumerate() {
        for variant in [forward::Variant::Dense, forward::Variant::of_layer(subjects, index)] {
            for types in subjects.element_types(layer) {
                let choice = Choice::AUTOMATIC;
                cases.push(Box::new(forward::ForwardCase { subjects, layer, variant, types, choice }));
            }
        }
        for types in subjects.element_types(layer) {
            let (choice, scaled) = (Choice::AUTOMATIC, index % 2 == 1);
            cases.push(Box::new(backward::BackwardCase { subjects, layer, types, choice, scaled }));
            cases.push(Box::new(double_backward::DoubleBackwardCase { subjects, layer, types, choice }));
            cases.push(Box::new(merge::MergeCase { subjects, layer, types, choice: Choice::AUTOMATIC }));
            cases.push(Box::new(weight_norm::WeightNormCase { subjects, layer, types }));
            cases.push(Box::new(sample_norms::SampleNormsCase { subjects, layer, types }));
        }
        for [element_type, _] in subjects.element_types(layer).into_iter().filter(|[x, other]| x == other) {
            let nested = index % 2 == 1;
            cases.push(Box::new(quantize::QuantizeCase { subjects, layer, element_type, nested }));
            cases.push(Box::new(privacy::AddNoiseCase { subjects, layer, element_type }));
            cases.push(Box::new(magnitude_gradient::MagnitudeGradientCase { subjects, layer, element_type }));
        }
        cases.push(Box::new(privacy::ClipWeightsCase { subjects, layer }));
        // Every kernel in every type, on the first layer.
        for types in subjects.element_types(layer).into_iter().filter(|_| index == 0) {
            let variant = forward::Variant::Dense;
            for choice in FORWARD {
                cases.push(Box::new(forward::ForwardCase { subjects, layer, variant, types, choice }));
            }
            for choice in BACKWARD {
                for scaled in [false, true] {
                    cases.push(Box::new(backward::BackwardCase { subjects, layer, types, choice, scaled }));
                }
                cases.push(Box::new(double_backward::DoubleBackwardCase { subjects, layer, types, choice }));
            }
            for choice in MERGE {
                cases.push(Box::new(merge::MergeCase { subjects, layer, types, choice }));
            }
        }
    }
    cases
}

/// The factors of an adapter, on the host.
struct Factors<P> {
    /// [rank, k]
    a: Vec<P>,
    /// [n, rank]
    b: Vec<P>,
    rank: usize,
    scale: f32,
}

impl<P: Value> Factors<P> {
    /// As training starts and proceeds: A uniform within 1/√k, B small; α = 32.
    fn random(random: &mut Random, [n, k]: [usize; 2], rank: usize) -> Self {
        let a = random.uniform(rank * k, 1.0 / (k as f64).sqrt());
        Self { a, b: random.uniform(n * rank, 0.02), rank, scale: 32.0 / rank as f32 }
    }
}

/// The factors of an adapter in a queue's memory, with B's rows those of a slab.
struct PlacedFactors<'h, P: Value, M: Memory> {
    a: M::Buffer<'h, P>,
    b: M::Buffer<'h, P>,
    factors: &'h Factors<P>,
    shape: [usize; 2],
}

impl<'h, P: Value, M: Memory> PlacedFactors<'h, P, M> {
    fn new(memory: &M, factors: &'h Factors<P>, rows: &Range<usize>, k: usize) -> Result<Self> {
        let b = &factors.b[rows.start * factors.rank..rows.end * factors.rank];
        let shape = [rows.len(), k];
        Ok(Self { a: memory.place((&factors.a).into())?, b: memory.place(b.into())?, factors, shape })
    }

    fn adapter(&self) -> Result<lora::Adapter<'_, P, M::Queue>> {
        let ([n, k], rank) = (self.shape, self.factors.rank);
        let a = peft_kernels::Mat::new(M::read(&self.a), rank, k)?;
        Ok(lora::Adapter::new(a, peft_kernels::Mat::new(M::read(&self.b), n, rank)?, self.factors.scale))
    }
}

/// The parts of `rows` rows whose reference is computed at a time.
fn parts(rows: usize, elements_a_row: usize) -> impl Iterator<Item = Range<usize>> {
    let step = (REFERENCE_ELEMENTS / elements_a_row.max(1)).max(1);
    (0..rows).step_by(step).map(move |begin| begin..rows.min(begin + step))
}
