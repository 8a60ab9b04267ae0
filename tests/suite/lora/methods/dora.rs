//! DoRA: `W' = (m / |W + s·B·A|) ⊙ (W + s·B·A)` with a magnitude m for each row, the norm a constant of training. Outputs, gradients and the merged weight as
//! Hugging Face's peft makes them: dora.txt, which dora.py has written. At first m is the norm of W's rows and B is 0: the layer is its base. Merged, the norm
//! is to be kept: that of another weight does not give W back.

use peft_kernels::lora::{
    self, Adapter, Backward, BackwardTarget, Forward, Gradient, MagnitudeGradient, Merge, Target, WeightNorm,
};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, HostQueue, Mat, MatMut, Vector, VectorMut, Workspace};

use super::{Outcome, text};
use crate::lora::gradient_case::ALGORITHMS;

const FIXTURES: &str = include_str!("dora.txt");

#[derive(Clone)]
struct Layer {
    /// m, k, n, rank
    shape: [usize; 4],
    scale: f32,
    /// W, bias, A, B, magnitude, x, dY
    given: [Vec<f32>; 7],
    /// y, dx, dA, dB, dbias, dmagnitude, W'
    expected: [Vec<f64>; 7],
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("a number, not {word}"))).collect()
}

fn parse(line: &str) -> Layer {
    let mut fields = line.split(';').map(numbers);
    let mut next = || fields.next().expect("another field");
    let shape = next();
    Layer {
        shape: std::array::from_fn(|i| shape[i] as usize),
        scale: next()[0] as f32,
        given: std::array::from_fn(|_| next().into_iter().map(|value| value as f32).collect()),
        expected: std::array::from_fn(|_| next()),
    }
}

/// Whether these are peft's, which are of f64, up to so many roundings of the terms.
fn close(name: &str, got: &[f32], expected: &[f64], terms: &[Terms], steps: usize) -> Outcome {
    assert_eq!([got.len(), terms.len()], [expected.len(); 2], "{name}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let allowed = terms[i].allowed_error::<f32>(steps);
        if (f64::from(got) - expected).abs() > allowed {
            return Err(format!("{name} {i}: {got}, in peft {expected}, allowed {allowed}"));
        }
    }
    Ok(())
}

fn values(terms: &[Terms]) -> Vec<f64> {
    terms.iter().map(|terms| terms.value).collect()
}

/// What a layer's gradients go to: those of x, A, B and the bias.
struct Gradients([Vec<f32>; 4]);

impl Layer {
    /// The roundings of g: a norm's elements and squares, and the quotient.
    fn scale_steps(&self) -> usize {
        self.shape[1] + self.shape[3] + 40
    }

