//! A mixture of rank-1 experts (H. Lu et al., *Little By Little: Continual Learning via Self-Activated Sparse Mixture-of-Rank Adaptive Learning*, 2025).
//!
//! `y = x·Wᵀ + Σ w_j·z_j·B_j` over the chosen experts, z = x·Aᵀ: s = z/‖z‖, w = softmax(s/τ) over all experts, of which the k largest are kept, and of those
//! the ones whose s, not w, reaches δ; the others are 0, and nobody makes the rest sum to 1 again. Which experts a token has depends on the token: no merged
//! weight does the same. The gradient of z is w·q of the product, and that of the softmax through the gates' gradients q∘z. Experts of earlier tasks are
//! frozen.

use peft_kernels::lora::{Backward, BackwardTarget, Gradient, Middle};
use peft_kernels::{HostQueue, Mat};

use super::layer::{Layer, Parts, product, run_backward};
use super::matrix::{Elements, Matrix, apart, differences, near};
use super::{Outcome, text};

const M: usize = 8;
const N: usize = 6;
const K: usize = 10;
const EXPERTS: usize = 9;
/// Of earlier tasks.
const OLD: usize = 4;
const KEPT: usize = 3;
const TAU: f64 = 0.3;
const DELTA: f64 = 0.15;

/// The softmax of a token's experts, and those that are kept.
fn route(z: &[f64]) -> (Vec<f64>, Vec<bool>) {
    let norm = z.iter().map(|z| z * z).sum::<f64>().sqrt();
    let s: Vec<f64> = z.iter().map(|z| z / norm).collect();
    let powers: Vec<f64> = s.iter().map(|s| (s / TAU).exp()).collect();
    let sum: f64 = powers.iter().sum();
    let w: Vec<f64> = powers.iter().map(|power| power / sum).collect();
    let mut order: Vec<usize> = (0..z.len()).collect();
    order.sort_by(|&a, &b| w[b].total_cmp(&w[a]));
    let kept = (0..z.len()).map(|j| order.iter().take(KEPT).any(|&of| of == j) && s[j] >= DELTA).collect();
    (w, kept)
}

/// What the gates' gradients mean for z, which experts are kept being fixed.
fn through_softmax(z: &[f64], gradient: &[f64]) -> Vec<f64> {
    let (w, kept) = route(z);
    let norm = z.iter().map(|z| z * z).sum::<f64>().sqrt();
    let s: Vec<f64> = z.iter().map(|z| z / norm).collect();
    let of_w: Vec<f64> = (0..z.len()).map(|i| if kept[i] { gradient[i] } else { 0.0 }).collect();
    let mean: f64 = of_w.iter().zip(&w).map(|(g, w)| g * w).sum();
    let of_s: Vec<f64> = of_w.iter().zip(&w).map(|(g, w)| w * (g - mean) / TAU).collect();
    let along: f64 = of_s.iter().zip(&s).map(|(g, s)| g * s).sum();
    of_s.iter().zip(&s).map(|(g, s)| (g - s * along) / norm).collect()
}

fn row(matrix: &Matrix, i: usize) -> Vec<f64> {
    (0..matrix.columns).map(|j| matrix.at(i, j)).collect()
}

/// Σ dY∘Y of tokens and keys, in f64, as the formula has it.
fn loss(layer: &Layer, x: &Elements, a: &Elements, dy: &Matrix, fixed: &[Vec<bool>]) -> f64 {
    let token = |i: usize| {
        let of_x = |of: &dyn Fn(usize) -> f64| (0..K).map(|k| x(i, k) * of(k)).sum::<f64>();
        let z: Vec<f64> = (0..EXPERTS).map(|j| of_x(&|k| a(j, k))).collect();
        let (w, _) = route(&z);
        let chosen =
            |n: usize| (0..EXPERTS).filter(|&j| fixed[i][j]).map(|j| w[j] * z[j] * layer.b.at(n, j)).sum::<f64>();
        (0..N).map(|n| dy.at(i, n) * (of_x(&|k| layer.w.at(n, k)) + chosen(n))).sum::<f64>()
    };
    (0..M).map(token).sum()
}

/// The part of the experts that are not frozen.
fn new<Q: HostQueue>(matrix: &Matrix, axis: usize) -> Outcome<Mat<'_, f32, Q>> {
    matrix.view().narrow(axis, OLD..EXPERTS).map_err(text)
}

