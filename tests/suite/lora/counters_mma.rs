//! What the tensor-core kernels read, write and execute, counted by the emulator, against the formulas above them.

use half::{bf16, f16};
use peft_kernels::counters::{Kind, Row};
use peft_kernels::{Element, ElementType, Layout};

use super::case::{Arrangement, BaseSpec, BiasSpec, Case, Spec};
use super::counters::{
    Bytes, check_bytes, check_count, check_request, counted, counted_case, same_under_every_schedule,
};
use super::merge;
use crate::buffer::{Buffer, Cell, Placement};
use crate::numbers::{Numbers, Random};
use crate::queues::Trials;

const SHRINK: &str = "lora_shrink_mma";
const MERGE: &str = "lora_merge_mma";

/// Of the chip that the emulator imitates where nobody asks for another.
const MULTIPROCESSORS: usize = 132;

/// A forward kernel, as its banner and its launch have it.
#[derive(Clone, Copy, Debug)]
struct Tile {
    algorithm: i32,
    kernel: &'static str,
    rows: usize,
    columns: usize,
    row_warps: usize,
    depth_warps: usize,
    /// Of a row of x that a stage of the pipeline holds, and how many stages there are.
    stage_bytes: usize,
    stages: usize,
    blocks_together: usize,
}

fn tiles(wide: bool) -> [Tile; 3] {
    let tile = |algorithm, kernel, columns, blocks_together| Tile {
        algorithm,
        kernel,
        columns,
        blocks_together,
        rows: 64,
        row_warps: 2,
        depth_warps: 1,
        stage_bytes: 64,
        stages: 4,
    };
    [
        Tile { rows: 128, ..tile(2, "lora_forward_mma_large", if wide { 128 } else { 256 }, 1) },
        tile(3, "lora_forward_mma_small", 64, 2),
        Tile {
            rows: 16,
            row_warps: 1,
            depth_warps: 8,
            stage_bytes: 512,
            stages: 3,
            ..tile(4, "lora_forward_mma_decode", 32, 1)
        },
    ]
}

/// Parts of a sum, where there are fewer blocks than wanted.
fn parts(blocks: usize, wanted: usize, stages: usize) -> usize {
    (wanted / blocks.max(1)).clamp(1, (stages / 4).clamp(1, 16))
}

/// One target of a call, in the terms of the formulas.
struct Call {
    tile: Tile,
    batches: usize,
    m: usize,
    n: usize,
    k: usize,
    rank: usize,
    base: BaseSpec,
    bias: bool,
    row_scale: bool,
    /// Bytes of an element of x, and of a factor.
    t: usize,
    p: usize,
    instruction: &'static str,
    /// Products that one of x and W takes: three where f32 is multiplied in parts.
    products: usize,
}

impl Call {
    fn new<T: Element, P: Element>(spec: &Spec, tile: Tile, rank: usize) -> Self {
        let wide = T::TYPE == ElementType::F32;
        Self {
            tile,
            batches: spec.batches,
            m: spec.m,
            n: spec.targets[0].n,
            k: spec.k,
            rank,
            base: spec.targets[0].base,
            bias: spec.targets[0].bias != BiasSpec::None,
            row_scale: spec.targets[0].row_scale != BiasSpec::None,
            t: size_of::<T>(),
            p: size_of::<P>(),
            instruction: match T::TYPE {
                ElementType::BF16 => "mma.m16n8k16.bf16",
                ElementType::F16 => "mma.m16n8k16.f16",
                _ => "mma.m16n8k8.tf32",
            },
            products: if wide && !spec.allow_tf32 { 3 } else { 1 },
        }
    }

    fn dense(&self) -> usize {
        usize::from(self.base == BaseSpec::Dense)
    }

    fn row_tiles(&self) -> usize {
        self.m.div_ceil(self.tile.rows)
    }

    fn column_tiles(&self) -> usize {
        self.n.div_ceil(self.tile.columns)
    }

    fn tiles(&self) -> usize {
        self.batches * self.row_tiles() * self.column_tiles()
    }