    fn adapter<Q: HostQueue>(&self) -> Outcome<Adapter<'_, f32, Q>> {
        let ([_, k, n, rank], [_, _, a, b, ..]) = (self.shape, &self.given);
        Ok(Adapter::new(Mat::new(a, rank, k).map_err(text)?, Mat::new(b, n, rank).map_err(text)?, self.scale))
    }

    /// g = magnitude / norm, of W or of another weight
    fn row_scale<Q: HostQueue>(&self, queue: &Q, w: &[f32]) -> Outcome<Vec<f32>> {
        let ([_, k, n, _], magnitude) = (self.shape, &self.given[4]);
        let (mut norm, mut g) = (vec![f32::NAN; n], vec![f32::NAN; n]);
        let call = WeightNorm::new(Mat::new(w, n, k).map_err(text)?, VectorMut::whole(&mut norm));
        let call = call.adapter(self.adapter()?).row_scale(Vector::whole(magnitude), VectorMut::whole(&mut g));
        let mut scratch = vec![0u8; lora::weight_norm_workspace(queue, &call).map_err(text)?];
        lora::weight_norm(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        Ok(g)
    }

    /// Of W, or of the merged weight, then without an adapter and a row scale.
    fn forward_call<'a, Q: HostQueue>(
        &'a self,
        w: &'a [f32],
        g: Option<&'a [f32]>,
        y: &'a mut [f32],
    ) -> Outcome<Forward<'a, f32, f32, Q>> {
        let ([m, k, n, rank], [_, bias, a, b, _, x, _]) = (self.shape, &self.given);
        let y = MatMut::new(y, m, n).map_err(text)?;
        let target = Target::dense(Mat::new(w, n, k).map_err(text)?, y).bias(Vector::whole(bias));
        let (a, b) = (Mat::new(a, rank, k).map_err(text)?, Mat::new(b, n, rank).map_err(text)?);
        let target = match g {
            Some(g) => target.adapter(a, b, self.scale).row_scale(Vector::whole(g)),
            None => target,
        };
        Ok(Forward::new(Mat::new(x, m, k).map_err(text)?).target(target))
    }

    fn forward<Q: HostQueue>(&self, queue: &Q, w: &[f32], g: Option<&[f32]>) -> Outcome<(Vec<f32>, usize)> {
        let [m, _, n, _] = self.shape;
        let mut y = vec![f32::NAN; m * n];
        let call = self.forward_call(w, g, &mut y)?;
        let steps = lora::forward_kernel(queue, &call).map_err(text)?.rounding_steps;
        let mut scratch = vec![0u8; lora::forward_workspace(queue, &call).map_err(text)?];
        lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        Ok((y, steps + self.scale_steps()))
    }

    fn gradients(&self) -> Gradients {
        let [m, k, n, rank] = self.shape;
        Gradients([m * k, rank * k, n * rank, n].map(|elements| vec![f32::NAN; elements]))
    }

    fn backward_call<'a, Q: HostQueue>(
        &'a self,
        g: &'a [f32],
        Gradients([dx, da, db, dbias]): &'a mut Gradients,
    ) -> Outcome<Backward<'a, f32, f32, Q>> {
        let ([m, k, n, rank], [w, _, a, b, _, x, dy]) = (self.shape, &self.given);
        let matrix = |list, rows, columns| Mat::new(list, rows, columns).map_err(text);
        fn gradient<Q: HostQueue>(list: &mut [f32], rows: usize, columns: usize) -> Outcome<MatMut<'_, f32, Q>> {
            MatMut::new(list, rows, columns).map_err(text)
        }
        let target = BackwardTarget::new(matrix(dy, m, n)?)
            .dense(matrix(w, n, k)?)
            .adapter(matrix(a, rank, k)?, matrix(b, n, rank)?, self.scale)
            .row_scale(Vector::whole(g))
            .a_gradient(Gradient::overwrite(gradient(da, rank, k)?))
            .b_gradient(Gradient::overwrite(gradient(db, n, rank)?))
            .bias_gradient(Gradient::overwrite(gradient(dbias, 1, n)?));
        Ok(Backward::new(matrix(x, m, k)?).target(target).x_gradient(Gradient::overwrite(gradient(dx, m, k)?)))
    }

    fn check_gradients<Q: HostQueue>(&self, queue: &Q, g: &[f32], algorithm: i32) -> Outcome {
        let (mut gradients, mut unused) = (self.gradients(), self.gradients());
        let call = self.backward_call(g, &mut gradients)?.algorithm(algorithm);
        let steps = lora::backward_kernel(queue, &call).map_err(text)?.rounding_steps + self.scale_steps();
        let mut scratch = vec![0u8; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        let terms = reference::lora::backward_terms(&self.backward_call::<Cpu>(g, &mut unused)?).map_err(text)?;
        let [of_target] = &terms.targets[..] else { panic!("one target") };
        let (Gradients([dx, da, db, dbias]), [_, x, a, b, bias, ..]) = (gradients, &self.expected);
        close("dx", &dx, x, &terms.x, steps)?;
        close("da", &da, a, &of_target.a, steps)?;
        close("db", &db, b, &of_target.b, steps)?;
        close("dbias", &dbias, bias, &of_target.bias, steps)
    }

    /// From a y whose elements have these terms and roundings.
    fn check_magnitude<Q: HostQueue>(&self, queue: &Q, y: &[f32], of_y: &[Terms], y_steps: usize) -> Outcome {
        let ([m, _, n, _], [_, bias, _, _, magnitude, _, dy]) = (self.shape, &self.given);
        let mut gradient = vec![f32::NAN; n];
        let to = Gradient::overwrite(MatMut::new(&mut gradient, 1, n).map_err(text)?);
        let (of_dy, of) = (Mat::new(dy, m, n).map_err(text)?, Mat::new(y, m, n).map_err(text)?);
        let call = MagnitudeGradient::new(of_dy, of, Vector::whole(magnitude), to).bias(Vector::whole(bias));
        let steps = lora::magnitude_gradient_kernel(queue, &call).map_err(text)?.rounding_steps;
        let mut scratch = vec![0u8; lora::magnitude_gradient_workspace(queue, &call).map_err(text)?];
        lora::magnitude_gradient(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        for (column, (&got, &expected)) in gradient.iter().zip(&self.expected[5]).enumerate() {
            let of_row = |row: usize| {
                let (terms, dy) = (&of_y[row * n + column], f64::from(dy[row * n + column]));
                let own = steps as f64 * 2f64.powi(-23) * terms.magnitude;
                (dy / f64::from(magnitude[column])).abs() * (terms.allowed_error::<f32>(y_steps) + own)
            };
            let allowed = f64::EPSILON + (0..m).map(of_row).sum::<f64>() + f64::from(got.abs()) * 2f64.powi(-23);
            if (f64::from(got) - expected).abs() > allowed {
                return Err(format!("dmagnitude {column}: {got}, in peft {expected}, allowed {allowed}"));
            }
        }
        Ok(())
    }

    /// The same with another x and bias.
    fn with(&self, x: &[f32], bias: Vec<f32>) -> Self {
        let mut layer = self.clone();
        (layer.given[1], layer.given[5]) = (bias, x.to_vec());
        layer
    }

    /// peft's dropout, where the base under g sees x̃ as well: of two calls the sum of y, and of their gradients that of x.
    fn check_dropout<Q: HostQueue>(&self, queue: &Q, g: &[f32]) -> Outcome {
        let ([m, k, n, rank], [w, bias, a, b, _, x, dy]) = (self.shape, &self.given);
        // What is dropped counts 0, and what is not 2: x − x̃ has no roundings.
        let mask = |i: usize| [0.0f32, 2.0, 2.0][i % 3];
        let kept: Vec<_> = x.iter().enumerate().map(|(i, x)| mask(i) * x).collect();
        let rest: Vec<_> = x.iter().zip(&kept).map(|(x, kept)| x - kept).collect();
        let (of_rest, of_kept) = (self.with(&rest, bias.clone()), self.with(&kept, vec![0.0; n]));
        let ((y, _), (more, steps)) = (of_rest.forward(queue, w, None)?, of_kept.forward(queue, w, Some(g))?);
        let y: Vec<_> = y.iter().zip(&more).map(|(y, more)| y + more).collect();
        let scale = f64::from(self.scale);
        // Σ of three factors, and what its roundings are relative to.
        let sum = |terms: &mut dyn Iterator<Item = [f32; 2]>, by: f64| {
            terms.fold(Terms::default(), |sum, [a, b]| {
                let term = f64::from(a) * f64::from(b) * by;
                Terms { value: sum.value + term, magnitude: sum.magnitude + term.abs() }
            })
        };
        let total = |parts: &[Terms]| Terms {
            value: parts.iter().map(|part| part.value).sum(),
            magnitude: parts.iter().map(|part| part.magnitude).sum::<f64>() * 3.0,
        };
        let terms = (0..m * n).map(|i| {
            let (row, column) = (i / n, i % n);
            let (x, kept, g) = (&x[row * k..][..k], &kept[row * k..][..k], f64::from(g[column]));
            let of = |x: &[f32], by| sum(&mut (0..k).map(|i| [x[i], w[column * k + i]]), by);
            let branch = |r: usize| {
                let by = g * scale * f64::from(b[column * rank + r]);
                sum(&mut (0..k).map(|i| [kept[i], a[r * k + i]]), by)
            };
            let bias = sum(&mut std::iter::once([bias[column], 1.0]), 1.0);
            // (g − 1) as two terms, as roundings see it.
            let parts = [of(x, 1.0), of(kept, -1.0), of(kept, g), bias];
            total(&parts.into_iter().chain((0..rank).map(branch)).collect::<Vec<_>>())
        });
        let terms: Vec<_> = terms.collect();
        close("y with dropout", &y, &values(&terms), &terms, steps + self.scale_steps() + 1)?;

        let mut of_base = vec![f32::NAN; m * k];
        let matrix = |list, rows, columns| Mat::new(list, rows, columns).map_err(text);
        let target = BackwardTarget::<f32, f32, Q>::new(matrix(dy, m, n)?).dense(matrix(w, n, k)?);
        let to = Gradient::overwrite(MatMut::new(&mut of_base, m, k).map_err(text)?);
        let call = Backward::new(matrix(&rest, m, k)?).target(target).x_gradient(to);
        let mut scratch = vec![0u8; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        let mut gradients = self.gradients();
        let call = of_kept.backward_call(g, &mut gradients)?;
        let steps = lora::backward_kernel(queue, &call).map_err(text)?.rounding_steps;
        let mut scratch = vec![0u8; lora::backward_workspace(queue, &call).map_err(text)?];
        lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
        let of_x = |(i, (base, scaled)): (usize, (&f32, &f32))| base + mask(i) * (scaled - base);
        let dx: Vec<_> = of_base.iter().zip(&gradients.0[0]).enumerate().map(of_x).collect();
        let terms = (0..m * k).map(|i| {
            let (row, column, by) = (i / k, i % k, f64::from(mask(i)));
            let of = |j: usize, by| sum(&mut std::iter::once([dy[row * n + j], w[j * k + column]]), by);
            let branch = |j: usize| {
                let by = by * scale * f64::from(g[j]) * f64::from(dy[row * n + j]);
                sum(&mut (0..rank).map(|r| [b[j * rank + r], a[r * k + column]]), by)
            };
            let parts = |j: usize| [of(j, 1.0), of(j, -by), of(j, by * f64::from(g[j])), branch(j)];
            total(&(0..n).flat_map(parts).collect::<Vec<_>>())
        });
        let terms: Vec<_> = terms.collect();
        close("dx with dropout", &dx, &values(&terms), &terms, steps + self.scale_steps() + 3)
    }

    /// g ⊙ (W + s·B·A) is peft's merged weight, forward makes the same y of it, and W comes back from it.
    fn check_merged<Q: HostQueue>(&self, queue: &Q, g: &[f32], of_y: &[Terms]) -> Outcome {
        let ([_, k, n, rank], [w, ..]) = (self.shape, &self.given);
        let mut merged = vec![f32::NAN; n * k];
        let call = Merge::new(Mat::new(w, n, k).map_err(text)?, MatMut::new(&mut merged, n, k).map_err(text)?);
        lora::merge(queue, call.adapter(self.adapter()?).row_scale(Vector::whole(g))).map_err(text)?;
        let terms =
            |i: usize| Terms { value: self.expected[6][i], magnitude: (4.0 + rank as f64) * f64::from(g[i / k]) };
        let terms: Vec<_> = (0..n * k).map(terms).collect();
        close("the merged weight", &merged, &self.expected[6], &terms, self.scale_steps() + 4 * rank)?;
        let (y, steps) = self.forward(queue, &merged, None)?;
        close("y of the merged weight", &y, &self.expected[0], of_y, steps + 4 * rank + 2)?;
        let original: Vec<_> = w.iter().map(|&weight| f64::from(weight)).collect();
        let terms: Vec<_> = original.iter().map(|&value| Terms { value, magnitude: 4.0 + rank as f64 }).collect();
        let unmerged = |g: &[f32]| {
            let mut weights = merged.clone();
            let call = Merge::in_place(MatMut::new(&mut weights, n, k).map_err(text)?);
            lora::unmerge(queue, call.adapter(self.adapter()?).row_scale(Vector::whole(g))).map_err(text)?;
            Ok::<_, String>(weights)
        };
        let made_again = unmerged(&self.row_scale(queue, &merged)?)?;
        assert!(close("", &made_again, &original, &terms, 1000).is_err(), "W by the norm of the merged weight");
        close("the weight before", &unmerged(g)?, &original, &terms, 8 * rank + 8)
    }

    /// With B = 0, and as the magnitude the norms of W's rows, which are its outputs, the layer is its base.
    fn check_first_step<Q: HostQueue>(&self, queue: &Q) -> Outcome {
        let [_, k, ..] = self.shape;
        let mut first = Layer { given: self.given.clone(), expected: self.expected.clone(), ..*self };
        first.given[3].fill(0.0);
        let norm = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt() as f32;
        first.given[4] = first.given[0].chunks(k).map(norm).collect();
        let g = first.row_scale(queue, &first.given[0])?;
        let (y, _) = first.forward(queue, &first.given[0], Some(&g))?;
        let (base, _) = first.forward(queue, &first.given[0], None)?;
        match y.iter().zip(&base).position(|(y, base)| (y - base).abs() > 1e-4) {
            None => Ok(()),
            Some(i) => Err(format!("the first step, {i}: {}, of the base {}", y[i], base[i])),
        }
    }
}

pub fn dora<Q: HostQueue>(queue: &Q) -> Outcome {
    assert_eq!(FIXTURES.lines().count(), 3);
    for layer in FIXTURES.lines().map(parse) {
        layer.check_first_step(queue)?;
        let g = layer.row_scale(queue, &layer.given[0])?;
        let (y, steps) = layer.forward(queue, &layer.given[0], Some(&g))?;
        let mut unused = vec![f32::NAN; y.len()];
        let terms = layer.forward_call::<Cpu>(&layer.given[0], Some(&g), &mut unused)?;
        let terms = reference::lora::forward_terms(&terms).map_err(text)?.remove(0);
        close("y", &y, &layer.expected[0], &terms, steps)?;
        let on_cpu = queue.place() == peft_kernels::Place::Cpu;
        for algorithm in ALGORITHMS.into_iter().take(if on_cpu { 1 } else { ALGORITHMS.len() }) {
            layer.check_gradients(queue, &g, algorithm)?;
        }
        layer.check_magnitude(queue, &y, &terms, steps)?;
        layer.check_merged(queue, &g, &terms)?;
        layer.check_dropout(queue, &g)?;
    }
    Ok(())
}
