//! The gradient of DoRA's magnitude: every order, type and batch, on every queue.

use half::{bf16, f16};
use peft_kernels::counters::{self, Kind};
use peft_kernels::lora::{self, Gradient, MagnitudeGradient};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{
    Cpu, Element, Emulator, Error, Kernel, Layout, RawStream, Status, StatusRecord, TensorMut, Workspace,
};

use super::counters::{check_bytes, check_request};
use super::run::{check_workspace, matrix, rows};
use crate::buffer::{Buffer, Cell, Placement, indices};
use crate::compare;
use crate::memory::Memory;
use crate::numbers::{Numbers, Random};
use crate::queues::{Runner, Trials, emulators};
use crate::streams::{Exercise, Run};

const SUMS: &str = "lora_magnitude_gradient_simt";
const DIVIDE: &str = "lora_magnitude_gradient_divide";

#[derive(Clone, Copy, Debug)]
struct Spec {
    batches: usize,
    m: usize,
    n: usize,
    /// Of dY and y.
    places: [Placement; 2],
    /// Whether dY, y, bias and magnitude are one for all batches; bit by bit.
    shared: u32,
    bias: bool,
    /// Whether the gradient is the sum over batches.
    summed: bool,
    accumulate: bool,
    numbers: Numbers,
}

impl Spec {
    fn new(m: usize, n: usize, numbers: Numbers) -> Self {
        let (places, shared) = ([Placement::default(); 2], 0);
        Self { batches: 1, m, n, places, shared, bias: true, summed: false, accumulate: false, numbers }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

struct Case<T> {
    spec: Spec,
    dy: Buffer<T>,
    y: Buffer<T>,
    bias: Option<Buffer<T>>,
    magnitude: Buffer<f32>,
    gradient: Buffer<f32>,
    workspace: Buffer<u8>,
}

impl<T: Element + Cell> Case<T> {
    fn new(spec: &Spec, seed: u64) -> Self {
        let mut random = Random(seed);
        let (numbers, Spec { batches, m, n, .. }) = (spec.numbers, *spec);
        let batches_of = |operand: u32| if spec.shared >> operand & 1 == 1 { 1 } else { batches };
        let row = |batches: usize, step: usize| Layout {
            offset: step,
            extents: [batches, 1, n],
            strides: [n * step + 1, 0, step],
        };
        let dy = Buffer::new(spec.places[0].layout([batches_of(0), m, n]), |_| numbers.factor(&mut random, m, true));
        let y = Buffer::new(spec.places[1].layout([batches_of(1), m, n]), |_| numbers.term(&mut random));
        let bias = spec.bias.then(|| Buffer::new(row(batches_of(2), 2), |_| numbers.term(&mut random)));
        // Of integers powers of two, so that quotients are exact.
        let magnitude = |_| match numbers {
            Numbers::Integers => random.choose(&[1.0, -1.0, 2.0, 0.5, -4.0]),
            Numbers::Reals => random.real() as f32 * 2.0 + if random.coin() { 2.5 } else { -2.5 },
        };
        let magnitude = Buffer::new(row(if spec.summed { 1 } else { batches_of(3) }, 1), magnitude);
        let old = |_| if spec.accumulate { numbers.term(&mut random) } else { f32::POISON };
        let gradient = Buffer::new(row(if spec.summed { 1 } else { batches }, 3), old);
        let mut case = Self { spec: *spec, dy, y, bias, magnitude, gradient, workspace: Buffer::list(&[]) };
        let queue = Emulator::new(0);
        let bytes = lora::magnitude_gradient_workspace(&queue, &case.call(&queue)).expect("a call that fits");
        case.workspace = Buffer::list(&vec![u8::POISON; bytes]);
        case
    }

    fn call<'a, Q: Runner>(&'a self, queue: &Q) -> MagnitudeGradient<'a, T, Q> {
        let Layout { offset, extents: [batches, _, n], strides: [pitch, _, step] } = self.gradient.layout;
        let layout = Layout { offset, extents: [batches, n], strides: [pitch, step] };
        let view = TensorMut::with_layout(queue.sink(&self.gradient), layout).expect("the buffer holds its view");
        let to = if self.spec.accumulate { Gradient::accumulate(view) } else { Gradient::overwrite(view) };
        let (dy, y) = (matrix(queue, &self.dy), matrix(queue, &self.y));
        let call = MagnitudeGradient::new(dy, y, rows(queue, &self.magnitude), to);
        match &self.bias {
            Some(bias) => call.bias(rows(queue, bias)),
            None => call,
        }
    }

