//! The reference's gradients against central differences of the reference's forward. y is linear in each number alone, so a difference is the derivative but for f64's roundings.

use peft_kernels::lora::{Backward, BackwardTarget, Dropout, Forward, Gradient, Middle, Target};
use peft_kernels::reference::{Terms, lora as reference};
use peft_kernels::{Cpu, Mat, MatMut, Vector};

use crate::numbers::Random;
use crate::queues::Trials;

const M: usize = 3;
const K: usize = 7;
const N: usize = 5;
const RANK: usize = 4;
const SCALE: f32 = 1.5;

/// Which parts there are, and B's ranks where there is a core.
#[derive(Clone, Copy)]
struct Parts {
    scale: bool,
    gate: bool,
    core: Option<usize>,
    ranks: Option<&'static [u32]>,
}

struct Model {
    parts: Parts,
    x: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    scale: Vec<f32>,
    gate: Vec<f32>,
    core: Vec<f32>,
    row_scale: Option<Vec<f32>>,
    dy: Vec<f32>,
    dropout: Option<Dropout>,
}

impl Model {
    fn new(seed: u64, parts: Parts) -> Self {
        let mut random = Random(seed);
        // Few bits, so that a difference is a number of f32 as well.
        let mut list = |count: usize| (0..count).map(|_| (random.real() * 256.0).round() as f32 / 64.0).collect();
        let after = parts.core.unwrap_or(RANK);
        let (x, a, b, dy) = (list(M * K), list(RANK * K), list(N * after), list(M * N));
        let (scale, mut gate, core): (_, Vec<f32>, _) = (list(RANK), list(M * RANK), list(after * RANK));
        gate[2] = 0.0;
        let row_scale = (!seed.is_multiple_of(3)).then(|| list(N));
        let dropout = (seed % 2 == 1).then(|| Dropout::new(0.375, seed, 9).unwrap());
        Self { parts, x, a, b, scale, gate, core, row_scale, dy, dropout }
    }

    fn after(&self) -> usize {
        self.parts.core.unwrap_or(RANK)
    }

    fn middle(&self) -> Middle<'_, f32, Cpu> {
        let mut middle = Middle::new();
        if self.parts.scale {
            middle = middle.scale(Mat::new(&self.scale, 1, RANK).unwrap());
        }
        if self.parts.gate {
            middle = middle.gate(Mat::new(&self.gate, M, RANK).unwrap());
        }
        if let Some(after) = self.parts.core {
            middle = middle.core(Mat::new(&self.core, after, RANK).unwrap());
        }
        if let Some(ranks) = self.parts.ranks {
            middle = middle.ranks(ranks);
        }
        middle
    }

    /// Σ dY∘Y.
    fn loss(&self) -> f64 {
        let mut y = vec![0.0f32; M * N];
        let mut target = Target::branch_only(MatMut::new(&mut y, M, N).unwrap())
            .adapter(Mat::new(&self.a, RANK, K).unwrap(), Mat::new(&self.b, N, self.after()).unwrap(), SCALE)
            .middle(self.middle());
        if let Some(g) = &self.row_scale {
            target = target.row_scale(Vector::whole(g));
        }
        let mut call = Forward::new(Mat::new(&self.x, M, K).unwrap()).target(target);
        if let Some(dropout) = self.dropout {
            call = call.dropout(dropout);
        }
        let terms = reference::forward_terms::<f32, f32>(&call).unwrap();
        terms[0].iter().zip(&self.dy).map(|(y, &dy)| y.value * f64::from(dy)).sum()
    }

    fn gradients(&self) -> reference::GradientTerms {
        let matrix = |rows, columns| vec![0.0f32; rows * columns];
        let after = self.after();
        let (mut dx, mut da, mut db) = (matrix(M, K), matrix(RANK, K), matrix(N, after));
        let (mut dscale, mut dgate, mut dcore) = (matrix(1, RANK), matrix(M, RANK), matrix(after, RANK));
        let mut target = BackwardTarget::new(Mat::new(&self.dy, M, N).unwrap())
            .adapter(Mat::new(&self.a, RANK, K).unwrap(), Mat::new(&self.b, N, after).unwrap(), SCALE)
            .middle(self.middle())
            .a_gradient(Gradient::overwrite(MatMut::new(&mut da, RANK, K).unwrap()))
            .b_gradient(Gradient::overwrite(MatMut::new(&mut db, N, after).unwrap()));
        if let Some(g) = &self.row_scale {
            target = target.row_scale(Vector::whole(g));
        }
        if self.parts.scale {
            target = target.scale_gradient(Gradient::overwrite(MatMut::new(&mut dscale, 1, RANK).unwrap()));
        }
        if self.parts.gate {
            target = target.gate_gradient(Gradient::overwrite(MatMut::new(&mut dgate, M, RANK).unwrap()));
        }
        if self.parts.core.is_some() {
            target = target.core_gradient(Gradient::overwrite(MatMut::new(&mut dcore, after, RANK).unwrap()));
        }
        let dx = Gradient::overwrite(MatMut::new(&mut dx, M, K).unwrap());
        let mut call = Backward::new(Mat::new(&self.x, M, K).unwrap()).target(target).x_gradient(dx);
        if let Some(dropout) = self.dropout {
            call = call.dropout(dropout);
        }
        reference::backward_terms::<f32, f32>(&call).unwrap()
    }

    /// The derivative of the loss by each number of a list, against a gradient.
    fn check(&mut self, name: &str, of: impl Fn(&mut Self) -> &mut Vec<f32>, gradient: &[Terms]) -> Result<(), String> {
        const STEP: f32 = 0.125;
        assert_eq!(of(self).len(), gradient.len(), "{name}");
        for (i, terms) in gradient.iter().enumerate() {
            let mut at = |offset: f32| {
                let before = of(self)[i];
                of(self)[i] = before + offset;
                let loss = self.loss();
                of(self)[i] = before;
                loss
            };
            let difference = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            if (difference - terms.value).abs() > 1e-10 * (1.0 + terms.magnitude) {
                return Err(format!("{name} {i}: {}, the difference is {difference}", terms.value));
            }
        }
        Ok(())
    }
}

fn central_differences() -> Result<(), String> {
    let all = Parts { scale: true, gate: true, core: Some(3), ranks: None };
    let listed = Parts { core: None, ranks: Some(&[3, 0]), ..all };
    let alone = |i: usize| Parts { scale: i == 0, gate: i == 1, core: (i == 2).then_some(RANK), ranks: None };
    for (seed, parts) in [all, listed, alone(0), alone(1), alone(2), all, listed].into_iter().enumerate() {
        let mut model = Model::new(seed as u64, parts);
        let gradients = model.gradients();
        let target = &gradients.targets[0];
        model.check("x", |model| &mut model.x, &gradients.x)?;
        model.check("a", |model| &mut model.a, &target.a)?;
        model.check("b", |model| &mut model.b, &target.b)?;
        if parts.scale {
            model.check("scale", |model| &mut model.scale, &target.scale)?;
        }
        if parts.gate {
            model.check("gate", |model| &mut model.gate, &target.gate)?;
        }
        if parts.core.is_some() {
            model.check("core", |model| &mut model.core, &target.core)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::middle::backward::central_differences", central_differences);
}
