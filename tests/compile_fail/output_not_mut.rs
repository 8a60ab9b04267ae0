//! The caller's y must be mutable.
use peft_kernels::{Cpu, MatMut};

fn main() {
    let y = [0.0f32; 4];
    let _ = MatMut::<f32, Cpu>::new(&mut y, 2, 2);
}
