//! What the plain kernels read and write, counted by the emulator: of a cotangent or a gradient that is not there, nothing.

use half::bf16;
use peft_kernels::Emulator;
use peft_kernels::counters::{self, Kind};

use super::case::{Case, Spec};
use crate::lora::counters::{Bytes, check_bytes, check_count};
use crate::lora::gradient_case::Mode;
use crate::numbers::Numbers;
use crate::queues::Trials;

const SHRINK: &str = "lora_shrink_simt";
const ROWS: &str = "lora_input_gradient_simt";
const OUTER: &str = "lora_outer_simt";
const ADD: &str = "lora_add_parts";

const M: usize = 5;
const N: usize = 66;
const K: usize = 10;
const RANK: usize = 9;

/// Bytes of an element of x, dY, W and of a factor.
const T: usize = 2;
const P: usize = 4;

/// Which intermediates a call needs, and how many launches its passes are: 0 or 1 each.
struct Needs {
    h1_x: usize,
    h1_a: usize,
    h0: usize,
    d0: usize,
    d1: usize,
}

impl Needs {
    /// H1 = u_x·Aᵀ + x·u_aᵀ is for dY and B, H0 = x·Aᵀ for dY beside u_b; D0 = dY·B for x beside u_a and A beside u_x, D1 = dY·u_b for x and A.
    fn new([x, a, b]: [bool; 3], [of_dy, of_x, of_a, of_b]: [bool; 4]) -> Self {
        Self {
            h1_x: usize::from(x && (of_dy || of_b)),
            h1_a: usize::from(a && (of_dy || of_b)),
            h0: usize::from(b && of_dy),
            d0: usize::from((a && of_x) || (x && of_a)),
            d1: usize::from(b && (of_x || of_a)),
        }
    }
}

fn expected(cotangents: [bool; 3], asked: [bool; 4]) -> Vec<Bytes> {
    let Needs { h1_x, h1_a, h0, d0, d1 } = Needs::new(cotangents, asked);
    let [x, a, b] = cotangents.map(usize::from);
    let [of_dy, of_x, of_a, of_b] = asked.map(usize::from);
    let h1 = x.max(a);
    // 8 ranks a pass over a row, and 64 × 64 elements a tile, of which 16 threads read a row of what has rank columns.
    let passes = RANK.div_ceil(8);
    let branch = |columns: usize| 4 * 16 * M * RANK * columns.div_ceil(64);
    vec![
        (SHRINK, Kind::GlobalRead, "ux", h1_x * M * K * passes * T),
        (SHRINK, Kind::GlobalRead, "x", (h1_a + h0) * M * K * passes * T),
        (SHRINK, Kind::GlobalRead, "dy", (d0 + d1) * M * N * passes * T),
        (SHRINK, Kind::GlobalRead, "a", (h1_x + h0) * M * K * RANK * P),
        (SHRINK, Kind::GlobalRead, "ua", h1_a * M * K * RANK * P),
        (SHRINK, Kind::GlobalRead, "b", d0 * M * N * RANK * P),
        (SHRINK, Kind::GlobalRead, "ub", d1 * M * N * RANK * P),
        (SHRINK, Kind::GlobalWrite, "workspace", (h1_x + h1_a + h0 + d0 + d1) * M * RANK * 4),
        (ROWS, Kind::GlobalRead, "ux", of_dy * x * M * K * N.div_ceil(64) * T),
        (ROWS, Kind::GlobalRead, "w", of_dy * x * N * K * T),
        (ROWS, Kind::GlobalRead, "b", of_dy * h1 * M * N * RANK * P),
        (ROWS, Kind::GlobalRead, "ub", of_dy * b * M * N * RANK * P),
        (ROWS, Kind::GlobalRead, "a", of_x * b * M * K * RANK * P),
        (ROWS, Kind::GlobalRead, "ua", of_x * a * M * K * RANK * P),
        (ROWS, Kind::GlobalRead, "workspace", of_dy * (h1 + b) * branch(N) + of_x * (a + b) * branch(K)),
        (ROWS, Kind::GlobalWrite, "ddy", of_dy * M * N * T),
        (ROWS, Kind::GlobalWrite, "dx", of_x * M * K * T),
        // Lanes lie along columns, each of which reads all ranks of a row.
        (OUTER, Kind::GlobalRead, "ux", of_a * x * M * K * passes * T),
        (OUTER, Kind::GlobalRead, "x", of_a * b * M * K * passes * T),
        (OUTER, Kind::GlobalRead, "dy", of_b * h1 * M * N * passes * T),
        (OUTER, Kind::GlobalRead, "workspace", (of_a * (x + b) * K + of_b * h1 * N) * M * RANK * 4),
        (OUTER, Kind::GlobalWrite, "workspace", (of_a * (x + b) * K + of_b * h1 * N) * RANK * 4),
        // Both terms of H1, and one part of each pass.
        (ADD, Kind::GlobalRead, "workspace", h1_x * h1_a * 2 * M * RANK * 4),
        (ADD, Kind::GlobalRead, "workspace", (of_a * (x + b) * K + of_b * h1 * N) * RANK * 4),
        (ADD, Kind::GlobalWrite, "workspace", h1_x * h1_a * M * RANK * 4),
        (ADD, Kind::GlobalWrite, "da", of_a * RANK * K * P),
        (ADD, Kind::GlobalWrite, "db", of_b * N * RANK * P),
    ]
}

/// Every subset of the cotangents with every subset of the gradients.
fn counts() -> Result<(), String> {
    for i in 0..128usize {
        let cotangents = std::array::from_fn(|axis| i >> axis & 1 == 1);
        let asked = std::array::from_fn(|axis| i >> (3 + axis) & 1 == 1);
        let spec = Spec::new(M, N, K, RANK, Numbers::Reals).with(|spec| {
            (spec.cotangents, spec.algorithm, spec.seed) = (cotangents, 1, i as u64);
            spec.modes = asked.map(|asked| if asked { Mode::Overwrite } else { Mode::None });
        });
        let case = Case::<bf16, f32>::new(&spec);
        let (outcome, rows) = counters::count(|| case.run(&Emulator::new(i as u64)));
        outcome?;
        let Needs { h1_x, h1_a, h0, d0, d1 } = Needs::new(cotangents, asked);
        let ([x, a, b], [of_dy, of_x, of_a, of_b]) = (cotangents.map(usize::from), asked.map(usize::from));
        // Of one matrix all that is needed is made by one launch.
        let launches = [
            (SHRINK, h1_x + h1_a.max(h0) + d0.max(d1)),
            (ROWS, of_dy + of_x),
            (OUTER, of_a * (x + b) + of_b * x.max(a)),
            (ADD, h1_x * h1_a + of_a + of_b),
        ];
        let check = || {
            check_bytes(&rows, &expected(cotangents, asked))?;
            launches.iter().try_for_each(|&(kernel, count)| check_count(&rows, kernel, Kind::Launches, "", count))
        };
        check().map_err(|text| format!("{text} {spec:#?}"))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::double_backward::counts", counts);
}