    fn enqueue<Q: Runner>(&self, queue: &Q, status: Option<&Status<'_, Q>>) -> peft_kernels::Result<()> {
        let call = self.call(queue);
        let call = if let Some(status) = status { call.status(status) } else { call };
        lora::magnitude_gradient(queue, call, Workspace::new(queue.sink(&self.workspace)))
    }

    /// Value and Σ|terms| by the plain formula, and the first element whose magnitude is 0.
    fn oracle(&self) -> (Vec<Terms>, Option<u64>) {
        self.gradient.reset();
        let Spec { batches, m, n, .. } = self.spec;
        let mut zero = None;
        let element = |index @ [group, _, column]: [usize; 3]| {
            let magnitude = f64::from(self.magnitude.get_shared([group, 0, column]));
            let mut terms = Terms::default();
            let mut add = |value: f64, magnitude: f64| {
                terms.value += value;
                terms.magnitude += magnitude;
            };
            if magnitude == 0.0 {
                zero.get_or_insert((group * n + column) as u64);
            } else {
                let range = if self.spec.summed { 0..batches } else { group..group + 1 };
                for (batch, row) in range.flat_map(|batch| (0..m).map(move |row| (batch, row))) {
                    let dy = self.dy.get_shared([batch, row, column]).to_f64();
                    let y = self.y.get_shared([batch, row, column]).to_f64();
                    let bias = self.bias.as_ref().map_or(0.0, |bias| bias.get_shared([batch, 0, column]).to_f64());
                    add(dy * (y - bias) / magnitude, (dy / magnitude).abs() * (y.abs() + bias.abs()));
                }
            }
            if self.spec.accumulate {
                let old = f64::from(self.gradient.get(index));
                add(old, old.abs());
            }
            terms
        };
        (indices(self.gradient.layout.extents).map(element).collect(), zero)
    }

    /// The gradient, and the element that the call said is of magnitude 0, if it did.
    fn run<Q: Runner>(&self, queue: &Q) -> Result<(Vec<f32>, Option<u64>, Kernel), String> {
        self.gradient.reset();
        self.workspace.reset();
        let say = |error: Error| error.to_string();
        let kernel = lora::magnitude_gradient_kernel(queue, &self.call(queue)).map_err(say)?;
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at::<StatusRecord>(record.address() as u64, 1)).map_err(say)?;
        let mut done = self.enqueue(queue, Some(&status));
        queue.finish()?;
        if done.is_ok() && queue.is_stream() {
            done = status.read(queue);
        } else if let (Err(got), Err(read)) = (&done, status.read(queue)) {
            let read = read.to_string().replace("Status::read", "lora::magnitude_gradient");
            assert_eq!(got.to_string(), read, "the record says something else");
        }
        let zero = match done {
            Ok(()) => None,
            Err(Error::Data { argument: "row", index, problem: "of magnitude 0", .. }) => Some(index),
            Err(error) => return Err(say(error)),
        };
        check_workspace(&self.workspace)?;
        self.dy.check_untouched("dy")?;
        self.y.check_untouched("y")?;
        self.bias.iter().try_for_each(|bias| bias.check_untouched("bias"))?;
        self.magnitude.check_untouched("magnitude")?;
        self.gradient.check_padding("the gradient", &[self.gradient.layout])?;
        Ok((self.gradient.elements(&self.gradient.layout), zero, kernel))
    }

    fn check<Q: Runner>(&self, queue: &Q, (terms, zero): &(Vec<Terms>, Option<u64>)) -> Result<Vec<f32>, String> {
        let (got, said, kernel) = self.run(queue)?;
        let extents = self.gradient.layout.extents;
        let about = |report| format!("{} on {:?}: {report} {:#?}", kernel.name, queue.place(), self.spec);
        let verdict = match self.spec.numbers {
            Numbers::Integers => {
                compare::exact(extents, &got, &terms.iter().map(|terms| terms.value as f32).collect::<Vec<_>>())
            }
            Numbers::Reals => compare::bounded(extents, &got, terms, kernel.rounding_steps),
        };
        verdict.map_err(about)?;
        if said == *zero { Ok(got) } else { Err(about(format!("magnitude 0 at {said:?}, expected {zero:?}"))) }
    }

    fn everywhere(&self) -> Result<(), String> {
        let oracle = self.oracle();
        let terms = reference::lora::magnitude_gradient_terms(&self.call(&Cpu)).map_err(|error| error.to_string())?;
        for (got, expected) in terms.iter().zip(&oracle.0) {
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + expected.magnitude);
            if !near(got.value, expected.value) || !near(got.magnitude, expected.magnitude) {
                return Err(format!("the reference says {got:?}, expected {expected:?}"));
            }
        }
        if crate::cuda::is_active() {
            let first = self.check(&RawStream::legacy(0), &oracle)?;
            let again = self.check(&RawStream::per_thread(0), &oracle)?;
            return compare::exact(self.gradient.layout.extents, &again, &first);
        }
        self.check(&Cpu, &oracle)?;
        let mut first = None;
        for emulator in emulators() {
            let got = self.check(&emulator, &oracle)?;
            compare::exact(self.gradient.layout.extents, &got, first.get_or_insert(got.clone()))?;
        }
        Ok(())
    }
}

