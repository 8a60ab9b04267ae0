//! Calls that are refused: the error's text is pinned, and nothing is written.

use half::{bf16, f16};
use peft_kernels::lora::{self, Adapter, AdapterTable, Forward, Merge, Segment, Target};
use peft_kernels::{
    Cpu, Element, Emulator, Error, Layout, Mat, MatMut, Result, Status, StatusRecord, Tensor, TensorMut, Vector,
    Workspace,
};

use super::refused_merge_texts::{MERGE, OTHERS};
use super::refused_texts::FORWARD;
use crate::buffer::Buffer;
use crate::queues::{Runner, Trials};

/// All operands of these calls lie in one buffer, so that any two can overlap. Addresses count elements of f32.
pub struct Arena(Buffer<f32>);

impl Arena {
    const LENGTH: usize = 4096;

    fn new() -> Self {
        let layout = Layout { offset: 0, extents: [1, 1, Self::LENGTH], strides: [0, 0, 1] };
        Self(Buffer::new(layout, |_| 1.0))
    }

    fn source<T: Copy + 'static, Q: Runner, const N: usize>(
        &self,
        queue: &Q,
        layout: Layout<N>,
    ) -> Tensor<'_, T, Q, N> {
        let length = Self::LENGTH * size_of::<f32>() / size_of::<T>();
        Tensor::with_layout(queue.source_at(self.0.address(), length), layout).expect("within the arena")
    }

    fn sink<T: Copy + 'static, Q: Runner>(&self, queue: &Q, layout: Layout<3>) -> TensorMut<'_, T, Q, 3> {
        let length = Self::LENGTH * size_of::<f32>() / size_of::<T>();
        TensorMut::with_layout(queue.sink_at(self.0.address(), length), layout).expect("within the arena")
    }
}

const fn at(offset: usize, extents: [usize; 3], strides: [usize; 3]) -> Layout<3> {
    Layout { offset, extents, strides }
}

fn flat(layout: Layout<3>) -> Layout<2> {
    let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = layout;
    Layout { offset, extents: [rows, columns], strides: [row, column] }
}

pub enum Rows {
    Same,
    /// Element offset and length in the arena.
    Index(usize, usize),
    Segments,
}

/// A right call: two batches of x [4, 8], W [6, 8], A [2, 8], B [6, 2], bias [6], y [4, 6]. A case spoils it.
pub struct Parts {
    pub x: Layout<3>,
    pub w: Layout<3>,
    pub a: Layout<3>,
    pub b: Layout<3>,
    pub bias: Layout<3>,
    pub y: Layout<3>,
    pub second_y: Option<Layout<3>>,
    pub table: Option<(Layout<3>, Layout<3>)>,
    pub rows: Rows,
    /// In bytes; without, as much as is needed, elsewhere.
    pub workspace: Option<(usize, usize)>,
    pub no_workspace: bool,
    /// Offset of a status record in bytes.
    pub status: Option<usize>,
    pub algorithm: i32,
}

impl Parts {
    fn new() -> Self {
        Self {
            x: at(0, [2, 4, 8], [40, 9, 1]),
            w: at(200, [1, 6, 8], [0, 8, 1]),
            a: at(300, [1, 2, 8], [0, 8, 1]),
            b: at(400, [1, 6, 2], [0, 2, 1]),
            bias: at(500, [1, 1, 6], [0, 0, 1]),
            y: at(600, [2, 4, 6], [50, 10, 1]),
            second_y: None,
            table: None,
            rows: Rows::Same,
            workspace: None,
            no_workspace: false,
            status: None,
            algorithm: 0,
        }
    }

