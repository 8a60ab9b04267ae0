//! What the kernels of a backward call read and write, counted by the emulator, against the formulas above them: besides dX's product one pass over dY and one over x.

use peft_kernels::counters::{self, Kind, Row};
use peft_kernels::{Element, ElementType, Emulator, Workspace, lora};

use super::case::{Arrangement, BiasSpec, Saved};
use super::counters::{Bytes, check_bytes, check_count, check_request};
use super::gradient_case::{Case, Mode, Spec};
use crate::buffer::{Buffer, Cell};
use crate::numbers::Numbers;
use crate::queues::{Runner, Trials};

const OUTER: &str = "lora_outer_mma";
const ADD: &str = "lora_add_parts";
const SHRINK: &str = "lora_shrink_mma";

/// What a call on an emulator of this seed did.
fn counted<T: Element + Cell, P: Element + Cell>(spec: &Spec, seed: u64) -> Result<Vec<Row>, String> {
    let case = Case::<T, P>::new(spec);
    let queue = Emulator::new(seed);
    case.with_call(&queue, |call| {
        let bytes = lora::backward_workspace(&queue, &call).map_err(|error| error.to_string())?;
        let workspace = Buffer::<u8>::list(&vec![0; bytes]);
        let run = || lora::backward(&queue, call, Workspace::new(queue.sink(&workspace)));
        let (result, rows) = counters::count(run);
        result.map_err(|error| error.to_string())?;
        Ok(rows)
    })
}

/// A pass over a matrix [m, columns] as its plan has it.
struct Pass {
    /// Of 64 rows and 64 columns.
    tiles: usize,
    /// Fragments of 8 ranks in a tile of them.
    fragments: usize,
    rank_tiles: usize,
    supers: usize,
    parts: usize,
}

impl Pass {
    fn new(m: usize, columns: usize, rank: usize) -> Self {
        let [ranks, tiles] = if rank <= 16 { [16, 4] } else { [64, 2] };
        let (rank_tiles, supers) = (rank.div_ceil(ranks).max(1), columns.div_ceil(64 * tiles));
        let parts = (264 / (rank_tiles * supers)).clamp(1, m.div_ceil(64));
        Self { tiles: m.div_ceil(64) * columns.div_ceil(64), fragments: ranks / 8, rank_tiles, supers, parts }
    }

    /// So many products, and the sums of the columns, each of 64 rows or columns, 16 a warp, in steps of 8.
    fn matrix_instructions(&self, products: usize, bias: bool) -> usize {
        self.tiles * 4 * 8 * (self.rank_tiles * products * self.fragments * 3 + if bias { 2 } else { 0 })
    }
}