impl<T: Element + Cell> Exercise for Case<T> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        run(&mut || self.enqueue(queue, None))
    }
    fn reset(&self) {
        self.gradient.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.gradient.bytes()
    }
}

pub fn exercise() -> Box<dyn Exercise> {
    Box::new(Case::<bf16>::new(&Spec::new(300, 200, Numbers::Reals), 5))
}

fn place(random: &mut Random) -> Placement {
    Placement {
        column_major: random.coin(),
        gap: random.choose(&[0, 0, 1, 3, 8]),
        offset: random.choose(&[0, 0, 1, 5]),
        batch_gap: random.choose(&[0, 2]),
    }
}

/// Around the edges of tiles, in both orders of either operand; more tiles than parts.
fn values<T: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("magnitude_gradient::values");
    let shapes = [[0, 5], [1, 1], [1, 66], [5, 0], [3, 64], [63, 65], [64, 3], [65, 64], [130, 70], [7, 129]];
    for (i, [m, n]) in shapes.into_iter().enumerate() {
        for numbers in [Numbers::Integers, Numbers::Reals] {
            let spec = Spec::new(m, n, numbers).with(|spec| {
                spec.places = [place(&mut random), place(&mut random)];
                (spec.bias, spec.accumulate) = (i % 3 != 1, random.coin());
            });
            Case::<T>::new(&spec, i as u64).everywhere()?;
        }
    }
    for orders in 0..4 {
        let place = |operand: u32| Placement { column_major: orders >> operand & 1 == 1, ..Placement::default() };
        Case::<T>::new(&Spec::new(136, 72, Numbers::Integers).with(|spec| spec.places = [place(0), place(1)]), 9)
            .everywhere()?;
    }
    Ok(())
}

fn batches<T: Element + Cell>() -> Result<(), String> {
    let mut random = Random::of("magnitude_gradient::batches");
    for i in 0..16u32 {
        let spec = Spec::new(if i % 5 == 3 { 70 } else { 9 }, 67, [Numbers::Integers, Numbers::Reals][i as usize / 8]);
        let spec = spec.with(|spec| {
            (spec.batches, spec.shared, spec.summed) = (3, i & 7 | (i & 4) << 1, i % 2 == 0);
            spec.places = [place(&mut random), place(&mut random)];
            spec.accumulate = i % 3 == 0;
        });
        Case::<T>::new(&spec, i.into()).everywhere()?;
    }
    for (batches, summed) in [(0, false), (0, true), (1, true), (40, false), (40, true)] {
        let spec = Spec::new(3, 5, Numbers::Integers).with(|spec| (spec.batches, spec.summed) = (batches, summed));
        Case::<T>::new(&spec, 3).everywhere()?;
    }
    Ok(())
}

/// Many rows: several tiles a part, and as many parts as there may be.
fn many_rows() -> Result<(), String> {
    for (m, n) in [(64 * 1060, 2), (64 * 6, 64 * 270)] {
        let case = Case::<f32>::new(&Spec::new(m, n, Numbers::Reals), 1);
        case.check(&Emulator::new(1), &case.oracle())?;
    }
    Ok(())
}

