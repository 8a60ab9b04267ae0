//! The row norms of W + sBA.

use half::bf16;
use peft_kernels::counters::{self, Kind};
use peft_kernels::lora::{self, WeightNorm};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{
    Cpu, Element, Emulator, Error, Kernel, Layout, Mat, RawStream, Status, StatusRecord, Vector, VectorMut, Workspace,
};

use super::case::Factors;
use super::run::adapter;
use crate::buffer::{Buffer, Cell, Placement};
use crate::compare;
use crate::memory::Memory;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::streams::{Exercise, Run};

/// A workspace of any length, at an address of any alignment.
const WORKSPACE: usize = 1 << 14;

pub struct Case<T, P> {
    w: Buffer<T>,
    norm: Buffer<f32>,
    /// Of every second case a magnitude, and where it goes over the norm.
    scale: Option<[Buffer<f32>; 2]>,
    factors: Vec<Factors<P>>,
    eps: f32,
    workspace: Buffer<u8>,
}

fn list<E: Cell>(length: usize) -> Buffer<E> {
    Buffer::new(Layout { offset: 0, extents: [1, 1, length], strides: [0, 0, 1] }, |_| E::POISON)
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    /// Everything by chance but the extents.
    fn new(extents: [usize; 2], ranks: &[usize], numbers: Numbers, seed: u64) -> Self {
        Self::placed(extents, ranks, numbers, seed, |random| Placement {
            column_major: random.coin(),
            gap: random.below(4),
            offset: random.below(3),
            batch_gap: 0,
        })
    }

    fn placed(
        [n, k]: [usize; 2],
        ranks: &[usize],
        numbers: Numbers,
        seed: u64,
        place: impl Fn(&mut Random) -> Placement,
    ) -> Self {
        let mut random = Random(seed);
        let w = Buffer::new(place(&mut random).layout([1, n, k]), |_| numbers.term(&mut random));
        let factors = ranks.iter().map(|&rank| Factors {
            a: Buffer::new(place(&mut random).layout([1, rank, k]), |_| numbers.factor(&mut random, rank, true)),
            b: Buffer::new(place(&mut random).layout([1, n, rank]), |_| numbers.factor(&mut random, rank, true)),
            scale: numbers.scale(&mut random),
        });
        let factors = factors.collect();
        let scale = (seed % 2 == 1).then(|| {
            let magnitude: Vec<f32> = (0..n).map(|_| numbers.scale(&mut random)).collect();
            [Buffer::list(&magnitude), list(n)]
        });
        Self { factors, w, norm: list(n), scale, eps: 0.0, workspace: list(WORKSPACE) }
    }

    fn call<'a, Q: Runner>(&'a self, queue: &Q) -> WeightNorm<'a, T, P, Q> {
        let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = self.w.layout;
        let layout = Layout { offset, extents: [rows, columns], strides: [row, column] };
        let w = Mat::with_layout(queue.source(&self.w), layout).expect("the buffer is as large as its layout");
        let call = WeightNorm::new(w, VectorMut::whole(queue.sink(&self.norm))).eps(self.eps);
        let call = match &self.scale {
            None => call,
            Some([magnitude, scale]) => {
                call.row_scale(Vector::whole(queue.source(magnitude)), VectorMut::whole(queue.sink(scale)))
            }
        };
        self.factors.iter().fold(call, |call, factors| call.adapter(adapter(queue, factors)))
    }

    fn enqueue<Q: Runner>(&self, queue: &Q, status: Option<&Status<'_, Q>>) -> peft_kernels::Result<()> {
        let call = self.call(queue);
        let call = if let Some(status) = status { call.status(status) } else { call };
        lora::weight_norm(queue, call, Workspace::new(queue.sink(&self.workspace)))
    }

    /// Elements of a row of the sum, with the magnitudes of what they are added up from.
    fn row(&self, row: usize) -> impl Iterator<Item = Terms> + '_ {
        (0..self.w.layout.extents[2]).map(move |column| {
            let mut sum = Terms { value: self.w.get([0, row, column]).to_f64(), magnitude: 0.0 };
            sum.magnitude = sum.value.abs();
            for Factors { a, b, scale } in &self.factors {
                for rank in 0..a.layout.extents[1] {
                    let product = b.get([0, row, rank]).to_f64() * a.get([0, rank, column]).to_f64();
                    sum.value += f64::from(*scale) * product;
                    sum.magnitude += (f64::from(*scale) * product).abs();
                }
            }
            sum
        })
    }

    fn oracle(&self) -> Vec<Terms> {
        let eps = f64::from(self.eps);
        let norm = |row| {
            let add = |[a, b]: [f64; 2], terms: Terms| [a + terms.value.powi(2), b + terms.magnitude.powi(2)];
            let [value, magnitude] = self.row(row).fold([0.0; 2], add);
            Terms { value: value.sqrt() + eps, magnitude: magnitude.sqrt() + eps }
        };
        (0..self.w.layout.extents[1]).map(norm).collect()
    }

    /// The norms, and the row of norm 0 that the call said, if it did.
    fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<f32>, Option<u64>, Kernel), String> {
        self.norm.reset();
        self.scale.iter().for_each(|[_, scale]| scale.reset());
        let say = |error: Error| error.to_string();
        let kernel = lora::weight_norm_kernel(queue, &self.call(queue)).map_err(say)?;
        let needed = lora::weight_norm_workspace(queue, &self.call(queue)).map_err(say)?;
        assert!(needed <= WORKSPACE, "{needed} bytes");
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at::<StatusRecord>(record.address() as u64, 1)).map_err(say)?;
        let mut done = self.enqueue(queue, Some(&status));
        queue.finish()?;
        if done.is_ok() && queue.is_stream() {
            done = status.read(queue);
        } else if let (Err(got), Err(read)) = (&done, status.read(queue)) {
            let read = read.to_string().replace("Status::read", "lora::weight_norm");
            assert_eq!(got.to_string(), read, "the record says something else");
        }
        let zero = match done {
            Ok(()) => None,
            Err(Error::Data { argument: "row", index, problem: "of norm 0", .. }) => Some(index),
            Err(error) => return Err(say(error)),
        };
        self.w.check_untouched("w")?;
        for (i, Factors { a, b, .. }) in self.factors.iter().enumerate() {
            a.check_untouched(&format!("a of adapter {i}"))?;
            b.check_untouched(&format!("b of adapter {i}"))?;
        }
        self.norm.check_padding("norm", &[self.norm.layout])?;
        if let Some([magnitude, scale]) = &self.scale {
            magnitude.check_untouched("magnitude")?;
            scale.check_padding("row scale", &[scale.layout])?;
            let quotient = |row| magnitude.get([0, 0, row]) / self.norm.get([0, 0, row]);
            let expected: Vec<f32> = (0..self.norm.len()).map(quotient).collect();
            compare::exact([1, 1, expected.len()], &scale.elements(&scale.layout), &expected)?;
        }
        Ok((self.norm.elements(&self.norm.layout), zero, kernel))
    }

    fn check<Q: Runner>(&self, queue: &Q, oracle: &[Terms], exact: bool) -> Result<Vec<f32>, String> {
        let (got, zero, kernel) = self.run(queue)?;
        let extents = [1, 1, oracle.len()];
        let about = |report| format!("{} on {:?}: {report} {:?}", kernel.name, queue.place(), self.w.layout);
        let verdict = match exact {
            true => compare::exact(extents, &got, &oracle.iter().map(|terms| terms.value as f32).collect::<Vec<_>>()),
            false => compare::bounded(extents, &got, oracle, kernel.rounding_steps),
        };
        verdict.map_err(about)?;
        let expected = got.iter().position(|&norm| norm == 0.0).map(|row| row as u64);
        if zero != expected {
            return Err(about(format!("said that row {zero:?} is zero, expected {expected:?}")));
        }
        Ok(got)
    }

    fn everywhere(&self, exact: bool) -> Result<(), String> {
        let oracle = self.oracle();
        let terms = reference::weight_norm::weight_norm_terms(&self.call(&Cpu)).map_err(|error| error.to_string())?;
        for (got, expected) in terms.iter().zip(&oracle) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * expected.magnitude;
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("the reference says {got:?}, expected {expected:?}"));
            }
        }
        self.check(&Cpu, &oracle, exact)?;
        let mut first = None;
        for emulator in emulators() {
            let got = self.check(&emulator, &oracle, exact)?;
            let extents = [1, 1, got.len()];
            compare::exact(extents, &got, first.get_or_insert(got.clone()))?;
        }
        Ok(())
    }
}

