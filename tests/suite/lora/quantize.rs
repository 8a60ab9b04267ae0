//! Block-wise quantisation and back.

use half::{bf16, f16};
use peft_kernels::counters::{self, Kind};
use peft_kernels::lora::{self, BlockFormat, CodeBook, Dequantize, Quantize};
use peft_kernels::{Cpu, Element, Emulator, Layout, Mat, MatMut, RawStream, Vector, VectorMut, Workspace};

use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::numbers::Random;
use crate::queues::{Runner, Trials, seeds};
use crate::streams::{Exercise, Run};

/// A workspace of any length, at an address of any alignment.
const WORKSPACE: usize = 1 << 16;

#[derive(Clone, Debug)]
pub struct Spec {
    pub extents: [usize; 2],
    pub book: CodeBook,
    pub block: usize,
    pub nested: Option<usize>,
    pub short_block: bool,
    pub placement: Placement,
    pub seed: u64,
}

impl Spec {
    pub fn new(extents: [usize; 2]) -> Self {
        let (book, placement) = (CodeBook::nf4().clone(), Placement::default());
        Self { extents, book, block: 64, nested: None, short_block: false, placement, seed: 1 }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn random(bits: u32, seed: u64) -> Self {
        let mut random = Random(100 * u64::from(bits) + seed);
        let block = 16 << random.below(5);
        let columns = random.choose(&[1, 3, 7, 40, 64, 72, 200]);
        let extents = [1 + random.below(2400 / columns), columns];
        let placement = Placement {
            column_major: random.below(4) == 0,
            gap: random.choose(&[0, 0, 8, 3]),
            offset: random.choose(&[0, 0, 1, 8]),
            batch_gap: 0,
        };
        let book = match (bits, random.below(3)) {
            (4, 0) => CodeBook::fp4().clone(),
            (8, 0) => CodeBook::dynamic().clone(),
            _ => CodeBook::normal_float(bits).expect("so many bits"),
        };
        let nested = random.coin().then(|| 16 << random.below(3));
        Self { extents, book, block, nested, short_block: true, placement, seed }
    }

    fn format(&self) -> BlockFormat<'_> {
        let format = BlockFormat::default().book(&self.book).block(self.block);
        let format = format.absmax(CodeBook::dynamic(), self.nested.unwrap_or(256));
        if self.short_block { format.short_block() } else { format }
    }

    fn elements(&self) -> usize {
        self.extents[0] * self.extents[1]
    }
}

/// The operands of both directions.
pub struct Case<T> {
    pub spec: Spec,
    pub weights: Buffer<T>,
    back: Buffer<T>,
    pub codes: Buffer<u8>,
    pub absmax: Buffer<f32>,
    pub absmax_codes: Buffer<u8>,
    pub offset: Buffer<f32>,
    workspace: Buffer<u8>,
}

/// Codes, and behind them what aligns them to 16 bytes, which no call may touch.
fn aligned(length: usize) -> Buffer<u8> {
    let layout = Layout { offset: 0, extents: [1, 1, length], strides: [0, 0, 1] };
    Buffer::with_length(length.next_multiple_of(16), layout, |_| u8::POISON)
}

fn list<P: Cell>(length: usize) -> Buffer<P> {
    Buffer::new(Layout { offset: 0, extents: [1, 1, length], strides: [0, 0, 1] }, |_| P::POISON)
}

impl<T: Element + Cell> Case<T> {
    pub fn new(spec: Spec, mut number: impl FnMut(usize) -> f64) -> Self {
        let [n, k] = spec.extents;
        let layout = spec.placement.layout([1, n, k]);
        let weights = Buffer::new(layout, |[_, row, column]| T::from_f64(number(row * k + column)));
        let back = Buffer::new(layout, |_| T::POISON);
        let format = spec.format();
        let blocks = format.blocks(spec.elements());
        let [absmax, absmax_codes] = match spec.nested {
            None => [blocks, 0],
            Some(_) => [format.absmax_blocks(spec.elements()), blocks],
        };
        let bytes = format.code_bytes(spec.elements());
        let codes = if spec.seed.is_multiple_of(2) { aligned(bytes) } else { list(bytes) };
        let offset = list(usize::from(spec.nested.is_some()));
        let (absmax, absmax_codes) = (list(absmax), list(absmax_codes));
        Self { weights, back, codes, absmax, absmax_codes, offset, workspace: list(WORKSPACE), spec }
    }

