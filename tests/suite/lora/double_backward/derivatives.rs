//! The reference's gradients against central differences of what the reference's backward makes. dX, dA and dB are linear in each number alone, so a
//! difference is the derivative but for f64's roundings.

use peft_kernels::lora::{Backward, BackwardTarget, DoubleBackward, Gradient};
use peft_kernels::reference::{Terms, lora as reference};
use peft_kernels::{Cpu, Layout, Tensor, TensorMut};

use crate::numbers::Random;
use crate::queues::Trials;

const BATCHES: usize = 2;
const M: usize = 3;
const N: usize = 5;
const K: usize = 7;
const RANK: usize = 2;
const SCALE: f32 = -0.625;

/// Numbers of [batches, rows, columns].
struct List {
    values: Vec<f32>,
    extents: [usize; 3],
}

impl List {
    fn view(&self) -> Tensor<'_, f32, Cpu, 3> {
        Tensor::with_layout(&self.values[..], Layout::contiguous(self.extents)).expect("as many as its extents")
    }

    fn zeros(extents: [usize; 3]) -> Self {
        Self { values: vec![0.0; extents.iter().product()], extents }
    }

    fn gradient(&mut self) -> Gradient<'_, f32, Cpu> {
        let layout = Layout::contiguous(self.extents);
        Gradient::overwrite(TensorMut::with_layout(&mut self.values[..], layout).expect("as many as its extents"))
    }

    fn dot(&self, terms: &[Terms]) -> f64 {
        assert_eq!(self.values.len(), terms.len());
        self.values.iter().zip(terms).map(|(&value, terms)| f64::from(value) * terms.value).sum()
    }
}

struct Model {
    x: List,
    dy: List,
    w: List,
    a: List,
    b: List,
    ux: List,
    ua: List,
    ub: List,
}

impl Model {
    /// With factors for each batch, or for all.
    fn new(seed: u64, factors: usize) -> Self {
        let mut random = Random(seed);
        // Few bits, so that a difference is a number of f32 as well.
        let mut list = |extents: [usize; 3]| {
            let values = (0..extents.iter().product()).map(|_| (random.real() * 256.0).round() as f32 / 64.0);
            List { values: values.collect(), extents }
        };
        Self {
            x: list([BATCHES, M, K]),
            dy: list([BATCHES, M, N]),
            w: list([1, N, K]),
            a: list([factors, RANK, K]),
            b: list([factors, N, RANK]),
            ux: list([BATCHES, M, K]),
            ua: list([factors, RANK, K]),
            ub: list([factors, N, RANK]),
        }
    }

    /// ⟨u_x, dX⟩ + ⟨u_a, dA⟩ + ⟨u_b, dB⟩ of the reference's backward.
    fn loss(&self) -> f64 {
        let [mut dx, mut da, mut db] = [&self.x, &self.a, &self.b].map(|of| List::zeros(of.extents));
        let target = BackwardTarget::new(self.dy.view())
            .dense(self.w.view())
            .adapter(self.a.view(), self.b.view(), SCALE)
            .a_gradient(da.gradient())
            .b_gradient(db.gradient());
        let call = Backward::new(self.x.view()).target(target).x_gradient(dx.gradient());
        let terms = reference::backward_terms::<f32, f32>(&call).unwrap();
        let of = &terms.targets[0];
        self.ux.dot(&terms.x) + self.ua.dot(&of.a) + self.ub.dot(&of.b)
    }

    fn gradients(&self) -> reference::DoubleBackwardTerms {
        let [mut of_dy, mut of_x, mut of_a, mut of_b] =
            [&self.dy, &self.x, &self.a, &self.b].map(|of| List::zeros(of.extents));
        let call = DoubleBackward::new(self.x.view(), self.dy.view())
            .dense(self.w.view())
            .adapter(self.a.view(), self.b.view(), SCALE)
            .x_cotangent(self.ux.view())
            .a_cotangent(self.ua.view())
            .b_cotangent(self.ub.view())
            .dy_gradient(of_dy.gradient())
            .x_gradient(of_x.gradient())
            .a_gradient(of_a.gradient())
            .b_gradient(of_b.gradient());
        reference::double_backward_terms::<f32, f32>(&call).unwrap()
    }

    /// The derivative of the loss by each number of a list, against a gradient.
    fn check(&mut self, name: &str, of: impl Fn(&mut Self) -> &mut List, gradient: &[Terms]) -> Result<(), String> {
        const STEP: f32 = 0.125;
        const UNIT: f64 = 1e-10;
        assert_eq!(of(self).values.len(), gradient.len(), "{name}");
        for (i, terms) in gradient.iter().enumerate() {
            let mut at = |offset: f32| {
                let before = of(self).values[i];
                of(self).values[i] = before + offset;
                let loss = self.loss();
                of(self).values[i] = before;
                loss
            };
            let difference = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
            if (difference - terms.value).abs() > UNIT * (1.0 + terms.magnitude) {
                return Err(format!("{name} {i}: {}, the difference is {difference}", terms.value));
            }
        }
        Ok(())
    }
}

fn central_differences() -> Result<(), String> {
    for seed in 0..4 {
        let mut model = Model::new(seed, [1, BATCHES][seed as usize % 2]);
        let gradients = model.gradients();
        model.check("dy", |model| &mut model.dy, &gradients.dy)?;
        model.check("x", |model| &mut model.x, &gradients.x)?;
        model.check("a", |model| &mut model.a, &gradients.a)?;
        model.check("b", |model| &mut model.b, &gradients.b)?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::double_backward::central_differences", central_differences);
}