    fn run<Q: Runner>(&self, arena: &Arena, queue: &Q) -> Result<()> {
        let record = self.status.map(|bytes| {
            let storage = queue.sink_at::<StatusRecord>(arena.0.address() + bytes as u64, 1);
            Status::new(storage).expect("a record")
        });
        let adapters: Vec<_> = self
            .table
            .iter()
            .map(|&(a, b)| Adapter::new(arena.source::<f32, Q, 2>(queue, flat(a)), arena.source(queue, flat(b)), 1.0))
            .collect();
        let table = AdapterTable::new(queue, &adapters)?;
        let mut target = Target::dense(arena.source::<f32, Q, 3>(queue, self.w), arena.sink(queue, self.y));
        target = match self.table {
            None => target.adapter(arena.source::<f32, Q, 3>(queue, self.a), arena.source(queue, self.b), 1.0),
            Some(_) => queue.with_table(target, &table),
        };
        let Layout { offset, extents: [batches, _, n], strides: [pitch, _, step] } = self.bias;
        let bias = Layout { offset, extents: [batches, n], strides: [pitch, step] };
        target = target.bias(arena.source::<f32, Q, 2>(queue, bias));
        let mut call = Forward::new(arena.source(queue, self.x)).target(target);
        if let Some(y) = self.second_y {
            call = call.target(Target::branch_only(arena.sink(queue, y)));
        }
        let segments = [Segment::new(0..4, Some(0))];
        call = match self.rows {
            Rows::Same => call,
            Rows::Index(offset, length) => {
                let layout = Layout { offset, extents: [length], strides: [1] };
                call.row_adapter(arena.source(queue, layout))
            }
            Rows::Segments => call.segments(Vector::whole(queue.source_at(segments.as_ptr() as u64, segments.len()))),
        };
        call = call.algorithm(self.algorithm);
        if let Some(status) = &record {
            call = call.status(status);
        }
        let bytes = Buffer::<u8>::list(&[0; 1000]);
        let workspace = match self.workspace {
            _ if self.no_workspace => Workspace::none(),
            None => Workspace::new(queue.sink(&bytes)),
            Some((offset, length)) => Workspace::new(queue.sink_at(arena.0.address() + offset as u64, length)),
        };
        let result = lora::forward(queue, call, workspace);
        if result.is_err() {
            bytes.check_untouched("the workspace of a refused call").unwrap();
        }
        result
    }
}

/// The text, with addresses taken out.
fn text(error: &Error) -> String {
    let text = error.to_string();
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "0x…" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
}

/// The name of the error's variant and its text.
fn pinned(error: &Error) -> String {
    let debug = format!("{error:?}");
    format!("{} | {}", debug.split(' ').next().unwrap_or_default(), text(error))
}

/// The error must be the expected one, and the arena what it was.
fn check(name: &str, expected: &str, arena: &Arena, result: Result<()>) -> std::result::Result<(), String> {
    arena.0.check_untouched(name)?;
    let got = result.err().map_or("accepted".into(), |error| pinned(&error));
    if got == expected { Ok(()) } else { Err(format!("(\"{name}\", \"{got}\")\n   expected \"{expected}\"\n")) }
}

fn all(results: Vec<std::result::Result<(), String>>) -> std::result::Result<(), String> {
    let wrong: Vec<_> = results.into_iter().filter_map(|result| result.err()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.concat()) }
}

fn forward() -> std::result::Result<(), String> {
    fn on<Q: Runner>(queue: &Q, emulated: bool, results: &mut Vec<std::result::Result<(), String>>) {
        let arena = Arena::new();
        for (name, spoil, expected) in FORWARD {
            if name.starts_with("emulator") && !emulated || name.starts_with("cpu") && emulated {
                continue;
            }
            let mut parts = Parts::new();
            spoil(&mut parts);
            results.push(check(name, expected, &arena, parts.run(&arena, queue)));
        }
    }
    let mut results = Vec::new();
    on(&Cpu, false, &mut results);
    on(&Emulator::new(1), true, &mut results);
    all(results)
}

