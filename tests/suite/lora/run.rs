//! Runs a forward case on a queue and checks what every call must keep.

use peft_kernels::lora::{self, Adapter, AdapterTable, Forward, Target};
use peft_kernels::{
    Element, Emulator, Error, Kernel, Layout, Place, RawStream, Status, StatusRecord, Tensor, TensorMut, Vector,
    Workspace,
};

use super::case::{AdapterSpec, BaseSpec, Case, Factors, RowCase, Saved, Spec, TargetSpec};
use crate::buffer::{Buffer, Cell};
use crate::compare;
use crate::memory::Memory;
use crate::queues::Runner;
use crate::streams::{Exercise, Run};

/// What a call returned and left in its outputs.
pub struct Outcome<T> {
    pub result: peft_kernels::Result<()>,
    pub y: Vec<Vec<T>>,
    pub kernel: Kernel,
}

pub fn matrix<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Tensor<'a, T, Q, 3> {
    Tensor::with_layout(queue.source(buffer), buffer.layout).expect("the buffer is as large as its layout")
}

pub fn adapter<'a, P: Element + Cell, Q: Runner>(queue: &Q, factors: &'a Factors<P>) -> Adapter<'a, P, Q> {
    let flat = |buffer: &'a Buffer<P>| {
        let Layout { offset, extents: [_, rows, columns], strides: [_, row, column] } = buffer.layout;
        let layout = Layout { offset, extents: [rows, columns], strides: [row, column] };
        Tensor::with_layout(queue.source(buffer), layout).expect("the buffer is as large as its layout")
    };
    Adapter::new(flat(&factors.a), flat(&factors.b), factors.scale)
}

/// A row for each batch.
pub fn rows<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Tensor<'a, T, Q, 2> {
    let Layout { offset, extents: [batches, _, n], strides: [pitch, _, step] } = buffer.layout;
    let layout = Layout { offset, extents: [batches, n], strides: [pitch, step] };
    Tensor::with_layout(queue.source(buffer), layout).expect("the buffer is as large as its layout")
}

