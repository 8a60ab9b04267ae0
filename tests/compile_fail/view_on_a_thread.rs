//! Views stay on their thread: their storage may keep a book that is not shared.
use peft_kernels::{Cpu, MatMut};

fn main() {
    let mut y = [0.0f32; 4];
    let y = MatMut::<f32, Cpu>::new(&mut y, 2, 2).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || drop(y));
    });
}
