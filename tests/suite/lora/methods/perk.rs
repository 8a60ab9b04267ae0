//! PERK (*Long-Context Reasoning as Parameter-Efficient Test-Time Learning*, ICLR 2026).
//!
//! Every problem has an adapter of its own, which a few inner steps fit to the segments of its context; the outer loss is that of the adapted adapter, and its
//! gradient goes through the last inner steps alone: the product of `I − η·H` with a vector, H the second derivatives of the inner loss. The forward-mode
//! derivative of LoRA's gradients along A', B', x' is made of the same calls: `H' = x'·Aᵀ + x·A'ᵀ`, `dB' = s·(dY'ᵀ·H + dYᵀ·H')`, `dA' = s·((dY'·B + dY·B')ᵀ·x +
//! (dY·B)ᵀ·x')`, and `dX' = dY'·W + s·((dY'·B + dY·B')·A + (dY·B)·A')`. What has dY' is backward's own; the rest is the backward of backward, with the
//! directions as cotangents.

use peft_kernels::lora::{
    self, Adapter, AdapterTable, Backward, BackwardTarget, DoubleBackward, Forward, Gradient, Segment, Target,
};
use peft_kernels::{HostQueue, Vector, Workspace};

use super::layer::{Gradients, Layer, product, run_backward, run_forward};
use super::matrix::{Matrix, apart, near};
use super::{Outcome, text};

const M: usize = 12;
const N: usize = 6;
const K: usize = 8;
const RANK: usize = 3;
const SCALE: f64 = 0.5;
const ETA: f64 = 0.05;
const STEPS: usize = 4;

/// A point or a direction in the space of an adapter.
#[derive(Clone)]
struct Pair {
    a: Matrix,
    b: Matrix,
}

impl Pair {
    fn random(name: &str) -> Self {
        Self {
            a: Matrix::random(&format!("perk a {name}"), RANK, K),
            b: Matrix::random(&format!("perk b {name}"), N, RANK),
        }
    }

    fn zeros() -> Self {
        Self { a: Matrix::zeros(RANK, K), b: Matrix::zeros(N, RANK) }
    }

    fn plus_scaled(&self, scale: f64, other: &Self) -> Self {
        Self { a: self.a.plus_scaled(scale, &other.a), b: self.b.plus_scaled(scale, &other.b) }
    }

    fn near(&self, what: &str, other: &Self) -> Outcome {
        near(&format!("A of {what}"), &self.a, &other.a)?;
        near(&format!("B of {what}"), &self.b, &other.b)
    }
}

/// Of a function at four points −2h, −h, h and 2h: its derivative, exact for one of the fourth degree.
fn slope(points: [Matrix; 4], h: f64) -> Matrix {
    let [before2, before, after, after2] = points;
    let near = after.plus_scaled(-1.0, &before);
    near.plus_scaled(-1.0 / 8.0, &after2.plus_scaled(-1.0, &before2)).scaled(8.0 / (12.0 * h))
}

/// One problem: its context x with what y should be, mean squares as the loss.
struct Problem {
    w: Matrix,
    x: Matrix,
    wanted: Matrix,
}

impl Problem {
    fn new(name: &str) -> Self {
        let of = |part: &str, rows, columns| Matrix::random(&format!("perk {part} {name}"), rows, columns);
        Self { w: of("w", N, K), x: of("x", M, K), wanted: of("wanted", M, N) }
    }

    fn layer(&self, at: &Pair) -> Layer {
        Layer { w: self.w.clone(), a: at.a.clone(), b: at.b.clone(), scale: SCALE as f32 }
    }

    /// Of the loss ½·mean‖y − wanted‖².
    fn dy<Q: HostQueue>(&self, queue: &Q, at: &Pair) -> Outcome<Matrix> {
        let y = self.layer(at).forward(queue, &self.x, None)?;
        Ok(y.plus_scaled(-1.0, &self.wanted).scaled(1.0 / M as f64))
    }

