//! What the kernels of middles and of listed ranks read and write, counted by the emulator, against the formulas above them.

use half::bf16;
use peft_kernels::counters::{self, Kind, Row};
use peft_kernels::{Element, Emulator};

use super::case::{Listed, MiddleSpec, Part};
use super::values::listed;
use crate::buffer::Cell;
use crate::lora::case::{Arrangement, Saved, Spec};
use crate::lora::counters::{Bytes, check_bytes, check_count, counted};
use crate::lora::gradient_case::{self, Mode, Weights};
use crate::numbers::Numbers;
use crate::queues::Trials;

pub const MIDDLE: &str = "lora_middle";
const GRADIENT: &str = "lora_middle_gradient";
const CORE: &str = "lora_core_gradient";
const GATHER: &str = "lora_gather_ranks";
const CHECK: &str = "lora_check_ranks";
const STORE: &str = "lora_store_ranks";
const KERNELS: [&str; 6] = [MIDDLE, GRADIENT, CORE, GATHER, CHECK, STORE];

/// m, n, k, rank and, with a core, B's ranks: less than a tile of each, more, and H in planes.
const SHAPES: [[usize; 5]; 5] =
    [[5, 3, 50, 1, 2], [65, 30, 72, 9, 70], [130, 17, 17, 66, 20], [70, 33, 40, 80, 130], [17, 9, 2100, 16, 16]];

fn of_kernels(rows: Vec<Row>) -> Vec<Row> {
    rows.into_iter().filter(|row| KERNELS.contains(&row.kernel())).collect()
}

/// Parts in which H is made.
fn planes(m: usize, columns: usize, bytes_of_row: usize) -> usize {
    let tiles = m.div_ceil(64) * columns.div_ceil(if columns <= 16 { 16 } else { 64 });
    (264 / tiles.max(1)).clamp(1, (bytes_of_row.div_ceil(128) / 4).clamp(1, 16))
}

/// Which parts the middle has, as 0 or 1, and whether there is a list.
struct Has {
    scale: usize,
    gate: usize,
    core: bool,
    list: usize,
}

impl Has {
    fn new(middle: &MiddleSpec) -> Self {
        let has = |part: Part| usize::from(part != Part::None);
        let (scale, gate, core) = (has(middle.scale), has(middle.gate), middle.core != Part::None);
        Self { scale, gate, core, list: usize::from(middle.ranks != Listed::All) }
    }

    fn any(&self) -> usize {
        usize::from(self.scale + self.gate > 0 || self.core)
    }
}

/// The copies of listed ranks, of an adapter whose A has so many columns and B so many rows.
pub fn gathered(middle: &MiddleSpec, rank: usize, [n, k]: [usize; 2], p: usize) -> Vec<Bytes> {
    let count = middle.ranks(rank).len();
    let of_list = match middle.ranks {
        Listed::All => return Vec::new(),
        Listed::Host(_) => vec![(STORE, Kind::GlobalWrite, "workspace", 4 * count)],
        Listed::Device(_) => vec![
            (CHECK, Kind::GlobalRead, "ranks", 4 * (count + count * count.saturating_sub(1) / 2)),
            (CHECK, Kind::GlobalWrite, "workspace", 4 * count),
        ],
    };
    let copies = [
        (GATHER, Kind::GlobalRead, "a", count * k * p),
        (GATHER, Kind::GlobalRead, "b", n * count * p),
        (GATHER, Kind::GlobalRead, "workspace", 4 * (count * k + n * count)),
        (GATHER, Kind::GlobalWrite, "workspace", (count * k + n * count) * p),
    ];
    of_list.into_iter().chain(copies).collect()
}

fn middles() -> impl Iterator<Item = (usize, [usize; 5], MiddleSpec)> {
    SHAPES.into_iter().enumerate().flat_map(|(i, shape)| {
        (0..4).map(move |j| {
            let rank = shape[3];
            let ranks = [Listed::All, listed(rank, true), Listed::All, listed(rank, false)][j].clone();
            let part = |present| if present { Part::Shared } else { Part::None };
            let core = part(ranks == Listed::All);
            let (scale, gate) = (part((i + j) % 2 == 0), part((i + j / 2) % 2 == 0));
            (4 * i + j, shape, MiddleSpec { ranks, scale, gate, core, after: shape[4] })
        })
    })
}

