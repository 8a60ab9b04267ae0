//! The LoRA family on the CPU queue, wall time: `cargo bench --bench lora`.

#![allow(missing_docs)]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use half::bf16;
use peft_kernels::{Cpu, Mat, MatMut, Workspace, lora};

#[path = "../tests/suite/shapes.rs"]
#[allow(dead_code)]
mod shapes;

/// Numbers between −1 and 1 without a pattern.
fn numbers(count: usize) -> Vec<bf16> {
    (0..count as u32).map(|i| bf16::from_f32((i.wrapping_mul(2_654_435_761) >> 16) as f32 / 32_768.0 - 1.0)).collect()
}

fn layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lora");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for shapes::LoraShape { m, n, k, rank } in shapes::LAYERS {
        let (x, w, a, b) = (numbers(m * k), numbers(n * k), numbers(rank * k), numbers(n * rank));
        let (mut y, mut merged) = (vec![bf16::ZERO; m * n], vec![bf16::ZERO; n * k]);
        let name = format!("bf16 [{m}, {k}] x [{n}, {k}], rank {rank}");

        group.throughput(Throughput::Elements((2 * m * n * k + 2 * m * rank * (n + k)) as u64));
        group.bench_function(BenchmarkId::new("forward", &name), |bencher| {
            bencher.iter(|| {
                let target = lora::Target::dense(Mat::new(&w, n, k)?, MatMut::new(&mut y, m, n)?).adapter(
                    Mat::new(&a, rank, k)?,
                    Mat::new(&b, n, rank)?,
                    0.5,
                );
                lora::forward(&Cpu, lora::Forward::new(Mat::new(&x, m, k)?).target(target), Workspace::none())
            })
        });

        group.throughput(Throughput::Bytes(4 * (n * k) as u64));
        group.bench_function(BenchmarkId::new("merge", &name), |bencher| {
            bencher.iter(|| {
                let adapter = lora::Adapter::new(Mat::new(&a, rank, k)?, Mat::new(&b, n, rank)?, 0.5);
                let weights = lora::Merge::new(Mat::new(&w, n, k)?, MatMut::new(&mut merged, n, k)?);
                lora::merge(&Cpu, weights.adapter(adapter))
            })
        });
    }
    group.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
