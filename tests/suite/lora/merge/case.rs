//! A merge and its way back as a case: operands, the plain formula, and what every call must keep.

use peft_kernels::lora::{self, Merge};
use peft_kernels::reference::Terms;
use peft_kernels::{
    Cpu, Element, ElementType, Emulator, Error, Kernel, Layout, Mat, MatMut, Place, Status, StatusRecord, Workspace,
};

use crate::buffer::{Buffer, Cell, Placement, indices};
use crate::compare;
use crate::lora::case::Factors;
use crate::lora::middle::case::{MiddleCase, MiddleSpec, times};
use crate::lora::run::{adapter, check_workspace, rows};
use crate::memory::Memory;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, emulators};

/// The operands of a merge.
pub struct Case<T, P> {
    pub source: Buffer<T>,
    pub destination: Buffer<T>,
    pub residual: Option<Buffer<u16>>,
    pub factors: Vec<Factors<P>>,
    /// What lies between each adapter's factors.
    pub middles: Vec<MiddleCase<P>>,
    pub row_scale: Option<Buffer<f32>>,
    pub in_place: bool,
    numbers: Numbers,
    /// The kernel, or 0.
    pub algorithm: i32,
}

/// The kernels by number; 0 is the one that `pick` chooses.
pub const ALGORITHMS: [i32; 2] = [0, 1];

fn flat(layout: &Layout<3>) -> Layout<2> {
    let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = *layout;
    Layout { offset, extents: [rows, columns], strides: [row, column] }
}

