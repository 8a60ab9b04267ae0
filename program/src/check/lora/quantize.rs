//! `lora.quantize` and `lora.dequantize`: a layer's weights to NF4, and back.

use std::borrow::Cow;
use std::time::Instant;

use half::{bf16, f16};
use peft_kernels::counters::Kind;
use peft_kernels::lora::{self, BlockFormat, CodeBook};
use peft_kernels::reference::Terms;
use peft_kernels::{ElementType, Kernel, Layout, Mat, MatMut, Result, Vector, VectorMut, Workspace};

use super::{MARGIN, heading, with_margins, without_margins};
use crate::check::case::{Case, Comparison, OpenQueue, Outcome, Work, on_queue};
use crate::check::counters::{self, Count, Formula};
use crate::memory::{Memory, Owned};
use crate::subjects::{Layer, Subjects};
use crate::values::Value;

pub struct QuantizeCase<'a> {
    pub subjects: &'a Subjects,
    pub layer: &'a Layer,
    pub element_type: ElementType,
    /// Whether the scales are quantised as well.
    pub nested: bool,
}

impl Case for QuantizeCase<'_> {
    fn layer(&self) -> String {
        heading(self.layer)
    }
    fn operations(&self) -> &'static [&'static str] {
        &["lora.quantize", "lora.dequantize"]
    }
    fn element_types(&self) -> [ElementType; 2] {
        [self.element_type; 2]
    }
    fn shape(&self, queue: &OpenQueue) -> String {
        let Layer { n, k, .. } = self.layer;
        let rows = self.rows(queue);
        let slab = if rows < *n { format!("[{rows}, {k}] of ") } else { String::new() };
        format!("{slab}[{n}, {k}], NF4 in blocks of 64{}", if self.nested { ", nested" } else { "" })
    }
    fn runs_on(&self, _: &OpenQueue) -> bool {
        true
    }
    fn run(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        match self.element_type {
            ElementType::F16 => self.run_typed::<f16>(queues),
            ElementType::BF16 => self.run_typed::<bf16>(queues),
            _ => self.run_typed::<f32>(queues),
        }
    }
}

impl QuantizeCase<'_> {
    /// Rows of W that a queue quantises.
    fn rows(&self, queue: &OpenQueue) -> usize {
        // Every element takes four shuffles to be found a code.
        const COST: usize = 256;
        queue.affordable(self.layer.n, COST * self.layer.k)
    }

    fn run_typed<T: Value>(&self, queues: &[&OpenQueue]) -> Vec<Vec<Outcome>> {
        let weights = self.subjects.weights::<T>(self.layer);
        let outcomes = |queue: &&OpenQueue| {
            let rows = self.rows(queue);
            let inputs = Inputs { weights: &weights[..rows * self.layer.k], k: self.layer.k, nested: self.nested };
            on_queue!(queue, memory => inputs.outcomes(memory))
        };
        queues.iter().map(outcomes).collect()
    }
}

struct Inputs<'a, T> {
    /// [n, k]
    weights: &'a [T],
    k: usize,
    nested: bool,
}

/// What a queue made of the weights: codes, absmax, and nested their codes and offset.
struct Quantized {
    codes: Vec<u8>,
    absmax: Vec<f32>,
    absmax_codes: Vec<u8>,
    offset: Vec<f32>,
}

/// How an operation went, whatever came out.
#[derive(Default)]
struct Measured {
    kernel: Option<Kernel>,
    seconds: f64,
    counters: Vec<Count>,
}

