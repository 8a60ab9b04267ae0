//! What the kernels of a quantised W read and write, counted by the emulator: the codes once for each tile of rows, and all else as with W in memory.

use half::{bf16, f16};
use peft_kernels::Element;
use peft_kernels::counters::{Kind, Row};

use super::case::{QuantizedCase, QuantizedSpec};
use crate::buffer::Cell;
use crate::lora::case::{BiasSpec, Case, Spec};
use crate::lora::counters::{Bytes, check_bytes, check_count, counted_case};
use crate::numbers::Numbers;
use crate::queues::Trials;

const LISTS: [&str; 4] = ["codes", "absmax", "absmax_codes", "absmax_offset"];
const SLAB: &str = "lora_dequantize_slab";

fn global(row: &&Row) -> bool {
    matches!(row.kind, Kind::GlobalRead | Kind::GlobalWrite | Kind::GlobalAtomic | Kind::MatrixInstructions)
}

/// Of accesses to all but W, and of products: operand, kind, bytes and count.
fn beside_w(rows: &[Row], kernel: &str) -> Vec<(String, i32, u64, u64)> {
    let of_kernel = rows.iter().filter(|row| row.kernel() == kernel).filter(global);
    let others = of_kernel.filter(|row| row.operand() != "w" && !LISTS.contains(&row.operand()));
    let mut list: Vec<_> =
        others.map(|row| (row.operand().to_owned(), row.kind as i32, row.bytes, row.count)).collect();
    list.sort();
    list
}

/// A case of one target whose codes and rows are whole chunks, its W quantised as bitsandbytes has it.
fn case<T: Element + Cell, P: Element + Cell>(
    m: usize,
    [n, k]: [usize; 2],
    algorithm: i32,
    nested: bool,
) -> Case<T, P> {
    let spec = Spec::new(m, n, k, 5, Numbers::Reals).with(|spec| {
        spec.algorithm = algorithm;
        spec.targets[0].bias = BiasSpec::Shared(1);
    });
    let mut case = Case::<T, P>::new(&spec);
    let target = &mut case.targets[0];
    target.quantized = target.w.as_mut().map(|w| QuantizedCase::new(&QuantizedSpec::nf4(nested), w));
    case
}

fn decode<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let kernels = [
        (6, "lora_forward_quantized_decode", 4, "lora_forward_mma_decode", 16),
        (5, "lora_forward_quantized_small", 3, "lora_forward_mma_small", 64),
    ];
    for (algorithm, kernel, of_dense, dense_kernel, tile_rows) in kernels {
        for (i, [m, n, k]) in [[1, 40, 264], [16, 100, 512], [64, 33, 2112], [70, 70, 128]].into_iter().enumerate() {
            let nested = i % 2 == 1;
            let mut case = case::<T, P>(m, [n, k], algorithm, nested);
            let rows = counted_case(&case, i as u64)?;
            let times = m.div_ceil(tile_rows);
            // Of every 16 bytes of W the scale.
            let chunks = times * n * k * size_of::<T>() / 16;
            let of = |operand: &str, kind| {
                let found = rows.iter().find(|r| r.kernel() == kernel && r.kind == kind && r.operand() == operand);
                found.map_or(0, |row| row.bytes as usize)
            };
            let expected = [
                ("codes", times * n * k / 2),
                ("absmax", 4 * chunks),
                ("absmax_codes", if nested { chunks } else { 0 }),
                ("w", 0),
            ];
            for (operand, bytes) in expected {
                if of(operand, Kind::GlobalRead) != bytes {
                    let got = of(operand, Kind::GlobalRead);
                    return Err(format!("{kernel}: {got} bytes of {operand}, expected {bytes} {:#?}", case.spec));
                }
            }
            let got = beside_w(&rows, kernel);
            case.targets[0].quantized = None;
            case.spec.algorithm = of_dense;
            let expected = beside_w(&counted_case(&case, i as u64)?, dense_kernel);
            if got != expected {
                return Err(format!("{got:?}, of a W in memory {expected:?} {:#?}", case.spec));
            }
        }
    }
    Ok(())
}

/// Where rows are many, codes are read once, and W is written and read as it would be in memory.
fn slabs<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let t = size_of::<T>();
    for (i, [m, n, k]) in [[65, 300, 72], [130, 40, 520]].into_iter().enumerate() {
        let nested = i % 2 == 1;
        let mut case = case::<T, P>(m, [n, k], 3, nested);
        case.spec.slab_bytes = 1;
        let rows = counted_case(&case, i as u64)?;
        let chunks = n * k * t / 16;
        let of_slab: Vec<Row> = rows.iter().copied().filter(|row| row.kernel() == SLAB).collect();
        // The offset, by every thread of a launch.
        let offsets = of_slab.iter().find(|row| row.operand() == "absmax_offset").map_or(0, |row| row.bytes as usize);
        let expected: [Bytes; 5] = [
            (SLAB, Kind::GlobalRead, "codes", n * k / 2),
            (SLAB, Kind::GlobalRead, "absmax", 4 * chunks),
            (SLAB, Kind::GlobalRead, "absmax_codes", if nested { chunks } else { 0 }),
            (SLAB, Kind::GlobalRead, "absmax_offset", offsets),
            (SLAB, Kind::GlobalWrite, "workspace", n * k * t),
        ];
        let launches = n.div_ceil(256);
        check_bytes(&of_slab, &expected)
            .and_then(|()| check_count(&rows, SLAB, Kind::Launches, "", launches))
            .and_then(|()| check_count(&rows, "lora_forward_mma_small", Kind::Launches, "", launches))
            .map_err(|text| format!("{text} {:#?}", case.spec))?;
        if nested != (offsets > 0) || offsets > 4 * 256 * launches * (chunks / 1024 + 1) {
            return Err(format!("{offsets} bytes of the offset {:#?}", case.spec));
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::quantized::counters/f32", decode::<f32, f32>);
    trials.add("lora::quantized::counters/bf16", decode::<bf16, bf16>);
    trials.add("lora::quantized::counters/f16+f32", decode::<f16, f32>);
    trials.add("lora::quantized::slab_counters/f32", slabs::<f32, f32>);
    trials.add("lora::quantized::slab_counters/bf16", slabs::<bf16, bf16>);
}
