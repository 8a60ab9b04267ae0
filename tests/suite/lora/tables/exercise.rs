//! A backward over tables as what a stream can be given.

use half::bf16;
use peft_kernels::{Emulator, Layout, RawStream, Workspace, lora};

use super::case::{AdapterCase, Case, Spec, TargetSpec};
use crate::buffer::{Buffer, Cell};
use crate::lora::case::RowSpec;
use crate::numbers::Numbers;
use crate::queues::Runner;
use crate::streams::{Exercise, Run};

struct Call(Case<bf16, bf16>, Buffer<u8>);

impl Exercise for Call {
    fn with_launch(&self, queue: &RawStream, run: &mut Run) -> Result<(), String> {
        let Self(case, workspace) = self;
        case.with_call(queue, |call| {
            let mut call = Some(call);
            run(&mut || {
                let call = call.take().expect("a call is enqueued once");
                lora::backward(queue, call, Workspace::new(queue.sink(workspace)))
            })
        })
    }
    fn reset(&self) {
        self.0.reset();
    }
    fn output(&self) -> Vec<u8> {
        let Case { dx, targets, .. } = &self.0;
        let gradients = targets.iter().flat_map(|target| &target.adapters);
        let gradients = gradients.flat_map(|AdapterCase { gradients, .. }| gradients).flat_map(Buffer::bytes);
        let bias = targets.iter().flat_map(|target| target.dbias.bytes());
        dx.bytes().into_iter().chain(gradients).chain(bias).collect()
    }
}

/// Segments of three adapters, one of them of rank 0, in the memory that this thread uses.
pub fn exercise() -> Box<dyn Exercise> {
    let targets = vec![TargetSpec::new(136, &[4, 0, 16])];
    let spec = Spec::new(200, 136, Vec::new(), targets, Numbers::Reals).with(|spec| {
        spec.rows = RowSpec::Segments(vec![(0, 60, Some(2)), (70, 130, Some(0)), (130, 199, Some(1))]);
    });
    let case = Case::<bf16, bf16>::new(&spec);
    let bytes = case.with_call(&Emulator::new(0), |call| lora::backward_workspace(&Emulator::new(0), &call));
    let bytes = bytes.expect("a call that fits");
    let workspace = Buffer::new(Layout { offset: 0, extents: [1, 1, bytes], strides: [0, 0, 1] }, |_| u8::POISON);
    Box::new(Call(case, workspace))
}
