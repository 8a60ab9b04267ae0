//! The squared norms of samples' gradients.

use half::bf16;
use peft_kernels::counters::{self, Kind};
use peft_kernels::lora::{self, Dropout, SampleNormTarget, SampleNorms, Samples};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{
    Cpu, Element, Emulator, Error, Kernel, Layout, RawStream, Status, StatusRecord, Tensor, VectorMut, Workspace,
};

use super::case::{Factors, Saved};
use super::run::{check_workspace, list, matrix};
use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::memory::Memory;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::streams::{Exercise, Run};

/// Which rows the samples have.
#[derive(Clone, Debug)]
pub enum Rows {
    Equal(usize),
    Offsets(Vec<i32>),
}

#[derive(Clone, Copy, Debug)]
pub struct TargetSpec {
    pub n: usize,
    pub rank: usize,
    pub h: Saved,
    /// Whether A, B and the bias count.
    pub counts: [bool; 3],
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub targets: Vec<TargetSpec>,
    pub rows: Rows,
    pub accumulate: bool,
    pub dropout: Option<(f32, u64, u64)>,
    /// Row-major without gaps, or by chance.
    pub plain: bool,
    pub numbers: Numbers,
    pub seed: u64,
}

impl Spec {
    pub fn new([m, n, k, rank]: [usize; 4], rows: Rows, numbers: Numbers) -> Self {
        let targets = vec![TargetSpec { n, rank, h: Saved::None, counts: [true; 3] }];
        let seed = (m * 31 + n * 37 + k * 41 + rank) as u64;
        let (accumulate, dropout) = (false, None);
        Self { batches: 1, m, k, targets, rows, accumulate, dropout, plain: false, numbers, seed }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn dropout(&self) -> Option<Dropout> {
        self.dropout.map(|(p, seed, offset)| Dropout::new(p, seed, offset).expect("a probability"))
    }

    /// The rows that sample i has.
    fn rows_of(&self, sample: usize) -> std::ops::Range<usize> {
        let rows = self.batches * self.m;
        match &self.rows {
            Rows::Equal(count) => sample * (rows / count)..(sample + 1) * (rows / count),
            Rows::Offsets(offsets) => {
                let begin = offsets[sample].clamp(0, rows as i32);
                begin as usize..offsets[sample + 1].clamp(begin, (rows as i32).max(begin)) as usize
            }
        }
    }

    fn count(&self) -> usize {
        match &self.rows {
            Rows::Equal(count) => *count,
            Rows::Offsets(offsets) => offsets.len() - 1,
        }
    }
}

pub struct TargetCase<T, P> {
    pub dy: Buffer<T>,
    pub factors: Factors<P>,
    pub h: (Buffer<T>, Buffer<f32>),
}

pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub targets: Vec<TargetCase<T, P>>,
    pub offsets: Buffer<i32>,
    pub squares: Buffer<f32>,
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: &Spec) -> Self {
        let (mut random, numbers) = (Random(spec.seed), spec.numbers);
        let (batches, m, k) = (spec.batches, spec.m, spec.k);
        let place = |random: &mut Random| match spec.plain {
            true => Placement::default(),
            false => Placement {
                column_major: random.coin(),
                gap: random.below(4),
                offset: random.below(3),
                batch_gap: random.below(3),
            },
        };
        // Sparse, so that squares of integers stay exact.
        fn input<E: Element + Cell>(numbers: Numbers, random: &mut Random, layout: Layout<3>) -> Buffer<E> {
            let rows = layout.extents[1];
            Buffer::new(layout, |[_, row, _]| numbers.factor(random, 10_000, row + 1 == rows))
        }
        let layout = place(&mut random).layout([batches, m, k]);
        let x = input(numbers, &mut random, layout);
        let targets = spec.targets.iter().map(|&TargetSpec { n, rank, .. }| {
            let layout = place(&mut random).layout([batches, m, n]);
            let dy = input(numbers, &mut random, layout);
            let (a, b) = (place(&mut random).layout([1, rank, k]), place(&mut random).layout([1, n, rank]));
            let factors = Factors {
                a: input(numbers, &mut random, a),
                b: input(numbers, &mut random, b),
                scale: numbers.scale(&mut random),
            };
            let layout = place(&mut random).layout([batches, m, rank]);
            let h = input::<T>(numbers, &mut random, layout);
            let h_f32 = Buffer::new(layout, |index| h.get(index).to_f64() as f32 * 1.5);
            TargetCase { dy, factors, h: (h, h_f32) }
        });
        let targets = targets.collect();
        let offsets = match &spec.rows {
            Rows::Equal(_) => Buffer::list(&[]),
            Rows::Offsets(offsets) => Buffer::list(offsets),
        };
        let layout = Layout { offset: 1, extents: [1, 1, spec.count()], strides: [0, 0, 1] };
        let squares =
            Buffer::new(layout, |_| if spec.accumulate { numbers.term::<f32>(&mut random) } else { f32::POISON });
        Self { spec: spec.clone(), x, targets, offsets, squares }
    }

    pub fn call<'a, Q: Runner>(&'a self, queue: &Q) -> SampleNorms<'a, T, P, Q> {
        let samples = match &self.spec.rows {
            Rows::Equal(count) => Samples::equal(*count),
            Rows::Offsets(_) => Samples::offsets(list(queue, &self.offsets)),
        };
        let Layout { offset, extents: [.., count], .. } = self.squares.layout;
        let layout = Layout { offset, extents: [count], strides: [1] };
        let squares = VectorMut::with_layout(queue.sink(&self.squares), layout).expect("the buffer holds its view");
        let mut call = SampleNorms::new(matrix(queue, &self.x), samples, squares);
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            fn flat<'a, P: Element + Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<P>) -> Tensor<'a, P, Q, 2> {
                let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = buffer.layout;
                let layout = Layout { offset, extents: [rows, columns], strides: [row, column] };
                Tensor::with_layout(queue.source(buffer), layout).expect("the buffer holds its view")
            }
            let Factors { a, b, scale } = &case.factors;
            let target = SampleNormTarget::new(matrix(queue, &case.dy), flat(queue, a), flat(queue, b), *scale);
            let target = match spec.h {
                Saved::None => target,
                Saved::Own => target.saved_h(matrix(queue, &case.h.0)),
                Saved::F32 => target.saved_h_f32(matrix(queue, &case.h.1)),
            };
            call = call.target(target.trained(spec.counts[0], spec.counts[1], spec.counts[2]));
        }
        if self.spec.accumulate {
            call = call.accumulate();
        }
        match self.spec.dropout() {
            Some(dropout) => call.dropout(dropout),
            None => call,
        }
    }

    /// By the formula, with the squares of the magnitudes that each element is added up from.
    pub fn oracle(&self) -> Vec<Terms> {
        self.squares.reset();
        let before = |sample| f64::from(self.squares.get([0, 0, sample]));
        let square = |sample| {
            let [value, magnitude] = self.targets.iter().zip(&self.spec.targets).fold([0.0; 2], |sum, (case, spec)| {
                let of_target = self.of_target(case, spec, sample);
                [sum[0] + of_target[0], sum[1] + of_target[1]]
            });
            let before = if self.spec.accumulate { before(sample) } else { 0.0 };
            Terms { value: before + value, magnitude: before.abs() + magnitude }
        };
        (0..self.spec.count()).map(square).collect()
    }

    fn of_target(&self, case: &TargetCase<T, P>, spec: &TargetSpec, sample: usize) -> [f64; 2] {
        let Spec { m, k, .. } = self.spec;
        let (n, rank, Factors { a, b, scale }) = (spec.n, spec.rank, &case.factors);
        let factor = self.spec.dropout.map_or(1.0, |(p, ..)| 1.0 / (1.0 - f64::from(p)));
        let (dropout, scale) = (self.spec.dropout(), f64::from(*scale) * factor);
        let x = |row: usize, i: usize| match &dropout {
            Some(dropout) if !dropout.keeps(row, i) => 0.0,
            _ => self.x.get([row / m, row % m, i]).to_f64(),
        };
        let dy = |row: usize, i: usize| case.dy.get([row / m, row % m, i]).to_f64();
        // A value with the sum of its terms' magnitudes.
        let sum = |terms: &mut dyn Iterator<Item = ([f64; 2], f64)>| {
            terms.fold([0.0; 2], |sum, ([value, magnitude], by)| [sum[0] + value * by, sum[1] + magnitude * by.abs()])
        };
        let one = |value: f64| [value, value.abs()];
        let dh = |row, r| sum(&mut (0..n).map(|i| (one(dy(row, i)), b.get([0, i, r]).to_f64())));
        let h = |row: usize, r| match spec.h {
            Saved::None => sum(&mut (0..k).map(|i| (one(x(row, i)), a.get([0, r, i]).to_f64()))),
            Saved::Own => one(case.h.0.get([row / m, row % m, r]).to_f64()),
            Saved::F32 => one(f64::from(case.h.1.get([row / m, row % m, r]))),
        };
        let rows = self.spec.rows_of(sample);
        let mut squares = [0.0; 2];
        let mut add = |scale: f64, terms: &mut dyn Iterator<Item = ([f64; 2], f64)>| {
            let element = sum(terms);
            squares = [squares[0] + (scale * element[0]).powi(2), squares[1] + (scale * element[1]).powi(2)];
        };
        for r in 0..rank {
            let (dh, h): (Vec<_>, Vec<_>) = rows.clone().map(|row| (dh(row, r), h(row, r))).unzip();
            for i in (0..k).filter(|_| spec.counts[0]) {
                add(scale, &mut rows.clone().zip(&dh).map(|(row, &dh)| (dh, x(row, i))));
            }
            for i in (0..n).filter(|_| spec.counts[1]) {
                add(scale, &mut rows.clone().zip(&h).map(|(row, &h)| (h, dy(row, i))));
            }
        }
        for i in (0..n).filter(|_| spec.counts[2]) {
            add(1.0, &mut rows.clone().map(|row| (one(1.0), dy(row, i))));
        }
        squares
    }

    /// The squares, and the sample that the call said is not sound, if it did.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<f32>, Option<u64>, Kernel), String> {
        self.squares.reset();
        let say = |error: Error| error.to_string();
        let kernel = lora::sample_norms_kernel(queue, &self.call(queue)).map_err(say)?;
        let bytes = lora::sample_norms_workspace(queue, &self.call(queue)).map_err(say)?;
        // Undefined on entry: NaN.
        let layout = Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] };
        let workspace = Buffer::<u8>::new(layout, |_| u8::POISON);
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at::<StatusRecord>(record.address() as u64, 1)).map_err(say)?;
        let call = self.call(queue).status(&status);
        let mut done = lora::sample_norms(queue, call, Workspace::new(queue.sink(&workspace)));
        queue.finish()?;
        if done.is_ok() && queue.is_stream() {
            done = status.read(queue);
        } else if let (Err(got), Err(read)) = (&done, status.read(queue)) {
            let read = read.to_string().replace("Status::read", "lora::sample_norms");
            assert_eq!(got.to_string(), read, "the record says something else");
        }
        let unsound = match done {
            Ok(()) => None,
            Err(Error::Data { argument: "sample", index, .. }) => Some(index),
            Err(error) => return Err(say(error)),
        };
        check_workspace(&workspace)?;
        self.x.check_untouched("x")?;
        self.offsets.check_untouched("sample offsets")?;
        for TargetCase { dy, factors, h } in &self.targets {
            dy.check_untouched("dy")?;
            factors.a.check_untouched("a")?;
            factors.b.check_untouched("b")?;
            h.0.check_untouched("h")?;
            h.1.check_untouched("h in f32")?;
        }
        self.squares.check_padding("squares", &[self.squares.layout])?;
        Ok((self.squares.elements(&self.squares.layout), unsound, kernel))
    }

    /// Integers as the formula, bit for bit; reals within the bound.
    pub fn check<Q: Runner>(&self, queue: &Q, oracle: &[Terms]) -> Result<Vec<f32>, String> {
        let about = |report| format!("{:?}: {report} {:#?}", queue.place(), self.spec);
        let (got, unsound, kernel) = self.run(queue).map_err(about)?;
        let extents = [1, 1, oracle.len()];
        let verdict = match self.spec.numbers {
            Numbers::Integers => {
                // Quarters, and dropout's factors of 2 squared.
                let inexact = oracle.iter().any(|terms| terms.magnitude >= 2f64.powi(20));
                assert!(!inexact, "not exact: {:#?}", self.spec);
                compare::exact(extents, &got, &oracle.iter().map(|terms| terms.value as f32).collect::<Vec<_>>())
            }
            Numbers::Reals => compare::bounded(extents, &got, oracle, kernel.rounding_steps),
        };
        verdict.map_err(about)?;
        let expected = match &self.spec.rows {
            Rows::Equal(_) => None,
            Rows::Offsets(offsets) => {
                let rows = (self.spec.batches * self.spec.m) as i32;
                let sound = |pair: &[i32]| 0 <= pair[0] && pair[0] <= pair[1] && pair[1] <= rows;
                offsets.windows(2).position(|pair| !sound(pair)).map(|sample| sample as u64)
            }
        };
        if unsound == expected { Ok(got) } else { Err(about(format!("said {unsound:?}, expected {expected:?}"))) }
    }

    /// On all queues; every schedule gives the same bits.
    pub fn everywhere(&self) -> Result<(), String> {
        let oracle = self.oracle();
        let terms = reference::lora::sample_norms_terms(&self.call(&Cpu)).map_err(|error| error.to_string())?;
        for (got, expected) in terms.iter().zip(&oracle) {
            let near =
                |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * expected.magnitude || a.is_nan() && b.is_nan();
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("the reference says {got:?}, expected {expected:?} {:#?}", self.spec));
            }
        }
        self.check(&Cpu, &oracle)?;
        let mut first = None;
        for emulator in emulators() {
            let got = self.check(&emulator, &oracle)?;
            compare::exact([1, 1, got.len()], &got, first.get_or_insert(got.clone()))?;
        }
        Ok(())
    }
}