pub fn list<'a, T: Cell, Q: Runner>(queue: &Q, buffer: &'a Buffer<T>) -> Vector<'a, T, Q> {
    Vector::whole(queue.source(buffer))
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    /// Calls `run` with the descriptor.
    pub fn with_call<Q: Runner, R>(&self, queue: &Q, run: impl FnOnce(Forward<'_, T, P, Q>) -> R) -> R {
        let in_table = |spec: &TargetSpec| matches!(spec.adapters, AdapterSpec::Table(_));
        let lists = self.targets.iter().zip(&self.spec.targets).map(|(target, spec)| match in_table(spec) {
            true => target.factors.iter().map(|factors| adapter(queue, factors)).collect(),
            false => Vec::new(),
        });
        let adapters: Vec<Vec<_>> = lists.collect();
        let tables: Vec<_> =
            adapters.iter().map(|list| AdapterTable::new(queue, list).expect("factors that fit")).collect();
        let mut call = Forward::new(matrix(queue, &self.x));
        for ((case, spec), table) in self.targets.iter().zip(&self.spec.targets).zip(&tables) {
            let (buffer, layout) = (&self.outputs[case.y.0], case.y.1);
            let y = TensorMut::with_layout(queue.sink(buffer), layout).expect("the buffer holds its view");
            let mut target = match (&case.quantized, &case.w, spec.base) {
                (Some(w), ..) => Target::quantized(&w.given(queue), y),
                (_, Some(w), _) => Target::dense(matrix(queue, w), y),
                (_, None, BaseSpec::InY) => Target::accumulate(y),
                _ => Target::branch_only(y),
            };
            target = match &spec.adapters {
                AdapterSpec::None => target,
                AdapterSpec::One(_) => {
                    let Factors { a, b, scale } = &case.factors[0];
                    target.adapter(matrix(queue, a), matrix(queue, b), *scale)
                }
                AdapterSpec::Table(_) => queue.with_table(target, table),
            };
            if let Some(middle) = case.middle.given(queue) {
                target = target.middle(middle);
            }
            if let Some(bias) = &case.bias {
                target = target.bias(rows(queue, bias));
            }
            if let Some(scale) = &case.row_scale {
                target = target.row_scale(rows(queue, scale));
            }
            let (own, in_f32) = &case.saved;
            target = match self.spec.saved {
                Saved::None => target,
                Saved::Own => target
                    .save_h(TensorMut::with_layout(queue.sink(own), own.layout).expect("the buffer holds its view")),
                Saved::F32 => target.save_h_f32(
                    TensorMut::with_layout(queue.sink(in_f32), in_f32.layout).expect("the buffer holds its view"),
                ),
            };
            call = call.target(target);
        }
        if let Some(dropout) = self.spec.dropout() {
            call = call.dropout(dropout);
        }
        call = match &self.rows {
            RowCase::Same => call,
            RowCase::Index(index) => call.row_adapter(list(queue, index)),
            RowCase::Segments(segments) => call.segments(list(queue, segments)),
        };
        call = call.slab_bytes(self.spec.slab_bytes);
        if self.spec.allow_tf32 {
            call = call.allow_tf32();
        }
        if self.spec.batch_invariant {
            call = call.batch_invariant();
        }
        // The CPU queue has one way.
        run(if queue.place() == Place::Cpu { call } else { call.algorithm(self.spec.algorithm) })
    }

    fn inputs(&self) -> Vec<(String, &dyn Untouched)> {
        let mut inputs: Vec<(String, &dyn Untouched)> = vec![("x".into(), &self.x)];
        match &self.rows {
            RowCase::Same => {}
            RowCase::Index(index) => inputs.push(("row_adapter".into(), index)),
            RowCase::Segments(segments) => inputs.push(("segments".into(), segments)),
        }
        for (i, target) in self.targets.iter().enumerate() {
            for factors in &target.factors {
                inputs.push((format!("a of target {i}"), &factors.a));
                inputs.push((format!("b of target {i}"), &factors.b));
            }
            target.w.iter().for_each(|w| inputs.push((format!("w of target {i}"), w)));
            target.bias.iter().for_each(|bias| inputs.push((format!("bias of target {i}"), bias)));
            target.row_scale.iter().for_each(|scale| inputs.push((format!("row scale of target {i}"), scale)));
        }
        inputs
    }

    fn reset(&self) {
        self.outputs.iter().for_each(Buffer::reset);
        for target in &self.targets {
            target.saved.0.reset();
            target.saved.1.reset();
        }
    }

    /// Runs the call on fresh outputs; an error if it wrote where it may not.
    pub fn run<Q: Runner>(&self, queue: &Q) -> Result<Outcome<T>, String> {
        self.reset();
        // A stream reports there what a host queue returns.
        let record = Memory::new(size_of::<StatusRecord>());
        record.restore(&[0; size_of::<StatusRecord>()]);
        let status = Status::new(queue.sink_at(record.address() as u64, 1)).map_err(|error| error.to_string())?;
        let (result, kernel, workspace) = self.with_call(queue, |call| {
            let call = if queue.is_stream() { call.status(&status) } else { call };
            let kernel = lora::forward_kernel(queue, &call).map_err(|error| error.to_string())?;
            let bytes = lora::forward_workspace(queue, &call).map_err(|error| error.to_string())?;
            // Undefined on entry: NaN. It starts at an odd address.
            let layout = Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] };
            let workspace = Buffer::<u8>::new(layout, |_| u8::POISON);
            let result = lora::forward(queue, call, Workspace::new(queue.sink(&workspace)));
            let result = match result {
                Ok(()) if queue.is_stream() => status.read(queue),
                result => result,
            };
            queue.finish()?;
            Ok::<_, String>((result, kernel, workspace))
        })?;
        for (name, input) in self.inputs() {
            input.check(&name)?;
        }
        self.targets.iter().try_for_each(|target| target.middle.check_untouched())?;
        self.targets.iter().filter_map(|target| target.quantized.as_ref()).try_for_each(|w| w.check_untouched())?;
        check_workspace(&workspace)?;
        let wrote = matches!(result, Ok(()) | Err(Error::Data { .. }));
        for (i, output) in self.outputs.iter().enumerate() {
            if wrote {
                let views: Vec<_> = self.targets.iter().filter(|target| target.y.0 == i).map(|t| t.y.1).collect();
                output.check_padding(&format!("output {i}"), &views)?;
            } else {
                output.check_untouched(&format!("output {i} of a failed call"))?;
            }
        }
        let y = self.targets.iter().map(|target| self.outputs[target.y.0].elements(&target.y.1)).collect();
        Ok(Outcome { result, y, kernel })
    }

    /// Runs the call, which must succeed, or report the bad row or entry that the description has.
    pub fn run_well<Q: Runner>(&self, queue: &Q) -> Result<Outcome<T>, String> {
        let outcome = self.run(queue)?;
        let (row, entry) = (self.spec.first_bad_row(), self.spec.first_bad_entry());
        let is = |index: u64, expected: Option<usize>| expected.is_some_and(|expected| index == expected as u64);
        match outcome.result {
            Ok(()) if row.is_none() && entry.is_none() => Ok(outcome),
            Err(Error::Data { argument: "row_adapter", index, .. }) if is(index, row) => Ok(outcome),
            Err(Error::Data { argument: "the list of ranks", index, .. }) if is(index, entry) => Ok(outcome),
            result => Err(format!("the call returned {result:?}, expected a bad row {row:?} or entry {entry:?}")),
        }
    }

    /// Every y equals these bits.
    pub fn check_exact(&self, what: &str, got: &[Vec<T>], expected: &[Vec<T>]) -> Result<(), String> {
        for (i, target) in self.targets.iter().enumerate() {
            compare::exact(target.y.1.extents, &got[i], &expected[i])
                .map_err(|report| format!("{what}, target {i}: {report}{:#?}", self.spec))?;
        }
        Ok(())
    }
}

