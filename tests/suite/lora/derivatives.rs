//! The reference's gradients against central differences of the reference's forward. y is linear in each number alone, so a difference is the derivative but for f64's roundings, and of the
//! magnitude's gradient those of y to f32.

use peft_kernels::lora::{self, Backward, BackwardTarget, Dropout, Forward, Gradient, MagnitudeGradient, Target};
use peft_kernels::reference::{Terms, lora as reference};
use peft_kernels::{Cpu, Mat, MatMut, Tensor, Vector, Workspace};

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
    /// Over a norm that is a constant: the row scale.
    magnitude: Vec<f32>,
    dy: Vec<f32>,
}

impl Layer {
    /// A power of two, so that the quotient is exact.
    const NORM: f32 = 4.0;

    fn row_scale(&self) -> Vec<f32> {
        self.magnitude.iter().map(|magnitude| magnitude / Self::NORM).collect()
    }
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
            magnitude: list(n),
            dy: list(M * n),
        };
        let layers = LAYERS.iter().map(layer).collect();
        Self { x: list(M * K), layers, dropout }
    }

    /// Calls `run` with the forward call of both layers.
    fn with_forward<R>(&self, y: &mut [Vec<f32>], run: impl FnOnce(Forward<'_, f32, f32, Cpu>) -> R) -> R {
        let scales: Vec<_> = self.layers.iter().map(Layer::row_scale).collect();
        let mut call = Forward::new(Mat::new(&self.x, M, K).unwrap());
        for (((layer, y), g), &(n, rank, scale)) in self.layers.iter().zip(y).zip(&scales).zip(&LAYERS) {
            let target = Target::dense(Mat::new(&layer.w, n, K).unwrap(), MatMut::new(y, M, n).unwrap());
            let target =
                target.adapter(Mat::new(&layer.a, rank, K).unwrap(), Mat::new(&layer.b, n, rank).unwrap(), scale);
            call = call.target(target.bias(Vector::whole(&layer.bias)).row_scale(Vector::whole(g)));
        }
        run(match self.dropout {
            Some(dropout) => call.dropout(dropout),
            None => call,
        })
    }

    fn outputs() -> Vec<Vec<f32>> {
        LAYERS.iter().map(|&(n, ..)| vec![0.0f32; M * n]).collect()
    }

    /// Σ dY∘Y over both layers.
    fn loss(&self) -> f64 {
        let terms = self.with_forward(&mut Self::outputs(), |call| reference::forward_terms(&call).unwrap());
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
        let scales: Vec<_> = self.layers.iter().map(Layer::row_scale).collect();
        let mut call = Backward::new(Mat::new(&self.x, M, K).unwrap())
            .x_gradient(Gradient::overwrite(MatMut::new(&mut dx, M, K).unwrap()));
        let layers = self.layers.iter().zip(&mut gradients).zip(&scales).zip(&LAYERS);
        for (((layer, (da, db, dbias)), g), &(n, rank, scale)) in layers {
            let a: Tensor<'_, f32, Cpu, 3> = Mat::new(&layer.a, rank, K).unwrap().into();
            let target = BackwardTarget::new(Mat::new(&layer.dy, M, n).unwrap())
                .dense(Mat::new(&layer.w, n, K).unwrap())
                .adapter(a, Mat::new(&layer.b, n, rank).unwrap(), scale)
                .row_scale(Vector::whole(g))
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

    /// From the y that forward writes.
    fn magnitude_gradients(&self) -> Vec<Vec<Terms>> {
        let mut y = Self::outputs();
        self.with_forward(&mut y, |call| lora::forward(&Cpu, call, Workspace::none()).unwrap());
        let of_layer = |((layer, y), &(n, ..)): ((&Layer, &Vec<f32>), &(usize, usize, f32))| {
            let mut unused = vec![0.0f32; n];
            let (dy, y) = (Mat::new(&layer.dy, M, n).unwrap(), Mat::new(y, M, n).unwrap());
            let to = Gradient::overwrite(MatMut::new(&mut unused, 1, n).unwrap());
            let call = MagnitudeGradient::<f32, Cpu>::new(dy, y, Vector::whole(&layer.magnitude), to);
            reference::magnitude_gradient_terms(&call.bias(Vector::whole(&layer.bias))).unwrap()
        };
        self.layers.iter().zip(&y).zip(&LAYERS).map(of_layer).collect()
    }

    /// The derivative of the loss by each number of a list, against a gradient.
    fn check(
        &mut self,
        name: &str,
        of: impl Fn(&mut Self) -> &mut Vec<f32>,
        gradient: &[Terms],
        unit: f64,
    ) -> Result<(), String> {
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
            if (difference - terms.value).abs() > unit * (1.0 + terms.magnitude) {
                return Err(format!("{name} {i}: {}, the difference is {difference}", terms.value));
            }
        }
        Ok(())
    }
}

fn central_differences() -> Result<(), String> {
    const UNIT: f64 = 1e-10;
    for seed in 0..4 {
        let dropout = (seed % 2 == 1).then(|| Dropout::new(0.375, seed, 9).unwrap());
        let mut model = Model::new(seed, dropout);
        for magnitude in model.layers.iter_mut().flat_map(|layer| &mut layer.magnitude) {
            *magnitude = if *magnitude == 0.0 { 1.0 } else { *magnitude };
        }
        let (gradients, magnitudes) = (model.gradients(), model.magnitude_gradients());
        model.check("x", |model| &mut model.x, &gradients.x, UNIT)?;
        for (i, target) in gradients.targets.iter().enumerate() {
            model.check("a", |model| &mut model.layers[i].a, &target.a, UNIT)?;
            model.check("b", |model| &mut model.layers[i].b, &target.b, UNIT)?;
            model.check("bias", |model| &mut model.layers[i].bias, &target.bias, UNIT)?;
            model.check("magnitude", |model| &mut model.layers[i].magnitude, &magnitudes[i], 2f64.powi(-23))?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::backward::central_differences", central_differences);
}
