//! What is refused, and in which words. `0x…` stands for an address.

use super::refused::{Parts, Rows};
use peft_kernels::Layout;

pub type Case<P> = (&'static str, fn(&mut P), &'static str);

/// The layout with other extents.
pub const fn of(extents: [usize; 3], layout: Layout<3>) -> Layout<3> {
    Layout { extents, ..layout }
}

pub const fn strides(strides: [usize; 3], layout: Layout<3>) -> Layout<3> {
    Layout { strides, ..layout }
}

pub const fn from(offset: usize, layout: Layout<3>) -> Layout<3> {
    Layout { offset, ..layout }
}

pub const FORWARD: &[Case<Parts>] = &[
    ("x of other batches", |p| p.x = of([3, 4, 8], p.x), "Shape | lora::forward: x is [3, 4, 8], expected [2, 4, 8]"),
    ("x of other rows", |p| p.x = of([2, 5, 8], p.x), "Shape | lora::forward: y is [2, 4, 6], expected [2, 5, 6]"),
    ("x of other columns", |p| p.x = of([2, 4, 7], p.x), "Shape | lora::forward: w is [6, 8], expected [6, 7]"),
    ("w of other rows", |p| p.w = of([1, 5, 8], p.w), "Shape | lora::forward: w is [5, 8], expected [6, 8]"),
    ("w of other columns", |p| p.w = of([1, 6, 7], p.w), "Shape | lora::forward: w is [6, 7], expected [6, 8]"),
    (
        "w of other batches",
        |p| p.w = of([3, 6, 8], strides([10, 8, 1], p.w)),
        "Shape | lora::forward: w is [3, 6, 8], expected [2, 6, 8]",
    ),
    ("a of other columns", |p| p.a = of([1, 2, 9], p.a), "Shape | lora::forward: a is [2, 9], expected [2, 8]"),
    ("a of other batches", |p| p.a = of([0, 2, 8], p.a), "Shape | lora::forward: a is [0, 2, 8], expected [2, 2, 8]"),
    ("b of other rows", |p| p.b = of([1, 7, 2], p.b), "Shape | lora::forward: b is [7, 2], expected [6, 2]"),
    ("b of another rank", |p| p.b = of([1, 6, 3], p.b), "Shape | lora::forward: b is [6, 3], expected [6, 2]"),
    (
        "bias of other columns",
        |p| p.bias = of([1, 1, 5], p.bias),
        "Shape | lora::forward: bias is [1, 5], expected [1, 6]",
    ),
    (
        "bias of other batches",
        |p| p.bias = of([3, 1, 6], strides([6, 0, 1], p.bias)),
        "Shape | lora::forward: bias is [3, 1, 6], expected [2, 1, 6]",
    ),
    (
        "second y of other rows",
        |p| p.second_y = Some(Layout { offset: 900, ..of([2, 3, 6], p.y) }),
        "Shape | lora::forward: y is [2, 3, 6], expected [2, 4, 6]",
    ),
    (
        "x without a stride of 1",
        |p| p.x = strides([100, 20, 2], p.x),
        "Stride | lora::forward: x has row stride 20 and column stride 2, expected one of them to be 1",
    ),
    (
        "w without a stride of 1",
        |p| p.w = strides([0, 2, 12], p.w),
        "Stride | lora::forward: w has row stride 2 and column stride 12, expected one of them to be 1",
    ),
    (
        "a without a stride of 1",
        |p| p.a = strides([0, 16, 2], p.a),
        "Stride | lora::forward: a has row stride 16 and column stride 2, expected one of them to be 1",
    ),
    (
        "b without a stride of 1",
        |p| p.b = strides([0, 4, 2], p.b),
        "Stride | lora::forward: b has row stride 4 and column stride 2, expected one of them to be 1",
    ),
    (
        "y without a stride of 1",
        |p| p.y = strides([100, 20, 2], p.y),
        "Stride | lora::forward: y has row stride 20 and column stride 2, expected one of them to be 1",
    ),
    (
        "y is x",
        |p| p.y = from(0, strides([40, 9, 1], p.y)),
        "Overlap | lora::forward: y and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y begins at the last element of x",
        |p| p.y = from(74, p.y),
        "Overlap | lora::forward: y and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y ends at the first element of w",
        |p| p.w = from(600 + 50 + 35, p.w),
        "Overlap | lora::forward: y and w share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on the last element of a",
        |p| p.a = from(600 - 15, p.a),
        "Overlap | lora::forward: y and a share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on the last element of b",
        |p| p.b = from(600 - 11, p.b),
        "Overlap | lora::forward: y and b share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on the last element of the bias",
        |p| p.bias = from(600 - 5, p.bias),
        "Overlap | lora::forward: y and bias share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y between rows of x but for one column",
        |p| {
            p.x = Layout { offset: 1000, extents: [2, 4, 8], strides: [100, 13, 1] };
            p.y = Layout { offset: 1008, extents: [2, 4, 6], strides: [100, 13, 1] };
        },
        "Overlap | lora::forward: y and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y between columns of x but for one row",
        |p| {
            p.x = Layout { offset: 1000, extents: [2, 4, 8], strides: [200, 1, 7] };
            p.y = Layout { offset: 1004, extents: [2, 4, 6], strides: [200, 1, 7] };
        },
        "Overlap | lora::forward: y and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "the second batch of y on w",
        |p| {
            p.y = strides(
                [340, 10, 1],
                from(0, {
                    p.x = from(1000, p.x);
                    p.w = from(375, p.w);
                    p.y
                }),
            )
        },
        "Overlap | lora::forward: y and w share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y and second y",
        |p| p.second_y = Some(Layout { offset: 655, ..p.y }),
        "Overlap | lora::forward: y of target 0 and y of target 1 share the element at address 0x…, expected disjoint memory",
    ),
    (
        "second y on x",
        |p| p.second_y = Some(Layout { offset: 39, extents: [2, 4, 1], strides: [4, 1, 1] }),
        "Overlap | lora::forward: y of target 1 and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on an adapter of a table",
        |p| {
            (p.table, p.rows) = (Some((p.a, from(640, p.b))), Rows::Index(2000, 8));
        },
        "Overlap | lora::forward: y and b share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on row_adapter",
        |p| (p.table, p.rows) = (Some((p.a, p.b)), Rows::Index(600 - 7, 8)),
        "Overlap | lora::forward: y and row_adapter share the element at address 0x…, expected disjoint memory",
    ),
    (
        "y on the status",
        |p| p.status = Some(600 * 4 + 8),
        "Overlap | lora::forward: the status and y share the element at address 0x…, expected disjoint memory",
    ),
    (
        "the status on w",
        |p| p.status = Some(200 * 4),
        "Overlap | lora::forward: the status and w share the element at address 0x…, expected disjoint memory",
    ),
    (
        "table of other columns",
        |p| {
            (p.table, p.rows) = (Some((of([1, 2, 7], p.a), p.b)), Rows::Segments);
        },
        "Shape | lora::forward: table is [6, 7], expected [6, 8]",
    ),
    (
        "table whose factors differ in rank",
        |p| {
            (p.table, p.rows) = (Some((p.a, of([1, 6, 1], p.b))), Rows::Segments);
        },
        "Shape | lora::AdapterTable::new: b is [6, 1], expected [6, 2]",
    ),
    (
        "table without a stride of 1",
        |p| {
            (p.table, p.rows) = (Some((p.a, strides([0, 4, 2], p.b))), Rows::Segments);
        },
        "Stride | lora::AdapterTable::new: b has row stride 4 and column stride 2, expected one of them to be 1",
    ),
    (
        "table without a choice",
        |p| p.table = Some((p.a, p.b)),
        "Argument | lora::forward: the choice of adapters is none, expected row_adapter or segments, for the table of target 0",
    ),
    (
        "a choice without a table",
        |p| p.rows = Rows::Index(2000, 8),
        "Argument | lora::forward: the choice of adapters is row_adapter or segments, expected a table in target 0, which has one adapter",
    ),
    (
        "segments without a table",
        |p| p.rows = Rows::Segments,
        "Argument | lora::forward: the choice of adapters is row_adapter or segments, expected a table in target 0, which has one adapter",
    ),
    (
        "row_adapter for one row too few",
        |p| (p.table, p.rows) = (Some((p.a, p.b)), Rows::Index(2000, 7)),
        "Shape | lora::forward: row_adapter is [7], expected [8]",
    ),
    (
        "emulator: no workspace",
        |p| p.no_workspace = true,
        "Workspace | lora::forward: the workspace has 0 bytes, expected 511",
    ),
    (
        "emulator: a workspace of one byte too few",
        |p| p.workspace = Some((8000, 510)),
        "Workspace | lora::forward: the workspace has 510 bytes, expected 511",
    ),
    (
        "emulator: a workspace on y",
        |p| p.workspace = Some((600 * 4, 511)),
        "Overlap | lora::forward: the workspace and y share the element at address 0x…, expected disjoint memory",
    ),
    (
        "emulator: a workspace on x",
        |p| p.workspace = Some((0, 511)),
        "Overlap | lora::forward: the workspace and x share the element at address 0x…, expected disjoint memory",
    ),
    (
        "emulator: a workspace on the status",
        |p| (p.workspace, p.status) = (Some((8000, 600)), Some(8248)),
        "Overlap | lora::forward: the workspace and the status share the element at address 0x…, expected disjoint memory",
    ),
    (
        "emulator: an algorithm that does not exist",
        |p| p.algorithm = 77,
        "Algorithm | lora::forward: algorithm 77 does not exist, expected 0 (automatic) or 1 (lora_forward_simt) to 6 (lora_forward_quantized_decode)",
    ),
    (
        "cpu: an algorithm that does not exist",
        |p| p.algorithm = 1,
        "Algorithm | lora::forward: algorithm 1 does not exist on the CPU queue, expected 0",
    ),
    (
        "cpu: a negative algorithm",
        |p| p.algorithm = -1,
        "Algorithm | lora::forward: algorithm -1 does not exist on the CPU queue, expected 0",
    ),
    (
        "emulator: a negative algorithm",
        |p| p.algorithm = -1,
        "Algorithm | lora::forward: algorithm -1 does not exist, expected 0 (automatic) or 1 (lora_forward_simt) to 6 (lora_forward_quantized_decode)",
    ),
];
