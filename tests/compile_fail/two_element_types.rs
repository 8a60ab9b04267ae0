//! x and W have one element type.
use half::f16;
use peft_kernels::{Cpu, Mat, MatMut, lora};

fn main() {
    let (x, w, mut y) = ([0.0f32; 4], [f16::ZERO; 4], [0.0f32; 4]);
    let x = Mat::<f32, Cpu>::new(&x, 2, 2).unwrap();
    let w = Mat::<f16, Cpu>::new(&w, 2, 2).unwrap();
    let y = MatMut::<f32, Cpu>::new(&mut y, 2, 2).unwrap();
    let _ = lora::Forward::<f32, f32, Cpu>::new(x).target(lora::Target::dense(w, y));
}