impl<T: Element + Cell, P: Element + Cell> Exercise for Case<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || self.enqueue(queue, None))
    }
    fn reset(&self) {
        self.norm.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.norm.bytes()
    }
}

pub fn exercise() -> Box<dyn Exercise> {
    Box::new(Case::<bf16, f32>::new([100, 1200], &[16, 4], Numbers::Reals, 5))
}

/// Around the edges of tiles and of what a block adds up; no rank, one and several, and several adapters.
const SHAPES: [([usize; 2], &[usize]); 10] = [
    ([1, 1], &[1]),
    ([1, 5], &[]),
    ([3, 127], &[0]),
    ([63, 128], &[4]),
    ([64, 129], &[17, 3]),
    ([65, 130], &[8]),
    ([2, 1023], &[2]),
    ([3, 1024], &[0, 5]),
    ([5, 1025], &[16]),
    ([2, 2100], &[33]),
];

/// Squares of small integers add up exactly, and the root of an exact sum is rounded once.
fn integers<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    SHAPES.iter().enumerate().try_for_each(|(seed, &(extents, ranks))| {
        Case::<T, P>::new(extents, ranks, Numbers::Integers, seed as u64).everywhere(true)
    })
}

fn reals<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (seed, &(extents, ranks)) in SHAPES.iter().enumerate() {
        let mut case = Case::<T, P>::new(extents, ranks, Numbers::Reals, 50 + seed as u64);
        case.eps = [0.0, 0.25][seed % 2];
        case.everywhere(false)?;
    }
    Ok(())
}

