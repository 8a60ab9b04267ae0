//! That slices are a queue's storage is a promise, not a default.
use peft_kernels::{HostQueue, Place, Queue};

struct Mine;

// SAFETY: the legacy stream lives as long as the process.
unsafe impl Queue for Mine {
    fn place(&self) -> Place {
        Place::Cuda { device: 0, stream: 1 }
    }
}
impl HostQueue for Mine {}

fn main() {}
