//! LoRA and rsLoRA (E. Hu et al., ICLR 2022; D. Kalajdzievski, 2023).
//!
//! `y = x·Wᵀ + b + s·(x̃·Aᵀ)·Bᵀ`, s = α/r, or α/√r. The traps: dropout is of what the adapter reads, the base sees all of x; B is 0 at first, so that A's
//! gradient is too.

use peft_kernels::lora::{self, Adapter, Backward, BackwardTarget, Dropout, Forward, Gradient, Merge, Target};
use peft_kernels::{HostQueue, Vector};

use super::layer::{Layer, product, run_backward, run_forward};
use super::matrix::{Matrix, apart, near};
use super::{Outcome, text};

const M: usize = 12;
const N: usize = 10;
const K: usize = 14;
const RANK: usize = 4;

fn layer(scale: f32) -> Layer {
    let (a, b) = (Matrix::random("lora a", RANK, K), Matrix::random("lora b", N, RANK));
    Layer { w: Matrix::random("lora w", N, K), a, b, scale }
}

pub fn lora<Q: HostQueue>(queue: &Q) -> Outcome {
    let alpha = 8.0;
    let (x, dy) = (Matrix::random("lora x", M, K), Matrix::random("lora dy", M, N));
    let mut layer = layer(alpha / RANK as f32);
    let trained = std::mem::replace(&mut layer.b, Matrix::zeros(N, RANK));
    // At first the layer is its base, and A does not move.
    let base = product(queue, &x, &layer.w)?;
    near("the first step", &layer.forward(queue, &x, None)?, &base)?;
    let gradients = layer.backward(queue, &x, &dy, None)?;
    assert!(gradients.a.norm() == 0.0 && gradients.b.norm() > 0.1);

    layer.b = trained;
    let s = f64::from(layer.scale);
    let delta = layer.b.times(&layer.a).scaled(s);
    let y = layer.forward(queue, &x, None)?;
    near("y", &y, &x.times(&layer.w.plus(&delta).t()))?;
    // dW = dYᵀ·x goes to the factors by the chain rule.
    let dw = dy.t().times(&x);
    let gradients = layer.backward(queue, &x, &dy, None)?;
    near("dA", &gradients.a, &layer.b.t().times(&dw).scaled(s))?;
    near("dB", &gradients.b, &dw.times(&layer.a.t()).scaled(s))?;
    near("dX", &gradients.x, &dy.times(&layer.w.plus(&delta)))?;

    // Merged, the base alone does the same.
    let mut merged = layer.w.clone();
    let adapter = Adapter::new(layer.a.view(), layer.b.view(), layer.scale);
    lora::merge(queue, Merge::in_place(merged.view_mut()).adapter(adapter)).map_err(text)?;
    near("the merged layer", &product(queue, &x, &merged)?, &y)?;

    // Dropout is the adapter's alone, in both directions.
    let dropout = Dropout::new(0.5, 11, 3).map_err(text)?;
    let kept = Matrix::from(M, K, |i, j| if dropout.keeps(i, j) { 2.0 * x.at(i, j) } else { 0.0 });
    let mut dropped = Matrix::zeros(M, N);
    let call = Forward::new(x.view()).target(layer.target(&mut dropped)).dropout(dropout);
    run_forward(queue, call)?;
    near("y with dropout", &dropped, &base.plus(&kept.times(&delta.t())))?;
    let (mut dx, mut da, mut db) = (Matrix::zeros(M, K), Matrix::zeros(RANK, K), Matrix::zeros(N, RANK));
    let target = BackwardTarget::new(dy.view())
        .dense(layer.w.view())
        .adapter(layer.a.view(), layer.b.view(), layer.scale)
        .a_gradient(Gradient::overwrite(da.view_mut()))
        .b_gradient(Gradient::overwrite(db.view_mut()));
    let to = Gradient::overwrite(dx.view_mut());
    run_backward(queue, Backward::new(x.view()).target(target).x_gradient(to).dropout(dropout))?;
    let dw_of_branch = dy.t().times(&kept);
    near("dA with dropout", &da, &layer.b.t().times(&dw_of_branch).scaled(s))?;
    near("dB with dropout", &db, &dw_of_branch.times(&layer.a.t()).scaled(s))?;
    let of_branch = dy.times(&delta);
    let of_branch = Matrix::from(M, K, |i, j| if dropout.keeps(i, j) { 2.0 * of_branch.at(i, j) } else { 0.0 });
    near("dX with dropout", &dx, &dy.times(&layer.w).plus(&of_branch))
}

pub fn rslora<Q: HostQueue>(queue: &Q) -> Outcome {
    let (alpha, x, bias) = (8.0f32, Matrix::random("lora x", M, K), Matrix::random("lora bias", 1, N));
    let layer = layer(alpha / (RANK as f32).sqrt());
    let mut y = Matrix::zeros(M, N);
    let call = Forward::new(x.view()).target(layer.target(&mut y).bias(Vector::whole(&bias.values)));
    run_forward(queue, call)?;
    let delta = layer.b.times(&layer.a).scaled(f64::from(alpha) / 2.0);
    let expected = x.times(&layer.w.plus(&delta).t());
    let expected = Matrix::from(M, N, |i, j| expected.at(i, j) + bias.at(0, j));
    near("y", &y, &expected)?;
    // Of α/r it is half as much.
    let half = Target::branch_only(y.view_mut()).adapter(layer.a.view(), layer.b.view(), alpha / RANK as f32);
    run_forward(queue, Forward::new(x.view()).target(half))?;
    apart("α/r", &y, &x.times(&delta.t()))?;
    near("α/r", &y, &x.times(&delta.t()).scaled(0.5))
}