pub fn experts<Q: HostQueue>(queue: &Q) -> Outcome {
    // The threshold is that of s: two weights of 0.66 and 0.34 are dropped that point away, and three of 1/9 are kept.
    assert_eq!(route(&[-3.0, -4.0]).1, [false, false]);
    assert_eq!(route(&[2.0; EXPERTS]).1.iter().filter(|&&kept| kept).count(), KEPT);
    let (x, dy) = (Matrix::random("experts x", M, K), Matrix::random("experts dy", M, N));
    let (a, b) = (Matrix::random("experts a", EXPERTS, K), Matrix::random("experts b", N, EXPERTS));
    let mut layer = Layer { w: Matrix::random("experts w", N, K), a, b, scale: 1.0 };
    let z = product(queue, &x, &layer.a)?;
    let routes: Vec<_> = (0..M).map(|i| route(&row(&z, i))).collect();
    let gate = Matrix::from(M, EXPERTS, |i, j| if routes[i].1[j] { routes[i].0[j] } else { 0.0 });
    let chosen = |i: usize| (0..EXPERTS).filter(|&j| routes[i].1[j]).count();
    assert!((0..M).any(|i| chosen(i) < KEPT) && (0..M).any(|i| chosen(i) == KEPT), "δ drops some of the k");
    let total = |i: usize| row(&gate, i).iter().sum::<f64>();
    assert!((0..M).all(|i| total(i) < 0.95), "what is kept is not made to sum to 1");

    let gated = || Middle::new().gate(gate.view());
    let y = layer.forward(queue, &x, Some(gated()))?;
    let weighed = Matrix::from(M, EXPERTS, |i, j| gate.at(i, j) * z.at(i, j));
    near("y", &y, &x.times(&layer.w.t()).plus(&weighed.times(&layer.b.t())))?;
    // A weight that does the same for one token does not for another.
    let of_token = |i: usize| {
        let experts: Vec<f32> = row(&gate, i).into_iter().map(|gate| gate as f32).collect();
        layer.w.plus(&layer.b.times(&Matrix::diagonal(&experts)).times(&layer.a))
    };
    let merged = x.times(&of_token(0).t());
    near("the first token", &y.select_rows(&[0]), &merged.select_rows(&[0]))?;
    apart("the others", &y, &merged)?;

    // The product's part of dA, and the softmax's through the gates.
    let parts = Parts { scale: false, gate: true, core: false };
    let gradients = layer.backward(queue, &x, &dy, Some((gated(), parts)))?;
    near("dB", &gradients.b, &dy.t().times(&weighed))?;
    let q = dy.times(&layer.b);
    near("the gates", &gradients.gate, &Matrix::from(M, EXPERTS, |i, j| q.at(i, j) * z.at(i, j)))?;
    let dz: Vec<_> = (0..M).map(|i| through_softmax(&row(&z, i), &row(&gradients.gate, i))).collect();
    let dz = Matrix::from(M, EXPERTS, |i, j| dz[i][j]);
    let of_softmax = dz.t().times(&x);
    let fixed: Vec<_> = routes.iter().map(|(_, kept)| kept.clone()).collect();
    let (at_x, at_a) = (|i: usize, k: usize| x.at(i, k), |j: usize, k: usize| layer.a.at(j, k));
    let of_a = differences(&layer.a, &|a| loss(&layer, &at_x, a, &dy, &fixed));
    let of_x = differences(&x, &|x| loss(&layer, x, &at_a, &dy, &fixed));
    near("dA", &gradients.a.plus(&of_softmax), &of_a)?;
    apart("dA of the product alone", &gradients.a, &of_a)?;
    near("dX", &gradients.x.plus(&dz.times(&layer.a)), &of_x)?;
    apart("dX of the product alone", &gradients.x, &of_x)?;

    // Old experts have no gradient: views of the new ones have, of gradients as large as the factors. In the softmax they count.
    let untouched = 7.0;
    let mut da = Matrix::from(EXPERTS, K, |_, _| untouched);
    let mut db = Matrix::from(N, EXPERTS, |_, _| untouched);
    let (rows_of_a, columns_of_b) = (da.view_mut().split_rows(OLD), db.view_mut().split_columns(OLD));
    let target = BackwardTarget::new(dy.view())
        .adapter(new(&layer.a, 0)?, new(&layer.b, 1)?, 1.0)
        .middle(Middle::new().gate(new(&gate, 1)?))
        .a_gradient(Gradient::overwrite(rows_of_a.map_err(text)?.1))
        .b_gradient(Gradient::overwrite(columns_of_b.map_err(text)?.1));
    run_backward(queue, Backward::new(x.view()).target(target))?;
    let of_new = |j: usize, value: f64| if j < OLD { untouched } else { value };
    near("dA beside frozen experts", &da, &Matrix::from(EXPERTS, K, |j, k| of_new(j, gradients.a.at(j, k))))?;
    near("dB beside frozen experts", &db, &Matrix::from(N, EXPERTS, |n, j| of_new(j, gradients.b.at(n, j))))?;

    // A key that is no number spoils the tokens that chose it, and no others.
    let spoiled = (0..EXPERTS).find(|&j| (0..M).any(|i| routes[i].1[j]) && (0..M).any(|i| !routes[i].1[j]));
    let spoiled = spoiled.expect("an expert that some tokens chose");
    layer.a.values[spoiled * K + 1] = f32::NAN;
    let got = layer.forward(queue, &x, Some(gated()))?;
    for (i, (_, kept)) in routes.iter().enumerate() {
        let is_nan = row(&got, i).iter().all(|value| value.is_nan());
        assert_eq!(is_nan, kept[spoiled], "token {i}");
        if !is_nan {
            near("a token without the expert", &got.select_rows(&[i]), &y.select_rows(&[i]))?;
        }
    }
    Ok(())
}