fn forward<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let p = size_of::<P>();
    for (i, [m, n, k, rank, _], middle) in middles() {
        let spec = Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| {
            (spec.algorithm, spec.targets[0].middle) = (2 + i as i32 % 3, middle.clone());
            spec.arrangement = Arrangement::Orders { orders: i as u32 * 37 % 128, gap: i % 3, offset: i % 2 };
        });
        let (columns, after) = (middle.ranks(rank).len(), if middle.core == Part::None { 0 } else { middle.after });
        let has = Has::new(&middle);
        let times = has.any() * if has.core { after.div_ceil(64) } else { 1 };
        let out = if has.core { after } else { columns };
        let elements = m * columns * times;
        let mut expected = gathered(&middle, rank, [n, k], p);
        expected.extend([
            (MIDDLE, Kind::GlobalRead, "workspace", 4 * elements * (planes(m, columns, k * p) + has.list)),
            (MIDDLE, Kind::GlobalRead, "middle.scale", has.scale * elements * p),
            (MIDDLE, Kind::GlobalRead, "middle.gate", has.gate * elements * 4),
            (MIDDLE, Kind::GlobalRead, "middle.core", after * rank * m.div_ceil(64) * p),
            (MIDDLE, Kind::GlobalWrite, "workspace", has.any() * m * out * 4),
        ]);
        let rows = of_kernels(counted::<T, P>(&spec, i as u64)?);
        let barriers = if has.core { m.div_ceil(64) * after.div_ceil(64) * 2 * rank.div_ceil(16) } else { 0 };
        check_bytes(&rows, &expected)
            .and_then(|()| check_count(&rows, MIDDLE, Kind::Launches, "", has.any()))
            .and_then(|()| check_count(&rows, MIDDLE, Kind::Barriers, "", barriers))
            .map_err(|text| format!("{text} {spec:#?}"))?;
    }
    Ok(())
}

/// Parts of the rows of a sum over them, as a pass over a matrix of so many columns with a factor of this rank has them.
fn parts(m: usize, columns: usize, rank: usize) -> usize {
    let [ranks, tiles] = if rank <= 16 { [16, 4] } else { [64, 2] };
    let blocks = rank.div_ceil(ranks).max(1) * columns.div_ceil(64 * tiles);
    (264 / blocks).clamp(1, m.div_ceil(64))
}

