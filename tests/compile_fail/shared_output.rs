//! y is written, so that a shared borrow is not enough.
use peft_kernels::{Cpu, MatMut};

fn main() {
    let y = vec![0.0f32; 4];
    let _ = MatMut::<f32, Cpu>::new(&y, 2, 2);
}
