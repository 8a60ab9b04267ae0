//! A family's cases by criterion: on the first device by events, where there is one and it was built for; else by the wall clock on the CPU.
//!
//! Cases and clocks are those of `peft-kernels bench`, which also says how far each is from the floor.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use peft_kernels::Cpu;
use peft_kernels_program::bench::case::Ready;
use peft_kernels_program::bench::catalog::{Entry, shapes};
use peft_kernels_program::bench::clock::Timed;
use peft_kernels_program::bench::family;
use peft_kernels_program::memory::Host;

/// Operations of a case that the CPU can repeat ten times.
const ON_CPU: u64 = 20_000_000_000;
const SEED: u64 = 1;

fn measure<M: Timed>(
    criterion: &mut Criterion,
    memory: &M,
    [name, queue]: [&str; 2],
    wanted: impl Fn(&Entry, u64) -> bool,
) {
    let mut group = criterion.benchmark_group(format!("{name} on {queue}"));
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for entry in shapes(name).expect("the list of shapes can be read") {
        let work = family::work(&entry).expect("the list is of this family");
        if !wanted(&entry, work.flops) {
            continue;
        }
        group.throughput(Throughput::ElementsAndBytes { elements: work.flops, bytes: work.bytes });
        let id = BenchmarkId::new(&entry.shape.name, entry.type_names());
        let (copies, _) = memory.rotation(work.bytes);
        group.bench_function(id, |bencher| {
            let mut with = |mut ready: Ready| {
                bencher.iter_custom(|calls| {
                    let loops = calls.div_ceil(copies as u64);
                    let elapsed = (ready.runner)(loops as usize).expect("the call runs");
                    elapsed.mul_f64(calls as f64 / (loops * copies as u64) as f64)
                });
                Ok(())
            };
            family::run(memory, &entry, SEED, copies, false, &mut with).expect("the case can be made");
        });
    }
    group.finish();
}

/// All cases of a family on a device, those of bf16 that are small enough on the CPU.
pub fn family(criterion: &mut Criterion, name: &str) {
    #[cfg(feature = "cuda")]
    if peft_kernels::device_count().is_ok_and(|count| count > 0) {
        use peft_kernels_program::memory::Memory as _;
        let device = peft_kernels_program::device::Device::open().expect("the device can be opened");
        peft_kernels::prepare(device.queue()).expect("its kernels can be loaded");
        return measure(criterion, &device, [name, "cuda:0"], |_, _| true);
    }
    let on_cpu = |entry: &Entry, flops| entry.type_names() == "bf16" && flops <= ON_CPU;
    measure(criterion, &Host(Cpu), [name, "cpu"], on_cpu);
}