/// An adapter that takes nearly all of W away: the expanded square would have no digit left.
fn cancellation() -> Result<(), String> {
    let [n, k] = [40, 260];
    let mut case = Case::<f32, f32>::new([n, k], &[1], Numbers::Reals, 3);
    case.factors[0].scale = -1.0;
    for (row, column) in (0..n).flat_map(|row| (0..k).map(move |column| (row, column))) {
        let Factors { a, b, .. } = &case.factors[0];
        let product = b.get([0, row, 0]) * a.get([0, 0, column]);
        let position = crate::buffer::position(&case.w.layout, [0, row, column]);
        case.w.write(position, product * (1.0 + 2f32.powi(-12)));
    }
    case.w.remember();
    case.everywhere(false)?;
    for (got, expected) in case.run(&Emulator::new(1))?.0.iter().zip(case.oracle()) {
        if (f64::from(*got) - expected.value).abs() > 1e-2 * expected.value {
            return Err(format!("{got}, expected {}", expected.value));
        }
    }
    Ok(())
}

/// Rows of zeroes: said, with the first of them, and written; with eps they are none.
fn zero_rows<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for extents in [[70, 40], [3, 0]] {
        let mut case = Case::<T, P>::new(extents, &[3], Numbers::Integers, 9);
        for row in [17, 66].into_iter().filter(|&row| row < extents[0]) {
            for column in 0..extents[1] {
                case.w.set([0, row, column], T::from_f64(0.0));
            }
            (0..3).for_each(|rank| case.factors[0].b.set([0, row, rank], P::from_f64(0.0)));
        }
        case.everywhere(true)?;
        let expected = Some(if extents[1] == 0 { 0 } else { 17 });
        let found = [case.run(&Cpu)?.1, case.run(&Emulator::new(2))?.1];
        if found != [expected; 2] {
            return Err(format!("{found:?}, expected {expected:?}"));
        }
        case.eps = 0.5;
        case.everywhere(true)?;
    }
    // And what adapters make zero.
    let mut case = Case::<f32, f32>::new([4, 33], &[1], Numbers::Integers, 2);
    case.factors[0].scale = -1.0;
    for row in 0..4 {
        for column in 0..33 {
            let product = case.factors[0].b.get([0, row, 0]) * case.factors[0].a.get([0, 0, column]);
            case.w.set([0, row, column], product + if row == 3 { 0.0 } else { 1.0 });
        }
    }
    case.everywhere(true)?;
    let got = case.run(&Emulator::new(0))?.1;
    if got == Some(3) { Ok(()) } else { Err(format!("{got:?}, expected row 3")) }
}