/// A call as what a stream can be given.
struct Call<T, P>(Case<T, P>, Buffer<u8>);

impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || lora::sample_norms(queue, self.0.call(queue), Workspace::new(queue.sink(&self.1))))
    }
    fn reset(&self) {
        self.0.squares.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.0.squares.bytes()
    }
}

pub fn exercise() -> Box<dyn Exercise> {
    let spec = Spec::new([200, 136, 300, 16], Rows::Offsets(vec![0, 30, 31, 150, 200]), Numbers::Reals);
    let case = Case::<bf16, f32>::new(&spec);
    let queue = Emulator::new(0);
    let bytes = lora::sample_norms_workspace(&queue, &case.call(&queue)).expect("a call that fits");
    let workspace = Buffer::new(Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] }, |_| u8::POISON);
    Box::new(Call(case, workspace))
}

/// Around the edges of what a warp, a block and a thread have.
const SHAPES: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [4, 3, 5, 2],
    [6, 31, 33, 7],
    [6, 33, 32, 8],
    [8, 5, 9, 9],
    [4, 257, 3, 1],
    [2, 7, 256, 0],
    [2, 2, 300, 3],
    [10, 9, 4, 17],
];

fn shapes<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            let rows = match i % 3 {
                0 => Rows::Equal(1),
                1 => Rows::Equal(2),
                _ => Rows::Offsets(vec![0, 1, shape[0] as i32]),
            };
            let rows = if shape[0] % 2 == 1 { Rows::Equal(1) } else { rows };
            let spec = Spec::new(shape, rows, numbers).with(|spec| {
                spec.targets[0].h = [Saved::None, Saved::Own, Saved::F32][i % 3];
                spec.dropout = [None, Some((0.5, 3, 1 << 40))][i / 2 % 2];
                spec.accumulate = i % 4 == 1;
            });
            Case::<T, P>::new(&spec).everywhere()?;
        }
    }
    Ok(())
}

