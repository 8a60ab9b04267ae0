//! LoRA-XS (K. Bałazy et al., 2024), LoRA-SB (K. Ponkshe et al., *Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank
//! Fine-Tuning*, 2024) and Fed-SB (R. Singhal et al., 2025).
//!
//! `ΔW = s·B·R·A` with A and B frozen and R [r, r] trained: R[i, j] leads from rank j of A to rank i of B. dR = s·Bᵀ·dW·Aᵀ, and of what backward needs H alone
//! is kept. XS: A = (U·S)ᵀ, B = V of Wᵀ = U·S·Vᵀ, R tiny but not 0, W as it was. SB: A = Uᵀ, B = V, R = S of the first signed step, and s = 1: the model begins
//! after that step, and W is not corrected for it; A and B are stored in bf16. Fed-SB: the mean of the clients' R is exact, with noise on their dR too.

use half::bf16;
use peft_kernels::lora::{self, AddNoise, Backward, BackwardTarget, Forward, Gradient, Middle, Target};
use peft_kernels::{HostQueue, Mat, MatMut};

use super::layer::{Layer, Parts, product, run_backward, run_forward};
use super::matrix::{Matrix, apart, near, singular};
use super::{Outcome, text};

const M: usize = 14;
const N: usize = 9;
const K: usize = 12;
const RANK: usize = 4;
const CORE: Parts = Parts { scale: false, gate: false, core: true };

fn core<'a, Q: HostQueue>(core: &'a Matrix) -> Middle<'a, f32, Q> {
    Middle::new().core(core.view())
}

fn first(count: usize) -> Vec<usize> {
    (0..count).collect()
}

/// The best approximation of a matrix by one of this rank, without its decomposition: its part in the space that powers of W·Wᵀ turn any columns to.
fn best_approximation(w: &Matrix, rank: usize) -> Matrix {
    let gram = w.times(&w.t());
    let mut space = Matrix::random("a space", w.rows, rank);
    for _ in 0..300 {
        space = gram.times(&space);
        for j in 0..rank {
            for before in 0..j {
                let along: f64 = (0..w.rows).map(|i| space.at(i, before) * space.at(i, j)).sum();
                space = Matrix::from(w.rows, rank, |i, column| {
                    space.at(i, column) - if column == j { along * space.at(i, before) } else { 0.0 }
                });
            }
            let norm = space.select_columns(&[j]).norm();
            space = Matrix::from(w.rows, rank, |i, column| space.at(i, column) / if column == j { norm } else { 1.0 });
        }
    }
    space.times(&space.t()).times(w)
}

pub fn lora_xs<Q: HostQueue>(queue: &Q) -> Outcome {
    let (x, dy, w) = (Matrix::random("xs x", M, K), Matrix::random("xs dy", M, N), Matrix::random("xs w", N, K));
    let (u, s, v) = singular(&w.t());
    let (u, v) = (u.select_columns(&first(RANK)), v.select_columns(&first(RANK)));
    // The singular values are in A.
    let a = u.times(&Matrix::diagonal(&s[..RANK])).t();
    let layer = Layer { w: w.clone(), a, b: v, scale: 2.0 };
    near("B has orthonormal columns", &layer.b.t().times(&layer.b), &Matrix::diagonal(&[1.0; RANK]))?;
    let tiny = Matrix::random("xs r", RANK, RANK).scaled(1e-5);
    let first = layer.forward(queue, &x, Some(core(&tiny)))?.plus_scaled(-1.0, &product(queue, &x, &w)?);
    assert!((1e-7..1e-2).contains(&first.norm()), "a tiny R is not 0: {}", first.norm());
    // With R = I the branch is the best approximation of W of this rank; without the singular values it is not.
    let identity = Matrix::diagonal(&[1.0; RANK]);
    let best = x.times(&w.plus_scaled(2.0, &best_approximation(&w, RANK)).t());
    near("the best approximation", &layer.forward(queue, &x, Some(core(&identity)))?, &best)?;
    let without = Layer { w: w.clone(), a: u.t(), b: layer.b.clone(), scale: 2.0 };
    apart("A without the singular values", &without.forward(queue, &x, Some(core(&identity)))?, &best)?;

    let r = Matrix::random("xs trained r", RANK, RANK);
    let y = layer.forward(queue, &x, Some(core(&r)))?;
    let delta = layer.b.times(&r).times(&layer.a).scaled(2.0);
    near("y", &y, &x.times(&w.plus(&delta).t()))?;
    near("the merged layer", &product(queue, &x, &layer.merged(queue, core(&r))?)?, &y)?;
    apart("R the other way round", &layer.forward(queue, &x, Some(core(&r.t())))?, &y)?;
    let gradients = layer.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
    let dw = dy.t().times(&x);
    let dr = layer.b.t().times(&dw).times(&layer.a.t()).scaled(2.0);
    near("dR", &gradients.core, &dr)?;
    near("dX", &gradients.x, &dy.times(&w.plus(&delta)))?;

    // Of backward's operands H alone is kept: x may be gone.
    let [_, h] = layer.forward_with_h(queue, &x, core(&r))?;
    near("H, before the core", &h, &x.times(&layer.a.t()))?;
    let of_h = layer.backward_of_h(queue, &h, &dy, core(&r), CORE)?;
    near("dR of a saved H", &of_h.core, &dr)?;
    near("dX of a saved H", &of_h.x, &gradients.x)
}