/// NaNs and infinities stay in their rows, and in the columns that there are; squares beyond f32 are infinite.
fn special() -> Result<(), String> {
    for extents in [[70, 37], [5, 129]] {
        let [n, k] = extents;
        let mut case = Case::<f32, f32>::new(extents, &[2], Numbers::Integers, 4);
        for (row, value) in [(0, f32::NAN), (1, f32::INFINITY), (3, 3e19), (4, 1e-30)] {
            case.w.set([0, row, k - 1], value);
        }
        for emulator in emulators() {
            let (got, ..) = case.run(&emulator)?;
            let rest = case.oracle();
            for row in 0..n {
                let right = match row {
                    0 => got[row].is_nan(),
                    1 | 3 => got[row] == f32::INFINITY,
                    _ => (f64::from(got[row]) - rest[row].value).abs() <= 1e-5 * rest[row].magnitude,
                };
                if !right {
                    return Err(format!("row {row} has norm {}, expected {}", got[row], rest[row].value));
                }
            }
        }
        // Infinity times the zeroes beside the matrix would be NaN.
        case.factors[0].scale = f32::INFINITY;
        for (rank, column) in (0..2).flat_map(|rank| (0..k).map(move |column| (rank, column))) {
            case.factors[0].a.set([0, rank, column], 1.0);
        }
        for (row, rank) in (0..n).flat_map(|row| (0..2).map(move |rank| (row, rank))) {
            case.factors[0].b.set([0, row, rank], 1.0);
        }
        let (got, ..) = case.run(&Emulator::new(1))?;
        if !got[2..].iter().all(|norm| *norm == f32::INFINITY) {
            return Err(format!("{got:?}"));
        }
    }
    Ok(())
}

fn nothing() -> Result<(), String> {
    for extents in [[0, 0], [0, 7], [2, 0]] {
        for ranks in [&[][..], &[0], &[3]] {
            let mut case = Case::<bf16, f32>::new(extents, ranks, Numbers::Integers, 1);
            case.eps = 2.0;
            case.everywhere(true)?;
        }
    }
    Ok(())
}

/// W read once, of whole sectors where its rows begin with one; factors as often as the banner says, and no bank conflict.
fn one_pass<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (seed, [n, k]) in [[128, 2048], [64, 1024], [70, 1100]].into_iter().enumerate() {
        for column_major in [false, true] {
            let place = |_: &mut Random| Placement { column_major, ..Placement::default() };
            let case = Case::<T, P>::placed([n, k], &[16, 5], Numbers::Reals, seed as u64, place);
            let queue = Emulator::new(seed as u64);
            let (outcome, counted) = counters::count(|| case.enqueue(&queue, None));
            outcome.map_err(|error| error.to_string())?;
            let of = |kernel: &str, kind: Kind, operand: &str| {
                let rows = counted.iter().filter(|row| row.kernel() == kernel && row.kind == kind);
                let rows = rows.filter(|row| row.operand() == operand);
                rows.fold((0, 0, 0), |sum, row| (sum.0 + row.bytes, sum.1 + row.parts, sum.2 + row.least))
            };
            let (t, p) = (size_of::<T>(), size_of::<P>());
            let sums = 4 * n * k.div_ceil(1024);
            const KERNEL: &str = "lora_weight_norm_mma";
            const ROOT: &str = "lora_weight_norm_root";
            for (kernel, kind, operand, bytes) in [
                (KERNEL, Kind::GlobalRead, "w", n * k * t),
                (KERNEL, Kind::GlobalRead, "a", 21 * k * n.div_ceil(64) * p),
                (KERNEL, Kind::GlobalRead, "b", 21 * n * k.div_ceil(128) * p),
                (KERNEL, Kind::GlobalWrite, "workspace", sums),
                (ROOT, Kind::GlobalRead, "workspace", sums),
                (ROOT, Kind::GlobalWrite, "norm", 4 * n),
            ] {
                let (moved, sectors, least) = of(kernel, kind, operand);
                if moved != bytes as u64 {
                    return Err(format!("{kernel} {operand}: {moved} bytes, expected {bytes}"));
                }
                let whole = operand == "w" && n % 64 == 0 && k % 128 == 0 && !column_major;
                if whole && sectors != least {
                    return Err(format!("{operand}: {sectors} sectors of {least}"));
                }
            }
            let shared = counted.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
            let conflicts: u64 = shared.map(|row| row.parts - row.least).sum();
            if conflicts != 0 {
                return Err(format!("{conflicts} conflicts, column major: {column_major}"));
            }
        }
    }
    Ok(())
}