fn expected<T: Element, P: Element>(spec: &Spec) -> Vec<Bytes> {
    let (m, k, n, rank) = (spec.m, spec.k, spec.targets[0].n, spec.targets[0].rank.unwrap_or(0));
    let (t, p, wide) = (size_of::<T>(), size_of::<P>(), T::TYPE == ElementType::F32);
    let (of_dy, of_x) = (Pass::new(m, n, rank), Pass::new(m, k, rank));
    let saved = spec.targets[0].h;
    let makes_h = usize::from(saved == Saved::None);
    let h_bytes = if saved == Saved::Own { t } else { 4 };
    let h_tiles = m.div_ceil(64) * rank.div_ceil(if rank <= 16 { 16 } else { 64 });
    let planes = (264 / h_tiles).clamp(1, ((k * t).div_ceil(128) / 4).clamp(1, 16));
    let accumulates = |mode| usize::from(mode == Mode::Accumulate);
    let [a, b, bias] = spec.targets[0].modes.map(accumulates);
    let [kernel, rows, columns] = match spec.algorithm {
        2 => ["lora_input_gradient_mma_large", "128", if wide { "128" } else { "256" }],
        _ => ["lora_input_gradient_mma_small", "64", "64"],
    };
    let tiles = |extent: usize, tile: &str| extent.div_ceil(tile.parse().expect("a number"));
    let (rows, columns) = (tiles(m, rows), tiles(k, columns));
    // A row scale is read for every rank of a tile of B, every tile of dX and every element of dB.
    let scales = |reads: usize| if spec.targets[0].row_scale == BiasSpec::None { 0 } else { 4 * n * reads };
    // H comes in planes where it was made.
    let h = m * rank * of_dy.supers * if makes_h == 1 { 4 * planes } else { h_bytes };
    vec![
        (SHRINK, Kind::GlobalRead, "x", makes_h * m * k * rank.div_ceil(if rank <= 16 { 16 } else { 64 }) * t),
        (SHRINK, Kind::GlobalRead, "a", makes_h * rank * k * m.div_ceil(64) * p),
        (SHRINK, Kind::GlobalWrite, "workspace", makes_h * planes * m * rank * 4),
        (OUTER, Kind::GlobalRead, "dy", m * n * of_dy.rank_tiles * t),
        (OUTER, Kind::GlobalRead, "x", m * k * of_x.rank_tiles * t),
        (OUTER, Kind::GlobalRead, "b", n * rank * of_dy.parts * p),
        (OUTER, Kind::GlobalRead, "row_scale", scales(of_dy.parts * of_dy.rank_tiles * 8 * of_dy.fragments)),
        (OUTER, Kind::GlobalRead, if makes_h == 1 { "workspace" } else { "saved h" }, h),
        (OUTER, Kind::GlobalRead, "workspace", m * rank * of_x.supers * 4),
        (OUTER, Kind::GlobalWrite, "workspace", of_dy.parts * n * (rank + 1) * 4 + m * rank * of_dy.supers * 4),
        (OUTER, Kind::GlobalWrite, "workspace", of_x.parts * k * rank * 4),
        (ADD, Kind::GlobalRead, "workspace", of_dy.parts * n * (rank + 1) * 4 + m * rank * of_dy.supers * 4),
        (ADD, Kind::GlobalRead, "workspace", of_x.parts * k * rank * 4),
        (ADD, Kind::GlobalRead, "row_scale", scales(rank)),
        (ADD, Kind::GlobalRead, "da", a * rank * k * p),
        (ADD, Kind::GlobalRead, "db", b * n * rank * p),
        (ADD, Kind::GlobalRead, "dbias", bias * n * t),
        (ADD, Kind::GlobalWrite, "workspace", m * rank * 4),
        (ADD, Kind::GlobalWrite, "da", rank * k * p),
        (ADD, Kind::GlobalWrite, "db", n * rank * p),
        (ADD, Kind::GlobalWrite, "dbias", n * t),
        (kernel, Kind::GlobalRead, "dy", m * n * columns * t),
        (kernel, Kind::GlobalRead, "w", n * k * rows * t),
        (kernel, Kind::GlobalRead, "row_scale", scales(rows * columns)),
        (kernel, Kind::GlobalRead, "a", k * rank * rows * p),
        (kernel, Kind::GlobalRead, "workspace", m * rank * columns * 4),
        (kernel, Kind::GlobalRead, "dx", accumulates(spec.x) * m * k * t),
        (kernel, Kind::GlobalWrite, "dx", m * k * t),
    ]
}

fn counts<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let shapes = [[5, 3, 50, 1], [65, 130, 72, 9], [130, 270, 17, 20], [70, 33, 140, 70]];
    for (i, [m, n, k, rank]) in shapes.into_iter().enumerate() {
        for (j, orders) in [0, 0x3ff, 0b01_0110_1001].into_iter().enumerate() {
            let spec = Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| {
                spec.algorithm = 2 + (i + j) as i32 % 2;
                spec.arrangement = Arrangement::Orders { orders, gap: j, offset: j };
                spec.targets[0].h = [Saved::F32, Saved::Own, Saved::None][(i + j) % 3];
                spec.targets[0].row_scale = [BiasSpec::None, BiasSpec::Shared(1), BiasSpec::Shared(2)][(i + j) % 3];
                if j == 2 {
                    (spec.x, spec.targets[0].modes) = (Mode::Accumulate, [Mode::Accumulate; 3]);
                }
            });
            let rows = counted::<T, P>(&spec, i as u64)?;
            let check = || {
                check_bytes(&rows, &expected::<T, P>(&spec))?;
                // One launch for each pass; dH, dB, the bias' gradient and dA are added up.
                check_count(&rows, OUTER, Kind::Launches, "", 2)?;
                let products = Pass::new(m, n, rank).matrix_instructions(2, true)
                    + Pass::new(m, k, rank).matrix_instructions(1, false);
                check_count(&rows, OUTER, Kind::MatrixInstructions, "mma.m16n8k8.tf32", products)?;
                check_count(&rows, ADD, Kind::Launches, "", 4)
            };
            check().map_err(|text| format!("{text} {spec:#?}"))?;
        }
    }
    Ok(())
}