/// y and dR with all operands of bf16, from x, dY, a layer and R that are numbers of bf16 already.
fn in_bf16<Q: HostQueue>(queue: &Q, layer: &Layer, r: &Matrix, x: &Matrix, dy: &Matrix) -> Outcome {
    fn view<'a, Q: HostQueue>(list: &'a [bf16], like: &Matrix) -> Mat<'a, bf16, Q> {
        Mat::new(list, like.rows, like.columns).expect("as large as it is")
    }
    let halves = |matrix: &Matrix| matrix.values.iter().map(|&value| bf16::from_f32(value)).collect::<Vec<_>>();
    let [of_x, of_dy, of_w, of_a, of_b, of_r] = [x, dy, &layer.w, &layer.a, &layer.b, r].map(halves);
    let (w, a, b) = (|| view(&of_w, &layer.w), || view(&of_a, &layer.a), || view(&of_b, &layer.b));
    let middle = || Middle::new().core(view(&of_r, r));
    let (mut y, mut dr) = (vec![bf16::ZERO; M * N], vec![bf16::ZERO; RANK * RANK]);
    let target = Target::dense(w(), MatMut::new(&mut y, M, N).map_err(text)?);
    let target = target.adapter(a(), b(), layer.scale).middle(middle());
    run_forward(queue, Forward::new(view(&of_x, x)).target(target))?;
    let target = BackwardTarget::new(view(&of_dy, dy)).adapter(a(), b(), layer.scale).middle(middle());
    let target = target.core_gradient(Gradient::overwrite(MatMut::new(&mut dr, RANK, RANK).map_err(text)?));
    run_backward(queue, Backward::new(view(&of_x, x)).target(target))?;
    let delta = layer.b.times(r).times(&layer.a);
    let of_core = layer.b.t().times(&dy.t().times(x)).times(&layer.a.t());
    for (what, got, expected) in [("y", y, x.times(&layer.w.plus(&delta).t())), ("dR", dr, of_core)] {
        for (got, expected) in got.into_iter().zip(expected.values) {
            // Of one rounding; the rest is f32's.
            let allowed = expected.abs() / 256.0 + 1e-4;
            if (got.to_f32() - expected).abs() > allowed {
                return Err(format!("{what} in bf16: {got}, expected {expected}"));
            }
        }
    }
    Ok(())
}

pub fn lora_sb<Q: HostQueue>(queue: &Q) -> Outcome {
    let (x, w) = (Matrix::random("sb x", M, K), Matrix::random("sb w", N, K));
    // The first step of full fine-tuning: −η·sign of the gradient.
    let (eta, g) = (0.05, Matrix::random("sb g", N, K));
    let step = Matrix::from(N, K, |i, j| -eta * g.at(i, j).signum());
    let (u, s, v) = singular(&step.t());
    let (u, v) = (u.select_columns(&first(RANK)), v.select_columns(&first(RANK)));
    let layer = Layer { w: w.clone(), a: u.t(), b: v, scale: 1.0 };
    let r = Matrix::diagonal(&s[..RANK]);
    // The model begins after the step, as well as this rank can say it, and W is not corrected for that.
    let y = layer.forward(queue, &x, Some(core(&r)))?;
    let approximation = layer.b.times(&r).times(&layer.a);
    near("the first step", &y, &x.times(&w.plus(&approximation).t()))?;
    let rest = step.plus_scaled(-1.0, &approximation);
    let beyond: f64 = s[RANK..].iter().map(|&s| f64::from(s) * f64::from(s)).sum();
    assert!((rest.norm().powi(2) - beyond).abs() < 1e-5, "no better approximation");
    near("the step's approximation", &approximation, &best_approximation(&step, RANK))?;
    assert!(g.dot(&approximation) < 0.0, "a step against the gradient");
    apart("the base", &y, &product(queue, &x, &w)?)?;

    // A step of R by its gradient is a step of W by the gradient's projection to the two subspaces: B·Bᵀ·dW·Aᵀ·A, for the factors are orthonormal.
    let dy = Matrix::random("sb dy", M, N);
    let gradients = layer.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
    let dw = dy.t().times(&x);
    let projected = |layer: &Layer| layer.b.times(&layer.b.t()).times(&dw).times(&layer.a.t().times(&layer.a));
    near("the step of W", &layer.b.times(&gradients.core).times(&layer.a), &projected(&layer))?;

    // Stored in bf16 the factors are nearly orthonormal: the step is that of the stored ones.
    let stored =
        |matrix: &Matrix| Matrix::from(matrix.rows, matrix.columns, |i, j| bf16::from_f64(matrix.at(i, j)).to_f64());
    let halves = Layer { w: stored(&w), a: stored(&layer.a), b: stored(&layer.b), scale: 1.0 };
    apart("Bᵀ·B as it is stored", &halves.b.t().times(&halves.b), &Matrix::diagonal(&[1.0; RANK]))?;
    let gradients = halves.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
    let step = halves.b.times(&gradients.core).times(&halves.a);
    near("the step of W by stored factors", &step, &projected(&halves))?;
    apart("the step of W by exact factors", &step, &projected(&layer))?;
    in_bf16(queue, &halves, &stored(&r), &stored(&x), &stored(&dy))
}

