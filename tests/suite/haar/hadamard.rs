//! The Walsh–Hadamard transform.

use half::{bf16, f16};
use peft_kernels::counters::{self, Kind};
use peft_kernels::haar::{self, Hadamard};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, Element, Emulator, Error, Kernel, Layout, Place, RawStream, Tensor, TensorMut, Vector};

use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials};
use crate::streams::{Exercise, Run};

#[derive(Clone, Copy, Debug)]
struct Spec {
    extents: [usize; 3],
    diagonals: [bool; 2],
    normalized: bool,
    in_place: bool,
    numbers: Numbers,
    placements: [Placement; 2],
    algorithm: i32,
    seed: u64,
}

impl Spec {
    fn new(extents: [usize; 3]) -> Self {
        let placements = [Placement::default(); 2];
        let numbers = Numbers::Reals;
        Self {
            extents,
            diagonals: [false; 2],
            normalized: true,
            in_place: false,
            numbers,
            placements,
            algorithm: 0,
            seed: 1,
        }
    }

    /// What is left open, by chance.
    fn random(extents: [usize; 3], seed: u64) -> Self {
        let mut random = Random(seed + 31 * extents[2] as u64);
        let place = |random: &mut Random| Placement {
            column_major: random.below(4) == 0,
            gap: random.choose(&[0, 0, 8, 3]),
            offset: random.choose(&[0, 0, 1]),
            batch_gap: random.choose(&[0, 8, 5]),
        };
        Self {
            extents,
            diagonals: [random.coin(), random.coin()],
            normalized: random.coin(),
            in_place: random.below(4) == 0,
            numbers: random.choose(&[Numbers::Integers, Numbers::Reals]),
            placements: [place(&mut random), place(&mut random)],
            algorithm: 0,
            seed,
        }
    }
}

struct Case<T> {
    spec: Spec,
    source: Buffer<T>,
    destination: Buffer<T>,
    before: Buffer<T>,
    after: Buffer<T>,
}

impl<T: Element + Cell> Case<T> {
    fn new(spec: Spec) -> Self {
        let mut random = Random(spec.seed);
        let [from, to] = spec.placements.map(|placement| placement.layout(spec.extents));
        let source = Buffer::new(if spec.in_place { to } else { from }, |_| spec.numbers.term(&mut random));
        let destination = match spec.in_place {
            true => Buffer::new(to, |index| source.get(index)),
            false => Buffer::new(to, |_| T::POISON),
        };
        let mut diagonal = |_| {
            let layout = Layout { offset: 0, extents: [1, 1, spec.extents[2]], strides: [0, 0, 1] };
            Buffer::new(layout, |_| match spec.numbers {
                Numbers::Integers => T::from_f64(if random.coin() { 1.0 } else { -1.0 }),
                Numbers::Reals => T::from_f64(random.real()),
            })
        };
        let [before, after] = [diagonal(0), diagonal(1)];
        Self { spec, source, destination, before, after }
    }