    fn gradients<Q: HostQueue>(&self, queue: &Q, at: &Pair) -> Outcome<Gradients> {
        self.layer(at).backward(queue, &self.x, &self.dy(queue, at)?, None)
    }

    fn gradient<Q: HostQueue>(&self, queue: &Q, at: &Pair) -> Outcome<Pair> {
        let gradients = self.gradients(queue, at)?;
        Ok(Pair { a: gradients.a, b: gradients.b })
    }

    /// H·v, of LoRA's own calls: x does not depend on the adapter.
    fn hessian<Q: HostQueue>(&self, queue: &Q, at: &Pair, v: &Pair) -> Outcome<Pair> {
        let dy = self.dy(queue, at)?;
        // y' = s·(x·A'ᵀ)·Bᵀ + s·(x·Aᵀ)·B'ᵀ, a rank-2r branch without a base.
        let zeros = Matrix::zeros(N, K);
        let branch =
            |a: &Matrix, b: &Matrix| Layer { w: zeros.clone(), a: a.clone(), b: b.clone(), scale: SCALE as f32 };
        let of_a = branch(&v.a, &at.b).forward(queue, &self.x, None)?;
        let dy_tangent = of_a.plus(&branch(&at.a, &v.b).forward(queue, &self.x, None)?).scaled(1.0 / M as f64);
        // dY'ᵀ·H and (dY'·B)ᵀ·x are the gradients of dY'; dYᵀ·H' has an H saved of A', (dY·B')ᵀ·x a B of B'.
        let mut result = Pair::zeros();
        let h_tangent = product(queue, &self.x, &v.a)?;
        let first = BackwardTarget::new(dy_tangent.view())
            .adapter(at.a.view(), at.b.view(), SCALE as f32)
            .a_gradient(Gradient::overwrite(result.a.view_mut()))
            .b_gradient(Gradient::overwrite(result.b.view_mut()));
        let call = Backward::new(self.x.view()).target(first);
        run_backward(queue, call)?;
        let second = BackwardTarget::new(dy.view())
            .adapter(v.a.view(), v.b.view(), SCALE as f32)
            .saved_h_f32(h_tangent.view())
            .a_gradient(Gradient::accumulate(result.a.view_mut()))
            .b_gradient(Gradient::accumulate(result.b.view_mut()));
        let call = Backward::new(self.x.view()).target(second);
        run_backward(queue, call)?;
        Ok(result)
    }

    /// The derivatives of dA, dB and dX along A', B' and x', of the backward of backward: its gradient of dY is y'.
    fn derivative<Q: HostQueue>(&self, queue: &Q, at: &Pair, v: &Pair, of_x: &Matrix) -> Outcome<(Pair, Matrix)> {
        let dy = self.dy(queue, at)?;
        let (mut along, mut y, mut dx) = (Pair::zeros(), Matrix::zeros(M, N), Matrix::zeros(M, K));
        let call = DoubleBackward::new(self.x.view(), dy.view())
            .dense(self.w.view())
            .adapter(at.a.view(), at.b.view(), SCALE as f32)
            .x_cotangent(of_x.view())
            .a_cotangent(v.a.view())
            .b_cotangent(v.b.view())
            .dy_gradient(Gradient::overwrite(y.view_mut()))
            .x_gradient(Gradient::overwrite(dx.view_mut()))
            .a_gradient(Gradient::overwrite(along.a.view_mut()))
            .b_gradient(Gradient::overwrite(along.b.view_mut()));
        let mut scratch = vec![0; lora::double_backward_workspace(queue, &call).map_err(text)?];
        lora::double_backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        let of_dy = self.layer(at).backward(queue, &self.x, &y.scaled(1.0 / M as f64), None)?;
        Ok((along.plus_scaled(1.0, &Pair { a: of_dy.a, b: of_dy.b }), dx.plus(&of_dy.x)))
    }