    /// Of the base, in all splits together.
    fn stages(&self) -> usize {
        self.dense() * (self.k * self.t).div_ceil(self.tile.stage_bytes)
    }

    fn splits(&self) -> usize {
        match self.base {
            BaseSpec::Dense => parts(self.tiles(), self.tile.blocks_together * MULTIPROCESSORS, self.stages()),
            _ => 1,
        }
    }

    /// Tiles of H, and the columns of one.
    fn shrink_tiles(&self) -> [usize; 2] {
        let columns = if self.rank <= 16 { 16 } else { 64 };
        [self.batches * self.m.div_ceil(64) * self.rank.div_ceil(columns), columns]
    }

    fn shrink_stages(&self) -> usize {
        (self.k * self.p).div_ceil(128)
    }

    fn planes(&self) -> usize {
        parts(self.shrink_tiles()[0], 2 * MULTIPROCESSORS, self.shrink_stages())
    }

    fn bytes(&self) -> Vec<Bytes> {
        let Self { batches, m, n, k, rank, t, p, .. } = *self;
        let (rows, columns, splits, planes) = (self.row_tiles(), self.column_tiles(), self.splits(), self.planes());
        let split = usize::from(splits > 1);
        let sums = split * splits * self.tiles() * self.tile.rows * self.tile.columns * 4;
        let (dense, in_y) = (self.dense(), usize::from(self.base == BaseSpec::InY));
        let kernel = self.tile.kernel;
        let rank_tiles = rank.div_ceil(self.shrink_tiles()[1]);
        // Without a rank, the plain kernel clears the counts of arrivals.
        let clears = if rank > 0 { SHRINK } else { "lora_shrink_simt" };
        vec![
            (kernel, Kind::GlobalRead, "x", dense * batches * m * k * columns * t),
            (kernel, Kind::GlobalRead, "w", dense * batches * n * k * rows * t),
            (kernel, Kind::GlobalRead, "workspace", batches * planes * m * rank * columns * 4 + sums),
            (kernel, Kind::GlobalRead, "b", batches * n * rank * rows * p),
            (kernel, Kind::GlobalRead, "bias", usize::from(self.bias) * batches * m * n * t),
            (kernel, Kind::GlobalRead, "row_scale", usize::from(self.row_scale) * batches * m * n * 4),
            (kernel, Kind::GlobalRead, "y", in_y * batches * m * n * t),
            (kernel, Kind::GlobalWrite, "workspace", sums),
            (kernel, Kind::GlobalWrite, "y", batches * m * n * t),
            (kernel, Kind::GlobalAtomic, "workspace", split * splits * self.tiles() * 4),
            (SHRINK, Kind::GlobalRead, "x", batches * m * k * rank_tiles * t),
            (SHRINK, Kind::GlobalRead, "a", batches * rank * k * m.div_ceil(64) * p),
            (SHRINK, Kind::GlobalWrite, "workspace", batches * planes * m * rank * 4),
            (clears, Kind::GlobalWrite, "workspace", split * self.tiles() * 4),
        ]
    }

