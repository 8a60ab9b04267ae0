//! Noise: its numbers, its moments, and where it goes.

use half::{bf16, f16};
use peft_kernels::counters::{self, Kind};
use peft_kernels::lora::{self, AddNoise};
use peft_kernels::reference;
use peft_kernels::{Cpu, Element, Emulator, Layout, MatMut, RawStream};

use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::streams::{Exercise, Run};

struct Case<T> {
    gradient: Buffer<T>,
    scale: f32,
    seed: u64,
    offset: u64,
}

impl<T: Element + Cell> Case<T> {
    fn new([rows, columns]: [usize; 2], placement: Placement, scale: f32, seed: u64, offset: u64) -> Self {
        let mut random = Random(seed);
        let layout = placement.layout([1, rows, columns]);
        Self { gradient: Buffer::new(layout, |_| Numbers::Reals.term(&mut random)), scale, seed, offset }
    }

    fn call<'a, Q: Runner>(&'a self, queue: &Q) -> AddNoise<'a, T, Q> {
        let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = self.gradient.layout;
        let layout = Layout { offset, extents: [rows, columns], strides: [row, column] };
        let gradient = MatMut::with_layout(queue.sink(&self.gradient), layout).expect("the buffer holds its view");
        AddNoise::new(gradient, self.scale, self.seed, self.offset)
    }

    fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<T>, usize), String> {
        self.gradient.reset();
        let kernel = lora::add_noise_kernel(queue, &self.call(queue)).map_err(|error| error.to_string())?;
        lora::add_noise(queue, self.call(queue)).map_err(|error| error.to_string())?;
        queue.finish()?;
        self.gradient.check_padding("gradient", &[self.gradient.layout])?;
        Ok((self.gradient.elements(&self.gradient.layout), kernel.rounding_steps))
    }

    fn check<Q: Runner>(&self, queue: &Q) -> Result<Vec<T>, String> {
        self.gradient.reset();
        let terms = reference::lora::add_noise_terms(&self.call(&Cpu)).map_err(|error| error.to_string())?;
        let (got, steps) = self.run(queue)?;
        compare::bounded(self.gradient.layout.extents, &got, &terms, steps).map(|()| got)
    }

    fn everywhere(&self) -> Result<(), String> {
        self.check(&Cpu)?;
        let mut first = None;
        for queue in emulators() {
            let got = self.check(&queue)?;
            compare::exact(self.gradient.layout.extents, &got, first.get_or_insert(got.clone()))?;
        }
        Ok(())
    }
}

impl<T: Element + Cell> Exercise for Case<T> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || lora::add_noise(queue, self.call(queue)))
    }
    fn reset(&self) {
        self.gradient.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.gradient.bytes()
    }
}

pub fn exercise() -> Box<dyn Exercise> {
    Box::new(Case::<bf16>::new([33, 65], Placement::default(), 0.5, 1, 2))
}

/// Any shape and order; quads that go around the end of a row, and the last ones that are not whole.
fn shapes<T: Element + Cell>() -> Result<(), String> {
    let shapes = [[1, 1], [1, 3], [3, 1], [5, 3], [7, 4], [2, 129], [40, 33], [0, 4], [3, 0]];
    for (i, shape) in shapes.into_iter().enumerate() {
        for column_major in [false, true] {
            let placement = Placement { column_major, gap: i % 3, offset: i % 2, batch_gap: 0 };
            Case::<T>::new(shape, placement, [1.0, 0.0, 3.5][i % 3], i as u64 | 1 << 40, 1 << 33 | i as u64)
                .everywhere()?;
        }
    }
    Ok(())
}

/// On zeroes, at one offset after the other: the numbers themselves, in f32.
fn numbers<Q: Runner>(queue: &Q, count: usize, seed: u64, offset: u64) -> Result<Vec<f32>, String> {
    let layout = Placement::default().layout([1, 1, count]);
    let case = Case { gradient: Buffer::new(layout, |_| 0f32), scale: 1.0, seed, offset };
    Ok(case.run(queue)?.0)
}

