//! What a merge refuses, and what no kind of call takes, and in which words. `0x…` stands for an address.

use peft_kernels::Layout;

use super::refused::MergeParts;
use super::refused_texts::{Case, from, of, strides};

pub const MERGE: &[Case<MergeParts>] = &[
    (
        "source of other rows",
        |p| p.source = Some(of([1, 5, 8], p.a)),
        "Shape | lora::merge: source is [5, 8], expected [6, 8]",
    ),
    (
        "source of other columns",
        |p| p.source = Some(of([1, 6, 9], p.a)),
        "Shape | lora::merge: source is [6, 9], expected [6, 8]",
    ),
    ("a of other columns", |p| p.a = of([1, 2, 7], p.a), "Shape | lora::merge: a is [2, 7], expected [2, 8]"),
    ("b of other rows", |p| p.b = of([1, 5, 2], p.b), "Shape | lora::merge: b is [5, 2], expected [6, 2]"),
    ("b of another rank", |p| p.b = of([1, 6, 1], p.b), "Shape | lora::merge: b is [6, 1], expected [6, 2]"),
    (
        "source without a stride of 1",
        |p| p.source = Some(strides([0, 18, 2], of([1, 6, 8], p.a))),
        "Stride | lora::merge: source has row stride 18 and column stride 2, expected one of them to be 1",
    ),
    (
        "destination without a stride of 1",
        |p| p.destination = strides([0, 16, 2], p.destination),
        "Stride | lora::merge: destination has row stride 16 and column stride 2, expected one of them to be 1",
    ),
    (
        "a without a stride of 1",
        |p| p.a = strides([0, 16, 2], p.a),
        "Stride | lora::merge: a has row stride 16 and column stride 2, expected one of them to be 1",
    ),
    (
        "destination on the last element of the source",
        |p| p.destination = from(52, p.destination),
        "Overlap | lora::merge: destination and source share the element at address 0x…, expected disjoint memory",
    ),
    (
        "destination transposed in place",
        |p| {
            p.source = Some(Layout { offset: 0, extents: [1, 6, 6], strides: [0, 6, 1] });
            p.destination = Layout { offset: 0, extents: [1, 6, 6], strides: [0, 1, 6] };
            (p.a, p.b) = (of([1, 2, 6], p.a), of([1, 6, 2], p.b));
        },
        "Overlap | lora::merge: destination and source share the element at address 0x…, expected disjoint memory",
    ),
    (
        "destination on a",
        |p| p.a = from(200 - 15, p.a),
        "Overlap | lora::merge: destination and a of adapter 0 share the element at address 0x…, expected disjoint memory",
    ),
    (
        "destination on b",
        |p| p.b = from(247, p.b),
        "Overlap | lora::merge: destination and b of adapter 0 share the element at address 0x…, expected disjoint memory",
    ),
    (
        "in place, on b",
        |p| (p.source, p.b) = (None, from(247, p.b)),
        "Overlap | lora::merge: destination and b of adapter 0 share the element at address 0x…, expected disjoint memory",
    ),
    ("65 adapters", |p| p.adapters = 65, "Argument | lora::merge: the number of adapters is 65, expected at most 64"),
    (
        "residual of other rows",
        |p| p.residual = Some(of([1, 5, 8], p.destination)),
        "Shape | lora::merge: residual is [5, 8], expected [6, 8]",
    ),
    (
        "residual without a stride of 1",
        |p| p.residual = Some(strides([0, 16, 2], from(500, p.destination))),
        "Stride | lora::merge: residual has row stride 16 and column stride 2, expected one of them to be 1",
    ),
    (
        "residual on the destination",
        |p| p.residual = Some(from(247, p.destination)),
        "Overlap | lora::merge: destination and residual share the element at address 0x…, expected disjoint memory",
    ),
    (
        "residual on the source",
        |p| p.residual = Some(from(52, p.destination)),
        "Overlap | lora::merge: residual and source share the element at address 0x…, expected disjoint memory",
    ),
    (
        "residual on a",
        |p| p.residual = Some(from(315, p.destination)),
        "Overlap | lora::merge: residual and a of adapter 0 share the element at address 0x…, expected disjoint memory",
    ),
    (
        "emulator: an algorithm that does not exist",
        |p| p.algorithm = 5,
        "Algorithm | lora::merge: algorithm 5 does not exist, expected 0 (automatic), 1 (lora_merge_simt) or 2 (lora_merge_mma)",
    ),
    (
        "emulator: a residual from tensor cores",
        |p| (p.residual, p.algorithm) = (Some(from(1000, p.destination)), 2),
        "Algorithm | lora::merge: algorithm 2 (lora_merge_mma) needs compute capability 8.0 and no residual, this chip has 9.0, and there is a residual",
    ),
    (
        "cpu: an algorithm that does not exist",
        |p| p.algorithm = 5,
        "Algorithm | lora::merge: algorithm 5 does not exist on the CPU queue, expected 0",
    ),
];

