//! The reference's gradients against central differences of the reference's forward. y is linear in each number alone, so a difference is the derivative but for f64's roundings.

use peft_kernels::lora::{Backward, BackwardTarget, Dropout, Forward, Gradient, Target};
use peft_kernels::reference::{Terms, lora as reference};
use peft_kernels::{Cpu, Mat, MatMut, Tensor, Vector};

use crate::numbers::Random;
use crate::queues::Trials;

const M: usize = 3;
const K: usize = 9;
/// n, rank and scale of two layers that share x.
const LAYERS: [(usize, usize, f32); 2] = [(4, 2, 1.5), (5, 3, -0.625)];

struct Layer {
    w: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
}

struct Model {
    x: Vec<f32>,
    layers: Vec<Layer>,
    dropout: Option<Dropout>,
}

impl Model {
    fn new(seed: u64, dropout: Option<Dropout>) -> Self {
        let mut random = Random(seed);
        // Few bits, so that a difference is a number of f32 as well.
        let mut list = |count: usize| (0..count).map(|_| (random.real() * 256.0).round() as f32 / 64.0).collect();
        let layer = |&(n, rank, _): &(usize, usize, f32)| Layer {
            w: list(n * K),
            a: list(rank * K),
            b: list(n * rank),
            bias: list(n),
            dy: list(M * n),
        };
        let layers = LAYERS.iter().map(layer).collect();
        Self { x: list(M * K), layers, dropout }
    }

    /// Σ dY∘Y over both layers.
    fn loss(&self) -> f64 {
        let mut y: Vec<_> = LAYERS.iter().map(|&(n, ..)| vec![0.0f32; M * n]).collect();
        let mut call = Forward::new(Mat::new(&self.x, M, K).unwrap());
        for ((layer, y), &(n, rank, scale)) in self.layers.iter().zip(&mut y).zip(&LAYERS) {
            let target = Target::dense(Mat::new(&layer.w, n, K).unwrap(), MatMut::new(y, M, n).unwrap());
            let target =
                target.adapter(Mat::new(&layer.a, rank, K).unwrap(), Mat::new(&layer.b, n, rank).unwrap(), scale);
            call = call.target(target.bias(Vector::whole(&layer.bias)));
        }
        if let Some(dropout) = self.dropout {
            call = call.dropout(dropout);
        }
        let terms = reference::forward_terms::<f32, f32>(&call).unwrap();
        let of_layer = |(layer, y): (&Layer, &Vec<Terms>)| {
            y.iter().zip(&layer.dy).map(|(y, &dy)| y.value * f64::from(dy)).sum::<f64>()
        };
        self.layers.iter().zip(&terms).map(of_layer).sum()
    }

    fn gradients(&self) -> reference::GradientTerms {
        let matrix = |rows, columns| vec![0.0f32; rows * columns];
        let mut dx = matrix(M, K);
        let mut gradients: Vec<_> =
            LAYERS.iter().map(|&(n, rank, _)| (matrix(rank, K), matrix(n, rank), matrix(1, n))).collect();
        let mut call = Backward::new(Mat::new(&self.x, M, K).unwrap())
            .x_gradient(Gradient::overwrite(MatMut::new(&mut dx, M, K).unwrap()));
        for ((layer, (da, db, dbias)), &(n, rank, scale)) in self.layers.iter().zip(&mut gradients).zip(&LAYERS) {
            let a: Tensor<'_, f32, Cpu, 3> = Mat::new(&layer.a, rank, K).unwrap().into();
            let target = BackwardTarget::new(Mat::new(&layer.dy, M, n).unwrap())
                .dense(Mat::new(&layer.w, n, K).unwrap())
                .adapter(a, Mat::new(&layer.b, n, rank).unwrap(), scale)
                .a_gradient(Gradient::overwrite(MatMut::new(da, rank, K).unwrap()))
                .b_gradient(Gradient::overwrite(MatMut::new(db, n, rank).unwrap()))
                .bias_gradient(Gradient::overwrite(MatMut::new(dbias, 1, n).unwrap()));
            call = call.target(target);
        }
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
    for seed in 0..4 {
        let dropout = (seed % 2 == 1).then(|| Dropout::new(0.375, seed, 9).unwrap());
        let mut model = Model::new(seed, dropout);
        let gradients = model.gradients();
        model.check("x", |model| &mut model.x, &gradients.x)?;
        for (i, target) in gradients.targets.iter().enumerate() {
            model.check("a", |model| &mut model.layers[i].a, &target.a)?;
            model.check("b", |model| &mut model.layers[i].b, &target.b)?;
            model.check("bias", |model| &mut model.layers[i].bias, &target.bias)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::backward::central_differences", central_differences);
}