impl<T: Value> Inputs<'_, T> {
    fn format(&self) -> BlockFormat<'static> {
        BlockFormat::default().short_block()
    }

    fn blocks(&self) -> usize {
        self.format().blocks(self.weights.len())
    }

    fn bytes(&self) -> usize {
        size_of_val(self.weights)
    }

    fn outcomes<M: Memory>(&self, memory: &M) -> Vec<Outcome> {
        let work =
            Work::Bytes((self.bytes() + self.format().code_bytes(self.weights.len()) + 4 * self.blocks()) as f64);
        let mut measured = Measured::default();
        let quantized = self.quantize(memory, &mut measured);
        let comparison = quantized.as_ref().map(|quantized| self.compare_codes(quantized)).map_err(Clone::clone);
        let Measured { kernel, seconds, counters } = measured;
        let quantize = Outcome { kernel, seconds, work, counters, comparison };

        let mut measured = Measured::default();
        let comparison = quantized.and_then(|quantized| {
            let back = self.dequantize(memory, &quantized, &mut measured)?;
            Ok(self.compare_back(&quantized, &back))
        });
        let Measured { kernel, seconds, counters } = measured;
        vec![quantize, Outcome { kernel, seconds, work, counters, comparison }]
    }

    fn quantize<M: Memory>(&self, memory: &M, measured: &mut Measured) -> Result<Quantized> {
        let (elements, format) = (self.weights.len(), self.format());
        let nested = usize::from(self.nested);
        let absmax = if self.nested { format.absmax_blocks(elements) } else { self.blocks() };
        let weights = memory.place(self.weights.into())?;
        let mut codes = Owned::new(memory, vec![u8::MAX; format.code_bytes(elements)])?;
        let mut absmax = Owned::new(memory, vec![f32::NAN; absmax])?;
        let mut absmax_codes = Owned::new(memory, vec![u8::MAX; nested * self.blocks()])?;
        let mut offset = Owned::new(memory, vec![f32::NAN; nested])?;

        let source = Mat::new(M::read(&weights), elements / self.k, self.k)?;
        let scales = VectorMut::whole(M::write(&mut absmax.0));
        let mut call = lora::Quantize::new(source, VectorMut::whole(M::write(&mut codes.0)), scales).format(format);
        if self.nested {
            let codes = VectorMut::whole(M::write(&mut absmax_codes.0));
            call = call.nested(codes, VectorMut::whole(M::write(&mut offset.0)));
        }
        measured.kernel = Some(lora::quantize_kernel(memory.queue(), &call)?);
        let mut scratch = Owned::new(memory, vec![0u8; lora::quantize_workspace(memory.queue(), &call)?])?;
        let begin = Instant::now();
        let done = lora::quantize(memory.queue(), call, Workspace::new(M::write(&mut scratch.0)));
        let done = done.and_then(|()| memory.wait());
        measured.seconds = begin.elapsed().as_secs_f64();
        const KERNEL: &str = "lora_quantize";
        let scales = if self.nested { "workspace" } else { "absmax" };
        measured.counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalRead, "matrix", self.bytes()),
            Formula(KERNEL, Kind::GlobalWrite, "codes", format.code_bytes(elements)),
            Formula(KERNEL, Kind::GlobalWrite, scales, 4 * self.blocks()),
        ]);
        done?;
        Ok(Quantized {
            codes: memory.fetch(&codes.0)?,
            absmax: memory.fetch(&absmax.0)?,
            absmax_codes: memory.fetch(&absmax_codes.0)?,
            offset: memory.fetch(&offset.0)?,
        })
    }

    fn dequantize<M: Memory>(&self, memory: &M, quantized: &Quantized, measured: &mut Measured) -> Result<Vec<T>> {
        let (elements, format) = (self.weights.len(), self.format());
        let (codes, absmax) = (memory.place((&quantized.codes).into())?, memory.place((&quantized.absmax).into())?);
        let absmax_codes = memory.place(Cow::from(&quantized.absmax_codes))?;
        let offset = memory.place(Cow::from(&quantized.offset))?;
        let mut back = Owned::new(memory, with_margins((0..elements).map(|_| T::NAN)))?;

        let layout = Layout { offset: MARGIN, extents: [elements / self.k, self.k], strides: [self.k, 1] };
        let destination = MatMut::with_layout(M::write(&mut back.0), layout)?;
        let scales = Vector::whole(M::read(&absmax));
        let mut call = lora::Dequantize::new(Vector::whole(M::read(&codes)), scales, destination).format(format);
        if self.nested {
            call = call.nested(Vector::whole(M::read(&absmax_codes)), Vector::whole(M::read(&offset)));
        }
        measured.kernel = Some(lora::dequantize_kernel(memory.queue(), &call)?);
        let begin = Instant::now();
        let done = lora::dequantize(memory.queue(), call).and_then(|()| memory.wait());
        measured.seconds = begin.elapsed().as_secs_f64();
        const KERNEL: &str = "lora_dequantize";
        let (scales, size) = if self.nested { ("absmax_codes", 1) } else { ("absmax", 4) };
        measured.counters = counters::take(&[
            Formula(KERNEL, Kind::GlobalWrite, "matrix", self.bytes()),
            Formula(KERNEL, Kind::GlobalRead, "codes", format.code_bytes(elements)),
            Formula(KERNEL, Kind::GlobalRead, scales, size * self.blocks()),
        ]);
        done?;
        memory.fetch(&back.0)
    }

    fn place(&self, index: usize) -> String {
        format!("W[{}, {}]", index / self.k, index % self.k)
    }

    /// The value of an element's code, and how far from it a number with this code can be.
    fn value(&self, quantized: &Quantized, index: usize) -> (f64, f64) {
        let book = CodeBook::nf4();
        let code = usize::from(quantized.codes[index / 2] >> (4 - index % 2 * 4) & 15);
        let value = f64::from(book.values()[code]);
        let reach = |boundary: Option<&f32>| boundary.map_or(0.0, |&boundary| (f64::from(boundary) - value).abs());
        let below = code.checked_sub(1).and_then(|below| book.boundaries().get(below));
        (value, reach(below).max(reach(book.boundaries().get(code))))
    }

    /// The scale that a block comes back with.
    fn scale(&self, quantized: &Quantized, block: usize) -> f64 {
        if !self.nested {
            return quantized.absmax[block].into();
        }
        let value = CodeBook::dynamic().values()[usize::from(quantized.absmax_codes[block])];
        f64::from(value) * f64::from(quantized.absmax[block / self.format().absmax_block])
            + f64::from(quantized.offset[0])
    }

    /// Every scale against the largest element of its block, and every code against its element.
    fn compare_codes(&self, quantized: &Quantized) -> Comparison {
        // Half of the dynamic book's widest gap.
        const ABSMAX_GAP: f64 = 0.0071;
        let within = |value, bound: f64| Terms { value, magnitude: bound * 2f64.powi(23) };
        let mut comparison = Comparison::default();
        let BlockFormat { block, absmax_block, .. } = self.format();
        for (i, weights) in self.weights.chunks(block).enumerate() {
            let absmax = weights.iter().map(|weight| weight.to_f64().abs()).fold(0.0, f64::max);
            let gap = if self.nested { ABSMAX_GAP * f64::from(quantized.absmax[i / absmax_block]) } else { 0.0 };
            let scale = self.scale(quantized, i) as f32;
            comparison.element(scale, &within(absmax, gap), 1, || format!("the scale of block {i}"));
            for (j, weight) in weights.iter().enumerate() {
                let index = i * block + j;
                let (value, reach) = self.value(quantized, index);
                let bound = (reach + f64::from(f32::EPSILON)) * absmax;
                comparison.element((value * absmax) as f32, &within(weight.to_f64(), bound), 1, || self.place(index));
            }
        }
        comparison
    }

    fn compare_back(&self, quantized: &Quantized, back: &[T]) -> Comparison {
        let mut comparison = Comparison::default();
        let (back, margins) = without_margins(back);
        margins.into_iter().for_each(|margin| comparison.untouched(margin));
        let offset = quantized.offset.first().map_or(0.0, |offset| f64::from(offset.abs()));
        for (index, &got) in back.iter().enumerate() {
            let (scale, (value, _)) =
                (self.scale(quantized, index / self.format().block), self.value(quantized, index));
            let terms = Terms { value: value * scale, magnitude: value.abs() * (scale.abs() + 2.0 * offset) };
            comparison.element(got, &terms, 3, || self.place(index));
        }
        comparison
    }
}