    fn check(&self, rows: &[Row]) -> Result<(), String> {
        check_bytes(rows, &self.bytes())?;
        let Self { tile, rank, p, .. } = *self;
        let (tiles, splits, kernel) = (self.tiles(), self.splits(), tile.kernel);
        check_count(rows, kernel, Kind::Launches, "", 1)?;

        // A step is 32 bytes of depth: two in the 64 bytes of a stage that a warp has.
        let fragments = tile.rows / 16 * (tile.columns / 8);
        let base = 2 * self.stages() * tile.depth_warps * tiles * fragments * self.products;
        let rounds = rank.div_ceil(16);
        let branch = 2 * rounds * tiles * fragments * if p == 4 { 3 } else { 2 };
        let [h_tiles, h_columns] = self.shrink_tiles();
        let h_products = if p == 4 { if self.t == 4 { self.products } else { 3 } } else { 1 };
        let h = 2 * self.shrink_stages() * 2 * h_tiles * 4 * (h_columns / 8) * h_products;
        const TF32: &str = "mma.m16n8k8.tf32";
        for instruction in ["mma.m16n8k16.bf16", "mma.m16n8k16.f16", TF32] {
            let mut of_forward = if self.instruction == instruction { base } else { 0 };
            of_forward += if instruction == TF32 { branch } else { 0 };
            check_count(rows, kernel, Kind::MatrixInstructions, instruction, of_forward)?;
            let of_shrink = if instruction == if p == 4 { TF32 } else { self.instruction } { h } else { 0 };
            check_count(rows, SHRINK, Kind::MatrixInstructions, instruction, of_shrink)?;
        }

        // One for each stage, one where warps share the depth, two for each round of the branch, and one before them in each split, two where splits meet, two for each 16 rows of a warp on their way out.
        let of_branch = if rank > 0 { splits + 2 * rounds } else { 0 };
        let of_splits = splits * (usize::from(tile.depth_warps > 1) + if splits > 1 { 2 } else { 0 });
        let of_quads = 2 * tile.rows / 16 / tile.row_warps;
        check_count(rows, kernel, Kind::Barriers, "", tiles * (self.stages() + of_branch + of_splits + of_quads))?;
        let of_shrink = if rank > 0 { h_tiles * (self.shrink_stages() + 3 * self.planes()) } else { 0 };
        check_count(rows, SHRINK, Kind::Barriers, "", of_shrink)
    }
}

/// Batches, m, n, k, rank: less than a tile, more, and depths that are shared by several blocks.
const SHAPES: [[usize; 5]; 6] = [
    [1, 5, 3, 50, 1],
    [2, 65, 130, 72, 9],
    [1, 64, 64, 64, 16],
    [1, 130, 260, 17, 20],
    [1, 17, 40, 2100, 3],
    [1, 70, 33, 530, 70],
];

/// Row-major without gaps, column-major, and mixed, with gaps and offsets that leave no row aligned.
const ORDERS: [(u32, usize); 4] = [(0, 0), (0b11111, 0), (0b00101, 1), (0b11010, 3)];

fn forward_counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (shape, [batches, m, n, k, rank]) in SHAPES.into_iter().enumerate() {
        for tile in tiles(T::TYPE == ElementType::F32) {
            for (i, (orders, gap)) in ORDERS.into_iter().enumerate() {
                let base = [BaseSpec::Dense, BaseSpec::Dense, BaseSpec::InY, BaseSpec::None][(i + shape) % 4];
                let spec = Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| {
                    (spec.batches, spec.algorithm) = (batches, tile.algorithm);
                    spec.arrangement = Arrangement::Orders { orders, gap, offset: gap };
                    spec.targets[0].base = base;
                    spec.targets[0].bias = if i % 2 == 0 { BiasSpec::Shared(1) } else { BiasSpec::None };
                    spec.targets[0].row_scale = if i % 2 == 0 { BiasSpec::None } else { BiasSpec::Shared(1) };
                    spec.allow_tf32 = i == 1;
                });
                let rows = counted::<T, P>(&spec, i as u64)?;
                let call = Call::new::<T, P>(&spec, tile, rank);
                call.check(&rows).map_err(|text| format!("{text} {spec:#?}"))?;
            }
        }
    }
    Ok(())
}

/// These arrays of shared memory are read, but for some, and written 128 bytes at a time: all banks, each once.
fn check_shared(
    rows: &[Row],
    kernel: &str,
    arrays: impl IntoIterator<Item = usize>,
    unread: &[usize],
) -> Result<(), String> {
    for array in arrays {
        for kind in [Kind::SharedRead, Kind::SharedWrite] {
            if kind == Kind::SharedWrite || !unread.contains(&array) {
                let all_banks = |row: &Row| row.parts * 128 == row.bytes;
                check_request(rows, kernel, kind, &format!("shared {array}"), all_banks)?;
            }
        }
    }
    Ok(())
}

