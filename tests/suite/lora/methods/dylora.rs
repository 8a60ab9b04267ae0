//! DyLoRA (M. Valipour et al., *DyLoRA: Parameter-Efficient Tuning of Pretrained Models using Dynamic Search-Free Low-Rank Adaptation*, EACL 2023).
//!
//! Every step draws b and uses rows ..=b of A and columns ..=b of B, views whose rows stay as far apart as those of all R. The scale is α/(b + 1), not α/R. Frozen, row b of A and column b of B alone have
//! gradients, while x's is of all b + 1 ranks.

use peft_kernels::lora::{self, Backward, BackwardTarget, Forward, Gradient, Target};
use peft_kernels::{HostQueue, Workspace};

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
        let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
        lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        near("y", &y, &x.times(&w.plus(&delta).t()))?;
        if last + 1 < RANK {
            let of_all = delta.scaled((last + 1) as f64 / RANK as f64);
            apart("the scale of all ranks", &y, &x.times(&w.plus(&of_all).t()))?;
        }

        // x's gradient is of every rank that was used ...
        let mut dx = Matrix::zeros(M, K);
        let target = BackwardTarget::new(dy.view()).dense(w.view());
        let target = target.adapter(rows_of_a(0..last + 1)?, columns_of_b(0..last + 1)?, scale);
        let call = Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
        let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        near("dX", &dx, &dy.times(&w.plus(&delta)))?;

        // ... and that of the factors of the last alone: views of one row and one column, of gradients as large as the factors.
        let untouched = 7.0;
        let mut da = Matrix::from(RANK, K, |_, _| untouched);
        let mut db = Matrix::from(N, RANK, |_, _| untouched);
        let row_of_a = da.view_mut().split_rows(last).and_then(|(_, rows)| rows.split_rows(1)).map_err(text)?.0;
        let column_of_b = db.view_mut().split_columns(last).and_then(|(_, rows)| rows.split_columns(1));
        let column_of_b = column_of_b.map_err(text)?.0;
        let target = BackwardTarget::new(dy.view())
            .adapter(rows_of_a(last..last + 1)?, columns_of_b(last..last + 1)?, scale)
            .a_gradient(Gradient::overwrite(row_of_a))
            .b_gradient(Gradient::overwrite(column_of_b));
        let call = Backward::new(x.view()).target(target);
        let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        let dw = dy.t().times(&x).scaled(scale.into());
        let (of_a, of_b) = (b.t().times(&dw), dw.times(&a.t()));
        let frozen = |i: usize, value: f64| if i == last { value } else { untouched };
        near("dA", &da, &Matrix::from(RANK, K, |i, j| frozen(i, of_a.at(i, j))))?;
        near("dB", &db, &Matrix::from(N, RANK, |i, j| frozen(j, of_b.at(i, j))))?;
    }
    Ok(())
}