/// What looks like an overlap and is none: y between the rows of x, of W, of another y; and the call that all others spoil.
fn interleaved() -> std::result::Result<(), String> {
    let spoils: [fn(&mut Parts); 6] = [
        |_| {},
        |parts| (parts.x, parts.y) = (at(0, [2, 4, 8], [64, 16, 1]), at(8, [2, 4, 6], [64, 16, 1])),
        |parts| (parts.w, parts.y) = (at(2000, [1, 6, 8], [0, 20, 1]), at(2009, [2, 4, 6], [100, 20, 1])),
        |parts| parts.second_y = Some(at(600 + 6, [2, 4, 4], [50, 10, 1])),
        |parts| (parts.x, parts.y) = (at(0, [2, 4, 8], [200, 1, 12]), at(4, [2, 4, 6], [200, 1, 12])),
        // x, one for both batches, lies between the batches of y.
        |parts| (parts.x, parts.y) = (at(24, [1, 4, 8], [0, 8, 1]), at(0, [2, 4, 6], [56, 6, 1])),
    ];
    for (i, spoil) in spoils.iter().enumerate() {
        for emulated in [false, true] {
            let arena = Arena::new();
            // The operands overlap x and W only where the case moved them there.
            let mut parts = Parts::new();
            (parts.w.offset, parts.a.offset, parts.b.offset, parts.bias.offset) = (1000, 1100, 1200, 1300);
            spoil(&mut parts);
            let run = if emulated { parts.run(&arena, &Emulator::new(1)) } else { parts.run(&arena, &Cpu) };
            run.map_err(|error| format!("case {i}: {error}"))?;
            let views: Vec<_> = [Some(parts.y), parts.second_y].into_iter().flatten().collect();
            arena.0.check_padding(&format!("case {i}"), &views)?;
            assert!(arena.0.elements(&parts.y).iter().all(|&y| y == 8.0 + 16.0 + 1.0), "case {i}");
        }
    }
    Ok(())
}

/// A right merge of W [6, 8] to elsewhere, with A [2, 8] and B [6, 2]. A case spoils it.
pub struct MergeParts {
    pub source: Option<Layout<3>>,
    pub destination: Layout<3>,
    pub residual: Option<Layout<3>>,
    pub a: Layout<3>,
    pub b: Layout<3>,
    pub adapters: usize,
    pub algorithm: i32,
}

impl MergeParts {
    fn new() -> Self {
        Self {
            source: Some(at(0, [1, 6, 8], [0, 9, 1])),
            destination: at(200, [1, 6, 8], [0, 8, 1]),
            residual: None,
            a: at(300, [1, 2, 8], [0, 8, 1]),
            b: at(400, [1, 6, 2], [0, 2, 1]),
            adapters: 1,
            algorithm: 0,
        }
    }

    fn run<T: Element, Q: Runner>(&self, arena: &Arena, queue: &Q, merging: bool) -> Result<()> {
        let mat_mut = |layout: Layout<3>| {
            let storage = queue.sink_at(arena.0.address(), Arena::LENGTH * 4 / size_of::<T>());
            MatMut::<T, Q>::with_layout(storage, flat(layout)).expect("within the arena")
        };
        let destination = mat_mut(self.destination);
        let mut call = match self.source {
            Some(source) => Merge::new(arena.source::<T, Q, 2>(queue, flat(source)), destination),
            None => Merge::in_place(destination),
        };
        if let Some(residual) = self.residual {
            let storage = queue.sink_at(arena.0.address(), Arena::LENGTH * 2);
            call = call.residual(MatMut::with_layout(storage, flat(residual)).expect("within the arena"));
        }
        for _ in 0..self.adapters {
            let (a, b) = (arena.source::<T, Q, 2>(queue, flat(self.a)), arena.source(queue, flat(self.b)));
            call = call.adapter(Adapter::new(a, b, 1.0));
        }
        call = call.algorithm(self.algorithm);
        if merging { lora::merge(queue, call) } else { lora::unmerge(queue, call) }
    }
}

fn merge() -> std::result::Result<(), String> {
    fn on<Q: Runner>(queue: &Q, emulated: bool, results: &mut Vec<std::result::Result<(), String>>) {
        let arena = Arena::new();
        for (name, spoil, expected) in MERGE {
            if name.starts_with("emulator") && !emulated || name.starts_with("cpu") && emulated {
                continue;
            }
            let mut parts = MergeParts::new();
            spoil(&mut parts);
            results.push(check(name, expected, &arena, parts.run::<bf16, Q>(&arena, queue, true)));
            let expected = expected.replace("lora::merge", "lora::unmerge");
            results.push(check(name, &expected, &arena, parts.run::<bf16, Q>(&arena, queue, false)));
        }
    }
    let mut results = Vec::new();
    on(&Cpu, false, &mut results);
    on(&Emulator::new(1), true, &mut results);
    all(results)
}