fn backward<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let (t, p) = (size_of::<T>(), size_of::<P>());
    for (i, [m, n, k, rank, _], middle) in middles() {
        let modes = [Mode::None, Mode::Overwrite, Mode::Accumulate];
        let spec = gradient_case::Spec::new(m, n, k, rank, Numbers::Reals).with(|spec| {
            spec.algorithm = 1 + i as i32 % 3;
            let target = &mut spec.targets[0];
            (target.middle, target.h) = (middle.clone(), [Saved::None, Saved::F32, Saved::Own][i % 3]);
            target.middle_modes = [modes[(i + 1) % 3], modes[(i / 2 + 2) % 3], modes[(i / 3 + 1) % 3]];
            target.modes[1] = modes[(i / 5 + 1) % 3];
            spec.weights = (i % 4 < 2).then(|| Weights { offsets: None, values: vec![1.0] });
            spec.arrangement = Arrangement::Orders { orders: i as u32 * 2741, gap: i % 3, offset: i % 2 };
        });
        let case = gradient_case::Case::<T, P>::new(&spec);
        let (result, rows) = counters::count(|| case.run(&Emulator::new(i as u64)));
        result?;
        let rows = of_kernels(rows);

        let has = Has::new(&middle);
        let columns = middle.ranks(rank).len();
        let after = if has.core { middle.after } else { columns };
        let [scale, gate, core] = spec.targets[0].middle_gradients();
        let [of_scale, of_gate, of_core] = [scale, gate, core].map(|mode| usize::from(mode != Mode::None));
        let of_b = usize::from(spec.targets[0].modes[1] != Mode::None);
        // H as it is loaded: 4 bytes for each plane where it was made.
        let (saved, h_bytes) = match spec.targets[0].h {
            Saved::Own => ("saved h", t),
            Saved::F32 => ("saved h", 4),
            Saved::None if spec.algorithm == 1 => ("workspace", 4),
            Saved::None => ("workspace", 4 * planes(m, columns, k * t)),
        };
        let weighs = usize::from(spec.weights.is_some());
        let (elements, core_elements) = (m * columns, after * columns * usize::from(has.core));
        let [ranks_times, after_times] = [columns.div_ceil(64), after.div_ceil(64)];
        let made = has.any() * of_b * if has.core { after_times } else { 1 };
        let of_core_times = of_core * after_times;
        let reads_h = of_scale.max(of_gate);
        let dh_bytes = has.any() * 4 * if has.core { m * after * ranks_times } else { elements };
        let mut expected = gathered(&middle, rank, [n, k], p);
        expected.extend([
            (MIDDLE, Kind::GlobalRead, saved, elements * made * h_bytes),
            (MIDDLE, Kind::GlobalRead, "workspace", 4 * elements * made * has.list),
            (MIDDLE, Kind::GlobalRead, "middle.scale", has.scale * elements * made * p),
            (MIDDLE, Kind::GlobalRead, "middle.gate", has.gate * elements * made * 4),
            (MIDDLE, Kind::GlobalRead, "middle.core", of_b * core_elements * m.div_ceil(64) * p),
            (MIDDLE, Kind::GlobalWrite, "workspace", has.any() * of_b * m * after * 4),
            (GRADIENT, Kind::GlobalRead, "workspace", dh_bytes),
            (GRADIENT, Kind::GlobalRead, "workspace", 4 * elements * has.any() * (has.list + of_scale * weighs)),
            (GRADIENT, Kind::GlobalRead, saved, reads_h * elements * h_bytes),
            (GRADIENT, Kind::GlobalRead, "middle.scale", has.scale * elements * p),
            (GRADIENT, Kind::GlobalRead, "middle.gate", has.gate * elements * 4),
            (GRADIENT, Kind::GlobalRead, "middle.core", core_elements * m.div_ceil(64) * p),
            (GRADIENT, Kind::GlobalRead, "dgate", usize::from(gate == Mode::Accumulate) * elements * 4),
            (GRADIENT, Kind::GlobalWrite, "dgate", of_gate * elements * 4),
            (GRADIENT, Kind::GlobalWrite, "workspace", has.any() * elements * 4),
            (GRADIENT, Kind::GlobalWrite, "workspace", of_scale * parts(m, columns, 0) * columns * 4),
            (CORE, Kind::GlobalRead, "workspace", of_core * 4 * m * after * ranks_times * (1 + weighs)),
            (CORE, Kind::GlobalRead, saved, of_core_times * elements * h_bytes),
            (CORE, Kind::GlobalRead, "middle.scale", of_core_times * has.scale * elements * p),
            (CORE, Kind::GlobalRead, "middle.gate", of_core_times * has.gate * elements * 4),
            (CORE, Kind::GlobalWrite, "workspace", of_core * parts(m, columns, after) * core_elements * 4),
        ]);
        let products = if has.core { m.div_ceil(64) * ranks_times * 2 * after.div_ceil(16) } else { 0 };
        let sums = of_scale * parts(m, columns, 0) * ranks_times;
        let rounds: usize = (0..m.div_ceil(64)).map(|tile| (m - 64 * tile).min(64).div_ceil(16)).sum();
        let of_core_barriers = of_core * ranks_times * after_times * 2 * rounds;
        check_bytes(&rows, &expected)
            .and_then(|()| check_count(&rows, GRADIENT, Kind::Barriers, "", products + sums))
            .and_then(|()| check_count(&rows, CORE, Kind::Barriers, "", of_core_barriers))
            .map_err(|text| format!("{text} {spec:#?}"))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::middle::counts/f32", forward::<f32, f32>);
    trials.add("lora::middle::counts/bf16", forward::<bf16, bf16>);
    trials.add("lora::middle::counts/bf16+f32", forward::<bf16, f32>);
    trials.add("lora::middle::backward::counts/f32", backward::<f32, f32>);
    trials.add("lora::middle::backward::counts/bf16", backward::<bf16, bf16>);
    trials.add("lora::middle::backward::counts/bf16+f32", backward::<bf16, f32>);
}
