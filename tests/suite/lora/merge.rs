//! Merging adapters into weights and taking them out again.

mod case;
mod forms;
mod refused;

use peft_kernels::counters;
use peft_kernels::lora::{self, Merge};
use peft_kernels::{Cpu, Element, Emulator, Layout, RawStream, Workspace};

use self::case::{ALGORITHMS, Case, mat_mut};
use super::case::Factors;
use super::run::{adapter, list};
use crate::buffer::{Buffer, Cell, Placement, indices};
use crate::compare;
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials, emulators};
use crate::shapes::RANKS;
use crate::streams::{Exercise, Run};

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
    let mut case = Case::new(200, 300, &[16, 4], Numbers::Reals, 5);
    case.residual = None;
    exercise_of::<T, P>(case, merging)
}

/// The same of listed ranks and a core, under a row scale.
pub fn exercise_of_forms<T: Element + Cell, P: Element + Cell>(merging: bool) -> Box<dyn Exercise> {
    let adapters = forms::every_form(16);
    let mut case = Case::with_middles([200, 300], &adapters, Numbers::Reals, 5).scaled(2, &[]);
    case.residual = None;
    exercise_of::<T, P>(case, merging)
}

fn exercise_of<T: Element + Cell, P: Element + Cell>(mut case: Case<T, P>, merging: bool) -> Box<dyn Exercise> {
    struct Call<T, P>(Case<T, P>, bool, Buffer<u8>);
    impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
        fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
            let Self(case, merging, workspace) = self;
            let operation = if *merging { lora::merge } else { lora::unmerge };
            let call = || case.call(queue, *merging).workspace(Workspace::new(queue.sink(workspace)));
            run(&mut || operation(queue, call()))
        }
        fn reset(&self) {
            self.0.source.reset();
            self.0.destination.reset();
        }
        fn output(&self) -> Vec<u8> {
            let Self(case, merging, _) = self;
            if *merging { case.destination.bytes() } else { case.source.bytes() }
        }
    }
    if !merging {
        for index in indices(case.destination.layout.extents) {
            case.destination.set(index, case.source.get(index));
        }
    }
    let emulator = Emulator::new(0);
    let bytes = lora::merge_workspace(&emulator, &case.call(&emulator, merging)).expect("a call that fits");
    let workspace = Buffer::new(Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] }, |_| u8::POISON);
    Box::new(Call::<T, P>(case, merging, workspace))
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
        Some(placement) => Case::placed([n, k], &case::plain(ranks), Numbers::Reals, seed, |_| placement),
    };
    case.algorithm = algorithm;
    case.residual = case.residual.filter(|_| algorithm == 1);
    Ok((counted_case(&case, seed)?, case.residual.is_some()))
}

fn counted_case<T: Element + Cell, P: Element + Cell>(
    case: &Case<T, P>,
    seed: u64,
) -> Result<[Vec<counters::Row>; 2], String> {
    let queue = Emulator::new(seed);
    let (merged, there) = counters::count(|| case.run(&queue, true));
    let (unmerged, back) = counters::count(|| case.run(&queue, false));
    merged.and(unmerged)?;
    Ok([there, back])
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
        let mut case = match seed % 2 {
            0 => Case::<T, P>::new(21, 35, &[4, 9], Numbers::Reals, seed),
            _ => Case::with_middles([21, 35], &forms::every_form(5), Numbers::Reals, seed).scaled(2, &[]),
        };
        let (elsewhere, _) = case.merge(queue)?;
        for index in indices(case.source.layout.extents) {
            case.destination.set(index, case.source.get(index));
        }
        case.in_place = true;
        let original = case.destination.elements(&case.destination.layout);
        case.run(queue, true)?;
        case.check_kept()?;
        let extents = case.source.layout.extents;
        compare::exact(extents, &case.destination.elements(&case.destination.layout), &elsewhere)?;
        case.run(queue, false)?;
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
    fn check<T: Element + Cell, P: Element + Cell, Q: Runner>(
        queue: &Q,
        delta: f64,
        row_scale: Option<f32>,
    ) -> Result<(), String> {
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
        let row_scale = row_scale.map(|scale| Buffer::list(&[scale; 256]));
        for merging in [true, false] {
            let call = Merge::in_place(mat_mut(queue, &weights)).adapter(adapter(queue, &factors));
            let mut call = call.residual(mat_mut(queue, &residual));
            if let Some(scale) = &row_scale {
                call = call.row_scale(list(queue, scale));
            }
            let run = if merging { lora::merge } else { lora::unmerge };
            run(queue, call).map_err(|error| error.to_string())?;
        }
        for i in 0..1 << 16 {
            let got = bits(weights.read(i));
            if usize::from(got) != i {
                let scale = row_scale.map(|scale| scale.get([0, 0, 0]));
                return Err(format!("{:?}: {i:#06x} plus {delta:e}, {scale:?}: {got:#06x} comes back", queue.place()));
            }
        }
        Ok(())
    }
    for delta in [0.0, -0.0, 1e-9, 0.3, -1.0, 65504.0, 3e38, f64::INFINITY, -f64::INFINITY, f64::NAN] {
        check::<T, P, _>(&Cpu, delta, None)?;
        check::<T, P, _>(&Emulator::new(1), delta, None)?;
    }
    for row_scale in [0.0, -0.0, 1.0, 0.3, -1e-30, 3e38, f32::INFINITY, f32::NAN] {
        for delta in [0.3, f64::INFINITY] {
            check::<T, P, _>(&Cpu, delta, Some(row_scale))?;
            check::<T, P, _>(&Emulator::new(1), delta, Some(row_scale))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    use half::{bf16, f16};
    for_types!(trials, "lora::merge::values", values);
    for_types!(trials, add_on_device, "lora::merge::values/cuda", on_device);
    for_types!(trials, "lora::merge::in_place", in_place);
    forms::trials(trials);
    refused::trials(trials);
    trials.add("lora::merge::residual/f16", residual::<f16, f16>);
    trials.add("lora::merge::residual/bf16", residual::<bf16, bf16>);
    trials.add("lora::merge::residual/f16+f32", residual::<f16, f32>);
    trials.add("lora::merge::residual/bf16+f32", residual::<bf16, f32>);
}