/// Any of A, B and the bias, of several layers; of none, the norms are 0 or what they were.
fn choices<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("sample norms");
    for i in 0..12u64 {
        let count = [1, 2, 3, 0][i as usize % 4];
        let target = |which: u64| TargetSpec {
            n: random.choose(&[0, 1, 6, 40]),
            rank: random.choose(&[0, 1, 5, 9]),
            h: random.choose(&[Saved::None, Saved::Own, Saved::F32]),
            counts: std::array::from_fn(|bit| if count == 1 { (2 * i + which) >> bit & 1 == 1 } else { random.coin() }),
        };
        let targets = (0..count).map(target).collect();
        let numbers = [Numbers::Integers, Numbers::Reals][i as usize % 2];
        Case::<T, P>::new(&Spec::new([6, 0, 11, 0], Rows::Equal(3), numbers).with(|spec| {
            (spec.targets, spec.accumulate, spec.seed) = (targets, i % 3 == 0, i);
            spec.dropout = (i % 4 == 3).then_some((0.5, i, 0));
        }))
        .everywhere()?;
    }
    for counts in 0..8 {
        Case::<T, P>::new(&Spec::new([4, 7, 5, 3], Rows::Equal(2), Numbers::Integers).with(|spec| {
            spec.targets[0].counts = std::array::from_fn(|bit| counts >> bit & 1 == 1);
            spec.targets[0].h = [Saved::None, Saved::Own][counts % 2];
        }))
        .everywhere()?;
    }
    Ok(())
}

