//! Coefficients as PyWavelets makes them: pywavelets.txt, which pywavelets.py has written.

use peft_kernels::haar::{self, Axis, Boundary, Transform};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, Emulator, Mat, MatMut, Queue};

use crate::compare;
use crate::queues::Trials;

const FIXTURES: &str = include_str!("pywavelets.txt");

struct Fixture {
    two_dimensional: bool,
    axis: Axis,
    boundary: Boundary,
    levels: u32,
    extents: [usize; 2],
    signal: Vec<f32>,
    coefficient_extents: [usize; 2],
    coefficients: Vec<f64>,
}

fn numbers<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("a number, not {word}"))).collect()
}

fn pair(text: &str) -> [usize; 2] {
    numbers(text).try_into().expect("two extents")
}

impl Fixture {
    fn of(line: &str) -> Self {
        let parts: Vec<_> = line.split(';').map(str::trim).collect();
        let kind: Vec<_> = parts[0].split(' ').collect();
        let boundary = match kind[1] {
            "zero" => Boundary::Zero,
            "edge" => Boundary::Edge,
            "symmetric" => Boundary::Symmetric,
            "periodic" => Boundary::Periodic,
            other => panic!("no boundary {other}"),
        };
        Self {
            two_dimensional: kind[0] == "2d",
            axis: if kind[0] == "rows" { Axis::Rows } else { Axis::Columns },
            boundary,
            levels: kind[2].parse().expect("levels"),
            extents: pair(parts[1]),
            signal: numbers(parts[2]),
            coefficient_extents: pair(parts[3]),
            coefficients: numbers(parts[4]),
        }
    }

    fn with_call<Q: peft_kernels::HostQueue, R>(
        &self,
        inverse: bool,
        source: &[f32],
        destination: &mut [f32],
        run: impl FnOnce(haar::Operation, Transform<'_, f32, Q>) -> R,
    ) -> R {
        let operation = match (self.two_dimensional, inverse) {
            (false, false) => haar::Operation::Forward1d,
            (false, true) => haar::Operation::Inverse1d,
            (true, false) => haar::Operation::Forward2d,
            (true, true) => haar::Operation::Inverse2d,
        };
        let [from, to] = match inverse {
            false => [self.extents, self.coefficient_extents],
            true => [self.coefficient_extents, self.extents],
        };
        let source = Mat::new(source, from[0], from[1]).expect("a source");
        let destination = MatMut::new(destination, to[0], to[1]).expect("a destination");
        run(operation, Transform::new(source, destination, self.levels).axis(self.axis).boundary(self.boundary))
    }

    fn check<Q: Queue + peft_kernels::HostQueue>(&self, queue: &Q) -> Result<(), String> {
        let [rows, columns] = self.coefficient_extents;
        let mut got = vec![f32::NAN; rows * columns];
        let kernel = self.with_call(false, &self.signal, &mut got, |operation, call| {
            let kernel = haar::kernel(queue, operation, &call).expect("a call that fits");
            match self.two_dimensional {
                true => haar::forward_2d(queue, call).map(|()| kernel),
                false => haar::forward_1d(queue, call).map(|()| kernel),
            }
        });
        let steps = kernel.map_err(|error| error.to_string())?.rounding_steps;
        // Integers of at most 9, of which 4^levels at most are added.
        let terms = |&value: &f64| Terms { value, magnitude: 9.0 * 2f64.powi(self.levels as i32) };
        let expected: Vec<_> = self.coefficients.iter().map(terms).collect();
        // PyWavelets rounds to f64 at every level, so that its zeros are none.
        compare::bounded([1, rows, columns], &got, &expected, steps.max(1))?;

        let [rows, columns] = self.extents;
        let coefficients: Vec<_> = self.coefficients.iter().map(|&value| value as f32).collect();
        let mut signal = vec![f32::NAN; rows * columns];
        self.with_call(true, &coefficients, &mut signal, |_, call| match self.two_dimensional {
            true => haar::inverse_2d(queue, call),
            false => haar::inverse_1d(queue, call),
        })
        .map_err(|error| error.to_string())?;
        let expected = self.signal.iter().map(|&value| Terms { value: f64::from(value), magnitude: 100.0 });
        compare::bounded([1, rows, columns], &signal, &expected.collect::<Vec<_>>(), steps + 2)
    }

    fn check_reference(&self) -> Result<(), String> {
        let mut nowhere = vec![0.0; self.coefficients.len()];
        let terms = self.with_call(false, &self.signal, &mut nowhere, |operation, call| {
            reference::haar::terms(operation, &call).map_err(|error| error.to_string())
        })?;
        let near = |(got, expected): (&Terms, &f64)| (got.value - expected).abs() <= 1e-13 * (1.0 + got.magnitude);
        if terms.iter().zip(&self.coefficients).all(near) { Ok(()) } else { Err("the reference differs".into()) }
    }
}

fn fixtures() -> Result<(), String> {
    let mut count = 0;
    for line in FIXTURES.lines() {
        let fixture = Fixture::of(line);
        let run = || {
            fixture.check_reference()?;
            fixture.check(&Cpu)?;
            fixture.check(&Emulator::new(1))
        };
        run().map_err(|report| format!("{report} {}", &line[..line.len().min(40)]))?;
        count += 1;
    }
    if count >= 50 { Ok(()) } else { Err(format!("{count} fixtures")) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::pywavelets", fixtures);
}
