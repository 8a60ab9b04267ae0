//! Raw memory has an element type.
use half::f16;
use peft_kernels::{Cpu, Mat, storage::RawSlice};

fn main() {
    // SAFETY: never used.
    let raw = unsafe { RawSlice::<f32>::from_raw(4096, 4) };
    let _ = Mat::<f16, Cpu>::new(raw, 2, 2);
}
