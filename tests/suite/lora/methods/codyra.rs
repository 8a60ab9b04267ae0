//! CoDyRA (H. Lu et al., *Adaptive Rank, Reduced Forgetting: Knowledge Retention in Continual Learning Vision-Language Models with Dynamic Rank-Selective
//! LoRA*, 2024).
//!
//! `y = x·Wᵀ + b + ((x·Aᵀ) ⊙ w)·Bᵀ`, the scale is 1. After a step w is drawn to 0 by three statements one after the other, which make 0 of all below 2t, where
//! the textbook's soft threshold makes 0 of what is below t; t is 0 in half of the training. At a task's end ranks of w = 0 are dropped, what is left is
//! merged.

use peft_kernels::lora::{self, Adapter, Merge, Middle};
use peft_kernels::{HostQueue, Mat, Vector};

use super::layer::{Layer, Parts, product, scale_of};
use super::matrix::{Matrix, near};
use super::{Outcome, text};

const M: usize = 10;
const N: usize = 8;
const K: usize = 13;
const RANK: usize = 7;

/// The threshold after a step: none in the dense iterations, then in 50 steps up to κ.
fn threshold(iteration: usize, dense: usize, kappa: f32) -> f32 {
    kappa * (iteration.saturating_sub(dense).min(50) as f32 / 50.0)
}

/// As the authors' statements have it.
fn shrink(w: f32, t: f32) -> f32 {
    let mut w = w;
    if w > t {
        w -= t;
    }
    if w < -t {
        w += t;
    }
    if w.abs() < t { 0.0 } else { w }
}

pub fn codyra<Q: HostQueue>(queue: &Q) -> Outcome {
    const SCALE: Parts = Parts { scale: true, gate: false, core: false };
    let t = 0.25;
    for (w, expected) in
        [(0.2, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.49, 0.0), (0.5, 0.25), (0.75, 0.5), (-0.75, -0.5), (0.25, 0.25)]
    {
        assert_eq!(shrink(w, t), expected, "{w}");
    }
    let textbook = |w: f32| w.signum() * (w.abs() - t).max(0.0);
    assert!(textbook(0.4) > 0.1 && shrink(0.4, t) == 0.0, "the dead zone is 2t, not t");

    // Of 500 iterations the first half is dense; κ is reached after 50 more.
    let schedule = [0, 250, 251, 275, 300, 301, 500].map(|iteration| threshold(iteration, 250, 0.5));
    assert_eq!(schedule, [0.0, 0.0, 0.01, 0.25, 0.5, 0.5, 0.5]);
    assert_eq!([0.3, -1e-3].map(|w| shrink(w, threshold(250, 250, 0.5))), [0.3, -1e-3], "a dense iteration");

    let (x, dy) = (Matrix::random("codyra x", M, K), Matrix::random("codyra dy", M, N));
    let (a, b) = (Matrix::random("codyra a", RANK, K), Matrix::random("codyra b", N, RANK));
    let layer = Layer { w: Matrix::random("codyra w", N, K), a, b, scale: 1.0 };
    let mut w = Matrix::from(1, RANK, |_, j| [0.9, -0.1, 0.45, -1.2, 0.3, 0.6, -0.7][j]);
    let gradients = layer.backward(queue, &x, &dy, Some((scale_of(&w), SCALE)))?;
    let dw = dy.t().times(&x);
    let inner = layer.b.t().times(&dw).times(&layer.a.t());
    near("dw", &gradients.scale, &Matrix::from(1, RANK, |_, j| inner.at(j, j)))?;
    let gate = Matrix::diagonal(&w.values);
    near("dA", &gradients.a, &gate.times(&layer.b.t().times(&dw)))?;
    near("dB", &gradients.b, &dw.times(&layer.a.t()).times(&gate))?;
    near("dX", &gradients.x, &dy.times(&layer.w.plus(&layer.b.times(&gate).times(&layer.a))))?;

    w.values.iter_mut().for_each(|w| *w = shrink(*w, t));
    let left: Vec<usize> = (0..RANK).filter(|&j| w.values[j] != 0.0).collect();
    assert_eq!(left, [0, 3, 5, 6]);
    let delta = layer.b.times(&Matrix::diagonal(&w.values)).times(&layer.a);
    let y = layer.forward(queue, &x, Some(scale_of(&w)))?;
    near("y", &y, &x.times(&layer.w.plus(&delta).t()))?;

    // What is left of the ranks: a list of them, or copies of their rows and columns.
    let list: Vec<i32> = left.iter().map(|&j| j as i32).collect();
    let listed = Middle::new().scale(w.view()).ranks_on_device(Vector::whole(&list));
    near("the ranks that are left", &layer.forward(queue, &x, Some(listed))?, &y)?;
    near("those, merged", &product(queue, &x, &layer.merged(queue, listed)?)?, &y)?;
    let (a, b) = (layer.a.select_rows(&left), layer.b.select_columns(&left));
    let kept: Vec<f32> = left.iter().map(|&j| w.values[j]).collect();
    let history = Layer { w: layer.w.clone(), a: Matrix::diagonal(&kept).times(&a), b, scale: 1.0 };
    near("the history of a task", &history.forward(queue, &x, None)?, &y)?;
    let mut merged = history.w.clone();
    let adapter = Adapter::new(history.a.view(), Mat::new(&history.b.values, N, left.len()).map_err(text)?, 1.0);
    lora::merge(queue, Merge::in_place(merged.view_mut()).adapter(adapter)).map_err(text)?;
    near("the merged layer", &product(queue, &x, &merged)?, &y)
}
