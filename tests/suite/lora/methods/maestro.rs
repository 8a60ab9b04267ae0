//! Maestro (S. Horváth et al., *Maestro: Uncovering Low-Rank Structures via Trainable Decomposition*, ICML 2024).
//!
//! W = U·Vᵀ, of all ranks at first, with the roots of the singular values on either side. A step uses the first b live ranks, b drawn anew, without a factor for those that are left out. A group lasso over suffixes orders the
//! ranks; those whose importance, the product of two suffix norms, is below a threshold are dropped, any of them: what is left is a list, which needs no copies of the factors.

use peft_kernels::lora::{self, Backward, BackwardTarget, Forward, Gradient, Middle, Target};
use peft_kernels::{HostQueue, Vector, Workspace};

use super::matrix::{Matrix, apart, near, singular};
use super::{Outcome, text};

const M: usize = 9;
const N: usize = 7;
const K: usize = 11;

/// The layer of some ranks, without a base.
fn forward<Q: HostQueue>(queue: &Q, x: &Matrix, v: &Matrix, u: &Matrix, middle: Middle<'_, f32, Q>) -> Outcome<Matrix> {
    let mut y = Matrix::zeros(M, N);
    let target = Target::branch_only(y.view_mut()).adapter(v.view(), u.view(), 1.0).middle(middle);
    let call = Forward::new(x.view()).target(target);
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    Ok(y)
}

/// For each rank the root of the sum of squares from it on.
fn suffix_norms(norms: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sums: Vec<f64> = norms.map(|norm| norm * norm).collect();
    for j in (1..sums.len()).rev() {
        sums[j - 1] += sums[j];
    }
    sums.into_iter().map(f64::sqrt).collect()
}

pub fn maestro<Q: HostQueue>(queue: &Q) -> Outcome {
    let (x, dy) = (Matrix::random("maestro x", M, K), Matrix::random("maestro dy", M, N));
    // Of rank 5 at most, so that some of the N ranks say nothing.
    let w = Matrix::random("maestro left", N, 5).times(&Matrix::random("maestro right", 5, K)).scaled(0.5);
    let (left, s, right) = singular(&w.t());
    let roots = Matrix::diagonal(&s.iter().map(|s| s.sqrt()).collect::<Vec<_>>());
    let (v, mut u) = (left.times(&roots).t(), right.times(&roots));
    let all: Vec<u32> = (0..N as u32).collect();
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
    let norms = |of: &Matrix| suffix_norms((0..N).map(|j| of.select_rows(&[j]).norm()));
    let (of_u, of_v) = (norms(&u.t()), norms(&v));
    let lasso: f64 = of_u.iter().chain(&of_v).sum();
    assert!(lasso.is_finite() && of_u.windows(2).all(|pair| pair[0] >= pair[1]));
    // By suffixes a rank in the middle is as important as those behind it; by its own norm it goes.
    let important = |j: usize| of_u[j] * of_v[j] >= 1e-5 && u.t().select_rows(&[j]).norm() > 0.0;
    let live: Vec<i32> = (0..N).filter(|&j| important(j)).map(|j| j as i32).collect();
    assert_eq!(live, [0, 1, 3, 4]);
    let listed = || Middle::new().ranks_on_device(Vector::whole(&live));
    let y = forward(queue, &x, &v, &u, listed())?;
    near("the live ranks", &y, &forward(queue, &x, &v, &u, Middle::new())?)?;

    // Backward of a step that uses the first two of them: the others' gradients are not touched.
    let used: Vec<u32> = live[..2].iter().map(|&j| j as u32).collect();
    let before = 3.0;
    let (mut dv, mut du) = (Matrix::from(N, K, |_, _| before), Matrix::from(N, N, |_, _| before));
    let mut dx = Matrix::zeros(M, K);
    let target = BackwardTarget::new(dy.view())
        .adapter(v.view(), u.view(), 1.0)
        .middle(Middle::new().ranks(&used))
        .a_gradient(Gradient::accumulate(dv.view_mut()))
        .b_gradient(Gradient::overwrite(du.view_mut()));
    let call = Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
    let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
    lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    let dw = dy.t().times(&x);
    let (of_v, of_u) = (u.t().times(&dw), dw.times(&v.t()));
    let is_used = |j: usize| used.contains(&(j as u32));
    near("dV", &dv, &Matrix::from(N, K, |j, k| before + if is_used(j) { of_v.at(j, k) } else { 0.0 }))?;
    near("dU", &du, &Matrix::from(N, N, |i, j| if is_used(j) { of_u.at(i, j) } else { before }))?;
    let used: Vec<usize> = used.iter().map(|&j| j as usize).collect();
    near("dX", &dx, &dy.times(&u.select_columns(&used).times(&v.select_rows(&used))))
}