    /// Numbers of which each block has a scale of its own.
    fn random(spec: Spec) -> Self {
        let mut random = Random(spec.seed);
        let block = spec.block;
        Self::new(spec, |i| random.real() * [0.05, 1.0, 40.0][i / block % 3])
    }

    fn code_bytes(&self) -> usize {
        self.codes.layout.extents[2]
    }

    pub fn quantize<'a, Q: Runner>(&'a self, queue: &Q) -> Quantize<'a, T, Q> {
        let [n, k] = self.spec.extents;
        let Layout { offset, strides: [_, rows, columns], .. } = self.weights.layout;
        let layout = Layout { offset, extents: [n, k], strides: [rows, columns] };
        let source =
            Mat::with_layout(queue.source(&self.weights), layout).expect("the buffer is as large as its layout");
        let codes = VectorMut::whole(queue.sink_at(self.codes.address(), self.code_bytes()));
        let absmax = VectorMut::whole(queue.sink(&self.absmax));
        let call = Quantize::new(source, codes, absmax).format(self.spec.format());
        match self.spec.nested {
            None => call,
            Some(_) => {
                let codes = VectorMut::whole(queue.sink(&self.absmax_codes));
                call.nested(codes, VectorMut::whole(queue.sink(&self.offset)))
            }
        }
    }

    pub fn dequantize<'a, Q: Runner>(&'a self, queue: &Q) -> Dequantize<'a, T, Q> {
        let [n, k] = self.spec.extents;
        let Layout { offset, strides: [_, rows, columns], .. } = self.back.layout;
        let layout = Layout { offset, extents: [n, k], strides: [rows, columns] };
        let back = MatMut::with_layout(queue.sink(&self.back), layout).expect("the buffer is as large as its layout");
        let codes = Vector::whole(queue.source_at(self.codes.address(), self.code_bytes()));
        let absmax = Vector::whole(queue.source(&self.absmax));
        let call = Dequantize::new(codes, absmax, back).format(self.spec.format());
        match self.spec.nested {
            None => call,
            Some(_) => {
                let codes = Vector::whole(queue.source(&self.absmax_codes));
                call.nested(codes, Vector::whole(queue.source(&self.offset)))
            }
        }
    }

    fn enqueue<Q: Runner>(&self, queue: &Q) -> peft_kernels::Result<()> {
        lora::quantize(queue, self.quantize(queue), Workspace::new(queue.sink(&self.workspace)))
    }

    /// What one direction wrote: codes, absmax and what is nested in them, byte for byte.
    pub fn quantized<Q: Runner>(&self, queue: &Q) -> Result<[Vec<u8>; 4], String> {
        let say = |error: peft_kernels::Error| format!("{error} {:?}", self.spec);
        for list in [&self.codes, &self.absmax_codes] {
            list.reset();
        }
        for list in [&self.absmax, &self.offset] {
            list.reset();
        }
        let needed = lora::quantize_workspace(queue, &self.quantize(queue)).map_err(say)?;
        assert!(needed <= WORKSPACE, "{needed} bytes");
        self.enqueue(queue).map_err(say)?;
        queue.finish()?;
        self.weights.check_untouched("source")?;
        self.codes.check_padding("codes", &[self.codes.layout])?;
        Ok([
            self.codes.elements(&self.codes.layout),
            self.absmax.bytes(),
            self.absmax_codes.bytes(),
            self.offset.bytes(),
        ])
    }

    /// The other direction, from what the buffers hold.
    fn dequantized<Q: Runner>(&self, queue: &Q) -> Result<Vec<T>, String> {
        self.back.reset();
        lora::dequantize(queue, self.dequantize(queue)).map_err(|error| format!("{error} {:?}", self.spec))?;
        queue.finish()?;
        self.back.check_padding("destination", &[self.back.layout])?;
        Ok(self.back.elements(&self.back.layout))
    }

    /// The same, byte for byte, of a case whose rows lie side by side.
    pub fn dequantized_bytes<Q: Runner>(&self, queue: &Q) -> Result<Vec<u8>, String> {
        self.dequantized(queue)?;
        Ok(self.back.bytes())
    }

    /// Takes others' absmax of absmax, and offset, for the way back.
    pub fn fill_nested(&self, absmax: &[u8], offset: &[u8]) {
        for (list, bytes) in [(&self.absmax, absmax), (&self.offset, offset)] {
            for (i, four) in bytes.chunks(4).enumerate() {
                list.write(i, f32::from_le_bytes(four.try_into().expect("four bytes")));
            }
        }
    }

    /// The code of an element, from the stream of bits.
    fn code(&self, element: usize) -> usize {
        let bits = self.spec.book.bits() as usize;
        let bit = |at: usize| usize::from(self.codes.read(at / 8) >> (7 - at % 8) & 1);
        (0..bits).fold(0, |code, i| code << 1 | bit(element * bits + i))
    }

    /// The scale of an element, as it comes back.
    fn scale(&self, element: usize) -> f32 {
        let block = element / self.spec.block;
        match self.spec.nested {
            None => self.absmax.read(block),
            Some(blocks) => {
                let value = CodeBook::dynamic().values()[usize::from(self.absmax_codes.read(block))];
                value * self.absmax.read(block / blocks) + self.offset.read(0)
            }
        }
    }

    /// What the codes on the CPU queue should be: the nearest values, as near as f32 can say.
    fn check_codes(&self) -> Result<(), String> {
        let numbers: Vec<f64> = self.weights.elements(&self.weights.layout).iter().map(|x| x.to_f64()).collect();
        let nearest = |number: f64, scale: f64, book: &CodeBook, code: usize| {
            let distance = |value: f32| (f64::from(value) - number / scale).abs();
            let least = book.values().iter().map(|&value| distance(value)).fold(f64::INFINITY, f64::min);
            distance(book.values()[code]) <= least + 1e-6
        };
        let scales: Vec<f64> = numbers.chunks(self.spec.block).map(largest).collect();
        for (i, &number) in numbers.iter().enumerate() {
            let (code, scale) = (self.code(i), scales[i / self.spec.block]);
            if !nearest(number, scale, &self.spec.book, code) {
                return Err(format!("element {i}: {number} of {scale} got code {code} {:?}", self.spec));
            }
        }
        let Some(blocks) = self.spec.nested else {
            let absmax: Vec<f64> = (0..scales.len()).map(|i| f64::from(self.absmax.read(i))).collect();
            return if absmax == scales { Ok(()) } else { Err(format!("{absmax:?}, expected {scales:?}")) };
        };
        let mean = scales.iter().sum::<f64>() / scales.len() as f64;
        let offset = self.offset.read(0);
        let differences: Vec<f64> = scales.iter().map(|&scale| f64::from(scale as f32 - offset)).collect();
        if (f64::from(offset) - mean).abs() > 1e-7 * mean {
            return Err(format!("offset {offset}, expected {mean}"));
        }
        for (block, part) in differences.chunks(blocks).enumerate() {
            let absmax = f64::from(self.absmax.read(block));
            if absmax != largest(part) {
                return Err(format!("absmax of absmax is {absmax}, expected {}", largest(part)));
            }
            for (i, &difference) in part.iter().enumerate() {
                let code = usize::from(self.absmax_codes.read(block * blocks + i));
                if !nearest(difference, absmax, CodeBook::dynamic(), code) {
                    return Err(format!("block {i}: {difference} of {absmax} got code {code} {:?}", self.spec));
                }
            }
        }
        Ok(())
    }

    fn check_back(&self, got: &[T]) -> Result<(), String> {
        let value = |i| self.spec.book.values()[self.code(i)] * self.scale(i);
        let expected: Vec<_> = (0..self.spec.elements()).map(|i| T::from_f64(f64::from(value(i)))).collect();
        let [n, k] = self.spec.extents;
        compare::exact([1, n, k], got, &expected).map_err(|report| format!("{report}{:?}", self.spec))
    }

    fn everywhere(&self) -> Result<(), String> {
        let expected = self.quantized(&Cpu)?;
        self.check_codes()?;
        self.check_back(&self.dequantized(&Cpu)?)?;
        for seed in 0..seeds().min(3) {
            let queue = Emulator::new(seed);
            for (name, (got, expected)) in ["codes", "absmax", "absmax_codes", "absmax_offset"]
                .into_iter()
                .zip(self.quantized(&queue)?.iter().zip(&expected))
            {
                if got != expected {
                    let at = got.iter().zip(expected).position(|(a, b)| a != b);
                    return Err(format!(
                        "{name}: byte {at:?} of {} differs with seed {seed} {:?}",
                        got.len(),
                        self.spec
                    ));
                }
            }
            self.check_back(&self.dequantized(&queue)?)?;
        }
        Ok(())
    }
}

fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(0.0, |largest, number| number.abs().max(largest))
}

/// One direction of a case, what it reads made before.
struct Direction<T> {
    case: Case<T>,
    quantizes: bool,
}

impl<T: Element + Cell> Exercise for Direction<T> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        match self.quantizes {
            true => run(&mut || self.case.enqueue(queue)),
            false => run(&mut || lora::dequantize(queue, self.case.dequantize(queue))),
        }
    }
    fn reset(&self) {
        match self.quantizes {
            true => {
                self.case.codes.reset();
                self.case.absmax.reset();
            }
            false => self.case.back.reset(),
        }
    }
    fn output(&self) -> Vec<u8> {
        match self.quantizes {
            true => [self.case.codes.bytes(), self.case.absmax.bytes(), self.case.offset.bytes()].concat(),
            false => self.case.back.bytes(),
        }
    }
}

pub fn exercise(quantizes: bool) -> Box<dyn Exercise> {
    let mut case = Case::<bf16>::random(Spec::new([100, 328]).with(|spec| {
        (spec.nested, spec.short_block) = (quantizes.then_some(256), true);
    }));
    if !quantizes {
        for i in 0..case.codes.len() {
            case.codes.write(i, (i * 37) as u8);
        }
        for i in 0..case.absmax.len() {
            case.absmax.write(i, i as f32);
        }
        case.codes.remember();
        case.absmax.remember();
    }
    Box::new(Direction { case, quantizes })
}