    /// The adapter after so many inner steps, and all before it.
    fn inner<Q: HostQueue>(&self, queue: &Q, from: &Pair, steps: usize) -> Outcome<Vec<Pair>> {
        let mut all = vec![from.clone()];
        for _ in 0..steps {
            let at = &all[all.len() - 1];
            all.push(at.plus_scaled(-ETA, &self.gradient(queue, at)?));
        }
        Ok(all)
    }
}

pub fn perk<Q: HostQueue>(queue: &Q) -> Outcome {
    let (inner, outer, from) = (Problem::new("inner"), Problem::new("outer"), Pair::random("from"));
    // The product with the second derivatives, against differences of gradients.
    let v = Pair::random("direction");
    let hessian = inner.hessian(queue, &from, &v)?;
    let h = 1.0 / 32.0;
    // Where x moves too, or stays.
    for of_x in [Matrix::random("perk x direction", M, K), Matrix::zeros(M, K)] {
        let at = |offset: f64| {
            let x = inner.x.plus_scaled(offset, &of_x);
            let moved = Problem { w: inner.w.clone(), x, wanted: inner.wanted.clone() };
            moved.gradients(queue, &from.plus_scaled(offset, &v))
        };
        let points = [at(-2.0 * h)?, at(-h)?, at(h)?, at(2.0 * h)?];
        let of = |part: fn(&Gradients) -> &Matrix| slope(points.each_ref().map(|point| part(point).clone()), h);
        let (along, dx) = inner.derivative(queue, &from, &v, &of_x)?;
        along.near("the derivative", &Pair { a: of(|point| &point.a), b: of(|point| &point.b) })?;
        near("dX'", &dx, &of(|point| &point.x))?;
        if of_x.norm() == 0.0 {
            hessian.near("H·v", &along)?;
        }
    }

    // The meta-gradient: back through the inner steps, newest first; cut off after the last one alone it is another.
    let path = inner.inner(queue, &from, STEPS)?;
    let through = |steps: usize| {
        let mut gradient = outer.gradient(queue, &path[STEPS])?;
        for at in path[STEPS - steps..STEPS].iter().rev() {
            gradient = gradient.plus_scaled(-ETA, &inner.hessian(queue, at, &gradient)?);
        }
        Ok::<_, String>(gradient)
    };
    let loss = |from: &Pair| {
        let adapted = inner.inner(queue, from, STEPS)?.pop().expect("the last");
        Ok::<_, String>(outer.dy(queue, &adapted)?.norm().powi(2) * M as f64 / 2.0)
    };
    let all = through(STEPS)?;
    let expected = all.a.dot(&v.a) + all.b.dot(&v.b);
    let step = 1e-2;
    let difference = (loss(&from.plus_scaled(step, &v))? - loss(&from.plus_scaled(-step, &v))?) / (2.0 * step);
    assert!((difference - expected).abs() < 2e-3 * expected.abs().max(1.0), "{difference}, expected {expected}");
    apart("a truncated meta-gradient", &through(1)?.a, &all.a)?;

    // Problems are served together: each segment of rows has the adapter of its problem.
    let others = [path[STEPS].clone(), Pair::random("another")];
    let adapters = [0, 1].map(|i: usize| Adapter::new(others[i].a.view(), others[i].b.view(), SCALE as f32));
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let segments = [Segment::new(0..5, Some(1)), Segment::new(5..M, Some(0))];
    let mut y = Matrix::zeros(M, N);
    let target = Target::dense(inner.w.view(), y.view_mut()).table(&table);
    let call = Forward::new(inner.x.view()).target(target).segments(Vector::whole(&segments));
    run_forward(queue, call)?;
    let of = [0, 1].map(|i: usize| inner.layer(&others[i]).forward(queue, &inner.x, None));
    let [first, second] = of;
    let (first, second) = (first?, second?);
    near("segments", &y, &Matrix::from(M, N, |i, j| if i < 5 { second.at(i, j) } else { first.at(i, j) }))
}