/// From the published words of Philox (Random123, kat_vectors): counter and key of zeroes and of ones.
fn vectors() -> Result<(), String> {
    let normal = |distance: u32, direction: u32| {
        let radius = (-2.0 * ((f64::from(distance) + 0.5) * 2f64.powi(-32)).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(direction) * 2f64.powi(-32);
        [radius * angle.cos(), radius * angle.sin()]
    };
    let words = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
    let expected = [normal(words[0], words[1]), normal(words[2], words[3])].concat();
    for got in [numbers(&Cpu, 4, 0, 0)?, numbers(&Emulator::new(1), 4, 0, 0)?] {
        for (got, expected) in got.iter().zip(&expected) {
            if (f64::from(*got) - expected).abs() > 1e-6 {
                return Err(format!("{got}, expected {expected}"));
            }
        }
    }
    Ok(())
}

/// Mean, variance, skewness, kurtosis, tails and correlations are those of the normal distribution; other seeds and offsets give other numbers.
fn moments() -> Result<(), String> {
    const COUNT: usize = 1 << 18;
    let z: Vec<f64> = numbers(&Cpu, COUNT, 11, 5)?.into_iter().map(f64::from).collect();
    let mean = |of: &dyn Fn(usize) -> f64| (0..COUNT - 8).map(of).sum::<f64>() / (COUNT - 8) as f64;
    // Each within five standard deviations of its estimate.
    let deviation = |variance: f64| 5.0 * (variance / COUNT as f64).sqrt();
    let checks = [
        ("mean", mean(&|i| z[i]), 0.0, deviation(1.0)),
        ("variance", mean(&|i| z[i].powi(2)), 1.0, deviation(2.0)),
        ("third", mean(&|i| z[i].powi(3)), 0.0, deviation(15.0)),
        ("fourth", mean(&|i| z[i].powi(4)), 3.0, deviation(96.0)),
        ("sixth", mean(&|i| z[i].powi(6)), 15.0, deviation(10170.0)),
        ("beyond 2", mean(&|i| f64::from(u8::from(z[i].abs() > 2.0))), 0.0455, deviation(0.0434)),
        ("beyond 3", mean(&|i| f64::from(u8::from(z[i].abs() > 3.0))), 0.0027, deviation(0.0027)),
        ("neighbours", mean(&|i| z[i] * z[i + 1]), 0.0, deviation(1.0)),
        ("second neighbours", mean(&|i| z[i] * z[i + 2]), 0.0, deviation(1.0)),
        ("neighbours' squares", mean(&|i| z[i].powi(2) * z[i + 1].powi(2)), 1.0, deviation(8.0)),
        ("next fours", mean(&|i| z[i] * z[i + 4]), 0.0, deviation(1.0)),
    ];
    for (name, got, expected, allowed) in checks {
        if (got - expected).abs() > allowed {
            return Err(format!("{name}: {got}, expected {expected} within {allowed}"));
        }
    }
    let queue = Emulator::new(3);
    let one = numbers(&queue, 64, 11, 5)?;
    for (seed, offset) in [(12, 5), (11, 6), (11 | 1 << 32, 5), (11, 5 | 1 << 32)] {
        let other = numbers(&queue, 64, seed, offset)?;
        if one.iter().zip(&other).any(|(a, b)| a == b) {
            return Err(format!("seed {seed} and offset {offset} give a number again"));
        }
    }
    Ok(())
}

/// What the arithmetic of the kernel makes of many words: within its bound of f64.
fn many_words() -> Result<(), String> {
    for offset in 0..4 {
        let layout = Placement::default().layout([1, 1, 1 << 14]);
        let case = Case { gradient: Buffer::new(layout, |_| 0f32), scale: 1.0, seed: 77, offset };
        case.check(&Emulator::new(0))?;
    }
    Ok(())
}

/// NaN stays where it is; every element is read and written once.
fn in_place<T: Element + Cell>() -> Result<(), String> {
    let mut case = Case::<T>::new([5, 7], Placement::default(), 1.0, 1, 1);
    let clean = case.run(&Emulator::new(1))?.0;
    case.gradient.reset();
    case.gradient.set([0, 2, 3], T::from_f64(f64::NAN));
    let got = case.run(&Emulator::new(1))?.0;
    for (i, (got, clean)) in got.iter().zip(&clean).enumerate() {
        if got.to_f64().is_nan() != (i == 17) || i != 17 && got != clean {
            return Err(format!("element {i} is {got:?}, was {clean:?}"));
        }
    }
    let queue = Emulator::new(2);
    let (outcome, rows) = counters::count(|| lora::add_noise(&queue, case.call(&queue)));
    outcome.map_err(|error| error.to_string())?;
    for kind in [Kind::GlobalRead, Kind::GlobalWrite] {
        let bytes: u64 = rows.iter().filter(|row| row.kind == kind).map(|row| row.bytes).sum();
        if bytes != 35 * size_of::<T>() as u64 {
            return Err(format!("{bytes} bytes, expected {}", 35 * size_of::<T>()));
        }
    }
    Ok(())
}

fn refused() -> Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 16]);
    let call = |row: usize, column: usize, scale: f32| {
        let layout = Layout { offset: 0, extents: [2, 3], strides: [row, column] };
        AddNoise::new(MatMut::with_layout(Cpu.sink(&list), layout).expect("within the list"), scale, 1, 2)
    };
    let cases = [
        (call(6, 2, 1.0), "gradient has row stride 6 and column stride 2, expected one of them to be 1"),
        (call(3, 1, -1.0), "the scale is -1, expected a number that is at least 0"),
        (call(3, 1, f32::NAN), "the scale is NaN, expected a number that is at least 0"),
        (call(3, 1, f32::INFINITY), "the scale is inf, expected a number that is at least 0"),
        (call(3, 1, 1.0).algorithm(5), "algorithm 5 does not exist on the CPU queue, expected 0"),
    ];
    for (call, expected) in cases {
        let got = lora::add_noise(&Cpu, call).err().map(|error| error.to_string());
        if got.as_ref() != Some(&format!("lora::add_noise: {expected}")) {
            return Err(format!("{got:?}, expected {expected}"));
        }
        list.check_untouched("a refused call's gradient")?;
    }
    let mut doubles = [0f64; 2];
    let call = AddNoise::new(MatMut::new(&mut doubles, 1, 2).map_err(|error| error.to_string())?, 1.0, 1, 2);
    let got = lora::add_noise(&Cpu, call).err().map(|error| error.to_string());
    let text = "lora::add_noise: gradient has element type f64, expected f32, f16 or bf16";
    if got.as_deref() != Some(text) {
        return Err(format!("{got:?}"));
    }
    let case = Case::<f32>::new([1, 1], Placement::default(), 1.0, 1, 1);
    let queue = Emulator::new(0);
    let got = lora::add_noise(&queue, case.call(&queue).algorithm(2)).err().map(|error| error.to_string());
    let text = "lora::add_noise: algorithm 2 does not exist, expected 0 (automatic) or 1 (lora_add_noise)";
    if got.as_deref() == Some(text) { Ok(()) } else { Err(format!("{got:?}")) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::add_noise::shapes/f32", shapes::<f32>);
    trials.add("lora::add_noise::shapes/f16", shapes::<f16>);
    trials.add("lora::add_noise::shapes/bf16", shapes::<bf16>);
    trials.add("lora::add_noise::vectors", vectors);
    trials.add("lora::add_noise::moments", moments);
    trials.add("lora::add_noise::many_words", many_words);
    trials.add("lora::add_noise::in_place/f32", in_place::<f32>);
    trials.add("lora::add_noise::in_place/bf16", in_place::<bf16>);
    trials.add("lora::add_noise::refused", refused);
    trials.add_on_device("lora::add_noise::shapes/cuda", || {
        let case = Case::<f32>::new([40, 33], Placement::default(), 3.5, 1, 2);
        let got = case.check(&RawStream::legacy(0))?;
        compare::exact([1, 40, 33], &got, &case.run(&Emulator::new(0))?.0)
    });
}