fn refused() -> Result<(), String> {
    let refuse = |change: &dyn Fn(&mut Case<f32, f32>)| {
        let mut case = Case::<f32, f32>::placed([6, 8], &[2], Numbers::Integers, 1, |_| Placement::default());
        change(&mut case);
        case.norm.remember();
        let got = [case.enqueue(&Cpu, None), case.enqueue(&Emulator::new(0), None)];
        case.norm.check_untouched("norm")?;
        let [cpu, emulator] = got.map(|got| got.map_or_else(|error| error.to_string(), |()| "Ok".into()));
        if cpu == emulator { Ok(cpu) } else { Err(format!("{cpu}, and on the emulator {emulator}")) }
    };
    type Change<'a> = &'a dyn Fn(&mut Case<f32, f32>);
    let matrix = |extents: [usize; 2]| Buffer::new(Placement::default().layout([1, extents[0], extents[1]]), |_| 1.0);
    let cases: [(Change, &str); 10] = [
        (&|case| case.norm = list(5), "norm is [5], expected [6]"),
        (&|case| case.scale = Some([list(5), list(6)]), "magnitude is [5], expected [6]"),
        (&|case| case.scale = Some([list(6), list(7)]), "row_scale is [7], expected [6]"),
        (&|case| case.factors[0].a = matrix([2, 7]), "a is [2, 7], expected [2, 8]"),
        (&|case| case.factors[0].b = matrix([5, 2]), "b is [5, 2], expected [6, 2]"),
        (&|case| case.eps = -1.0, "eps is -1, expected a number that is at least 0"),
        (&|case| case.eps = f32::NAN, "eps is NaN, expected a number that is at least 0"),
        (&|case| case.eps = f32::INFINITY, "eps is inf, expected a number that is at least 0"),
        (
            &|case| {
                let layout = Layout { offset: 0, extents: [1, 6, 8], strides: [0, 20, 2] };
                case.w = Buffer::new(layout, |_| 1.0);
            },
            "w has row stride 20 and column stride 2, expected one of them to be 1",
        ),
        (
            &|case| {
                let one = || Factors { a: matrix([1, 8]), b: matrix([6, 1]), scale: 1.0 };
                case.factors = (0..65).map(|_| one()).collect();
            },
            "the number of adapters is 65, expected at most 64",
        ),
    ];
    for (change, expected) in cases {
        let (got, expected) = (refuse(change)?, format!("lora::weight_norm: {expected}"));
        if got != expected {
            return Err(format!("{got}\nexpected\n{expected}"));
        }
    }
    // More rows than a grid has blocks for, of one element of memory.
    let huge = Layout { offset: 0, extents: [1 << 33, 1], strides: [0, 1] };
    let (w, mut norm) = ([1.0f32], [0f32]);
    let w = Mat::with_layout(&w, huge).map_err(|error| error.to_string())?;
    let call = WeightNorm::<f32, f32, Cpu>::new(w, VectorMut::whole(&mut norm));
    let got = lora::weight_norm(&Cpu, call, Workspace::none()).map_err(|error| error.to_string());
    let expected = "lora::weight_norm: w is [8589934592, 1], expected less than 2^31 rows and parts of 64 by 1024";
    if got != Err(expected.into()) {
        return Err(format!("{got:?}"));
    }
    // Norms on W, and a workspace that is too small.
    let memory: Buffer<f32> = list(64);
    let call = |norm: u64| {
        let w = Mat::new(Cpu.source_at::<f32>(memory.address(), 48), 6, 8)?;
        let norm = VectorMut::whole(Cpu.sink_at::<f32>(memory.address() + norm, 6));
        lora::weight_norm(&Cpu, WeightNorm::<f32, f32, Cpu>::new(w, norm), Workspace::none())
    };
    for (place, expected) in [(188, "norm and w share"), (190, "norm is at address")] {
        let got = call(place).err().map(|error| error.to_string()).unwrap_or_default();
        if !got.contains(expected) {
            return Err(format!("{got}, expected {expected}"));
        }
    }
    let case = Case::<f32, f32>::new([6, 8], &[2], Numbers::Integers, 1);
    let queue = Emulator::new(0);
    match lora::weight_norm(&queue, case.call(&queue), Workspace::none()) {
        Err(Error::Workspace { .. }) => Ok(()),
        got => Err(format!("{got:?}")),
    }
}

fn on_device<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (seed, &(extents, ranks)) in SHAPES.iter().enumerate() {
        let case = Case::<T, P>::new(extents, ranks, Numbers::Reals, seed as u64);
        case.check(&RawStream::legacy(0), &case.oracle(), false)?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::weight_norm::integers", integers);
    for_types!(trials, "lora::weight_norm::reals", reals);
    for_types!(trials, "lora::weight_norm::zero_rows", zero_rows);
    for_types!(trials, "lora::weight_norm::one_pass", one_pass);
    trials.add("lora::weight_norm::cancellation", cancellation);
    trials.add("lora::weight_norm::special", special);
    trials.add("lora::weight_norm::nothing", nothing);
    trials.add("lora::weight_norm::refused", refused);
    for_types!(trials, add_on_device, "lora::weight_norm::reals/cuda", on_device);
}
