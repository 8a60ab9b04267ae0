//! `min(1, C / √square)`.

use peft_kernels::lora::{self, ClipWeights};
use peft_kernels::reference::Terms;
use peft_kernels::{Cpu, Emulator, Layout, RawStream, Tensor, VectorMut};

use super::run::list;
use crate::buffer::{Buffer, Cell};
use crate::compare;
use crate::numbers::Random;
use crate::queues::{Runner, Trials, emulators};
use crate::streams::{Exercise, Run};

struct Case {
    squares: Buffer<f32>,
    weights: Buffer<f32>,
    max_norm: f32,
}

impl Case {
    fn new(squares: &[f32], max_norm: f32) -> Self {
        let layout = Layout { offset: 1, extents: [1, 1, squares.len()], strides: [0, 0, 1] };
        Self { squares: Buffer::list(squares), weights: Buffer::new(layout, |_| f32::POISON), max_norm }
    }

    fn call<'a, Q: Runner>(&'a self, queue: &Q) -> ClipWeights<'a, Q> {
        let Layout { offset, extents: [.., count], .. } = self.weights.layout;
        let layout = Layout { offset, extents: [count], strides: [1] };
        let weights = VectorMut::with_layout(queue.sink(&self.weights), layout).expect("the buffer holds its view");
        ClipWeights::new(list(queue, &self.squares), weights, self.max_norm)
    }

    fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<f32>, usize), String> {
        self.weights.reset();
        let kernel = lora::clip_weights_kernel(queue, &self.call(queue)).map_err(|error| error.to_string())?;
        lora::clip_weights(queue, self.call(queue)).map_err(|error| error.to_string())?;
        queue.finish()?;
        self.squares.check_untouched("squares")?;
        self.weights.check_padding("weights", &[self.weights.layout])?;
        Ok((self.weights.elements(&self.weights.layout), kernel.rounding_steps))
    }

    fn check<Q: Runner>(&self, queue: &Q) -> Result<Vec<f32>, String> {
        let (got, steps) = self.run(queue)?;
        let weight = |&got: &u32| {
            let ratio = f64::from(self.max_norm) / f64::from(f32::from_bits(got)).sqrt();
            let value = if ratio.is_nan() { f64::NAN } else { ratio.min(1.0) };
            Terms { value, magnitude: value }
        };
        let squares: Vec<u32> = self.squares.elements(&self.squares.layout).into_iter().map(f32::to_bits).collect();
        let oracle: Vec<_> = squares.iter().map(weight).collect();
        compare::bounded([1, 1, got.len()], &got, &oracle, steps).map(|()| got)
    }
}

impl Exercise for Case {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || lora::clip_weights(queue, self.call(queue)))
    }
    fn reset(&self) {
        self.weights.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.weights.bytes()
    }
}

pub fn exercise() -> Box<dyn Exercise> {
    Box::new(Case::new(&(0..1000).map(|i| i as f32 * 0.01).collect::<Vec<_>>(), 1.5))
}

/// Any number of them; exactly 1 up to the norm, and less beyond it.
fn values() -> Result<(), String> {
    for count in [0, 1, 5, 255, 256, 257, 700] {
        let mut random = Random(count as u64);
        let squares: Vec<_> = (0..count).map(|_| (random.real() * 20.0).exp() as f32).collect();
        let case = Case::new(&squares, [1.0, 0.3, 40.0][count % 3]);
        case.check(&Cpu)?;
        let mut first = None;
        for queue in emulators() {
            let got = case.check(&queue)?;
            compare::exact([1, 1, count], &got, first.get_or_insert(got.clone()))?;
        }
    }
    let case = Case::new(
        &[0.0, 1.0, 4.0, 4.000001, 16.0, 2f32.powi(100), f32::INFINITY, f32::MIN_POSITIVE, 1e-45, f32::NAN],
        2.0,
    );
    let expected = [1.0, 1.0, 1.0, 0.999_999_9, 0.5, 2f32.powi(-49), 0.0, 1.0, 1.0, f32::NAN];
    compare::exact([1, 1, 10], &case.check(&Cpu)?, &expected)?;
    compare::exact([1, 1, 10], &case.check(&Emulator::new(1))?, &expected)
}

fn refused() -> Result<(), String> {
    let list = Buffer::<f32>::list(&[1.0; 16]);
    let view = |offset: usize, count: usize, stride: usize| {
        let layout = Layout { offset, extents: [count], strides: [stride] };
        Tensor::with_layout(Cpu.source(&list), layout).expect("within the list")
    };
    let sink = |offset: usize, count: usize| {
        let layout = Layout { offset, extents: [count], strides: [1] };
        VectorMut::with_layout(Cpu.sink(&list), layout).expect("within the list")
    };
    let cases = [
        (ClipWeights::new(view(0, 4, 1), sink(8, 3), 1.0), "weights is [3], expected [4]"),
        (ClipWeights::new(view(0, 4, 2), sink(8, 4), 1.0), "squares has row stride 0 and column stride 2"),
        (ClipWeights::new(view(0, 4, 1), sink(8, 4), 0.0), "the largest norm is 0, expected a number above 0"),
        (ClipWeights::new(view(0, 4, 1), sink(8, 4), f32::NAN), "the largest norm is NaN, expected a number above 0"),
        (ClipWeights::new(view(0, 4, 1), sink(8, 4), f32::INFINITY), "the largest norm is inf, expected"),
        (ClipWeights::new(view(0, 4, 1), sink(3, 4), 1.0), "weights and squares share the element"),
        (ClipWeights::new(view(0, 4, 1), sink(8, 4), 1.0).algorithm(3), "algorithm 3 does not exist on the CPU queue"),
    ];
    for (call, expected) in cases {
        let got = lora::clip_weights(&Cpu, call).err().map(|error| error.to_string()).unwrap_or_default();
        if !got.starts_with(&format!("lora::clip_weights: {expected}")) {
            return Err(format!("{got}, expected {expected}"));
        }
        list.check_untouched("a refused call's list")?;
    }
    let case = Case::new(&[1.0], 1.0);
    let queue = Emulator::new(0);
    let got = lora::clip_weights(&queue, case.call(&queue).algorithm(2)).err().map(|error| error.to_string());
    let text = "lora::clip_weights: algorithm 2 does not exist, expected 0 (automatic) or 1 (lora_clip_weights)";
    if got.as_deref() == Some(text) { Ok(()) } else { Err(format!("{got:?}")) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::clip_weights::values", values);
    trials.add("lora::clip_weights::refused", refused);
    trials.add_on_device("lora::clip_weights::values/cuda", || {
        Case::new(&(0..1000).map(|i| i as f32 * 0.01).collect::<Vec<_>>(), 1.5).check(&RawStream::legacy(0)).map(drop)
    });
}