/// Samples of no row, of one, of several batches' rows; rows of none; more of them than a block of the last sum has, and none at all.
fn segments<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let offsets: [&[i32]; 5] = [&[0, 12], &[0, 0, 5, 5, 11, 12, 12], &[2, 3, 9], &[12, 12], &[0, 0]];
    for (i, offsets) in offsets.into_iter().enumerate() {
        Case::<T, P>::new(&Spec::new([4, 5, 6, 2], Rows::Offsets(offsets.to_vec()), Numbers::Integers).with(|spec| {
            (spec.batches, spec.accumulate, spec.seed) = (3, i % 2 == 1, i as u64);
            spec.dropout = (i % 2 == 0).then_some((0.5, 9, 9));
            spec.targets[0].h = [Saved::None, Saved::Own][i % 2];
        }))
        .everywhere()?;
    }
    for (batches, rows) in
        [(3, Rows::Equal(6)), (3, Rows::Equal(2)), (3, Rows::Equal(12)), (0, Rows::Equal(5)), (0, Rows::Equal(0))]
    {
        Case::<T, P>::new(&Spec::new([4, 3, 5, 2], rows, Numbers::Integers).with(|spec| spec.batches = batches))
            .everywhere()?;
    }
    Case::<T, P>::new(&Spec::new([300, 2, 3, 1], Rows::Equal(300), Numbers::Integers)).everywhere()
}