/// Element types, queues that are not there, chips that do not exist, addresses between elements.
fn others() -> std::result::Result<(), String> {
    fn types<T: Element, P: Element, Q: Runner>(arena: &Arena, queue: &Q) -> Result<()> {
        let one = at(0, [1, 1, 1], [0, 1, 1]);
        let target =
            Target::dense(arena.source::<T, Q, 3>(queue, one), arena.sink(queue, at(900, [1, 1, 1], [0, 1, 1])))
                .adapter(arena.source::<P, Q, 3>(queue, one), arena.source(queue, one), 1.0);
        let bytes = Buffer::<u8>::list(&[0; 1000]);
        let workspace = Workspace::new(queue.sink(&bytes));
        lora::forward(queue, Forward::new(arena.source(queue, one)).target(target), workspace)
    }
    fn residual<Q: Runner>(arena: &Arena, queue: &Q) -> Result<()> {
        let parts = MergeParts { residual: Some(at(1000, [1, 6, 8], [0, 8, 1])), ..MergeParts::new() };
        parts.run::<f16, Q>(&Arena::new(), queue, true).expect("sixteen bits have a residual");
        parts.run::<f32, Q>(arena, queue, true)
    }
    fn misaligned<Q: Runner>(arena: &Arena, queue: &Q, which: usize) -> Result<()> {
        let address = |i: usize| arena.0.address() + 100 * i as u64 + u64::from(i == which);
        let status = Status::new(queue.sink_at(address(6), 1)).expect("a record");
        let input = |i| Mat::<f16, Q>::new(queue.source_at(address(i), 1), 1, 1).expect("one element");
        let y = MatMut::new(queue.sink_at(address(1), 1), 1, 1).expect("one element");
        let target = Target::dense(input(2), y).adapter(input(3), input(4), 1.0);
        let target = target.bias(Vector::whole(queue.source_at(address(5), 1)));
        let mut call = Forward::new(input(0)).target(target);
        if which == 6 {
            call = call.status(&status);
        }
        lora::forward(queue, call, Workspace::none())
    }
    let arena = Arena::new();
    let emulator = Emulator::new(1);
    let chip = Emulator::new(1).compute_capability(75);
    let stream = peft_kernels::RawStream::legacy(0);
    let mut errors: Vec<Result<()>> = vec![
        types::<f64, f64, _>(&arena, &Cpu),
        types::<f64, f64, _>(&arena, &emulator),
        types::<f32, f16, _>(&arena, &emulator),
        types::<f16, bf16, _>(&arena, &Cpu),
        types::<bf16, f64, _>(&arena, &Cpu),
        residual(&arena, &Cpu),
        residual(&arena, &emulator),
        types::<f32, f32, _>(&arena, &chip),
    ];
    errors.extend((0..7).map(|which| misaligned(&arena, &Cpu, which)));
    errors.extend((0..7).map(|which| misaligned(&arena, &emulator, which)));
    if !peft_kernels::HAS_CUDA {
        let one = at(0, [1, 1, 1], [0, 1, 1]);
        // SAFETY: never used: there is no such queue.
        let input = || unsafe { peft_kernels::storage::RawSlice::<f32>::from_raw(4096, 1) };
        let x = || Tensor::with_layout(input(), one).expect("one element");
        // SAFETY: as above.
        let y = unsafe { peft_kernels::storage::RawSliceMut::<f32>::from_raw(8192, 1) };
        let y = TensorMut::with_layout(y, one).expect("one element");
        let call = Forward::<f32, f32, _>::new(x()).target(Target::dense(x(), y));
        errors.push(lora::forward_workspace(&stream, &call).map(drop));
        errors.push(lora::forward_kernel(&stream, &call).map(drop));
        errors.push(lora::forward(&stream, call, Workspace::none()));
        errors.push(peft_kernels::device_count().map(drop));
        errors.push(peft_kernels::prepare(&stream));
    }
    let results =
        errors.into_iter().zip(OTHERS).map(|(result, (name, expected))| check(name, expected, &arena, result));
    all(results.collect())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::refused::forward", forward);
    trials.add("lora::refused::merge", merge);
    trials.add("lora::refused::interleaved", interleaved);
    trials.add("lora::refused::others", others);
}
