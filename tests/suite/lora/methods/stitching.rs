//! SN-Netv2 (Z. Pan et al., *Stitched ViTs are Flexible Vision Backbones*, ECCV 2024).
//!
//! A stitch leads from the features of one network [m, k] to those of another [m, n]: W and bias by least squares of some samples, frozen but for the bias, and
//! LoRA of `s = 1/r`, α being 1. There are hundreds of stitches, of which one is active in a step: another pointer, or an index among those that share a layer.
//! For evaluation a stitch is merged.

use peft_kernels::lora::{Adapter, AdapterTable, Backward, BackwardTarget, Forward, Gradient, Middle, Target};
use peft_kernels::{HostQueue, Vector};

use super::layer::{Layer, run_backward, run_forward};
use super::matrix::{Matrix, near};
use super::{Outcome, text};

const SAMPLES: usize = 40;
const N: usize = 7;
const K: usize = 5;
const RANK: usize = 3;

/// The solution of `gram·X = right` by elimination; the gram matrix of independent columns.
fn solve(gram: &Matrix, right: &Matrix) -> Matrix {
    let (n, columns) = (gram.rows, right.columns);
    let row = |i: usize| (0..n).map(move |j| gram.at(i, j)).chain((0..columns).map(move |j| right.at(i, j)));
    let mut rows: Vec<Vec<f64>> = (0..n).map(|i| row(i).collect()).collect();
    for step in 0..n {
        let pivot = (step..n).max_by(|&a, &b| rows[a][step].abs().total_cmp(&rows[b][step].abs())).expect("a row");
        rows.swap(step, pivot);
        for i in (0..n).filter(|&i| i != step) {
            let factor = rows[i][step] / rows[step][step];
            let from = rows[step].clone();
            rows[i].iter_mut().zip(from).for_each(|(to, from)| *to -= factor * from);
        }
    }
    Matrix::from(n, columns, |i, j| rows[i][n + j] / rows[i][i])
}

pub fn stitching<Q: HostQueue>(queue: &Q) -> Outcome {
    let from = Matrix::random("stitch from", SAMPLES, K);
    let noise = Matrix::random("stitch noise", SAMPLES, N).scaled(0.25);
    let map = Matrix::random("stitch map", N, K);
    let to = from.times(&map.t()).plus(&noise);
    let to = Matrix::from(SAMPLES, N, |i, j| to.at(i, j) + j as f64 / 4.0);
    // [W b] = (pinv([X 1])·Y)ᵀ by the normal equations.
    let with_ones = Matrix::from(SAMPLES, K + 1, |i, j| if j < K { from.at(i, j) } else { 1.0 });
    let solution = solve(&with_ones.t().times(&with_ones), &with_ones.t().times(&to));
    let w = Matrix::from(N, K, |i, j| solution.at(j, i));
    let bias = Matrix::from(1, N, |_, j| solution.at(K, j));

    let stitch = |name: &str, b: Matrix| Layer {
        w: w.clone(),
        a: Matrix::random(&format!("stitch a {name}"), RANK, K),
        b,
        scale: 1.0 / RANK as f32,
    };
    let run = |layer: &Layer| {
        let mut y = Matrix::zeros(SAMPLES, N);
        let target = layer.target(&mut y).bias(Vector::whole(&bias.values));
        run_forward(queue, Forward::new(from.view()).target(target))?;
        Ok::<_, String>(y)
    };
    // Merged, W alone is read.
    let run_merged = |layer: &Layer| {
        let mut y = Matrix::zeros(SAMPLES, N);
        let merged = layer.merged(queue, Middle::new())?;
        let target = Target::dense(merged.view(), y.view_mut()).bias(Vector::whole(&bias.values));
        run_forward(queue, Forward::<f32, f32, Q>::new(from.view()).target(target))?;
        Ok::<_, String>(y)
    };
    // At first it is the least squares: what is left is orthogonal to the features and to the ones.
    let y = run(&stitch("first", Matrix::zeros(N, RANK)))?;
    let rest = to.plus_scaled(-1.0, &y);
    near("the rest", &with_ones.t().times(&rest), &Matrix::zeros(K + 1, N))?;
    assert!(rest.norm() > 0.5);

    let layers = ["first", "second"].map(|name| stitch(name, Matrix::random(&format!("stitch b {name}"), N, RANK)));
    let expected = |layer: &Layer| {
        let delta = layer.b.times(&layer.a).scaled(1.0 / RANK as f64);
        let y = from.times(&w.plus(&delta).t());
        Matrix::from(SAMPLES, N, |i, j| y.at(i, j) + bias.at(0, j))
    };
    // Of one stitch or the other, by pointers alone; and by an index, rows of both in one call.
    for layer in &layers {
        near("a stitch", &run(layer)?, &expected(layer))?;
        near("a merged stitch", &run_merged(layer)?, &expected(layer))?;
    }
    let adapters = [0, 1].map(|i: usize| Adapter::new(layers[i].a.view(), layers[i].b.view(), layers[i].scale));
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let index: Vec<i32> = (0..SAMPLES as i32).map(|i| i % 2).collect();
    let mut y = Matrix::zeros(SAMPLES, N);
    let target = Target::dense(w.view(), y.view_mut()).bias(Vector::whole(&bias.values)).table(&table);
    let call = Forward::new(from.view()).target(target).row_adapter(Vector::whole(&index));
    run_forward(queue, call)?;
    let both = [expected(&layers[0]), expected(&layers[1])];
    near("rows of either stitch", &y, &Matrix::from(SAMPLES, N, |i, j| both[i % 2].at(i, j)))?;

    // Trained are A, B and the bias.
    let dy = Matrix::random("stitch dy", SAMPLES, N).scaled(0.25);
    let (mut da, mut db, mut dbias) = (Matrix::zeros(RANK, K), Matrix::zeros(N, RANK), Matrix::zeros(1, N));
    let mut dx = Matrix::zeros(SAMPLES, K);
    let layer = &layers[0];
    let target = BackwardTarget::new(dy.view())
        .dense(w.view())
        .adapter(layer.a.view(), layer.b.view(), layer.scale)
        .a_gradient(Gradient::overwrite(da.view_mut()))
        .b_gradient(Gradient::overwrite(db.view_mut()))
        .bias_gradient(Gradient::overwrite(dbias.view_mut()));
    let to = Gradient::overwrite(dx.view_mut());
    run_backward(queue, Backward::new(from.view()).target(target).x_gradient(to))?;
    let (dw, s) = (dy.t().times(&from), 1.0 / RANK as f64);
    // The network before the stitch learns through W and the adapter.
    near("dX", &dx, &dy.times(&w.plus(&layer.b.times(&layer.a).scaled(s))))?;
    near("dA", &da, &layer.b.t().times(&dw).scaled(s))?;
    near("dB", &db, &dw.times(&layer.a.t()).scaled(s))?;
    near("dbias", &dbias, &Matrix::from(1, SAMPLES, |_, _| 1.0).times(&dy))
}