/// Offsets that descend, or name rows that there are not: said, with the first of them, and nothing is read beyond the rows.
fn unsound() -> Result<(), String> {
    let lists: [&[i32]; 5] = [&[0, 4, 2, 6], &[-1, 3, 6], &[0, 3, 7], &[0, 3, i32::MAX, i32::MIN], &[0, 6, 6, 5]];
    for offsets in lists {
        let rows = Rows::Offsets(offsets.to_vec());
        Case::<f32, f32>::new(&Spec::new([6, 5, 4, 2], rows, Numbers::Integers)).everywhere()?;
    }
    Ok(())
}

/// NaN and infinities are in the norms of their samples alone; of a dropped element of x, in none.
fn not_numbers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for dropout in [None, Some((0.5, 2, 1))] {
        for which in 0..3 {
            let mut case = Case::<T, P>::new(&Spec::new([8, 5, 6, 2], Rows::Equal(4), Numbers::Reals).with(|spec| {
                (spec.dropout, spec.targets[0].h) = (dropout, [Saved::None, Saved::F32][which % 2]);
            }));
            match which {
                0 => case.x.set([0, 3, 4], T::from_f64(f64::NAN)),
                1 => case.targets[0].dy.set([0, 5, 1], T::from_f64(f64::NAN)),
                _ => case.x.set([0, 0, 5], T::from_f64(f64::INFINITY)),
            }
            let oracle = case.oracle();
            if dropout.is_none() && oracle.iter().filter(|terms| terms.value.is_finite()).count() != 3 {
                return Err(format!("{oracle:?}"));
            }
            case.everywhere()?;
        }
    }
    Ok(())
}

