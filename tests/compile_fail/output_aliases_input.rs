//! The borrow checker refuses an output that is an input.
use peft_kernels::{Cpu, Mat, MatMut, Workspace, lora};

fn main() {
    let (mut x, w) = ([0.0f32; 4], [0.0f32; 4]);
    let input = Mat::<f32, Cpu>::new(&x, 2, 2).unwrap();
    let target = lora::Target::dense(Mat::new(&w, 2, 2).unwrap(), MatMut::new(&mut x, 2, 2).unwrap());
    lora::forward(&Cpu, lora::Forward::<f32, f32, Cpu>::new(input).target(target), Workspace::none()).unwrap();
}