/// The passes: whole sectors of dY and x in both orders, no conflict in shared memory.
fn requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for orders in 0..4 {
        for rank in [16, 64] {
            let spec = Spec::new(128, 256, 256, rank, Numbers::Reals).with(|spec| {
                spec.algorithm = 3;
                spec.arrangement = Arrangement::Orders { orders, gap: 0, offset: 0 };
                spec.targets[0].h = Saved::F32;
            });
            let rows = counted::<T, P>(&spec, 1)?;
            let check = || {
                for operand in ["dy", "x"] {
                    let whole = |row: &Row| row.parts == row.least && row.parts * 32 == row.bytes;
                    check_request(&rows, OUTER, Kind::GlobalRead, operand, whole)?;
                }
                let arrays = rows.iter().filter(|row| row.kernel() == OUTER);
                let conflicts = arrays.filter(|row| matches!(row.kind, Kind::SharedRead | Kind::SharedWrite));
                let text = |row: &Row| {
                    let (operand, kind, parts, least) = (row.operand(), row.kind, row.parts, row.least);
                    format!("{operand}, {kind:?}: {parts} wavefronts, at best {least}\n")
                };
                let texts: String = conflicts.filter(|row| row.parts != row.least).map(text).collect();
                if texts.is_empty() { Ok(()) } else { Err(texts) }
            };
            check().map_err(|text| format!("{text} {spec:#?}"))?;
        }
    }
    Ok(())
}

/// dX with a row scale: whole sectors of dY and W in both orders, and no conflict in shared memory.
fn scaled_requests<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    for (algorithm, kernel) in [(2, "lora_input_gradient_mma_large"), (3, "lora_input_gradient_mma_small")] {
        for orders in 0..4 {
            // Large tiles of two bytes gather a dY of contiguous columns.
            if algorithm == 2 && orders % 2 == 1 && T::TYPE != ElementType::F32 {
                continue;
            }
            let spec = Spec::new(128, 160, 256, 0, Numbers::Reals).with(|spec| {
                (spec.algorithm, spec.targets[0].rank) = (algorithm, None);
                spec.targets[0].row_scale = BiasSpec::Shared(1);
                spec.arrangement = Arrangement::Orders { orders: orders << 1, gap: 0, offset: 0 };
            });
            let rows = counted::<T, P>(&spec, 1)?;
            let check = || {
                for operand in ["dy", "w"] {
                    let whole = |row: &Row| row.parts == row.least && row.parts * 32 == row.bytes;
                    check_request(&rows, kernel, Kind::GlobalRead, operand, whole)?;
                }
                // Tiles of dY and of W, then behind the sums, the rows' adapters and the tile's place the scales of all stages, where the next are, and how far apart.
                for array in (0..8).chain(11..14) {
                    for kind in [Kind::SharedRead, Kind::SharedWrite] {
                        check_request(&rows, kernel, kind, &format!("shared {array}"), |row| row.parts == row.least)?;
                    }
                }
                Ok::<_, String>(())
            };
            check().map_err(|text| format!("{text} {spec:#?}"))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    for_types!(trials, "lora::backward::counts", counts);
    for_types!(trials, "lora::backward::requests", requests);
    for_types!(trials, "lora::backward::scaled_requests", scaled_requests);
}
