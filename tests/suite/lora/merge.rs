//! Merging adapters into weights and taking them out again.

use peft_kernels::counters;
use peft_kernels::lora::{self, Merge};
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Element, ElementType, Emulator, Kernel, Layout, Mat, MatMut, Place, RawStream};

use super::case::Factors;
use super::run::adapter;
use crate::buffer::{Buffer, Cell, Placement, indices};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::shapes::RANKS;
use crate::streams::{Exercise, Run};

/// The operands of a merge.
struct Case<T, P> {
    source: Buffer<T>,
    destination: Buffer<T>,
    residual: Option<Buffer<u16>>,
    factors: Vec<Factors<P>>,
    in_place: bool,
    numbers: Numbers,
    /// The kernel, or 0.
    algorithm: i32,
}

/// The kernels by number; 0 is the one that `pick` chooses.
const ALGORITHMS: [i32; 2] = [0, 1];

fn flat(layout: &Layout<3>) -> Layout<2> {
    let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = *layout;
    Layout { offset, extents: [rows, columns], strides: [row, column] }
}

fn mat<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Mat<'a, T, Q> {
    Mat::with_layout(queue.source(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

fn mat_mut<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> MatMut<'a, T, Q> {
    MatMut::with_layout(queue.sink(buffer), flat(&buffer.layout)).expect("the buffer is as large as its layout")
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    /// Everything by chance but the extents; with a residual where the type can have one.
    fn new(n: usize, k: usize, ranks: &[usize], numbers: Numbers, seed: u64) -> Self {
        Self::placed(n, k, ranks, numbers, seed, |random| Placement {
            column_major: random.coin(),
            gap: random.below(4),
            offset: random.below(3),
            batch_gap: 0,
        })
    }

    fn placed(
        n: usize,
        k: usize,
        ranks: &[usize],
        numbers: Numbers,
        seed: u64,
        place: impl Fn(&mut Random) -> Placement,
    ) -> Self {
        let mut random = Random(seed);
        let source = Buffer::new(place(&mut random).layout([1, n, k]), |_| numbers.term(&mut random));
        let destination = Buffer::new(place(&mut random).layout([1, n, k]), |_| T::POISON);
        let residual = (T::TYPE != ElementType::F32 && random.coin())
            .then(|| Buffer::new(place(&mut random).layout([1, n, k]), |_| u16::POISON));
        let factors = ranks.iter().map(|&rank| Factors {
            a: Buffer::new(place(&mut random).layout([1, rank, k]), |_| numbers.factor(&mut random, rank, true)),
            b: Buffer::new(place(&mut random).layout([1, n, rank]), |_| numbers.factor(&mut random, rank, true)),
            scale: numbers.scale(&mut random),
        });
        let factors = factors.collect();
        Self { source, destination, residual, factors, in_place: false, numbers, algorithm: 0 }
    }

    /// The call in one direction; in place, the destination alone.
    fn call<'a, Q: Runner>(&'a self, queue: &Q, merging: bool) -> Merge<'a, T, P, Q> {
        let (source, destination) =
            if merging { (&self.source, &self.destination) } else { (&self.destination, &self.source) };
        let mut call = match self.in_place {
            true => Merge::in_place(mat_mut(queue, &self.destination)),
            false => Merge::new(mat(queue, source), mat_mut(queue, destination)),
        };
        for factors in &self.factors {
            call = call.adapter(adapter(queue, factors));
        }
        if queue.place() != Place::Cpu {
            call = call.algorithm(self.algorithm);
        }
        match &self.residual {
            Some(residual) => call.residual(mat_mut(queue, residual)),
            None => call,
        }
    }

    /// Value and Σ|terms| by the plain formula.
    fn oracle(&self, direction: f64) -> Vec<Terms> {
        let weights = if self.in_place { &self.destination } else { &self.source };
        let value = |[_, row, column]: [usize; 3]| {
            let mut sum = Terms::default();
            let weight = weights.get([0, row, column]).to_f64();
            (sum.value, sum.magnitude) = (weight, weight.abs());
            for Factors { a, b, scale } in &self.factors {
                for rank in 0..a.layout.extents[1] {
                    let product = b.get([0, row, rank]).to_f64() * a.get([0, rank, column]).to_f64();
                    sum.value += direction * f64::from(*scale) * product;
                    sum.magnitude += f64::from(scale.abs()) * product.abs();
                }
            }
            sum
        };
        indices(self.source.layout.extents).map(value).collect()
    }

    fn check_kept(&self) -> Result<(), String> {
        for (i, Factors { a, b, .. }) in self.factors.iter().enumerate() {
            a.check_untouched(&format!("a of adapter {i}"))?;
            b.check_untouched(&format!("b of adapter {i}"))?;
        }
        if let Some(residual) = &self.residual {
            residual.check_padding("residual", &[residual.layout])?;
        }
        self.source.check_untouched("source")?;
        self.destination.check_padding("destination", &[self.destination.layout])
    }

    /// Merges on this queue and checks the values; what the destination holds then.
    fn merge<Q: Runner>(&self, queue: &Q) -> Result<(Vec<T>, Kernel), String> {
        self.destination.reset();
        let oracle = self.oracle(1.0);
        let kernel = lora::merge_kernel(queue, &self.call(queue, true)).map_err(|error| error.to_string())?;
        lora::merge(queue, self.call(queue, true)).map_err(|error| error.to_string())?;
        queue.finish()?;
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

    /// Merges and unmerges on this queue. With a residual the original bits, without one the original within the documented bound.
    fn there_and_back<Q: Runner>(&self, queue: &Q) -> Result<Vec<T>, String> {
        let (merged, kernel) = self.merge(queue)?;
        let original = self.source.elements(&self.source.layout);
        let terms = self.oracle(1.0);
        // Back into the source's buffer, whose elements are destroyed before.
        for index in indices(self.source.layout.extents) {
            self.source.write(crate::buffer::position(&self.source.layout, index), T::POISON);
        }
        lora::unmerge(queue, self.call(queue, false)).map_err(|error| error.to_string())?;
        queue.finish()?;
        let got = self.source.elements(&self.source.layout);
        self.source.check_padding("the source, written by unmerge", &[self.source.layout])?;
        self.source.reset();
        for (i, (&got, &original)) in got.iter().zip(&original).enumerate() {
            let bits = compare::hex(got) == compare::hex(original);
            let nan = got.to_f64().is_nan() && original.to_f64().is_nan();
            let (w, merged, sum) = (original.to_f64(), merged[i].to_f64(), terms[i].magnitude);
            let allowed = T::ulp(merged) + T::ulp(w) + 2.0 * kernel.rounding_steps as f64 * 2f64.powi(-23) * sum;
            let near = (got.to_f64() - w).abs() <= allowed;
            if !(bits || nan || self.residual.is_none() && near) {
                let (original, got) = (compare::hex(original), compare::hex(got));
                return Err(format!("{:?}: element {i} was {original}, came back as {got}", queue.place()));
            }
        }
        Ok(merged)
    }

    fn everywhere(mut self) -> Result<(), String> {
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

fn values<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for numbers in [Numbers::Integers, Numbers::Reals] {
        for (seed, rank) in RANKS.into_iter().enumerate() {
            Case::<T, P>::new(9, 13, &[rank], numbers, seed as u64).everywhere()?;
        }
        for (i, [n, k]) in
            [[0, 5], [5, 0], [1, 1], [1, 130], [130, 1], [16, 64], [17, 65], [33, 127]].iter().enumerate()
        {
            for ranks in [&[][..], &[0], &[4], &[3, 0, 8, 1]] {
                Case::<T, P>::new(*n, *k, ranks, numbers, (100 + i) as u64).everywhere()?;
                Case::<T, P>::new(*n, *k, ranks, numbers, (200 + i) as u64).everywhere()?;
            }
        }
        Case::<T, P>::new(5, 7, &[2; 64], numbers, 7).everywhere()?;
    }
    Ok(())
}

/// Values on the device; where they are exact, the emulator's bits.
fn on_device<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (i, [n, k]) in [[0, 5], [1, 1], [1, 130], [130, 1], [16, 64], [33, 127], [200, 300]].iter().enumerate() {
        for ranks in [&[][..], &[0], &[4], &[3, 0, 8, 1], &[2; 64]] {
            for numbers in [Numbers::Integers, Numbers::Reals] {
                let mut case = Case::<T, P>::new(*n, *k, ranks, numbers, i as u64);
                for algorithm in ALGORITHMS {
                    case.algorithm = algorithm;
                    let got = case.there_and_back(&RawStream::legacy(0))?;
                    if matches!(numbers, Numbers::Integers) {
                        compare::exact(case.source.layout.extents, &got, &case.there_and_back(&Emulator::new(0))?)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Merging, and unmerging, as what a stream can be given.
pub fn exercise<T: Element + Cell, P: Element + Cell>(merging: bool) -> Box<dyn Exercise> {
    struct Call<T, P>(Case<T, P>, bool);
    impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
        fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
            let Self(case, merging) = self;
            let operation = if *merging { lora::merge } else { lora::unmerge };
            run(&mut || operation(queue, case.call(queue, *merging)))
        }
        fn reset(&self) {
            self.0.source.reset();
            self.0.destination.reset();
        }
        fn output(&self) -> Vec<u8> {
            let Self(case, merging) = self;
            if *merging { case.destination.bytes() } else { case.source.bytes() }
        }
    }
    let mut case = Case::new(200, 300, &[16, 4], Numbers::Reals, 5);
    case.residual = None;
    if !merging {
        for index in indices(case.destination.layout.extents) {
            case.destination.set(index, case.source.get(index));
        }
    }
    Box::new(Call::<T, P>(case, merging))
}

/// What merging and unmerging read and wrote, and whether there was a residual, which the plain kernel alone can have. Without a placement, operands lie by chance.
pub fn counted<T: Element + Cell, P: Element + Cell>(
    [n, k]: [usize; 2],
    ranks: &[usize],
    seed: u64,
    algorithm: i32,
    placement: Option<Placement>,
) -> Result<([Vec<counters::Row>; 2], bool), String> {
    let mut case = match placement {
        None => Case::<T, P>::new(n, k, ranks, Numbers::Reals, seed),
        Some(placement) => Case::placed(n, k, ranks, Numbers::Reals, seed, |_| placement),
    };
    case.algorithm = algorithm;
    case.residual = case.residual.filter(|_| algorithm == 1);
    let queue = Emulator::new(seed);
    let (merged, there) = counters::count(|| lora::merge(&queue, case.call(&queue, true)));
    let (unmerged, back) = counters::count(|| lora::unmerge(&queue, case.call(&queue, false)));
    merged.and(unmerged).map_err(|error| error.to_string())?;
    Ok(([there, back], case.residual.is_some()))
}

/// A small merge and its way back, by each kernel.
pub fn with_every_kernel<T: Element + Cell, P: Element + Cell>(queue: &Emulator) -> Result<(), String> {
    let mut case = Case::<T, P>::new(17, 21, &[5, 3], Numbers::Reals, 1);
    case.residual = None;
    for algorithm in 0..=2 {
        case.algorithm = algorithm;
        case.there_and_back(queue)?;
    }
    Ok(())
}

/// In place, the bits of a merge to elsewhere, and back.
fn in_place<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    fn check<T: Element + Cell, P: Element + Cell, Q: Runner>(queue: &Q, seed: u64) -> Result<(), String> {
        let mut case = Case::<T, P>::new(21, 35, &[4, 9], Numbers::Reals, seed);
        let (elsewhere, _) = case.merge(queue)?;
        for index in indices(case.source.layout.extents) {
            case.destination.set(index, case.source.get(index));
        }
        case.in_place = true;
        let original = case.destination.elements(&case.destination.layout);
        lora::merge(queue, case.call(queue, true)).map_err(|error| error.to_string())?;
        case.check_kept()?;
        let extents = case.source.layout.extents;
        compare::exact(extents, &case.destination.elements(&case.destination.layout), &elsewhere)?;
        lora::unmerge(queue, case.call(queue, false)).map_err(|error| error.to_string())?;
        if case.residual.is_some() {
            compare::exact(extents, &case.destination.elements(&case.destination.layout), &original)?;
        }
        Ok(())
    }
    for seed in 0..6 {
        check::<T, P, _>(&Cpu, seed)?;
        emulators().try_for_each(|queue| check::<T, P, _>(&queue, seed))?;
    }
    Ok(())
}

/// Every weight of sixteen bits comes back bit for bit, whatever is added: nothing, the same again, a huge delta, infinity, NaN.
fn residual<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    fn bits<T: Element>(value: T) -> u16 {
        assert_eq!(size_of::<T>(), 2);
        // SAFETY: a value of two bytes.
        unsafe { (&raw const value).cast::<u16>().read_unaligned() }
    }
    fn check<T: Element + Cell, P: Element + Cell, Q: Runner>(queue: &Q, delta: f64) -> Result<(), String> {
        let all = Placement::default().layout([1, 256, 256]);
        // SAFETY: every pattern of sixteen bits is a T.
        let of_bits = |[_, i, j]: [usize; 3]| unsafe { std::mem::transmute_copy::<u16, T>(&((i * 256 + j) as u16)) };
        let weights = Buffer::<T>::new(all, of_bits);
        let residual = Buffer::<u16>::new(all, |_| u16::POISON);
        let factors = Factors {
            a: Buffer::<P>::new(Placement::default().layout([1, 1, 256]), |_| P::from_f64(1.0)),
            b: Buffer::<P>::new(Placement::default().layout([1, 256, 1]), |_| P::from_f64(1.0)),
            scale: delta as f32,
        };
        for merging in [true, false] {
            let call = Merge::in_place(mat_mut(queue, &weights)).adapter(adapter(queue, &factors));
            let call = call.residual(mat_mut(queue, &residual));
            let run = if merging { lora::merge } else { lora::unmerge };
            run(queue, call).map_err(|error| error.to_string())?;
        }
        for i in 0..1 << 16 {
            let got = bits(weights.read(i));
            if usize::from(got) != i {
                return Err(format!("{:?}: {i:#06x} plus {delta:e} came back as {got:#06x}", queue.place()));
            }
        }
        Ok(())
    }
    for delta in [0.0, -0.0, 1e-9, 0.3, -1.0, 65504.0, 3e38, f64::INFINITY, -f64::INFINITY, f64::NAN] {
        check::<T, P, _>(&Cpu, delta)?;
        check::<T, P, _>(&Emulator::new(1), delta)?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    use half::{bf16, f16};
    for_types!(trials, "lora::merge::values", values);
    for_types!(trials, add_on_device, "lora::merge::values/cuda", on_device);
    for_types!(trials, "lora::merge::in_place", in_place);
    trials.add("lora::merge::residual/f16", residual::<f16, f16>);
    trials.add("lora::merge::residual/bf16", residual::<bf16, bf16>);
    trials.add("lora::merge::residual/f16+f32", residual::<f16, f32>);
    trials.add("lora::merge::residual/bf16+f32", residual::<bf16, f32>);
}