fn values<T: Element + Cell>() -> Result<(), String> {
    for bits in [2, 3, 4, 8] {
        for seed in 0..6 {
            Case::<T>::random(Spec::random(bits, seed)).everywhere()?;
        }
    }
    Ok(())
}

/// Blocks that several warps share, tiles that end a block, and whole tiles.
fn long_blocks<T: Element + Cell>() -> Result<(), String> {
    for block in [128, 256, 512, 1024, 2048, 4096] {
        let spec = Spec::new([9, 1024]).with(|spec| (spec.block, spec.short_block) = (block, true));
        Case::<T>::random(spec).everywhere()?;
    }
    // More absmax than are added up at a time.
    let many = Spec::new([257, 512]).with(|spec| (spec.block, spec.nested) = (16, Some(256)));
    Case::<T>::random(many).everywhere()?;
    Case::<T>::random(Spec::new([3, 4096]).with(|spec| (spec.block, spec.book) = (2048, nf(8)))).everywhere()
}

fn nf(bits: u32) -> CodeBook {
    CodeBook::normal_float(bits).expect("so many bits")
}

/// A number on a boundary gets the lower code, FP4's the one nearer to zero; the next number does not.
fn ties() -> Result<(), String> {
    for book in [nf(2), nf(3), CodeBook::nf4().clone(), nf(8), CodeBook::dynamic().clone(), CodeBook::fp4().clone()] {
        let boundaries = book.boundaries().to_vec();
        let case = Case::<f32>::new(Spec::new([32, 64]).with(|spec| spec.book = book.clone()), |i| {
            let boundary = boundaries[i / 4 % boundaries.len()];
            [1.0, boundary, boundary.next_up(), boundary.next_down()][i % 4].into()
        });
        case.everywhere()?;
        case.quantized(&Emulator::new(3))?;
        for i in 0..case.spec.elements() {
            let rank = i / 4 % boundaries.len();
            let expected = [boundaries.len(), rank, rank + 1, rank][i % 4];
            let code = usize::from(book.codes()[expected]);
            if case.code(i) != code && (i % 4 < 2 || boundaries[rank] != 0.0) {
                return Err(format!("element {i} got {}, expected {code} of {} bits", case.code(i), book.bits()));
            }
        }
    }
    // By hand: FP4's magnitudes 2/3 and 1 meet at 0.8333333, on both sides of zero.
    let codes = |x: f64| {
        let case =
            Case::<f32>::new(Spec::new([1, 64]).with(|spec| spec.book = CodeBook::fp4().clone()), |i| [1.0, x][i % 2]);
        case.quantized(&Cpu).map(|_| case.code(1))
    };
    let middle = 0.8333333f32;
    let got = [middle, -middle, middle.next_up(), (-middle).next_down()].map(|x| codes(x.into()));
    match got {
        [Ok(2), Ok(10), Ok(3), Ok(11)] => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

/// Ascending, of which the middle ones are −0 and 0.
fn with_both_zeros() -> [f32; 256] {
    std::array::from_fn(|i| (i as f32 - 127.5).trunc() / 128.0)
}

/// A book of 256 values that is taken is one that kernels take.
fn both_zeros() -> Result<(), String> {
    let book = CodeBook::new(&with_both_zeros()).map_err(|error| error.to_string())?;
    Case::<f32>::random(Spec::new([8, 64]).with(|spec| spec.book = book)).everywhere()
}

/// Blocks of zeroes, of what is too small to be divided by, with infinities and with NaNs.
fn special<T: Element + Cell>() -> Result<(), String> {
    let tiny = T::ulp(0.0);
    let number = |i: usize| match (i / 64, i % 64) {
        (1, _) => 0.0,
        (2, 5) => -tiny,
        (2, _) => 0.0,
        (3, 7) => f64::INFINITY,
        (3, 9) => f64::NEG_INFINITY,
        (4, 63) => f64::NAN,
        (5, 0) => f64::NAN,
        (5, 1) => f64::INFINITY,
        (_, j) => j as f64 / 64.0 - 0.5,
    };
    let case = Case::<T>::new(Spec::new([7, 64]), number);
    let expected = case.quantized(&Cpu)?;
    for seed in 0..3 {
        if case.quantized(&Emulator::new(seed))? != expected {
            return Err(format!("the codes differ with seed {seed}"));
        }
        let back = case.dequantized(&Emulator::new(seed))?;
        compare::exact([1, 7, 64], &back, &case.dequantized(&Cpu)?)?;
        for (i, back) in back.iter().map(|x| x.to_f64()).enumerate() {
            let right = match (i / 64, number(i)) {
                (1, _) => back == 0.0 && case.code(i) == 7,
                // Below 1e-38, of which f16 has nothing.
                (2, number) => back == 0.0 || number != 0.0,
                (3, number) if number.is_infinite() => back == number,
                (3..=5, _) => back.is_nan(),
                (_, number) => (back - number).abs() <= 0.08,
            };
            if !right {
                return Err(format!("element {i}: {} came back as {back}", number(i)));
            }
        }
    }
    Ok(())
}

/// Beside an infinity what is finite counts as 0, which a book may lack.
fn infinities() -> Result<(), String> {
    let without_zero = CodeBook::new(&[-1.0, -0.5, 0.5, 1.0]).map_err(|error| error.to_string())?;
    for (book, beside) in [(CodeBook::nf4().clone(), f32::NAN), (without_zero, f32::NEG_INFINITY)] {
        let case = Case::<f32>::new(Spec::new([1, 64]).with(|spec| spec.book = book), |i| match i {
            7 => f64::INFINITY,
            9 => f64::NEG_INFINITY,
            _ => i as f64 / 64.0 - 0.5,
        });
        let codes = case.quantized(&Cpu)?;
        for (queue, back) in [("cpu", case.dequantized(&Cpu)?), ("emulator", case.dequantized(&Emulator::new(1))?)] {
            for (i, got) in back.into_iter().enumerate() {
                let expected = [(7, f32::INFINITY), (9, f32::NEG_INFINITY)].into_iter().find(|&(at, _)| at == i);
                let expected = expected.map_or(beside, |(_, infinity)| infinity);
                if got != expected && !(got.is_nan() && expected.is_nan()) {
                    return Err(format!("element {i} came back as {got} on {queue}, expected {expected}"));
                }
            }
        }
        if case.quantized(&Emulator::new(1))? != codes {
            return Err("the codes differ".into());
        }
    }
    Ok(())
}

/// One read and one write, of whole sectors, and no bank conflict.
fn one_pass<T: Element + Cell>() -> Result<(), String> {
    let cases = [2, 3, 4, 8].into_iter().flat_map(|bits| [16, 64, 4096].map(|block| (bits, block, false)));
    for (bits, block, nested) in cases.chain([(4, 64, true)]) {
        let spec = Spec::new([64, 512]).with(|spec| {
            (spec.block, spec.book, spec.nested) = (block, nf(bits), nested.then_some(256));
        });
        let case = Case::<T>::random(spec);
        let elements = case.spec.elements() as u64;
        let (bytes, codes) = (elements * size_of::<T>() as u64, elements * u64::from(bits) / 8);
        let blocks = elements / block as u64;
        let weights = if nested { "workspace" } else { "absmax" };
        let quantize: &[_] = &[("matrix", Kind::GlobalRead, bytes), ("codes", Kind::GlobalWrite, codes)];
        let queue = Emulator::new(1);
        let (outcome, counted) = counters::count(|| case.enqueue(&queue));
        outcome.map_err(|error| error.to_string())?;
        check_counts(&counted, "lora_quantize", quantize, weights, Kind::GlobalWrite, 4 * blocks)
            .map_err(|report| format!("{report} {:?}", case.spec))?;
        let dequantize: &[_] = &[("matrix", Kind::GlobalWrite, bytes), ("codes", Kind::GlobalRead, codes)];
        let (outcome, counted) = counters::count(|| lora::dequantize(&queue, case.dequantize(&queue)));
        outcome.map_err(|error| error.to_string())?;
        let (scales, size) = if nested { ("absmax_codes", 1) } else { ("absmax", 4) };
        // Every warp, of 2048 bytes, reads the scale of a block that it is a part of.
        let reads = blocks.max(bytes / 2048);
        check_counts(&counted, "lora_dequantize", dequantize, scales, Kind::GlobalRead, size * reads)
            .map_err(|report| format!("{report} {:?}", case.spec))?;
    }
    Ok(())
}

/// Bytes as they are said to be, in as few sectors as they can be.
fn check_counts(
    counted: &[counters::Row],
    kernel: &str,
    whole: &[(&str, Kind, u64)],
    scales: &str,
    kind: Kind,
    scale_bytes: u64,
) -> Result<(), String> {
    let of = |kind, operand: &str| {
        let rows = counted.iter().filter(|row| row.kernel() == kernel && row.kind == kind && row.operand() == operand);
        rows.fold((0, 0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.parts, sum.2 + row.least))
    };
    for &(operand, kind, bytes) in whole {
        let (moved, sectors, least) = of(kind, operand);
        if moved != bytes || sectors != least {
            return Err(format!("{operand}: {moved} bytes of {bytes}, {sectors} sectors of {least}"));
        }
    }
    let (moved, sectors, least) = of(kind, scales);
    if moved != scale_bytes || sectors != least {
        return Err(format!("{scales}: {moved} bytes of {scale_bytes}, {sectors} sectors of {least}"));
    }
    let shared = counted.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
    let conflicts: u64 = shared.map(|row| row.parts - row.least).sum();
    if conflicts == 0 { Ok(()) } else { Err(format!("{conflicts} conflicts")) }
}

fn refused() -> Result<(), String> {
    let text = |change: &dyn Fn(&mut Spec), lengths: &dyn Fn(&mut [usize; 4]), quantizes: bool| {
        let mut spec = Spec::new([4, 64]);
        change(&mut spec);
        let weights = vec![1.0f32; spec.elements()];
        let mut lengths_of = [128, 4, 4, 1];
        lengths(&mut lengths_of);
        let [codes, absmax, nested_codes, offset] = lengths_of;
        let (mut codes, mut nested_codes) = (vec![7u8; codes], vec![7u8; nested_codes]);
        let (mut absmax, mut offset) = (vec![7.0f32; absmax], vec![7.0f32; offset]);
        let mut back = weights.clone();
        let [n, k] = spec.extents;
        let got = match quantizes {
            true => {
                let source = Mat::new(&weights, n, k).expect("it fits");
                let lists = (VectorMut::whole(&mut codes), VectorMut::whole(&mut absmax));
                let mut call = Quantize::<f32, Cpu>::new(source, lists.0, lists.1).format(spec.format());
                if spec.nested.is_some() {
                    call = call.nested(VectorMut::whole(&mut nested_codes), VectorMut::whole(&mut offset));
                }
                lora::quantize(&Cpu, call, Workspace::none())
            }
            false => {
                let destination = MatMut::new(&mut back, n, k).expect("it fits");
                let lists = (Vector::whole(&codes), Vector::whole(&absmax));
                let mut call = Dequantize::<f32, Cpu>::new(lists.0, lists.1, destination).format(spec.format());
                if spec.nested.is_some() {
                    call = call.nested(Vector::whole(&nested_codes), Vector::whole(&offset));
                }
                lora::dequantize(&Cpu, call)
            }
        };
        assert!(codes.iter().chain(&nested_codes).all(|&byte| byte == 7) && back == weights);
        assert!(absmax.iter().chain(&offset).all(|&number| number == 7.0));
        got.map_or_else(|error| error.to_string(), |()| "Ok".into())
    };
    type Change<'a> = &'a dyn Fn(&mut Spec);
    type Lengths<'a> = &'a dyn Fn(&mut [usize; 4]);
    let same: Change = &|_| ();
    let nested: Change = &|spec| spec.nested = Some(256);
    let cases: &[(Change, Lengths, &str)] = &[
        (&|spec| spec.block = 48, &|_| (), "block is 48, expected a power of two from 16 to 4096"),
        (&|spec| spec.block = 8, &|_| (), "block is 8, expected a power of two from 16 to 4096"),
        (&|spec| spec.block = 8192, &|_| (), "block is 8192, expected a power of two from 16 to 4096"),
        (&|spec| spec.block = 0, &|_| (), "block is 0, expected a power of two from 16 to 4096"),
        (
            &|spec| spec.extents = [3, 50],
            &|_| (),
            "block is 64, expected one that divides 150 elements, or short_block",
        ),
        (&|spec| spec.nested = Some(100), &|_| (), "absmax_block is 100, expected a power of two from 16 to 4096"),
        (same, &|lengths| lengths[0] = 127, "codes is [127], expected [128]"),
        (same, &|lengths| lengths[0] = 129, "codes is [129], expected [128]"),
        (same, &|lengths| lengths[1] = 5, "absmax is [5], expected [4]"),
        (nested, &|_| (), "absmax is [4], expected [1]"),
        (nested, &|lengths| (lengths[1], lengths[2]) = (1, 3), "absmax_codes is [3], expected [4]"),
        (nested, &|lengths| (lengths[1], lengths[3]) = (1, 2), "absmax_offset is [2], expected [1]"),
    ];
    for (change, lengths, expected) in cases {
        for (quantizes, operation) in [(true, "lora::quantize"), (false, "lora::dequantize")] {
            let (got, expected) = (text(*change, *lengths, quantizes), format!("{operation}: {expected}"));
            if got != expected {
                return Err(format!("{got}\nexpected\n{expected}"));
            }
        }
    }
    let mut zeros_swapped = with_both_zeros();
    zeros_swapped.swap(127, 128);
    let of_f64 = Case::<f64>::random(Spec::new([4, 64]));
    for (got, expected) in [
        (of_f64.enqueue(&Cpu), "lora::quantize: source has element type f64, expected f32, f16 or bf16"),
        (of_f64.enqueue(&Emulator::new(0)), "lora::quantize: source has element type f64, expected f32, f16 or bf16"),
        (
            lora::dequantize(&Cpu, of_f64.dequantize(&Cpu)),
            "lora::dequantize: destination has element type f64, expected f32, f16 or bf16",
        ),
        (CodeBook::normal_float(5).map(|_| ()), "lora::CodeBook::normal_float: bits is 5, expected 2, 3, 4 or 8"),
        (
            CodeBook::new(&[0.0; 5]).map(|_| ()),
            "lora::CodeBook::new: values is 5 values, expected 4, 8, 16 or 256 of them",
        ),
        (
            CodeBook::new(&[0.0; 2]).map(|_| ()),
            "lora::CodeBook::new: values is 2 values, expected 4, 8, 16 or 256 of them",
        ),
        (CodeBook::new(&[]).map(|_| ()), "lora::CodeBook::new: values is 0 values, expected 4, 8, 16 or 256 of them"),
        (CodeBook::new(&[0.0, 1.0, f32::NAN, 2.0]).map(|_| ()), "lora::CodeBook::new: values is NaN, expected finite"),
        (
            CodeBook::new(&std::array::from_fn::<f32, 256, _>(|i| -(i as f32))).map(|_| ()),
            "lora::CodeBook::new: values is -0 before -1, expected 256 of them in ascending order",
        ),
        (
            CodeBook::new(&zeros_swapped).map(|_| ()),
            "lora::CodeBook::new: values is 0 before -0, expected 256 of them in ascending order",
        ),
    ] {
        let got = got.map_or_else(|error| error.to_string(), |()| "Ok".into());
        if got != expected {
            return Err(format!("{got}\nexpected\n{expected}"));
        }
    }
    Ok(())
}

/// Lists that share memory with the weights or with each other.
fn overlapping() -> Result<(), String> {
    let memory = list::<f32>(600);
    let call = |places: [(u64, usize); 3]| {
        let [weights, codes, absmax] = places;
        let source = Mat::new(Cpu.source_at::<f32>(memory.address() + weights.0, weights.1), 4, 64)?;
        let codes = VectorMut::whole(Cpu.sink_at::<u8>(memory.address() + codes.0, codes.1));
        let absmax = VectorMut::whole(Cpu.sink_at::<f32>(memory.address() + absmax.0, absmax.1));
        lora::quantize(&Cpu, Quantize::new(source, codes, absmax), Workspace::none())
    };
    for (places, expected) in [
        ([(0, 256), (1023, 128), (1200, 4)], Some("codes and source share")),
        ([(0, 256), (1024, 128), (1148, 4)], Some("codes and absmax share")),
        ([(4, 256), (1100, 128), (0, 4)], Some("absmax and source share")),
        ([(0, 256), (1024, 128), (1154, 4)], Some("absmax is at address")),
        ([(0, 256), (1024, 128), (1152, 4)], None),
    ] {
        let got = call(places).err().map(|error| error.to_string());
        let right = match (&got, expected) {
            (Some(got), Some(expected)) => got.contains(expected),
            (None, None) => true,
            _ => false,
        };
        if !right {
            return Err(format!("{got:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// No element, one element, and what is longer than any memory.
fn extremes() -> Result<(), String> {
    for extents in [[0, 64], [64, 0], [0, 0], [1, 1], [1, 129], [129, 1]] {
        for nested in [None, Some(16)] {
            let spec = Spec::new(extents).with(|spec| (spec.short_block, spec.nested) = (true, nested));
            let case = Case::<bf16>::random(spec);
            let expected = case.quantized(&Cpu)?;
            if case.quantized(&Emulator::new(1))? != expected {
                return Err(format!("the codes differ {:?}", case.spec));
            }
            compare::exact(
                [1, extents[0], extents[1]],
                &case.dequantized(&Emulator::new(1))?,
                &case.dequantized(&Cpu)?,
            )?;
        }
    }
    // Shapes alone, before anything is touched.
    let huge = Layout { offset: 0, extents: [1 << 40, 8], strides: [0, 1] };
    let (weights, mut codes, mut absmax) = ([1.0f32; 8], [0u8; 1], [0f32; 1]);
    let source = Mat::with_layout(&weights, huge).map_err(|error| error.to_string())?;
    let call = Quantize::<f32, Emulator>::new(source, VectorMut::whole(&mut codes), VectorMut::whole(&mut absmax));
    let got = lora::quantize(&Emulator::new(0), call, Workspace::none()).map_err(|error| error.to_string());
    let expected = "lora::quantize: source is [1099511627776, 8], expected at most 2^42 elements";
    match got {
        Err(text) if text == expected => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

fn on_device<T: Element + Cell>() -> Result<(), String> {
    for bits in [2, 3, 4, 8] {
        for seed in 0..4 {
            let case = Case::<T>::random(Spec::random(bits, seed));
            let expected = case.quantized(&Cpu)?;
            let queue = RawStream::legacy(0);
            if case.quantized(&queue)? != expected {
                return Err(format!("the codes differ {:?}", case.spec));
            }
            case.check_back(&case.dequantized(&queue)?)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::quantize::values/f32", values::<f32>);
    trials.add("lora::quantize::values/f16", values::<f16>);
    trials.add("lora::quantize::values/bf16", values::<bf16>);
    trials.add("lora::quantize::long_blocks/f32", long_blocks::<f32>);
    trials.add("lora::quantize::long_blocks/bf16", long_blocks::<bf16>);
    trials.add("lora::quantize::ties", ties);
    trials.add("lora::quantize::both_zeros", both_zeros);
    trials.add("lora::quantize::special/f32", special::<f32>);
    trials.add("lora::quantize::special/f16", special::<f16>);
    trials.add("lora::quantize::special/bf16", special::<bf16>);
    trials.add("lora::quantize::infinities", infinities);
    trials.add("lora::quantize::one_pass/f32", one_pass::<f32>);
    trials.add("lora::quantize::one_pass/bf16", one_pass::<bf16>);
    trials.add("lora::quantize::refused", refused);
    trials.add("lora::quantize::overlapping", overlapping);
    trials.add("lora::quantize::extremes", extremes);
    trials.add_on_device("lora::quantize::values/f32/cuda", on_device::<f32>);
    trials.add_on_device("lora::quantize::values/bf16/cuda", on_device::<bf16>);
}
