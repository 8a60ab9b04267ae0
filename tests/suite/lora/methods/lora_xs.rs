//! LoRA-XS (K. Bałazy et al., 2024), LoRA-SB (K. Ponkshe et al., *Initialization using Update Approximation is a Silver Bullet for Extremely Efficient Low-Rank Fine-Tuning*, 2024) and Fed-SB (R. Singhal et al., 2025).
//!
//! `ΔW = s·B·R·A` with A and B frozen and R [r, r] trained: R[i, j] leads from rank j of A to rank i of B. dR = s·Bᵀ·dW·Aᵀ, and of what backward needs H alone is kept. XS: A = (U·S)ᵀ, B = V of Wᵀ = U·S·Vᵀ, R tiny but not 0, W as it was.
//! SB: A = Uᵀ, B = V, R = S of the first signed step, and s = 1: the model begins after that step, and W is not corrected for it. Fed-SB: the mean of the clients' R is exact.

use peft_kernels::lora::{self, Backward, BackwardTarget, Forward, Gradient, Middle};
use peft_kernels::{HostQueue, Workspace};

use super::layer::{Layer, Parts, product};
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
    // With R = I the branch is the best approximation of W of this rank.
    let identity = Matrix::diagonal(&[1.0; RANK]);
    let best = layer.forward(queue, &x, Some(core(&identity)))?;
    let truncated = layer.b.times(&layer.a).t();
    near("W itself", &best, &x.times(&w.t()).plus_scaled(2.0, &x.times(&truncated)))?;

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
    let (mut h, mut kept) = (Matrix::zeros(M, RANK), Matrix::zeros(M, N));
    let target = layer.target(&mut kept).middle(core(&r)).save_h_f32(h.view_mut());
    let call = Forward::new(x.view()).target(target);
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    near("H, before the core", &h, &x.times(&layer.a.t()))?;
    let gone = Matrix::from(M, K, |_, _| f64::NAN);
    let (mut dr_of_h, mut dx) = (Matrix::zeros(RANK, RANK), Matrix::zeros(M, K));
    let target = BackwardTarget::new(dy.view()).dense(w.view()).adapter(layer.a.view(), layer.b.view(), layer.scale);
    let target = target.middle(core(&r)).saved_h_f32(h.view());
    let target = target.core_gradient(Gradient::overwrite(dr_of_h.view_mut()));
    let call = Backward::new(gone.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
    let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
    lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    near("dR of a saved H", &dr_of_h, &dr)?;
    near("dX of a saved H", &dx, &gradients.x)
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
    apart("the base", &y, &product(queue, &x, &w)?)?;

    // A step of R by its gradient is a step of W by the gradient's projection to the two subspaces: B·Bᵀ·dW·Aᵀ·A, for the factors are orthonormal.
    let dy = Matrix::random("sb dy", M, N);
    let gradients = layer.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
    let dw = dy.t().times(&x);
    let projected = layer.b.times(&layer.b.t()).times(&dw).times(&layer.a.t().times(&layer.a));
    near("the step of W", &layer.b.times(&gradients.core).times(&layer.a), &projected)
}

pub fn fed_sb<Q: HostQueue>(queue: &Q) -> Outcome {
    const CLIENTS: usize = 3;
    let x = Matrix::random("fed x", M, K);
    let (a, b) = (Matrix::random("fed a", RANK, K), Matrix::random("fed b", N, RANK));
    let layer = Layer { w: Matrix::random("fed w", N, K), a, b, scale: 1.0 };
    // Every client trains its R on its own data.
    let mut trained = Vec::new();
    for client in 0..CLIENTS {
        let (x, dy) =
            (Matrix::random(&format!("fed x {client}"), M, K), Matrix::random(&format!("fed dy {client}"), M, N));
        let r = Matrix::random("fed r", RANK, RANK);
        let gradients = layer.backward(queue, &x, &dy, Some((core(&r), CORE)))?;
        trained.push(r.plus_scaled(-0.05, &gradients.core));
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
    near("the mean of R", &layer.forward(queue, &x, Some(core(&r)))?, &of_clients)?;

    // Of LoRA's factors the means are not: the product of means is no mean of products.
    let of = |name: &str, client: usize, rows, columns| Matrix::random(&format!("fed {name} {client}"), rows, columns);
    let lora = |a: Matrix, b: Matrix| Layer { w: layer.w.clone(), a, b, scale: 1.0 };
    let one = |client| lora(of("a", client, RANK, K), of("b", client, N, RANK));
    let of_clients = mean(&|client| one(client).forward(queue, &x, None))?;
    let averaged = lora(mean(&|client| Ok(one(client).a))?, mean(&|client| Ok(one(client).b))?);
    apart("the means of A and B", &averaged.forward(queue, &x, None)?, &of_clients)
}
