//! Maestro (S. Horváth et al., *Maestro: Uncovering Low-Rank Structures via Trainable Decomposition*, ICML 2024).
//!
//! W = U·Vᵀ, of all ranks at first, with the roots of the singular values on either side. A step's loss is that of the full layer, and that of its first b live
//! ranks, b drawn anew, without a factor for those that are left out; and a group lasso over suffixes, which orders the ranks. Those whose importance, the
//! product of two suffix norms, is below a threshold are dropped, any of them: what is left is a list, which needs no copies of the factors. A layer whose
//! factors have more numbers than W is made dense again.

use peft_kernels::lora::{Backward, BackwardTarget, Forward, Gradient, Middle, Target};
use peft_kernels::{HostQueue, Vector};

use super::Outcome;
use super::layer::{Layer, product, run_backward, run_forward};
use super::matrix::{Elements, Matrix, apart, differences, near, singular};

const M: usize = 9;
const N: usize = 7;
const K: usize = 11;
/// Of the lasso.
const LAMBDA: f64 = 5e-3;

/// The layer of some ranks, without a base.
fn forward<Q: HostQueue>(queue: &Q, x: &Matrix, v: &Matrix, u: &Matrix, middle: Middle<'_, f32, Q>) -> Outcome<Matrix> {
    let mut y = Matrix::zeros(M, N);
    let target = Target::branch_only(y.view_mut()).adapter(v.view(), u.view(), 1.0).middle(middle);
    run_forward(queue, Forward::new(x.view()).target(target))?;
    Ok(y)
}

/// The gradients of V and U by a step of some ranks, added to what there is.
fn add_gradients<Q: HostQueue>(
    queue: &Q,
    [x, dy]: [&Matrix; 2],
    [v, u]: [&Matrix; 2],
    ranks: &[u32],
    [dv, du]: [&mut Matrix; 2],
) -> Outcome {
    let target = BackwardTarget::new(dy.view())
        .adapter(v.view(), u.view(), 1.0)
        .middle(Middle::new().ranks(ranks))
        .a_gradient(Gradient::accumulate(dv.view_mut()))
        .b_gradient(Gradient::accumulate(du.view_mut()));
    run_backward(queue, Backward::new(x.view()).target(target))
}

/// For each rank the root of the sum of squares from it on.
fn suffix_norms(norms: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sums: Vec<f64> = norms.map(|norm| norm * norm).collect();
    for j in (1..sums.len()).rev() {
        sums[j - 1] += sums[j];
    }
    sums.into_iter().map(f64::sqrt).collect()
}

/// Those of a factor's ranks, its rows.
fn suffixes(rows: usize, columns: usize, at: &Elements) -> Vec<f64> {
    suffix_norms((0..rows).map(|j| (0..columns).map(|k| at(j, k).powi(2)).sum::<f64>().sqrt()))
}

/// The gradient of a factor's part of the lasso, `λ·Σᵢ norm of the ranks from i on`: rank j is in all suffixes up to its own. One without a norm has no
/// direction.
fn lasso_gradient(factor: &Matrix) -> Matrix {
    let norms = suffixes(factor.rows, factor.columns, &|j, k| factor.at(j, k));
    let inverse = |j: usize| norms[..=j].iter().map(|&norm| if norm > 0.0 { 1.0 / norm } else { 0.0 }).sum::<f64>();
    Matrix::from(factor.rows, factor.columns, |j, k| LAMBDA * inverse(j) * factor.at(j, k))
}

/// Whether a layer of [n, k] and this rank is turned back.
fn is_dense(n: usize, k: usize, rank: usize) -> bool {
    (n + k) * rank > n * k
}

fn lasso() -> Outcome {
    // Ranks of norms 3, 4, 0: suffixes of 5, 4 and 0.
    let v = Matrix::list(3, &[3.0, 0.0, 0.0, 4.0, 0.0, 0.0]);
    assert_eq!(suffixes(3, 2, &|j, k| v.at(j, k)), [5.0, 4.0, 0.0]);
    // 3/5 in the first, 4·(1/5 + 1/4) in the second.
    near("the lasso by hand", &lasso_gradient(&v), &Matrix::list(3, &[0.6, 0.0, 0.0, 1.8, 0.0, 0.0]).scaled(LAMBDA))?;
    let factor = Matrix::random("maestro lasso", N, K).scaled(0.25);
    let difference = differences(&factor, &|at| suffixes(N, K, at).iter().sum::<f64>());
    near("the lasso", &lasso_gradient(&factor).scaled(1.0 / LAMBDA), &difference)
}