/// Magnitudes of 0 are said, with the first of them, and leave what was there.
fn zero_magnitudes() -> Result<(), String> {
    for (accumulate, batches) in [(false, 1), (true, 1), (true, 3)] {
        let spec = Spec::new(20, 70, Numbers::Integers).with(|spec| {
            (spec.accumulate, spec.batches) = (accumulate, batches);
        });
        let mut case = Case::<bf16>::new(&spec, 2);
        for column in [66, 17] {
            case.magnitude.set([batches - 1, 0, column], if column == 66 { -0.0 } else { 0.0 });
        }
        case.everywhere()?;
        let expected = Some(((batches - 1) * 70 + 17) as u64);
        let found = [case.run(&Cpu)?.1, case.run(&Emulator::new(2))?.1];
        if found != [expected; 2] {
            return Err(format!("{found:?}, expected {expected:?}"));
        }
    }
    Ok(())
}

/// NaNs and infinities stay in their columns, and in the rows that there are.
fn special() -> Result<(), String> {
    let mut case = Case::<f32>::new(&Spec::new(70, 66, Numbers::Integers), 4);
    case.bias.as_mut().expect("a bias").set([0, 0, 3], f32::INFINITY);
    (0..70).for_each(|row| case.dy.set([0, row, 3], 1.0));
    case.dy.set([0, 69, 5], f32::NAN);
    case.y.set([0, 2, 65], f32::INFINITY);
    case.dy.set([0, 2, 65], -1.0);
    case.magnitude.set([0, 0, 7], f32::INFINITY);
    for queue in emulators() {
        let (got, zero, _) = case.run(&queue)?;
        let rest = case.oracle().0;
        for (column, &got) in got.iter().enumerate() {
            let magnitude = case.magnitude.get([0, 0, column]);
            let right = match column {
                3 | 65 => got == -f32::INFINITY * magnitude.signum(),
                5 => got.is_nan(),
                _ => f64::from(got) == rest[column].value,
            };
            if !right || zero.is_some() {
                return Err(format!("column {column}: {got}, expected {:?}, {zero:?}", rest[column]));
            }
        }
    }
    Ok(())
}

/// dY and y are read once, in whole sectors of either order, and no access of shared memory has a conflict.
fn one_pass<T: Element + Cell>() -> Result<(), String> {
    for orders in 0..4 {
        for [m, n] in [[128, 192], [256, 64]] {
            let place = |operand: u32| Placement { column_major: orders >> operand & 1 == 1, ..Placement::default() };
            let spec = Spec::new(m, n, Numbers::Reals).with(|spec| {
                spec.places = [place(0), place(1)];
                spec.accumulate = true;
            });
            let case = Case::<T>::new(&spec, 6);
            let (result, counted) = counters::count(|| case.enqueue(&Emulator::new(1), None));
            result.map_err(|error| error.to_string())?;
            let (size, parts) = (size_of::<T>(), m / 64);
            check_bytes(
                &counted,
                &[
                    (SUMS, Kind::GlobalRead, "dy", m * n * size),
                    (SUMS, Kind::GlobalRead, "y", m * n * size),
                    // Each of four threads that share a column.
                    (SUMS, Kind::GlobalRead, "bias", 4 * parts * n * size),
                    (SUMS, Kind::GlobalWrite, "workspace", 4 * parts * n),
                    (DIVIDE, Kind::GlobalRead, "workspace", 4 * parts * n),
                    (DIVIDE, Kind::GlobalRead, "magnitude", 4 * n),
                    (DIVIDE, Kind::GlobalRead, "dmagnitude", 4 * n),
                    (DIVIDE, Kind::GlobalWrite, "dmagnitude", 4 * n),
                ],
            )?;
            for operand in ["dy", "y"] {
                let whole = |row: &counters::Row| row.parts == row.least && row.parts * 32 == row.bytes;
                check_request(&counted, SUMS, Kind::GlobalRead, operand, whole)?;
            }
            for row in counted.iter().filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite)) {
                if row.parts != row.least {
                    return Err(format!("{}: {} wavefronts, at best {}", row.operand(), row.parts, row.least));
                }
            }
        }
    }
    Ok(())
}

