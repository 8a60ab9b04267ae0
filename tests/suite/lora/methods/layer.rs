//! A layer with an adapter, and the two calls that train it.

use peft_kernels::lora::{self, Adapter, Backward, BackwardTarget, Forward, Gradient, Merge, Middle, Target};
use peft_kernels::{Element, HostQueue, Workspace};

use super::matrix::Matrix;
use super::{Outcome, text};

pub fn run_forward<T: Element, Q: HostQueue>(queue: &Q, call: Forward<'_, T, T, Q>) -> Outcome {
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)
}

pub fn run_backward<T: Element, Q: HostQueue>(queue: &Q, call: Backward<'_, T, T, Q>) -> Outcome {
    let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
    lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)
}

/// `y = x·Wᵀ + s·mid(x·Aᵀ)·Bᵀ`.
pub struct Layer {
    pub w: Matrix,
    pub a: Matrix,
    pub b: Matrix,
    pub scale: f32,
}

/// Of everything that a layer and its middle have.
pub struct Gradients {
    pub x: Matrix,
    pub a: Matrix,
    pub b: Matrix,
    pub scale: Matrix,
    pub gate: Matrix,
    pub core: Matrix,
}

/// Which parts of a middle have gradients.
#[derive(Clone, Copy, Default)]
pub struct Parts {
    pub scale: bool,
    pub gate: bool,
    pub core: bool,
}

pub fn scale_of<'a, Q: HostQueue>(scale: &'a Matrix) -> Middle<'a, f32, Q> {
    Middle::new().scale(scale.view())
}

impl Layer {
    pub fn target<'a, Q: HostQueue>(&'a self, y: &'a mut Matrix) -> Target<'a, f32, f32, Q> {
        Target::dense(self.w.view(), y.view_mut()).adapter(self.a.view(), self.b.view(), self.scale)
    }

    pub fn forward<Q: HostQueue>(&self, queue: &Q, x: &Matrix, middle: Option<Middle<'_, f32, Q>>) -> Outcome<Matrix> {
        let mut y = Matrix::zeros(x.rows, self.w.rows);
        let mut target = self.target(&mut y);
        if let Some(middle) = middle {
            target = target.middle(middle);
        }
        run_forward(queue, Forward::new(x.view()).target(target))?;
        Ok(y)
    }

    /// y, and H = x·Aᵀ as it is before the middle.
    pub fn forward_with_h<Q: HostQueue>(
        &self,
        queue: &Q,
        x: &Matrix,
        middle: Middle<'_, f32, Q>,
    ) -> Outcome<[Matrix; 2]> {
        let (mut y, mut h) = (Matrix::zeros(x.rows, self.w.rows), Matrix::zeros(x.rows, self.a.rows));
        let target = self.target(&mut y).middle(middle).save_h_f32(h.view_mut());
        run_forward(queue, Forward::new(x.view()).target(target))?;
        Ok([y, h])
    }

    /// W with the adapter and what lies between its factors.
    pub fn merged<Q: HostQueue>(&self, queue: &Q, middle: Middle<'_, f32, Q>) -> Outcome<Matrix> {
        let mut merged = self.w.clone();
        let adapter = Adapter::new(self.a.view(), self.b.view(), self.scale);
        let call = Merge::in_place(merged.view_mut()).adapter_with_middle(adapter, middle);
        let mut scratch = vec![0; lora::merge_workspace(queue, &call).map_err(text)?];
        lora::merge(queue, call.workspace(Workspace::new(&mut scratch))).map_err(text)?;
        Ok(merged)
    }

    pub fn backward<Q: HostQueue>(
        &self,
        queue: &Q,
        x: &Matrix,
        dy: &Matrix,
        middle: Option<(Middle<'_, f32, Q>, Parts)>,
    ) -> Outcome<Gradients> {
        self.gradients(queue, x, dy, None, middle)
    }

    /// With frozen factors, of which H alone was kept: x is gone.
    pub fn backward_of_h<Q: HostQueue>(
        &self,
        queue: &Q,
        h: &Matrix,
        dy: &Matrix,
        middle: Middle<'_, f32, Q>,
        parts: Parts,
    ) -> Outcome<Gradients> {
        let gone = Matrix::from(h.rows, self.w.columns, |_, _| f64::NAN);
        self.gradients(queue, &gone, dy, Some(h), Some((middle, parts)))
    }

    fn gradients<Q: HostQueue>(
        &self,
        queue: &Q,
        x: &Matrix,
        dy: &Matrix,
        h: Option<&Matrix>,
        middle: Option<(Middle<'_, f32, Q>, Parts)>,
    ) -> Outcome<Gradients> {
        let (rank, after) = (self.a.rows, self.b.columns);
        let mut gradients = Gradients {
            x: Matrix::zeros(x.rows, x.columns),
            a: Matrix::zeros(rank, x.columns),
            b: Matrix::zeros(self.w.rows, after),
            scale: Matrix::zeros(1, rank),
            gate: Matrix::zeros(x.rows, rank),
            core: Matrix::zeros(after, rank),
        };
        let Gradients { x: dx, a, b, scale, gate, core } = &mut gradients;
        let target = BackwardTarget::new(dy.view()).dense(self.w.view());
        let target = target.adapter(self.a.view(), self.b.view(), self.scale);
        let mut target = match h {
            Some(h) => target.saved_h_f32(h.view()),
            None => target.a_gradient(Gradient::overwrite(a.view_mut())).b_gradient(Gradient::overwrite(b.view_mut())),
        };
        if let Some((middle, parts)) = middle {
            target = target.middle(middle);
            if parts.scale {
                target = target.scale_gradient(Gradient::overwrite(scale.view_mut()));
            }
            if parts.gate {
                target = target.gate_gradient(Gradient::overwrite(gate.view_mut()));
            }
            if parts.core {
                target = target.core_gradient(Gradient::overwrite(core.view_mut()));
            }
        }
        run_backward(queue, Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut())))?;
        Ok(gradients)
    }
}

/// `x·Wᵀ` by the same call without an adapter.
pub fn product<Q: HostQueue>(queue: &Q, x: &Matrix, w: &Matrix) -> Outcome<Matrix> {
    let mut y = Matrix::zeros(x.rows, w.rows);
    run_forward(queue, Forward::<f32, f32, Q>::new(x.view()).target(Target::dense(w.view(), y.view_mut())))?;
    Ok(y)
}