pub fn fed_sb<Q: HostQueue>(queue: &Q) -> Outcome {
    const CLIENTS: usize = 3;
    let x = Matrix::random("fed x", M, K);
    let (a, b) = (Matrix::random("fed a", RANK, K), Matrix::random("fed b", N, RANK));
    let layer = Layer { w: Matrix::random("fed w", N, K), a, b, scale: 1.0 };
    // Every client trains its R on its own data.
    let mut trained = Vec::new();
    let mut noisy = Vec::new();
    for client in 0..CLIENTS {
        let (x, dy) =
            (Matrix::random(&format!("fed x {client}"), M, K), Matrix::random(&format!("fed dy {client}"), M, N));
        let r = Matrix::random("fed r", RANK, RANK);
        let gradients = layer.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
        trained.push(r.plus_scaled(-0.05, &gradients.core));
        // With privacy there is noise on dR, and on nothing else: each client's is its own.
        let mut core = gradients.core;
        lora::add_noise(queue, AddNoise::new(core.view_mut(), 0.5, 7, client as u64)).map_err(text)?;
        noisy.push(r.plus_scaled(-0.05, &core));
    }
    let mean = |of: &dyn Fn(usize) -> Outcome<Matrix>| {
        let mut sum = of(0)?;
        for client in 1..CLIENTS {
            sum = sum.plus(&of(client)?);
        }
        Ok::<_, String>(sum.scaled(1.0 / CLIENTS as f64))
    };
    let r = mean(&|client| Ok(trained[client].clone()))?;
    let of_clients = mean(&|client| layer.forward(queue, &x, Some(core(&trained[client]))))?;
    let y = layer.forward(queue, &x, Some(core(&r)))?;
    near("the mean of R", &y, &of_clients)?;
    let r_noisy = mean(&|client| Ok(noisy[client].clone()))?;
    let of_noisy = mean(&|client| layer.forward(queue, &x, Some(core(&noisy[client]))))?;
    let y_noisy = layer.forward(queue, &x, Some(core(&r_noisy)))?;
    near("the mean of R with noise", &y_noisy, &of_noisy)?;
    // W moves within the factors' spaces by the noise's mean: of the three clients' deviation of 0.05·0.5, a root of 3 less.
    let moved = r_noisy.plus_scaled(-1.0, &r);
    let of_noise = x.times(&layer.b.times(&moved).times(&layer.a).t());
    near("what the noise does", &y_noisy.plus_scaled(-1.0, &y), &of_noise)?;
    let deviation = moved.norm() / RANK as f64 / (0.05 * 0.5 / 3f64.sqrt());
    assert!((0.6..1.4).contains(&deviation), "noise of {deviation} times what is expected");

    // Of LoRA's factors the means are not: the product of means is no mean of products.
    let of = |name: &str, client: usize, rows, columns| Matrix::random(&format!("fed {name} {client}"), rows, columns);
    let lora = |a: Matrix, b: Matrix| Layer { w: layer.w.clone(), a, b, scale: 1.0 };
    let one = |client| lora(of("a", client, RANK, K), of("b", client, N, RANK));
    let of_clients = mean(&|client| one(client).forward(queue, &x, None))?;
    let averaged = lora(mean(&|client| Ok(one(client).a))?, mean(&|client| Ok(one(client).b))?);
    apart("the means of A and B", &averaged.forward(queue, &x, None)?, &of_clients)
}