/// A name, what spoils the call, and the error's text.
type Spoiled = (fn(&mut Case<f32>), &'static str);

const REFUSED: &[Spoiled] = &[
    (|case| case.y.layout.extents[1] -= 1, "y is [3, 4, 6], expected [3, 5, 6]"),
    (|case| case.y.layout.extents[0] -= 1, "y is [2, 5, 6], expected [3, 5, 6]"),
    (|case| case.dy.layout.extents[2] -= 1, "y is [3, 5, 6], expected [3, 5, 5]"),
    (|case| case.bias.as_mut().unwrap().layout.extents[2] -= 1, "bias is [3, 1, 5], expected [3, 1, 6]"),
    (|case| case.magnitude.layout.extents[2] -= 1, "magnitude is [3, 1, 5], expected [3, 1, 6]"),
    (|case| case.gradient.layout.extents[2] -= 1, "the gradient of the magnitude is [3, 1, 5], expected [3, 1, 6]"),
    (
        |case| case.gradient.layout.extents[0] = 1,
        "the gradient of the magnitude is [1, 1, 6], expected one for each batch, as the magnitude is",
    ),
    (
        |case| case.dy.layout = Layout { offset: 0, extents: [3, 5, 6], strides: [0, 8, 2] },
        "dy has row stride 8 and column stride 2, expected one of them to be 1",
    ),
];

fn refused<Q: Runner>(queue: &Q) -> Result<(), String> {
    let spec = Spec::new(5, 6, Numbers::Integers).with(|spec| {
        (spec.batches, spec.places[0].gap) = (3, 9);
    });
    Case::<f32>::new(&spec, 1).run(queue)?;
    for (spoil, expected) in REFUSED {
        let mut case = Case::<f32>::new(&spec, 1);
        spoil(&mut case);
        let got = case.enqueue(queue, None).err().map_or("accepted".into(), |error| error.to_string());
        let expected = format!("lora::magnitude_gradient: {expected}");
        if got != expected {
            return Err(format!("{got}\nexpected\n{expected}"));
        }
        case.gradient.check_untouched("the gradient of a refused call")?;
        case.workspace.check_untouched("the workspace of a refused call")?;
    }
    let case = Case::<f32>::new(&spec, 1);
    let host = queue.place() == peft_kernels::Place::Cpu;
    let text = if host {
        "algorithm 9 does not exist on the CPU queue, expected 0"
    } else {
        "algorithm 9 does not exist, expected 0 (automatic) or 1 (lora_magnitude_gradient_simt)"
    };
    let workspace = Workspace::new(queue.sink(&case.workspace));
    let got = lora::magnitude_gradient(queue, case.call(queue).algorithm(9), workspace);
    let got = got.err().map_or("accepted".into(), |error| error.to_string());
    if got != format!("lora::magnitude_gradient: {text}") {
        return Err(got);
    }
    if !host
        && !matches!(lora::magnitude_gradient(queue, case.call(queue), Workspace::none()), Err(Error::Workspace { .. }))
    {
        return Err("a workspace of nothing was taken".into());
    }
    // The gradient on y.
    let memory = Buffer::<f32>::list(&[1.0; 64]);
    let view = |offset, rows| Layout { offset, extents: [rows, 6], strides: [6, 1] };
    let input = |offset, rows| {
        let view = peft_kernels::Mat::<f32, Q>::with_layout(queue.source(&memory), view(offset, rows));
        view.expect("within the list")
    };
    let to = TensorMut::with_layout(queue.sink(&memory), view(23, 1)).expect("within the list");
    let call = MagnitudeGradient::new(input(0, 2), input(12, 2), input(40, 1), Gradient::overwrite(to));
    let got = lora::magnitude_gradient(queue, call, Workspace::new(queue.sink(&case.workspace)));
    let got = got.err().map_or("accepted".into(), |error| error.to_string());
    let expected = "lora::magnitude_gradient: the gradient of the magnitude and y share the element at address ";
    if got.starts_with(expected) { memory.check_untouched("the list") } else { Err(got) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::magnitude_gradient::values/f32", values::<f32>);
    trials.add("lora::magnitude_gradient::values/f16", values::<f16>);
    trials.add("lora::magnitude_gradient::values/bf16", values::<bf16>);
    trials.add("lora::magnitude_gradient::batches/f32", batches::<f32>);
    trials.add("lora::magnitude_gradient::batches/bf16", batches::<bf16>);
    trials.add("lora::magnitude_gradient::one_pass/f32", one_pass::<f32>);
    trials.add("lora::magnitude_gradient::one_pass/bf16", one_pass::<bf16>);
    trials.add("lora::magnitude_gradient::many_rows", many_rows);
    trials.add("lora::magnitude_gradient::zero_magnitudes", zero_magnitudes);
    trials.add("lora::magnitude_gradient::special", special);
    trials.add("lora::magnitude_gradient::refused", || {
        refused(&Cpu)?;
        refused(&Emulator::new(1))
    });
    trials.add_on_device("lora::magnitude_gradient::values/cuda", || {
        values::<f32>()?;
        values::<f16>()?;
        values::<bf16>()?;
        batches::<bf16>()
    });
}