/// A forward as what a stream can be given.
struct Call<T, P>(Case<T, P>, Buffer<u8>);

impl<T: Element + Cell, P: Element + Cell> Exercise for Call<T, P> {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        let Self(case, workspace) = self;
        case.with_call(queue, |call| {
            let mut call = Some(call);
            run(&mut || {
                let call = call.take().expect("a call is enqueued once");
                lora::forward(queue, call, Workspace::new(queue.sink(workspace)))
            })
        })
    }
    fn reset(&self) {
        self.0.reset();
    }
    fn output(&self) -> Vec<u8> {
        self.0.outputs.iter().flat_map(Buffer::bytes).collect()
    }
}

/// A forward of this description, its operands in the memory that this thread uses.
pub fn exercise<T: Element + Cell, P: Element + Cell>(spec: &Spec) -> Box<dyn Exercise> {
    exercise_of(Case::<T, P>::new(spec))
}

pub fn exercise_of<T: Element + Cell, P: Element + Cell>(case: Case<T, P>) -> Box<dyn Exercise> {
    let bytes = case.with_call(&Emulator::new(0), |call| lora::forward_workspace(&Emulator::new(0), &call));
    let bytes = bytes.expect("a call that fits");
    let workspace = Buffer::new(Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] }, |_| u8::POISON);
    Box::new(Call(case, workspace))
}

/// The workspace before its first aligned address is nobody's.
pub fn check_workspace(workspace: &Buffer<u8>) -> Result<(), String> {
    check_workspace_of(workspace, u8::POISON)
}

/// Of one that held this everywhere.
pub fn check_workspace_of(workspace: &Buffer<u8>, before: u8) -> Result<(), String> {
    let head = workspace.address().next_multiple_of(256) - workspace.address();
    let bytes = workspace.len();
    if bytes == 0 {
        return Ok(());
    }
    let tail = head as usize + bytes - 255;
    for i in (0..head as usize).chain(tail..bytes) {
        if workspace.read(i) != before {
            return Err(format!("byte {i} of the workspace was written, beyond its {} aligned bytes", bytes - 255));
        }
    }
    Ok(())
}

trait Untouched {
    fn check(&self, name: &str) -> Result<(), String>;
}

impl<T: Cell> Untouched for Buffer<T> {
    fn check(&self, name: &str) -> Result<(), String> {
        self.check_untouched(name)
    }
}