    fn call<'a, Q: Runner>(&'a self, queue: &Q) -> Hadamard<'a, T, Q> {
        let destination = TensorMut::with_layout(queue.sink(&self.destination), self.destination.layout);
        let destination = destination.expect("the buffer is as large as its layout");
        let mut call = match self.spec.in_place {
            true => Hadamard::in_place(destination),
            false => {
                let source = Tensor::with_layout(queue.source(&self.source), self.source.layout);
                Hadamard::new(source.expect("the buffer is as large as its layout"), destination)
            }
        };
        if self.spec.diagonals[0] {
            call = call.before(Vector::whole(queue.source(&self.before)));
        }
        if self.spec.diagonals[1] {
            call = call.after(Vector::whole(queue.source(&self.after)));
        }
        if !self.spec.normalized {
            call = call.unnormalized();
        }
        if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) }
    }

    /// Value and Σ|terms| by the definition.
    fn oracle(&self) -> Vec<Terms> {
        let [batches, rows, n] = self.spec.extents;
        let scale = if self.spec.normalized { (n as f64).sqrt().recip() } else { 1.0 };
        let of = |present: bool, diagonal: &Buffer<T>, i| if present { diagonal.get([0, 0, i]).to_f64() } else { 1.0 };
        let mut result = Vec::new();
        for (batch, row) in (0..batches).flat_map(|batch| (0..rows).map(move |row| (batch, row))) {
            let x: Vec<_> = (0..n)
                .map(|j| self.source.get([batch, row, j]).to_f64() * of(self.spec.diagonals[0], &self.before, j))
                .collect();
            let magnitude: f64 = x.iter().map(|x| x.abs()).sum();
            for i in 0..n {
                let sign = |j: usize| if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
                let sum: f64 = x.iter().enumerate().map(|(j, x)| sign(j) * x).sum();
                let factor = scale * of(self.spec.diagonals[1], &self.after, i);
                result.push(Terms { value: sum * factor, magnitude: magnitude * factor.abs() });
            }
        }
        result
    }

    fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<T>, Kernel), String> {
        self.destination.reset();
        let kernel = haar::hadamard_kernel(queue, &self.call(queue)).map_err(|error| error.to_string())?;
        haar::hadamard(queue, self.call(queue)).map_err(|error| error.to_string())?;
        queue.finish()?;
        for (name, input) in [("source", &self.source), ("before", &self.before), ("after", &self.after)] {
            input.check_untouched(name)?;
        }
        self.destination.check_padding("destination", &[self.destination.layout])?;
        Ok((self.destination.elements(&self.destination.layout), kernel))
    }

    fn check<Q: Runner>(&self, queue: &Q, oracle: &[Terms]) -> Result<Vec<T>, String> {
        let (got, kernel) = self.run(queue)?;
        let extents = self.spec.extents;
        let compared = if self.spec.numbers == Numbers::Integers && !self.spec.normalized {
            let expected: Vec<_> = oracle.iter().map(|terms| T::from_f64(terms.value + 0.0)).collect();
            compare::exact(
                extents,
                &got.iter().map(|got| T::from_f64(got.to_f64() + 0.0)).collect::<Vec<_>>(),
                &expected,
            )
        } else {
            // The CPU's f64 is rounded as well: what should be zero need not be.
            compare::bounded(extents, &got, oracle, kernel.rounding_steps.max(1))
        };
        compared.map_err(|report| format!("{} on {:?}: {report}{:?}", kernel.name, queue.place(), self.spec))?;
        Ok(got)
    }

    fn everywhere(mut self) -> Result<(), String> {
        let oracle = self.oracle();
        let terms = reference::haar::hadamard_terms(&self.call(&Cpu)).map_err(|error| error.to_string())?;
        for (got, expected) in terms.iter().zip(&oracle) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + expected.magnitude);
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("the reference says {got:?}, expected {expected:?} {:?}", self.spec));
            }
        }
        // The same sums in the same order, made faster; of elements of 16 bits in f32.
        let (extents, got) = (self.spec.extents, self.check(&Cpu, &oracle)?);
        match self.run(&Cpu)?.1.rounding_steps {
            0 => {
                let rounded: Vec<_> = terms.iter().map(|terms| T::from_f64(terms.value)).collect();
                compare::exact(extents, &got, &rounded)?;
            }
            steps => compare::nearest(extents, &got, &terms, steps)?,
        }
        // The definition takes long, and is not for rows in place.
        let definition = !self.spec.in_place && self.spec.extents[2] <= 256;
        let algorithms: &[i32] = if definition { &[0, 1] } else { &[0] };
        for &algorithm in algorithms {
            self.spec.algorithm = algorithm;
            let first = self.check(&Emulator::new(0), &oracle)?;
            for seed in [1, 7] {
                compare::exact(self.spec.extents, &self.check(&Emulator::new(seed), &oracle)?, &first)?;
            }
        }
        Ok(())
    }
}

impl<T: Element + Cell> Exercise for Case<T> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || haar::hadamard(queue, self.call(queue)))
    }
    fn reset(&self) {
        self.destination.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.destination.bytes()
    }
}

/// A transform of long rows, its operands in the memory that this thread uses.
pub fn exercise() -> Box<dyn Exercise> {
    Box::new(Case::<bf16>::new(Spec { diagonals: [true, false], ..Spec::new([2, 5, 4096]) }))
}

fn values<T: Element + Cell>() -> Result<(), String> {
    for bits in 0..=12 {
        for (seed, rows) in [1, 3, 9].into_iter().enumerate().take(if bits > 9 { 2 } else { 3 }) {
            Case::<T>::new(Spec::random([1 + seed % 2, rows, 1 << bits], seed as u64)).everywhere()?;
        }
        // Rows that fill warps, whose pieces are vectors.
        let plain = Spec { diagonals: [true, bits % 2 == 0], ..Spec::new([1, 2, 1 << bits]) };
        Case::<T>::new(plain).everywhere()?;
    }
    Ok(())
}