pub fn mat<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Mat<'a, T, Q> {
    Mat::with_layout(queue.source(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

pub fn mat_mut<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> MatMut<'a, T, Q> {
    MatMut::with_layout(queue.sink(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    /// Everything by chance but the extents; with a residual where the type can have one.
    pub fn new(n: usize, k: usize, ranks: &[usize], numbers: Numbers, seed: u64) -> Self {
        Self::with_middles([n, k], &plain(ranks), numbers, seed)
    }

    pub fn with_middles(extents: [usize; 2], adapters: &[(usize, MiddleSpec)], numbers: Numbers, seed: u64) -> Self {
        Self::placed(extents, adapters, numbers, seed, |random| Placement {
            column_major: random.coin(),
            gap: random.below(4),
            offset: random.below(3),
            batch_gap: 0,
        })
    }

    pub fn placed(
        [n, k]: [usize; 2],
        adapters: &[(usize, MiddleSpec)],
        numbers: Numbers,
        seed: u64,
        place: impl Fn(&mut Random) -> Placement,
    ) -> Self {
        let mut random = Random(seed);
        let source = Buffer::new(place(&mut random).layout([1, n, k]), |_| numbers.term(&mut random));
        let destination = Buffer::new(place(&mut random).layout([1, n, k]), |_| T::POISON);
        let residual = (T::TYPE != ElementType::F32 && random.coin())
            .then(|| Buffer::new(place(&mut random).layout([1, n, k]), |_| u16::POISON));
        let factors = adapters.iter().map(|(rank, middle)| {
            let (rank, after) = (*rank, middle.columns_of_b(*rank));
            Factors {
                a: Buffer::new(place(&mut random).layout([1, rank, k]), |_| numbers.factor(&mut random, rank, true)),
                b: Buffer::new(place(&mut random).layout([1, n, after]), |_| numbers.factor(&mut random, rank, true)),
                scale: numbers.scale(&mut random),
            }
        });
        let factors = factors.collect();
        let middles = adapters.iter().enumerate().map(|(i, (rank, middle))| {
            let place = [Placement::default(), place(&mut random)];
            MiddleCase::new(middle, numbers, seed + i as u64, [1, 0, *rank], place)
        });
        let middles = middles.collect();
        let row_scale = None;
        Self { source, destination, residual, factors, middles, row_scale, in_place: false, numbers, algorithm: 0 }
    }

    /// With a scale of rows, elements this far apart; 0 in these rows.
    pub fn scaled(mut self, step: usize, zeros: &[usize]) -> Self {
        let (n, mut random) = (self.source.layout.extents[1], Random(step as u64));
        let layout = Layout { offset: step, extents: [1, 1, n], strides: [n * step, 0, step] };
        let scale = |[_, _, row]: [usize; 3]| match self.numbers {
            _ if zeros.contains(&row) => 0.0,
            Numbers::Integers => random.choose(&[1.0, -1.0, 2.0, 0.5, -4.0]),
            Numbers::Reals => numbers_apart_from_zero(&mut random),
        };
        self.row_scale = Some(Buffer::new(layout, scale));
        self
    }

    /// The call in one direction; in place, the destination alone.
    pub fn call<'a, Q: Runner>(&'a self, queue: &Q, merging: bool) -> Merge<'a, T, P, Q> {
        let (source, destination) =
            if merging { (&self.source, &self.destination) } else { (&self.destination, &self.source) };
        let mut call = match self.in_place {
            true => Merge::in_place(mat_mut(queue, &self.destination)),
            false => Merge::new(mat(queue, source), mat_mut(queue, destination)),
        };
        for (factors, middle) in self.factors.iter().zip(&self.middles) {
            call = match middle.given(queue) {
                None => call.adapter(adapter(queue, factors)),
                Some(middle) => call.adapter_with_middle(adapter(queue, factors), middle),
            };
        }
        if let Some(scale) = &self.row_scale {
            call = call.row_scale(rows(queue, scale));
        }
        if queue.place() != Place::Cpu {
            call = call.algorithm(self.algorithm);
        }
        match &self.residual {
            Some(residual) => call.residual(mat_mut(queue, residual)),
            None => call,
        }
    }

    fn scale_of_row(&self, row: usize) -> f64 {
        self.row_scale.as_ref().map_or(1.0, |scale| scale.get([0, 0, row]).into())
    }

    /// Value and Σ|terms| of a merge by the plain formula.
    fn oracle(&self) -> Vec<Terms> {
        let weights = if self.in_place { &self.destination } else { &self.source };
        let [_, n, k] = self.source.layout.extents;
        // What a middle makes of each column of A, as of a row of H.
        let after = |middle: &MiddleCase<P>, a: &Buffer<P>, column: usize| {
            let a = |rank: &Option<usize>| rank.map_or(0.0, |rank| a.get([0, rank, column]).to_f64());
            let h = middle.ranks.iter().map(|rank| Terms { value: a(rank), magnitude: a(rank).abs() });
            middle.apply([0, 0], &h.collect::<Vec<_>>())
        };
        let of_adapters = self.factors.iter().zip(&self.middles);
        let made: Vec<Vec<Vec<Terms>>> = of_adapters
            .map(|(factors, middle)| (0..k).map(|column| after(middle, &factors.a, column)).collect())
            .collect();
        let value = |[_, row, column]: [usize; 3]| {
            let weight = weights.get([0, row, column]).to_f64();
            let mut sum = Terms { value: weight, magnitude: weight.abs() };
            for (i, (Factors { b, scale, .. }, middle)) in self.factors.iter().zip(&self.middles).enumerate() {
                let mut product = Terms::default();
                for (rank, terms) in made[i][column].iter().enumerate() {
                    // With a core the columns of B are its own.
                    let of_b = if middle.core.is_some() { Some(rank) } else { middle.ranks[rank] };
                    let factor = of_b.map_or(0.0, |rank| b.get([0, row, rank]).to_f64());
                    product.value += factor * terms.value;
                    product.magnitude += factor.abs() * terms.magnitude;
                }
                if !made[i][column].is_empty() {
                    sum.value += f64::from(*scale) * product.value;
                    sum.magnitude += f64::from(scale.abs()) * product.magnitude;
                }
            }
            times(sum, self.scale_of_row(row))
        };
        indices([1, n, k]).map(value).collect()
    }

    /// What a call reports of the data: which argument, and which of its elements.
    fn reported(&self, merging: bool) -> Option<(&'static str, usize)> {
        let entry = self.middles.iter().filter_map(|middle| middle.ranks.iter().position(Option::is_none)).min();
        let lost = |scale: &Buffer<f32>| (0..scale.layout.extents[2]).find(|&row| scale.get([0, 0, row]) == 0.0);
        let row = self.row_scale.as_ref().filter(|_| !merging && self.residual.is_none()).and_then(lost);
        assert!(entry.is_none() || row.is_none(), "one of them hides the other");
        entry.map(|entry| ("the list of ranks", entry)).or(row.map(|row| ("row", row)))
    }

    /// Merges or unmerges on this queue, which must succeed, or report what there is to report.
    pub fn run<Q: Runner>(&self, queue: &Q, merging: bool) -> Result<(), String> {
        // A stream reports there what a host queue returns.
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at(record.address() as u64, 1)).map_err(|error| error.to_string())?;
        let bytes = lora::merge_workspace(queue, &self.call(queue, merging)).map_err(|error| error.to_string())?;
        // Undefined on entry: NaN. It starts at an odd address.
        let layout = Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] };
        let workspace = Buffer::<u8>::new(layout, |_| u8::POISON);
        let mut call = self.call(queue, merging).workspace(Workspace::new(queue.sink(&workspace)));
        if queue.is_stream() {
            call = call.status(&status);
        }
        let result = if merging { lora::merge(queue, call) } else { lora::unmerge(queue, call) };
        let result = match result {
            Ok(()) if queue.is_stream() => status.read(queue),
            result => result,
        };
        queue.finish()?;
        check_workspace(&workspace)?;
        match (result, self.reported(merging)) {
            (Ok(()), None) => Ok(()),
            (Err(Error::Data { argument, index, .. }), Some(expected)) if (argument, index as usize) == expected => {
                Ok(())
            }
            (result, expected) => Err(format!("the call returned {result:?}, expected to report {expected:?}")),
        }
    }

    pub fn check_kept(&self) -> Result<(), String> {
        for (i, Factors { a, b, .. }) in self.factors.iter().enumerate() {
            a.check_untouched(&format!("a of adapter {i}"))?;
            b.check_untouched(&format!("b of adapter {i}"))?;
        }
        self.middles.iter().try_for_each(MiddleCase::check_untouched)?;
        self.row_scale.iter().try_for_each(|scale| scale.check_untouched("row_scale"))?;
        if let Some(residual) = &self.residual {
            residual.check_padding("residual", &[residual.layout])?;
        }
        self.source.check_untouched("source")?;
        self.destination.check_padding("destination", &[self.destination.layout])
    }

    /// Merges on this queue and checks the values; what the destination holds then.
    pub fn merge<Q: Runner>(&self, queue: &Q) -> Result<(Vec<T>, Kernel), String> {
        self.destination.reset();
        let oracle = self.oracle();
        let kernel = lora::merge_kernel(queue, &self.call(queue, true)).map_err(|error| error.to_string())?;
        self.run(queue, true)?;
        self.check_kept()?;
        let extents = self.source.layout.extents;
        let got = self.destination.elements(&self.destination.layout);
        let verdict = match self.numbers {
            Numbers::Integers => {
                let rounded: Vec<_> = oracle.iter().map(|terms| T::from_f64(terms.value)).collect();
                compare::exact(extents, &got, &rounded)
            }
            Numbers::Reals => compare::bounded(extents, &got, &oracle, kernel.rounding_steps),
        };
        verdict.map_err(|report| format!("merge on {:?}: {report}", queue.place()))?;
        Ok((got, kernel))
    }

    /// Merges and unmerges on this queue. With a residual the original bits, without one the original within the documented bound; nothing of a row of scale 0.
    pub fn there_and_back<Q: Runner>(&self, queue: &Q) -> Result<Vec<T>, String> {
        let (merged, kernel) = self.merge(queue)?;
        let original = self.source.elements(&self.source.layout);
        let terms = self.oracle();
        // Back into the source's buffer, whose elements are destroyed before.
        for index in indices(self.source.layout.extents) {
            self.source.write(crate::buffer::position(&self.source.layout, index), T::POISON);
        }
        self.run(queue, false)?;
        let got = self.source.elements(&self.source.layout);
        self.source.check_padding("the source, written by unmerge", &[self.source.layout])?;
        self.source.reset();
        for (i, (&got, &original)) in got.iter().zip(&original).enumerate() {
            let bits = compare::hex(got) == compare::hex(original);
            let nan = got.to_f64().is_nan() && original.to_f64().is_nan();
            let g = self.scale_of_row(i / self.source.layout.extents[2]).abs();
            let (w, merged, sum) = (original.to_f64(), merged[i].to_f64(), terms[i].magnitude / g);
            let allowed = T::ulp(merged) / g + T::ulp(w) + 2.0 * kernel.rounding_steps as f64 * 2f64.powi(-23) * sum;
            let near = if g == 0.0 { got.to_f64().is_nan() } else { (got.to_f64() - w).abs() <= allowed };
            if !(bits || nan || self.residual.is_none() && near) {
                let (original, got) = (compare::hex(original), compare::hex(got));
                return Err(format!("{:?}: element {i} was {original}, came back as {got}", queue.place()));
            }
        }
        Ok(merged)
    }

    pub fn everywhere(mut self) -> Result<(), String> {
        self.there_and_back(&Cpu)?;
        for algorithm in ALGORITHMS {
            self.algorithm = algorithm;
            let first = self.there_and_back(&Emulator::new(0))?;
            for queue in emulators().skip(algorithm as usize).step_by(ALGORITHMS.len()) {
                compare::exact(self.source.layout.extents, &self.there_and_back(&queue)?, &first)?;
            }
        }
        Ok(())
    }
}

/// Adapters with nothing between their factors.
pub fn plain(ranks: &[usize]) -> Vec<(usize, MiddleSpec)> {
    ranks.iter().map(|&rank| (rank, MiddleSpec::default())).collect()
}

/// Of either sign; a division by less than a tenth would make numbers beyond f16.
fn numbers_apart_from_zero(random: &mut Random) -> f32 {
    let real = random.real() as f32;
    1.9 * real + 0.1f32.copysign(real)
}
