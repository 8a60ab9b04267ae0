//! The LoRA family: `cargo bench --bench lora`.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn layers(criterion: &mut Criterion) {
    common::family(criterion, "lora");
}

criterion_group!(benches, layers);
criterion_main!(benches);
