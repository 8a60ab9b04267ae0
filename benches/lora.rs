//! The LoRA family: `cargo bench --bench lora`. By the wall clock on the CPU; built with `--features cuda`, by events on the first device, where there is one.
//!
//! Cases and clocks are those of `peft-kernels bench`, which also says how far each is from the floor.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use peft_kernels::Cpu;
use peft_kernels_program::bench::catalog::{Entry, shapes};
use peft_kernels_program::bench::clock::Timed;
use peft_kernels_program::bench::lora;
use peft_kernels_program::memory::Host;

/// Operations of a case that the CPU can repeat ten times.
const ON_CPU: u64 = 20_000_000_000;
const SEED: u64 = 1;

fn measure<M: Timed>(criterion: &mut Criterion, memory: &M, queue: &str, wanted: impl Fn(&Entry, u64) -> bool) {
    let mut group = criterion.benchmark_group(format!("lora on {queue}"));
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for entry in shapes("lora").expect("the list of shapes can be read") {
        let work = lora::work(&entry).expect("the list is of this family");
        if !wanted(&entry, work.flops) {
            continue;
        }
        group.throughput(Throughput::ElementsAndBytes { elements: work.flops, bytes: work.bytes });
        let id = BenchmarkId::new(&entry.shape.name, entry.type_names());
        let (copies, _) = memory.rotation(work.bytes);
        group.bench_function(id, |bencher| {
            let mut with = |mut ready: lora::Ready| {
                bencher.iter_custom(|calls| {
                    let loops = calls.div_ceil(copies as u64);
                    let elapsed = (ready.runner)(loops as usize).expect("the call runs");
                    elapsed.mul_f64(calls as f64 / (loops * copies as u64) as f64)
                });
                Ok(())
            };
            lora::run(memory, &entry, SEED, copies, false, &mut with).expect("the case can be made");
        });
    }
    group.finish();
}

fn layers(criterion: &mut Criterion) {
    #[cfg(feature = "cuda")]
    if peft_kernels::device_count().is_ok_and(|count| count > 0) {
        use peft_kernels_program::memory::Memory as _;
        let device = peft_kernels_program::device::Device::open().expect("the device can be opened");
        peft_kernels::prepare(device.queue()).expect("its kernels can be loaded");
        return measure(criterion, &device, "cuda:0", |_, _| true);
    }
    let bf16 = |entry: &Entry| entry.type_names() == "bf16";
    measure(criterion, &Host(Cpu), "cpu", |entry, flops| bf16(entry) && flops <= ON_CPU);
}

criterion_group!(benches, layers);
criterion_main!(benches);