pub fn maestro<Q: HostQueue>(queue: &Q) -> Outcome {
    lasso()?;
    let (x, dy) = (Matrix::random("maestro x", M, K), Matrix::random("maestro dy", M, N));
    // Of rank 5 at most, so that some of the N ranks say nothing.
    let w = Matrix::random("maestro left", N, 5).times(&Matrix::random("maestro right", 5, K)).scaled(0.5);
    let (left, s, right) = singular(&w.t());
    let roots = Matrix::diagonal(&s.iter().map(|s| s.sqrt()).collect::<Vec<_>>());
    let (v, mut u) = (left.times(&roots).t(), right.times(&roots));
    let all: Vec<u32> = (0..N as u32).collect();
    let squares = Matrix::diagonal(&s);
    near("roots at U", &u.t().times(&u), &squares)?;
    near("roots at V", &v.times(&v.t()), &squares)?;
    near("all ranks", &forward(queue, &x, &v, &u, Middle::new())?, &x.times(&w.t()))?;

    // Ordered dropout: a prefix of what lives, and no k/b.
    for width in 1..=N {
        let y = forward(queue, &x, &v, &u, Middle::new().ranks(&all[..width]))?;
        let used: Vec<usize> = (0..width).collect();
        let of_prefix = x.times(&u.select_columns(&used).times(&v.select_rows(&used)).t());
        near("a prefix", &y, &of_prefix)?;
        if width < 5 {
            apart("a prefix made larger", &y, &of_prefix.scaled(N as f64 / width as f64))?;
        }
    }

    // A rank in the middle says nothing any more, and the last ones never did.
    (0..N).for_each(|i| u.values[i * N + 2] = 0.0);
    let norms = |of: &Matrix| suffixes(of.rows, of.columns, &|j, k| of.at(j, k));
    let (of_u, of_v) = (norms(&u.t()), norms(&v));
    assert!(of_u.windows(2).all(|pair| pair[0] >= pair[1]));
    // By suffixes a rank in the middle is as important as those behind it; by its own norm it goes.
    let important = |j: usize| of_u[j] * of_v[j] >= 1e-5 && u.t().select_rows(&[j]).norm() > 0.0;
    let live: Vec<i32> = (0..N).filter(|&j| important(j)).map(|j| j as i32).collect();
    assert_eq!(live, [0, 1, 3, 4]);
    let listed = || Middle::new().ranks_on_device(Vector::whole(&live));
    let y = forward(queue, &x, &v, &u, listed())?;
    near("the live ranks", &y, &forward(queue, &x, &v, &u, Middle::new())?)?;

    // Backward of a step that uses the first three of them, which are no prefix of all: the others' gradients are not touched.
    let used: Vec<u32> = live[..3].iter().map(|&j| j as u32).collect();
    assert_eq!(used, [0, 1, 3]);
    let before = 3.0;
    let (mut dv, mut du) = (Matrix::from(N, K, |_, _| before), Matrix::from(N, N, |_, _| before));
    let mut dx = Matrix::zeros(M, K);
    let target = BackwardTarget::new(dy.view())
        .adapter(v.view(), u.view(), 1.0)
        .middle(Middle::new().ranks(&used))
        .a_gradient(Gradient::accumulate(dv.view_mut()))
        .b_gradient(Gradient::overwrite(du.view_mut()));
    let call = Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
    run_backward(queue, call)?;
    let dw = dy.t().times(&x);
    let (of_v, of_u) = (u.t().times(&dw), dw.times(&v.t()));
    let is_used = |j: usize| used.contains(&(j as u32));
    near("dV", &dv, &Matrix::from(N, K, |j, k| before + if is_used(j) { of_v.at(j, k) } else { 0.0 }))?;
    near("dU", &du, &Matrix::from(N, N, |i, j| if is_used(j) { of_u.at(i, j) } else { before }))?;
    let columns: Vec<usize> = used.iter().map(|&j| j as usize).collect();
    let of_used = u.select_columns(&columns).times(&v.select_rows(&columns));
    near("dX", &dx, &dy.times(&of_used))?;
    near(
        "y of the first live ranks",
        &forward(queue, &x, &v, &u, Middle::new().ranks(&used))?,
        &x.times(&of_used.t()),
    )?;

    // A step's loss: ½·mean‖y − wanted‖² of all live ranks, the same of some of them, and the lasso.
    let wanted = Matrix::random("maestro wanted", M, N);
    let all_live: Vec<u32> = live.iter().map(|&j| j as u32).collect();
    let (mut dv, mut du) = (Matrix::zeros(N, K), Matrix::zeros(N, N));
    for ranks in [&all_live, &used] {
        let y = forward(queue, &x, &v, &u, Middle::new().ranks(ranks))?;
        let dy = y.plus_scaled(-1.0, &wanted).scaled(1.0 / M as f64);
        add_gradients(queue, [&x, &dy], [&v, &u], ranks, [&mut dv, &mut du])?;
    }
    let live_rows = |matrix: &Matrix| matrix.select_rows(&all_live.iter().map(|&j| j as usize).collect::<Vec<_>>());
    let (of_v, of_u) = (live_rows(&v), live_rows(&u.t()));
    let dv = live_rows(&dv).plus(&lasso_gradient(&of_v));
    let du = live_rows(&du.t()).plus(&lasso_gradient(&of_u));
    // Of the four live ranks, of which the step uses the first three.
    let loss = |v: &Elements, u: &Elements| {
        let of = |ranks: usize| {
            let element = |i: usize, n: usize| {
                let h = |j: usize| (0..K).map(|k| x.at(i, k) * v(j, k)).sum::<f64>();
                ((0..ranks).map(|j| h(j) * u(j, n)).sum::<f64>() - wanted.at(i, n)).powi(2)
            };
            (0..M).flat_map(|i| (0..N).map(move |n| (i, n))).map(|(i, n)| element(i, n)).sum::<f64>() / (2 * M) as f64
        };
        let lasso = suffixes(live.len(), K, v).iter().chain(&suffixes(live.len(), N, u)).sum::<f64>();
        of(live.len()) + of(used.len()) + LAMBDA * lasso
    };
    near("a step's dV", &dv, &differences(&of_v, &|v| loss(v, &|j, n| of_u.at(j, n))))?;
    near("a step's dU", &du, &differences(&of_u, &|u| loss(&|j, k| of_v.at(j, k), u)))?;

    // With five ranks of [7, 11] the factors have more numbers than W, with four less; as many are not more.
    assert_eq!(
        [(N, K, 5), (N, K, live.len()), (6, 3, 2)].map(|(n, k, rank)| is_dense(n, k, rank)),
        [true, false, false]
    );
    let factors = Layer { w: Matrix::zeros(N, K), a: v.clone(), b: u.clone(), scale: 1.0 };
    near("dense again", &product(queue, &x, &factors.merged(queue, listed())?)?, &y)
}
