//! LoLDU (Y. Shi et al., *LoLDU: Low-Rank Adaptation via Lower-Diag-Upper Decomposition for Parameter-Efficient Fine-Tuning*, 2024).
//!
//! W = P·L·diag(z)·U by elimination with row pivots, L with ones on its diagonal and U with ones on its own. Of the first r pivots, which are not the largest
//! numbers: `y = x·W'ᵀ + f·((x·U_rᵀ) ⊙ z)·(P·L_r)ᵀ` with W' = W − f·P·L_r·diag(z₀)·U_r, so that the layer begins as it was. z alone is trained: `dz_j = f·Σ
//! H_j·(dY·P·L_r)_j`, and of what backward needs H is kept. P·L_r is made once, P a list of rows. A pivot of 0 divides nothing.

use peft_kernels::HostQueue;

use super::Outcome;
use super::layer::{Layer, Parts, product, scale_of};
use super::matrix::{Matrix, apart, near};

const M: usize = 11;
const N: usize = 9;
const K: usize = 12;
const RANK: usize = 5;

/// P·L [n, n], z and U [n, k] of a matrix [n, k] with n ≤ k.
fn decompose(w: &Matrix) -> (Matrix, Vec<f32>, Matrix) {
    let mut rest: Vec<Vec<f64>> = (0..N).map(|i| (0..K).map(|j| w.at(i, j)).collect()).collect();
    let mut lower = vec![vec![0.0; N]; N];
    let mut rows: Vec<usize> = (0..N).collect();
    for step in 0..N {
        let pivot = (step..N).max_by(|&a, &b| rest[a][step].abs().total_cmp(&rest[b][step].abs())).expect("a row");
        rest.swap(step, pivot);
        lower.swap(step, pivot);
        rows.swap(step, pivot);
        lower[step][step] = 1.0;
        for i in step + 1..N {
            let factor = if rest[step][step] == 0.0 { 0.0 } else { rest[i][step] / rest[step][step] };
            lower[i][step] = factor;
            let from = rest[step].clone();
            rest[i].iter_mut().zip(from).for_each(|(to, from)| *to -= factor * from);
        }
    }
    let z: Vec<f32> = (0..N).map(|i| rest[i][i] as f32).collect();
    // Row i of L is row rows[i] of W: a gather, no product with a matrix P.
    let place = |row: usize| rows.iter().position(|&of| of == row).expect("every row once");
    let permuted = Matrix::from(N, N, |i, j| lower[place(i)][j]);
    let upper = Matrix::from(N, K, |i, j| if rest[i][i] == 0.0 { rest[i][j] } else { rest[i][j] / rest[i][i] });
    (permuted, z, upper)
}

pub fn loldu<Q: HostQueue>(queue: &Q) -> Outcome {
    let (x, dy) = (Matrix::random("loldu x", M, K), Matrix::random("loldu dy", M, N));
    let mut w = Matrix::random("loldu w", N, K);
    // Small numbers first: of the pivots the first are not the largest.
    (0..N * K).filter(|i| i % K < 3).for_each(|i| w.values[i] *= 0.125);
    let (lower, z, upper) = decompose(&w);
    near("W", &lower.times(&Matrix::diagonal(&z)).times(&upper), &w)?;
    let largest_first = |list: &[f32]| list.windows(2).all(|pair| pair[0].abs() >= pair[1].abs());
    assert!(!largest_first(&z), "{z:?}");

    let first: Vec<usize> = (0..RANK).collect();
    let (lower, upper) = (lower.select_columns(&first), upper.select_rows(&first));
    let z = Matrix::from(1, RANK, |_, j| z[j].into());
    let f = 1.5;
    let part = |z: &Matrix| lower.times(&Matrix::diagonal(&z.values)).times(&upper).scaled(f);
    let rest = w.plus_scaled(-1.0, &part(&z));
    let layer = Layer { w: rest, a: upper.clone(), b: lower.clone(), scale: f as f32 };
    near("the first step", &layer.forward(queue, &x, Some(scale_of(&z)))?, &x.times(&w.t()))?;

    let trained = z.plus(&Matrix::random("loldu step", 1, RANK));
    let y = layer.forward(queue, &x, Some(scale_of(&trained)))?;
    let weight = layer.w.plus(&part(&trained));
    near("y", &y, &x.times(&weight.t()))?;
    near("merged", &layer.merged(queue, scale_of(&trained))?, &weight)?;
    near("the merged layer", &product(queue, &x, &layer.merged(queue, scale_of(&trained))?)?, &y)?;
    // What other beginnings do: of z = 1 over the same W' the layer is not what it was.
    let ones = Matrix::from(1, RANK, |_, _| 1.0);
    apart("ones", &layer.forward(queue, &x, Some(scale_of(&ones)))?, &x.times(&w.t()))?;

    let parts = Parts { scale: true, gate: false, core: false };
    let gradients = layer.backward(queue, &x, &dy, Some((scale_of(&trained), parts)))?;
    let (h, q) = (x.times(&upper.t()), dy.times(&lower));
    let of_rank = |j: usize| (0..M).map(|i| h.at(i, j) * q.at(i, j)).sum::<f64>() * f;
    near("dz", &gradients.scale, &Matrix::from(1, RANK, |_, j| of_rank(j)))?;
    near("dX", &gradients.x, &dy.times(&weight))?;
    // Of what backward needs H alone is kept, as it is before z: x may be gone.
    let [_, kept] = layer.forward_with_h(queue, &x, scale_of(&trained))?;
    near("H, before z", &kept, &h)?;
    let of_h = layer.backward_of_h(queue, &kept, &dy, scale_of(&trained), parts)?;
    near("dz of a saved H", &of_h.scale, &gradients.scale)?;
    near("dX of a saved H", &of_h.x, &gradients.x)?;

    // A column of zeros: a pivot of 0, and still W.
    (0..N).for_each(|i| w.values[i * K + 1] = 0.0);
    let (lower, z, upper) = decompose(&w);
    assert!(z.contains(&0.0) && upper.values.iter().all(|value| value.is_finite()));
    let kept = Matrix::from(N, N, |i, j| f64::from(i == j) * if z[i] == 0.0 { 1.0 } else { z[i].into() });
    near("W with a pivot of 0", &lower.times(&kept).times(&upper), &w)
}
