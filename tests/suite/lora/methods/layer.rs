//! A layer with an adapter, and the two calls that train it.

use peft_kernels::lora::{self, Adapter, Backward, BackwardTarget, Forward, Gradient, Merge, Middle, Target};
use peft_kernels::{HostQueue, Workspace};

use super::matrix::Matrix;
use super::{Outcome, text};

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
        let call = Forward::new(x.view()).target(target);
        let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
        lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        Ok(y)
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
        let mut target = BackwardTarget::new(dy.view())
            .dense(self.w.view())
            .adapter(self.a.view(), self.b.view(), self.scale)
            .a_gradient(Gradient::overwrite(a.view_mut()))
            .b_gradient(Gradient::overwrite(b.view_mut()));
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
        let call = Backward::new(x.view()).target(target).x_gradient(Gradient::overwrite(dx.view_mut()));
        let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        Ok(gradients)
    }
}

/// `x·Wᵀ` by the same call without an adapter.
pub fn product<Q: HostQueue>(queue: &Q, x: &Matrix, w: &Matrix) -> Outcome<Matrix> {
    let mut y = Matrix::zeros(x.rows, w.rows);
    let call = Forward::<f32, f32, Q>::new(x.view()).target(Target::dense(w.view(), y.view_mut()));
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    Ok(y)
}
