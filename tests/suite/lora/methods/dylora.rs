//! DyLoRA (M. Valipour et al., *DyLoRA: Parameter-Efficient Tuning of Pretrained Models using Dynamic Search-Free Low-Rank Adaptation*, EACL 2023).
//!
//! Every step draws b and uses rows ..=b of A and columns ..=b of B, views whose rows stay as far apart as those of all R. The scale is α/(b + 1), not α/R.
//! Frozen, row b of A and column b of B alone have gradients, while x's is of all b + 1 ranks; not frozen, all b + 1 have. A merged weight is of the rank that
//! is chosen, with its scale.

use peft_kernels::HostQueue;
use peft_kernels::lora::{self, Adapter, Backward, BackwardTarget, Forward, Gradient, Merge, Target};

use super::layer::{run_backward, run_forward};
use super::matrix::{Matrix, apart, near};
use super::{Outcome, text};

const M: usize = 11;
const N: usize = 9;
const K: usize = 15;
const RANK: usize = 6;
const ALPHA: f64 = 12.0;

pub fn dylora<Q: HostQueue>(queue: &Q) -> Outcome {
    let (x, w, dy) =
        (Matrix::random("dylora x", M, K), Matrix::random("dylora w", N, K), Matrix::random("dylora dy", M, N));
    let (a, b) = (Matrix::random("dylora a", RANK, K), Matrix::random("dylora b", N, RANK));
    for last in 0..RANK {
        let scale = (ALPHA / (last + 1) as f64) as f32;
        let used: Vec<usize> = (0..=last).collect();
        let (part_a, part_b) = (a.select_rows(&used), b.select_columns(&used));
        let delta = part_b.times(&part_a).scaled(scale.into());
        let rows_of_a = |range| a.view::<Q>().narrow(0, range).map_err(text);
        let columns_of_b = |range| b.view::<Q>().narrow(1, range).map_err(text);

        let mut y = Matrix::zeros(M, N);
        let target = Target::dense(w.view(), y.view_mut());
        let target = target.adapter(rows_of_a(0..last + 1)?, columns_of_b(0..last + 1)?, scale);
        let call = Forward::new(x.view()).target(target);
        run_forward(queue, call)?;
        near("y", &y, &x.times(&w.plus(&delta).t()))?;
        if last + 1 < RANK {
            let of_all = delta.scaled((last + 1) as f64 / RANK as f64);
            apart("the scale of all ranks", &y, &x.times(&w.plus(&of_all).t()))?;
        }

        let mut merged = w.clone();
        let adapter = Adapter::new(rows_of_a(0..last + 1)?, columns_of_b(0..last + 1)?, scale);
        lora::merge(queue, Merge::in_place(merged.view_mut()).adapter(adapter)).map_err(text)?;
        near("the merged weight", &merged, &w.plus(&delta))?;

        // x's gradient is of every rank that was used ...
        let mut dx = Matrix::zeros(M, K);
        let target = BackwardTarget::new(dy.view()).dense(w.view());
        let target = target.adapter(rows_of_a(0..last + 1)?, columns_of_b(0..last + 1)?, scale);
        let call = Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
        run_backward(queue, call)?;
        near("dX", &dx, &dy.times(&w.plus(&delta)))?;

        // ... and that of the factors of the last alone, or of all that were used: views of those rows and columns, of gradients as large as the factors.
        let untouched = 7.0;
        let dw = dy.t().times(&x).scaled(scale.into());
        let (of_a, of_b) = (b.t().times(&dw), dw.times(&a.t()));
        for first in [last, 0] {
            let mut da = Matrix::from(RANK, K, |_, _| untouched);
            let mut db = Matrix::from(N, RANK, |_, _| untouched);
            let trained = last + 1 - first;
            let rows = da.view_mut().split_rows(first).and_then(|(_, rows)| rows.split_rows(trained));
            let columns = db.view_mut().split_columns(first).and_then(|(_, columns)| columns.split_columns(trained));
            let target = BackwardTarget::new(dy.view())
                .adapter(rows_of_a(first..last + 1)?, columns_of_b(first..last + 1)?, scale)
                .a_gradient(Gradient::overwrite(rows.map_err(text)?.0))
                .b_gradient(Gradient::overwrite(columns.map_err(text)?.0));
            run_backward(queue, Backward::new(x.view()).target(target))?;
            let of = |i: usize, value: f64| if (first..=last).contains(&i) { value } else { untouched };
            near("dA", &da, &Matrix::from(RANK, K, |i, j| of(i, of_a.at(i, j))))?;
            near("dB", &db, &Matrix::from(N, RANK, |i, j| of(j, of_b.at(i, j))))?;
        }
    }
    Ok(())
}