/// The main loop alone: whole sectors of x, W and y in all orders, no conflict in shared memory, and the same requests under every schedule.
fn base_requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for tile in tiles(T::TYPE == ElementType::F32) {
        for orders in 0..8 {
            let k = 5 * tile.stage_bytes / size_of::<T>();
            let spec = Spec::new(tile.rows, 2 * tile.columns, k, 0, Numbers::Reals).with(|spec| {
                spec.algorithm = tile.algorithm;
                spec.arrangement = Arrangement::Orders { orders, gap: 0, offset: 0 };
            });
            let rows = same_under_every_schedule::<T, P>(&spec)?;
            let check = || {
                let whole = |row: &Row| row.parts == row.least && row.parts * 32 == row.bytes;
                for operand in ["x", "w"] {
                    check_request(&rows, tile.kernel, Kind::GlobalRead, operand, whole)?;
                }
                check_request(&rows, tile.kernel, Kind::GlobalWrite, "y", whole)?;
                // Of the left operand, the right one, and the sums of warps that share the depth.
                let sums = usize::from(tile.depth_warps > 1);
                for array in 0..2 * tile.stages * tile.depth_warps + sums {
                    for kind in [Kind::SharedRead, Kind::SharedWrite] {
                        check_request(&rows, tile.kernel, kind, &format!("shared {array}"), |row| {
                            row.parts == row.least
                        })?;
                    }
                }
                Ok::<_, String>(())
            };
            check().map_err(|text| format!("{text} {spec:#?}"))?;
        }
    }
    Ok(())
}

/// H and the branch: no conflict in shared memory.
fn branch_requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for tile in tiles(T::TYPE == ElementType::F32) {
        for orders in 0..8 {
            // Ranks of a narrow and of a wide tile of H.
            let rank = [16, 64][orders as usize % 2];
            let spec = Spec::new(64, tile.columns, 4 * 128 / size_of::<P>(), rank, Numbers::Reals).with(|spec| {
                (spec.algorithm, spec.targets[0].base) = (tile.algorithm, BaseSpec::InY);
                spec.arrangement = Arrangement::Orders { orders: orders & 1 | (orders & 6) << 2, gap: 0, offset: 0 };
            });
            let rows = same_under_every_schedule::<T, P>(&spec)?;
            // Tiles of upper parts, lower parts and finite upper parts, of which the last of H and the second of B are read where B has lower parts.
            let right = tile.stages * tile.depth_warps;
            let lower = P::TYPE == ElementType::F32;
            // Sums leave through the first tiles of B, one for each warp of rows.
            let unread =
                [2 * tile.depth_warps, right + if tile.row_warps == 1 { tile.depth_warps } else { usize::MAX / 2 }];
            let part = |of: usize| (0..3).map(move |part| of + part * tile.depth_warps);
            let of_branch = part(0).chain(part(right));
            check_shared(&rows, SHRINK, 0..17, &[])
                .and_then(|()| check_shared(&rows, tile.kernel, of_branch, if lower { &[] } else { &unread }))
                .map_err(|text| format!("{text} {spec:#?}"))?;
        }
    }
    Ok(())
}