/// In the order in which the test makes them; those without the feature come last.
pub const OTHERS: [(&str, &str); 27] = [
    ("f64 on the CPU queue", "ElementType | lora::forward: x has element type f64, expected f32, f16 or bf16"),
    ("f64 on the emulator", "ElementType | lora::forward: x has element type f64, expected f32, f16 or bf16"),
    ("f16 adapters of f32", "ElementType | lora::forward: adapter has element type f16, expected f32"),
    ("bf16 adapters of f16", "ElementType | lora::forward: adapter has element type bf16, expected f16 or f32"),
    ("f64 adapters of bf16", "ElementType | lora::forward: adapter has element type f64, expected bf16 or f32"),
    (
        "a residual of f32 on the CPU queue",
        "ElementType | lora::merge: weight with a residual has element type f32, expected f16 or bf16: 16 bits cannot restore 32, keep a copy",
    ),
    (
        "a residual of f32 on the emulator",
        "ElementType | lora::merge: weight with a residual has element type f32, expected f16 or bf16: 16 bits cannot restore 32, keep a copy",
    ),
    (
        "a chip that the emulator does not imitate",
        "NoDevice | lora::forward: no device: the emulator imitates no chip of compute capability 75, expected 80, 86, 89, 90, 100 or 120",
    ),
    ("x between two elements, CPU queue", "Alignment | lora::forward: x is at address 0x…, expected a multiple of 2"),
    ("y between two elements, CPU queue", "Alignment | lora::forward: y is at address 0x…, expected a multiple of 2"),
    ("w between two elements, CPU queue", "Alignment | lora::forward: w is at address 0x…, expected a multiple of 2"),
    ("a between two elements, CPU queue", "Alignment | lora::forward: a is at address 0x…, expected a multiple of 2"),
    ("b between two elements, CPU queue", "Alignment | lora::forward: b is at address 0x…, expected a multiple of 2"),
    (
        "the bias between two elements, CPU queue",
        "Alignment | lora::forward: bias is at address 0x…, expected a multiple of 2",
    ),
    (
        "the status between two elements, CPU queue",
        "Alignment | lora::forward: the status is at address 0x…, expected a multiple of 8",
    ),
    ("x between two elements, emulator", "Alignment | lora::forward: x is at address 0x…, expected a multiple of 2"),
    ("y between two elements, emulator", "Alignment | lora::forward: y is at address 0x…, expected a multiple of 2"),
    ("w between two elements, emulator", "Alignment | lora::forward: w is at address 0x…, expected a multiple of 2"),
    ("a between two elements, emulator", "Alignment | lora::forward: a is at address 0x…, expected a multiple of 2"),
    ("b between two elements, emulator", "Alignment | lora::forward: b is at address 0x…, expected a multiple of 2"),
    (
        "the bias between two elements, emulator",
        "Alignment | lora::forward: bias is at address 0x…, expected a multiple of 2",
    ),
    (
        "the status between two elements, emulator",
        "Alignment | lora::forward: the status is at address 0x…, expected a multiple of 8",
    ),
    (
        "workspace without the feature",
        "NotBuilt | lora::forward_workspace: built without the feature `cuda`; build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
    ),
    (
        "kernel without the feature",
        "NotBuilt | lora::forward_kernel: built without the feature `cuda`; build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
    ),
    (
        "forward without the feature",
        "NotBuilt | lora::forward: built without the feature `cuda`; build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
    ),
    (
        "devices without the feature",
        "NotBuilt | device_count: built without the feature `cuda`; build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
    ),
    (
        "prepare without the feature",
        "NotBuilt | prepare: built without the feature `cuda`; build with `--features cuda` and nvcc in NVCC, CUDA_HOME, CUDA_PATH or PATH",
    ),
];