/// Elements 2^31 apart.
fn far<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    const FAR: usize = 1 << 31;
    for strides in [[64, FAR, 1], [64, 1, FAR], [FAR, 8, 1]] {
        for operand in 0..4 {
            let spec = Spec::new([2, 3, 4, 2], Rows::Equal(2), Numbers::Integers).with(|spec| {
                spec.targets[0].h = Saved::Own;
                spec.plain = true;
            });
            let mut case = Case::<T, P>::new(&spec);
            let target = &mut case.targets[0];
            match operand {
                0 => case.x = case.x.spread(strides),
                1 => target.dy = target.dy.spread(strides),
                2 => target.factors.b = target.factors.b.spread(strides),
                _ => target.h.0 = target.h.0.spread(strides),
            }
            let oracle = case.oracle();
            case.check(&Cpu, &oracle)?;
            case.check(&Emulator::new(1), &oracle)?;
        }
    }
    Ok(())
}

/// x and dY once for each 8 ranks, H and dH once a warp; a number a block, and each read once.
fn counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (seed, ([m, n, k, rank], h)) in
        [([12, 40, 520, 9], Saved::Own), ([8, 257, 32, 16], Saved::None), ([6, 3, 5, 7], Saved::F32)]
            .into_iter()
            .enumerate()
    {
        let spec = Spec::new([m, n, k, rank], Rows::Equal(2), Numbers::Reals).with(|spec| {
            spec.targets[0].h = h;
            spec.accumulate = seed == 1;
        });
        let case = Case::<T, P>::new(&spec);
        let queue = Emulator::new(seed as u64);
        let bytes = lora::sample_norms_workspace(&queue, &case.call(&queue)).map_err(|error| error.to_string())?;
        let workspace = Buffer::<u8>::list(&vec![0; bytes]);
        let run = || lora::sample_norms(&queue, case.call(&queue), Workspace::new(queue.sink(&workspace)));
        let (outcome, rows) = counters::count(run);
        outcome.map_err(|error| error.to_string())?;
        let (t, blocks) = (size_of::<T>(), n.div_ceil(256) + k.div_ceil(256));
        // A warp reads an element of H once for its 32 columns, of which each lane asks.
        let made = usize::from(h == Saved::None);
        let of_h = m * rank * n * if h == Saved::Own { t } else { 4 };
        const NORMS: &str = "lora_sample_norms_simt";
        const ADD: &str = "lora_add_squares";
        for (kernel, kind, operand, expected) in [
            (NORMS, Kind::GlobalRead, "x", m * k * rank.div_ceil(8) * t),
            (NORMS, Kind::GlobalRead, "dy", m * n * (rank + 1).div_ceil(8) * t),
            (NORMS, Kind::GlobalRead, "saved h", (1 - made) * of_h),
            (NORMS, Kind::GlobalRead, "workspace", m * rank * k * 4 + made * of_h),
            (NORMS, Kind::GlobalWrite, "workspace", 2 * blocks * 4),
            (ADD, Kind::GlobalRead, "workspace", 2 * blocks * 4),
            (ADD, Kind::GlobalRead, "squares", if spec.accumulate { 8 } else { 0 }),
            (ADD, Kind::GlobalWrite, "squares", 8),
        ] {
            let of = rows.iter().filter(|row| row.kernel() == kernel && row.kind == kind && row.operand() == operand);
            let bytes: u64 = of.map(|row| row.bytes).sum();
            if bytes != expected as u64 {
                return Err(format!("{kernel} {operand}: {bytes} bytes, expected {expected} {spec:#?}"));
            }
        }
        let shared = rows.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
        let conflicts: u64 = shared.map(|row| row.parts - row.least).sum();
        if conflicts != 0 {
            return Err(format!("{conflicts} conflicts"));
        }
    }
    Ok(())
}

fn on_device<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for shape in SHAPES {
        let case = Case::<T, P>::new(&Spec::new(shape, Rows::Equal(1), Numbers::Reals));
        let queue = RawStream::legacy(0);
        case.check(&queue, &case.oracle())?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::sample_norms::shapes", shapes);
    for_types!(trials, "lora::sample_norms::choices", choices);
    for_types!(trials, "lora::sample_norms::segments", segments);
    for_types!(trials, "lora::sample_norms::not_numbers", not_numbers);
    for_types!(trials, "lora::sample_norms::counts", counts);
    trials.add("lora::sample_norms::unsound", unsound);
    trials.add("lora::sample_norms::far/f32", far::<f32, f32>);
    trials.add("lora::sample_norms::far/bf16+f32", far::<bf16, f32>);
    for_types!(trials, add_on_device, "lora::sample_norms::shapes/cuda", on_device);
}
