//! A view that was split is gone.
use peft_kernels::{Cpu, MatMut};

fn main() {
    let mut y = [0.0f32; 4];
    let y = MatMut::<f32, Cpu>::new(&mut y, 2, 2).unwrap();
    let (_left, _right) = y.split_columns(1).unwrap();
    let _ = y.split_rows(1);
}
