//! Storage belongs to its queue's library.
use cudarc::driver::CudaStream;
use cust::memory::DeviceBuffer;
use peft_kernels::Mat;

fn view(buffer: &DeviceBuffer<f32>) {
    let _ = Mat::<f32, CudaStream>::new(buffer, 2, 2);
}

fn main() {}
