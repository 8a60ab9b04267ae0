//! A table holds addresses of its factors, and borrows them.
use peft_kernels::{Cpu, Mat, lora::{Adapter, AdapterTable}};

fn main() {
    let table;
    {
        let (a, b) = ([0.0f32; 2], [0.0f32; 2]);
        let adapters = [Adapter::new(Mat::<f32, Cpu>::new(&a, 1, 2).unwrap(), Mat::new(&b, 2, 1).unwrap(), 1.0)];
        table = AdapterTable::new(&Cpu, &adapters).unwrap();
    }
    println!("{}", table.max_rank());
}
