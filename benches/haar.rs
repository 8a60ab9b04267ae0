//! The Haar family: `cargo bench --bench haar`.

mod common;

use criterion::{Criterion, criterion_group, criterion_main};

fn transforms(criterion: &mut Criterion) {
    common::family(criterion, "haar");
}

criterion_group!(benches, transforms);
criterion_main!(benches);