/// The longest rows: of chosen elements, whose transforms are rows of H.
fn long_rows<T: Element + Cell>() -> Result<(), String> {
    for bits in [13, 14, 15] {
        let n = 1usize << bits;
        let mut case = Case::<T>::new(Spec { normalized: false, ..Spec::new([1, 3, n]) });
        let chosen = [0, n / 2 + 5, n - 1];
        for (row, column) in (0..3).flat_map(|row| (0..n).map(move |column| (row, column))) {
            let at = crate::buffer::position(&case.source.layout, [0, row, column]);
            case.source.write(at, T::from_f64(if column == chosen[row] { 3.0 } else { 0.0 }));
        }
        case.source.remember();
        for seed in [0, 3] {
            let (got, kernel) = case.run(&Emulator::new(seed))?;
            if kernel.name != "haar_hadamard_tile" {
                return Err(format!("{} for 2^{bits}", kernel.name));
            }
            for (i, got) in got.iter().enumerate() {
                let shared = ((i % n) & chosen[i / n]).count_ones();
                let expected = if shared.is_multiple_of(2) { 3.0 } else { -3.0 };
                if got.to_f64() != expected {
                    return Err(format!("element {} of row {} is {got:?}, expected {expected}", i % n, i / n));
                }
            }
        }
    }
    // A chip with less shared memory takes the definition.
    let case = Case::<T>::new(Spec::new([1, 1, 1 << 15]));
    let consumer = Emulator::new(0).compute_capability(89);
    match haar::hadamard_kernel(&consumer, &case.call(&consumer)) {
        Ok(kernel) if kernel.name == "haar_hadamard_simt" => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

/// One read, one write, whole sectors, no bank conflicts.
fn one_pass<T: Element + Cell>() -> Result<(), String> {
    for bits in [5, 8, 10, 11, 12, 13, 14, 15] {
        let rows = (1usize << 15 >> bits).max(2);
        let case = Case::<T>::new(Spec::new([1, rows, 1 << bits]));
        let (outcome, counted) =
            counters::count(|| haar::hadamard(&Emulator::new(bits), case.call(&Emulator::new(bits))));
        outcome.map_err(|error| error.to_string())?;
        let bytes = ((rows << bits) * size_of::<T>()) as u64;
        let of = |kind, operand: &str| {
            let rows = counted.iter().filter(|row| row.kind == kind && row.operand() == operand);
            rows.fold((0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.parts))
        };
        let moved = [of(Kind::GlobalRead, "source"), of(Kind::GlobalWrite, "destination")];
        let shared = counted.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
        let conflicts: u64 = shared.map(|row| row.parts - row.least).sum();
        if moved != [(bytes, bytes / 32); 2] || conflicts != 0 {
            return Err(format!("2^{bits}: {moved:?} of {bytes}, {conflicts} conflicts"));
        }
    }
    Ok(())
}

fn refused() -> Result<(), String> {
    let text = |[rows, n]: [usize; 2], diagonal: usize| {
        let source = vec![1.0f32; rows * n];
        let mut destination = vec![7.0f32; rows * n];
        let before = vec![1.0f32; diagonal];
        let from = Tensor::contiguous(&source[..], [1, rows, n]).expect("it fits");
        let to = TensorMut::contiguous(&mut destination[..], [1, rows, n]).expect("it fits");
        let call = Hadamard::new(from, to).before(Vector::whole(&before[..]));
        let got = haar::hadamard(&Cpu, call);
        assert!(destination.iter().all(|&value| value == 7.0));
        got.map_or_else(|error| error.to_string(), |()| "Ok".into())
    };
    for (extents, diagonal, expected) in [
        ([2, 12], 12, "haar::hadamard: columns is 12, expected a power of two up to 32768"),
        ([1, 65536], 65536, "haar::hadamard: columns is 65536, expected a power of two up to 32768"),
        ([3, 0], 0, "haar::hadamard: columns is 0, expected a power of two up to 32768"),
        ([0, 8], 8, "haar::hadamard: source is [1, 0, 8], expected at least one row"),
        ([2, 8], 4, "haar::hadamard: before is [4], expected [8]"),
    ] {
        let got = text(extents, diagonal);
        if got != expected {
            return Err(format!("{got}\nexpected\n{expected}"));
        }
    }
    let case = Case::<f32>::new(Spec { in_place: true, algorithm: 1, ..Spec::new([1, 2, 8]) });
    match haar::hadamard(&Emulator::new(0), case.call(&Emulator::new(0))) {
        Err(Error::Algorithm { .. }) => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

fn on_device<T: Element + Cell>() -> Result<(), String> {
    for bits in 0..=12 {
        for seed in 0..4 {
            let case = Case::<T>::new(Spec::random([2, 3, 1 << bits], seed));
            case.check(&RawStream::legacy(0), &case.oracle())?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::hadamard::values/f32", values::<f32>);
    trials.add("haar::hadamard::values/f16", values::<f16>);
    trials.add("haar::hadamard::values/bf16", values::<bf16>);
    trials.add("haar::hadamard::long_rows/f32", long_rows::<f32>);
    trials.add("haar::hadamard::long_rows/bf16", long_rows::<bf16>);
    trials.add("haar::hadamard::one_pass/f32", one_pass::<f32>);
    trials.add("haar::hadamard::one_pass/bf16", one_pass::<bf16>);
    trials.add("haar::hadamard::refused", refused);
    trials.add_on_device("haar::hadamard::values/f32/cuda", on_device::<f32>);
    trials.add_on_device("haar::hadamard::values/bf16/cuda", on_device::<bf16>);
}
