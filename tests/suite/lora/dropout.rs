//! Dropout and the intermediate that is saved: the generator, and forward with either on every queue and kernel.

use peft_kernels::Element;
use peft_kernels::lora::Dropout;

use super::case::{AdapterSpec, Arrangement, BaseSpec, BiasSpec, RowSpec, Saved, Spec, TargetSpec};
use super::forward::check_everywhere;
use crate::buffer::Cell;
use crate::numbers::Numbers;
use crate::queues::Trials;

/// Elements are kept as often as they should be, in every column of a word quad, and another seed, offset, row or column is another draw.
fn generator() -> Result<(), String> {
    for (p, seed, offset) in [(0.0, 1, 2), (0.1, 1 << 40, 0), (0.5, 3, 1 << 33), (0.9, 0, 7)] {
        let dropout = Dropout::new(p, seed, offset).expect("a probability");
        let draws = |dropout: Dropout| (0..64usize).map(move |i| dropout.keeps(i * 1000, i)).collect::<Vec<_>>();
        for column in 0..4 {
            let rows = 4096;
            let kept = (0..rows).filter(|&row| dropout.keeps(row, 4 * (row % 5) + column)).count() as f64;
            let (expected, deviation) = (rows as f64 * (1.0 - f64::from(p)), (rows as f64).sqrt() / 2.0);
            if (kept - expected).abs() > 4.0 * deviation {
                return Err(format!("p = {p}, column {column}: {kept} of {rows} kept"));
            }
        }
        for other in [Dropout::new(p, seed ^ 1 << 35, offset), Dropout::new(p, seed, offset ^ 1 << 35)] {
            if p > 0.0 && draws(other.expect("a probability")) == draws(dropout) {
                return Err(format!("p = {p}: another seed or offset draws the same"));
            }
        }
    }
    // The words of Random123's known answers, of which column / 4, row, offset and seed are the counter and the key: 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8.
    for (column, fraction) in [0.399_046, 0.880_521, 0.735_713, 0.605_482].into_iter().enumerate() {
        for (p, expected) in [(fraction - 1e-5, true), (fraction + 1e-5, false)] {
            if Dropout::new(p as f32, 0, 0).expect("a probability").keeps(0, column) != expected {
                return Err(format!("word {column} is not {fraction} of 2^32"));
            }
        }
    }
    for p in [-0.1, 1.0, 1.5, f32::NAN, f32::INFINITY] {
        let text = Dropout::new(p, 0, 0).expect_err("no probability").to_string();
        if text != format!("lora::Dropout::new: the probability is {p}, expected at least 0 and below 1") {
            return Err(text);
        }
    }
    Ok(())
}

/// Every shape of a tile's edge, with H saved in either type or not.
fn forward<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let saved = [Saved::None, Saved::Own, Saved::F32];
    for (i, (m, n, k, rank)) in
        [(1, 7, 13, 3), (17, 31, 33, 8), (65, 9, 70, 20), (3, 5, 530, 2), (5, 8, 16, 0), (0, 3, 4, 2), (70, 3, 0, 5)]
            .into_iter()
            .enumerate()
    {
        for (j, p) in [0.0, 0.25, 0.5].into_iter().enumerate() {
            let numbers = if p == 0.25 { Numbers::Reals } else { Numbers::Integers };
            check_everywhere::<T, P>(&Spec::new(m, n, k, rank, numbers).with(|spec| {
                (spec.dropout, spec.saved) = (Some((p, 11, (i * 3 + j) as u64)), saved[(i + j) % 3]);
                spec.arrangement = if j == 0 { Arrangement::Plain } else { Arrangement::Random };
            }))?;
        }
    }
    Ok(())
}

/// Several targets, batches, and rows that choose from tables: rows of all batches count on, and what no adapter has is not written.
fn tables<T: Element + Cell, P: Element + Cell>() -> Result<(), String> {
    let table = |n, base, ranks: &[usize]| TargetSpec {
        base,
        adapters: AdapterSpec::Table(ranks.to_vec()),
        bias: BiasSpec::Shared(1),
        ..TargetSpec::dense(n, 0)
    };
    let index = |rows: usize| RowSpec::Index((0..rows).map(|row| row as i32 * 7 % 4 - 1).collect());
    let segments = RowSpec::Segments(vec![(1, 5, Some(1)), (5, 6, None), (9, 30, Some(0)), (33, 90, Some(2))]);
    for (i, rows) in [index(40), segments, RowSpec::Same].into_iter().enumerate() {
        let mut targets = vec![table(9, BaseSpec::Dense, &[3, 0, 18]), table(5, BaseSpec::InY, &[1, 2, 4])];
        if rows == RowSpec::Same {
            targets = vec![TargetSpec::dense(9, 3), TargetSpec::dense(5, 20)];
        }
        for saved in [Saved::None, Saved::Own, Saved::F32] {
            check_everywhere::<T, P>(&Spec::new(20, 0, 26, 0, Numbers::Reals).with(|spec| {
                (spec.batches, spec.rows, spec.targets) = (2, rows.clone(), targets.clone());
                (spec.saved, spec.arrangement, spec.seed) = (saved, Arrangement::Random, i as u64);
                spec.dropout = (saved != Saved::None).then_some((0.3, 5, 6));
            }))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::dropout::generator", generator);
    for_types_and_devices!(trials, "lora::dropout::forward", forward);
    for_types_and_devices!(trials, "lora::dropout::tables", tables);
}