fn merge_counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for (i, [n, k]) in [[64, 128_usize], [17, 65], [65, 257], [130, 1]].into_iter().enumerate() {
        for seed in 0..4 {
            for ranks in [&[3, 0, 24][..], &[40]] {
                let rank: usize = ranks.iter().sum();
                let [tile_rows, tile_columns] = [n.div_ceil(64), k.div_ceil(128)];
                let expected = [
                    (MERGE, Kind::GlobalRead, "source", n * k * t),
                    (MERGE, Kind::GlobalWrite, "destination", n * k * t),
                    (MERGE, Kind::GlobalRead, "a", rank * k * tile_rows * p),
                    (MERGE, Kind::GlobalRead, "b", n * rank * tile_columns * p),
                ];
                let stages: usize = ranks.iter().map(|rank| (rank * p).div_ceil(64)).sum();
                let tiles = tile_rows * tile_columns;
                let (instruction, products) = match P::TYPE {
                    ElementType::BF16 => ("mma.m16n8k16.bf16", 1),
                    ElementType::F16 => ("mma.m16n8k16.f16", 1),
                    _ => ("mma.m16n8k8.tf32", 3),
                };
                // One barrier for each stage, one behind each adapter, and two for each 16 rows of a warp on their way out, but for the first.
                let barriers = stages + ranks.iter().filter(|&&rank| rank > 0).count() + 3;
                let (both, _) = merge::counted::<T, P>([n, k], ranks, (4 * i) as u64 + seed, 2, None)?;
                for rows in &both {
                    check_bytes(rows, &expected)
                        .and_then(|()| check_count(rows, MERGE, Kind::Launches, "", 1))
                        .and_then(|()| {
                            let count = tiles * stages * 2 * 4 * 16 * products;
                            check_count(rows, MERGE, Kind::MatrixInstructions, instruction, count)
                        })
                        .and_then(|()| check_count(rows, MERGE, Kind::Barriers, "", tiles * barriers))
                        .map_err(|text| format!("{text} [{n}, {k}], ranks {ranks:?}, seed {seed}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Whole sectors of weights that are row-major, and no conflict in shared memory.
fn merge_requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for column_major in [false, true] {
        let placement = Placement { column_major, ..Placement::default() };
        let (both, _) = merge::counted::<T, P>([128, 256], &[64], 1, 2, Some(placement))?;
        for rows in &both {
            check_shared(rows, MERGE, 0..4, &[])?;
            if !column_major {
                for (kind, operand) in [(Kind::GlobalRead, "source"), (Kind::GlobalWrite, "destination")] {
                    check_request(rows, MERGE, kind, operand, |row| {
                        row.parts == row.least && row.parts * 32 == row.bytes
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// The stride of one row is no matter: x is copied by 16 bytes whatever it is.
fn one_row<T: Element + Cell>() -> Result<(), String> {
    let k = 1024;
    let requests = |stride: usize| {
        let spec = Spec::new(1, 64, k, 0, Numbers::Reals);
        let mut case = Case::<T, T>::new(&spec);
        let mut random = Random(1);
        let layout = Layout { offset: 0, extents: [1, 1, k], strides: [0, stride, 1] };
        case.x = Buffer::new(layout, |[_, _, i]| spec.numbers.factor(&mut random, k, i + 1 == k));
        let rows = counted_case(&case, 1)?;
        let of_x = rows.iter().filter(|row| row.kind == Kind::GlobalRead && row.operand() == "x");
        Ok::<u64, String>(of_x.map(|row| row.count).sum())
    };
    let found = [requests(k)?, requests(k + 1)?, requests(0)?];
    if found == [found[0]; 3] { Ok(()) } else { Err(format!("{found:?} requests")) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::counters_mma::one_row/f32", one_row::<f32>);
    trials.add("lora::counters_mma::one_row/bf16", one_row::<bf16>);
    trials.add("lora::counters_mma::forward_counts/f32", forward_counts::<f32, f32>);
    trials.add("lora::counters_mma::forward_counts/bf16", forward_counts::<bf16, bf16>);
    trials.add("lora::counters_mma::forward_counts/f16+f32", forward_counts::<f16, f32>);
    trials.add("lora::counters_mma::base_requests/f32", base_requests::<f32, f32>);
    trials.add("lora::counters_mma::base_requests/f16", base_requests::<f16, f16>);
    trials.add("lora::counters_mma::branch_requests/f32", branch_requests::<f32, f32>);
    trials.add("lora::counters_mma::branch_requests/bf16", branch_requests::<bf16, bf16>);
    trials.add("lora::counters_mma::branch_requests/f16+f32", branch_requests::<f16, f32>);
    trials.add("lora::counters_mma::merge_counts/f32", merge_counts::<f32, f32>);
    trials.add("lora::counters_mma::merge_counts/bf16", merge_counts::<bf16, bf16>);
    trials.add("lora::counters_mma::merge_counts/f16+f32", merge_counts::<f16, f32>);
    trials.add("lora::counters_mma::merge_requests/f32", merge_requests::<f32, f32>);
    trials.add("lora::counters_mma::merge_requests/f16", merge_requests::<f16, f16>);
}
