//! A matrix to be read is no output.
use peft_kernels::{Cpu, Mat, lora::Target};

fn main() {
    let (w, y) = ([0.0f32; 4], [0.0f32; 4]);
    let w = Mat::<f32, Cpu>::new(&w, 2, 2).unwrap();
    let y = Mat::<f32, Cpu>::new(&y, 2, 2).unwrap();
    let _ = Target::<f32, f32, Cpu>::dense(w, y);
}
