//! Ordinary memory is no storage of a stream.
use peft_kernels::{Mat, RawStream};

fn main() {
    let x = vec![0.0f32; 4];
    let _ = Mat::<f32, RawStream>::new(&x, 2, 2);
}
