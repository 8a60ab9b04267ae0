//! AdaLoRA (Q. Zhang et al., *Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning*, ICLR 2023).
//!
//! `ΔW = s'·P·(Λ ⊙ Q)` with P [n, r] = B, Q [r, k] = A and Λ [r] = E, s' = α / (r₀ + 10⁻⁵) of the first rank r₀, whatever ranks are left. E is 0 at first. The
//! loss has the mean of all layers' ‖Q·Qᵀ − I‖ and ‖Pᵀ·P − I‖, of Frobenius and not squared, whose gradient is `2·(G − I)·A / ‖G − I‖`. A rank's importance is
//! that of E_j, of row j of A and of column j of B: averages of |p·∂p| times averages of their deviations, of A and B the means. The ranks of least importance
//! over all layers, equals together, have their E set to 0, not their A and B: they may come back.

use peft_kernels::HostQueue;
use peft_kernels::lora::Middle;

use super::Outcome;
use super::layer::{Layer, Parts, product, scale_of};
use super::matrix::{Elements, Matrix, apart, differences, near};

const M: usize = 9;
const N: usize = 12;
const K: usize = 16;
const RANK: usize = 6;
const ALPHA: f64 = 8.0;

/// A layer whose rank is what is left of the first one.
fn layer(name: &str) -> Layer {
    let of = |part: &str, rows, columns| Matrix::random(&format!("adalora {part} {name}"), rows, columns);
    let scale = (ALPHA / (RANK as f64 + 1e-5)) as f32;
    Layer { w: of("w", N, K), a: of("a", RANK, K), b: of("b", N, RANK), scale }
}

pub fn adalora<Q: HostQueue>(queue: &Q) -> Outcome {
    const SCALE: Parts = Parts { scale: true, gate: false, core: false };
    let (x, dy, layer) = (Matrix::random("adalora x", M, K), Matrix::random("adalora dy", M, N), layer(""));
    let s = f64::from(layer.scale);
    // At first E is 0: the layer is its base, and E alone moves.
    let zero = Matrix::zeros(1, RANK);
    near("the first step", &layer.forward(queue, &x, Some(scale_of(&zero)))?, &product(queue, &x, &layer.w)?)?;
    let first = layer.backward(queue, &x, &dy, Some((scale_of(&zero), SCALE)))?;
    assert!(first.a.norm() == 0.0 && first.b.norm() == 0.0 && first.scale.norm() > 0.1);

    // With two ranks pruned.
    let mut e = Matrix::random("adalora e", 1, RANK);
    (e.values[1], e.values[4]) = (0.0, 0.0);
    let scaled = Matrix::diagonal(&e.values).times(&layer.a);
    let delta = layer.b.times(&scaled).scaled(s);
    let y = layer.forward(queue, &x, Some(scale_of(&e)))?;
    near("y", &y, &x.times(&layer.w.plus(&delta).t()))?;
    let gradients = layer.backward(queue, &x, &dy, Some((scale_of(&e), SCALE)))?;
    let dw = dy.t().times(&x);
    let inner = layer.b.t().times(&dw).times(&layer.a.t()).scaled(s);
    near("dE", &gradients.scale, &Matrix::from(1, RANK, |_, j| inner.at(j, j)))?;
    near("dA", &gradients.a, &Matrix::diagonal(&e.values).times(&layer.b.t().times(&dw)).scaled(s))?;
    near("dB", &gradients.b, &dw.times(&scaled.t()).scaled(s))?;
    near("dX", &gradients.x, &dy.times(&layer.w.plus(&delta)))?;
    // A pruned rank may come back: its E has a gradient, but its factors have none.
    assert!(gradients.scale.at(0, 1).abs() > 1e-3);
    assert!((0..K).all(|k| gradients.a.at(1, k) == 0.0) && (0..N).all(|n| gradients.b.at(n, 4) == 0.0));

    // Without the pruned ranks it is the same, with the first rank's scale and not that of the ranks that are left.
    let left: Vec<u32> = (0..RANK as u32).filter(|&j| e.values[j as usize] != 0.0).collect();
    let listed = Middle::new().scale(e.view()).ranks(&left);
    near("the ranks that are left", &layer.forward(queue, &x, Some(listed))?, &y)?;
    let rescaled = Layer { scale: (ALPHA / (left.len() as f64 + 1e-5)) as f32, ..layer };
    apart("the current rank's scale", &rescaled.forward(queue, &x, Some(listed))?, &y)
}

/// `‖A·Aᵀ − I‖` and its gradient, products by the layer's own call: A·Aᵀ is a layer of weight A, (G − I)·A one of weight Aᵀ.
fn penalty<Q: HostQueue>(queue: &Q, a: &Matrix) -> Outcome<(f64, Matrix)> {
    let gram = product(queue, a, a)?;
    let identity = Matrix::diagonal(&vec![1.0; a.rows]);
    let rest = gram.plus_scaled(-1.0, &identity);
    let norm = rest.norm();
    if norm == 0.0 {
        return Ok((0.0, Matrix::zeros(a.rows, a.columns)));
    }
    Ok((norm, product(queue, &rest, &a.t())?.scaled(2.0 / norm)))
}

/// The loss' part: `weight` times the mean of the penalties of all factors of all layers, and its gradient by each.
fn regulariser<Q: HostQueue>(queue: &Q, factors: &[Matrix], weight: f64) -> Outcome<(f64, Vec<Matrix>)> {
    let share = weight / factors.len() as f64;
    let (mut value, mut gradients) = (0.0, Vec::new());
    for factor in factors {
        let (norm, gradient) = penalty(queue, factor)?;
        value += share * norm;
        gradients.push(gradient.scaled(share));
    }
    Ok((value, gradients))
}

pub fn orthogonality<Q: HostQueue>(queue: &Q) -> Outcome {
    let layer = layer("orthogonality");
    for factor in [layer.a.clone(), layer.b.t()] {
        let (_, gradient) = penalty(queue, &factor)?;
        // The norm itself, as it is defined.
        let norm = |at: &Elements| {
            let gram = |i: usize, l: usize| (0..factor.columns).map(|j| at(i, j) * at(l, j)).sum::<f64>();
            let rest = |i: usize, l: usize| gram(i, l) - f64::from(i == l);
            let all = (0..factor.rows).flat_map(|i| (0..factor.rows).map(move |l| (i, l)));
            all.map(|(i, l)| rest(i, l).powi(2)).sum::<f64>().sqrt()
        };
        let difference = differences(&factor, &norm);
        near("the gradient of a norm", &gradient, &difference)?;
        // Its square's gradient is another.
        apart("the gradient of a square", &gradient.scaled(2.0 * norm(&|i, j| factor.at(i, j))), &difference)?;
    }
    // Where rows are orthonormal the norm is 0, and has no direction.
    let (value, gradient) = penalty(queue, &Matrix::diagonal(&[1.0; RANK]))?;
    assert!(value == 0.0 && gradient.norm() == 0.0);

    // A of two layers, and B as its columns are: G − I is diag(3, 0), 0, diag(1, 3) and −1.
    let (first, second) = (Matrix::diagonal(&[2.0, 1.0]), Matrix::list(2, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]));
    let b = Matrix::list(3, &[1.0, 0.0, 1.0, 0.0, 0.0, 2.0]);
    let factors = [first, second, b.t(), Matrix::list(1, &[0.0, 0.0])];
    let (value, gradients) = regulariser(queue, &factors, 0.5)?;
    let expected = 0.5 * (3.0 + 0.0 + 10f64.sqrt() + 1.0) / 4.0;
    assert!((value - expected).abs() < 1e-6, "the mean of norms: {value}, expected {expected}");
    // (0.5 / 4)·2·(G − I)·A / norm
    near("its gradient by A", &gradients[0], &Matrix::diagonal(&[0.5, 0.0]))?;
    let by_b = Matrix::list(3, &[1.0, 0.0, 1.0, 0.0, 0.0, 6.0]).scaled(0.25 / 10f64.sqrt());
    near("its gradient by B", &gradients[2].t(), &by_b)
}

/// The averages of |p·∂p| and of its deviations, and their product.
#[derive(Clone)]
struct Importance {
    average: Matrix,
    deviation: Matrix,
}

impl Importance {
    const BETA: f64 = 0.85;

    fn new(of: &Matrix) -> Self {
        let zeros = Matrix::zeros(of.rows, of.columns);
        Self { average: zeros.clone(), deviation: zeros }
    }

    fn add(&mut self, parameter: &Matrix, gradient: &Matrix) {
        let now =
            Matrix::from(parameter.rows, parameter.columns, |i, j| (parameter.at(i, j) * gradient.at(i, j)).abs());
        self.average = self.average.scaled(Self::BETA).plus_scaled(1.0 - Self::BETA, &now);
        let apart = |i, j| (now.at(i, j) - self.average.at(i, j)).abs();
        let apart = Matrix::from(now.rows, now.columns, apart);
        self.deviation = self.deviation.scaled(Self::BETA).plus_scaled(1.0 - Self::BETA, &apart);
    }

    fn score(&self, i: usize, j: usize) -> f64 {
        self.average.at(i, j) * self.deviation.at(i, j)
    }
}

/// Of rank j: of its E, and the means over its row of A and its column of B.
fn score([of_e, of_a, of_b]: &[Importance; 3], j: usize) -> f64 {
    let (columns, rows) = (of_a.average.columns, of_b.average.rows);
    let of_row = (0..columns).map(|k| of_a.score(j, k)).sum::<f64>() / columns as f64;
    let of_column = (0..rows).map(|i| of_b.score(i, j)).sum::<f64>() / rows as f64;
    of_e.score(0, j) + of_row + of_column
}

/// Which of all ranks have their E set to 0: those that matter no more than the k-th least, and of a k of 0 none.
fn pruned(scores: &[f64], k: usize) -> Vec<bool> {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f64::total_cmp);
    let threshold = if k == 0 { f64::NEG_INFINITY } else { sorted[k - 1] };
    scores.iter().map(|&score| score <= threshold).collect()
}

/// The budget of step t: all at first, then falling by a cube, then the target.
fn budget(t: usize, [first, target]: [usize; 2], [warm, end, total]: [usize; 3]) -> usize {
    if t <= warm {
        return first;
    }
    if t > total - end {
        return target;
    }
    let rest = 1.0 - (t - warm) as f64 / (total - end - warm) as f64;
    (target as f64 + (first - target) as f64 * rest.powi(3)) as usize
}

/// Two steps of two ranks, whose |p·∂p| are whole numbers.
fn scores_by_hand() {
    let list = Matrix::list;
    // E [2], A [2, 2] and B [3, 2]: parameters, and gradients of opposite signs here and there.
    let parameters =
        [list(1, &[2.0, 0.5]), list(2, &[-1.0, 0.5, 1.0, 2.0]), list(3, &[0.25, -2.0, 3.0, 1.0, -1.0, 4.0])];
    let steps = [
        [list(1, &[0.5, 0.0]), list(2, &[2.0, 0.0, 0.0, 0.0]), list(3, &[-4.0, 0.0, 0.0, 0.0, 0.0, 0.0])],
        [list(1, &[-1.5, 2.0]), list(2, &[0.0, 2.0, 0.0, 0.0]), list(3, &[4.0, 1.0, 0.0, 0.0, 1.0, 0.0])],
    ];
    let mut importance = parameters.each_ref().map(Importance::new);
    for gradients in &steps {
        for (of, (parameter, gradient)) in importance.iter_mut().zip(parameters.iter().zip(gradients)) {
            of.add(parameter, gradient);
        }
    }
    // Of |p·∂p| = 1, then 3: averages 0.15 and 0.5775, deviations 0.1275 and 0.47175. Of 2, 0: 0.255 and 0.255. Of 0, 1: 0.15 and 0.1275. Of 1, 1: 0.2775 and
    // 0.21675. Of 0, 2: 0.3 and 0.255.
    let (one_three, two_none, none_one) = (0.5775 * 0.47175, 0.255 * 0.255, 0.15 * 0.1275);
    let (one_one, none_two) = (0.2775 * 0.21675, 0.3 * 0.255);
    let expected = [one_three + (two_none + none_one) / 2.0 + (one_one + none_one) / 3.0, none_one + none_two / 3.0];
    for (j, expected) in expected.into_iter().enumerate() {
        let got = score(&importance, j);
        assert!((got - expected).abs() < 1e-6, "rank {j} scores {got}, expected {expected}");
    }
    assert_eq!(pruned(&[3.0, 1.0, 2.0, 2.0, 5.0], 2), [false, true, true, true, false], "equals go together");
    assert_eq!(pruned(&[3.0, 1.0], 0), [false, false]);
}

pub fn importance<Q: HostQueue>(queue: &Q) -> Outcome {
    const SCALE: Parts = Parts { scale: true, gate: false, core: false };
    assert_eq!([0, 2, 5, 8, 11, 20].map(|t| budget(t, [12, 5], [2, 10, 20])), [12, 12, 6, 5, 5, 5]);
    scores_by_hand();
    // Two layers, of which the second matters a little less.
    let layers = [layer("first"), layer("second")];
    let mut e = [Matrix::random("e first", 1, RANK), Matrix::random("e second", 1, RANK).scaled(0.5)];
    let new = |layer: &Layer, e: &Matrix| [Importance::new(e), Importance::new(&layer.a), Importance::new(&layer.b)];
    let mut importance = [new(&layers[0], &e[0]), new(&layers[1], &e[1])];
    for step in 0..5 {
        let x = Matrix::random(&format!("importance x {step}"), M, K);
        let dy = Matrix::random(&format!("importance dy {step}"), M, N);
        for (i, layer) in layers.iter().enumerate() {
            let gradients = layer.backward(queue, &x, &dy, Some((scale_of(&e[i]), SCALE)))?;
            let of = [(&e[i], &gradients.scale), (&layer.a, &gradients.a), (&layer.b, &gradients.b)];
            importance[i].iter_mut().zip(of).for_each(|(average, (p, gradient))| average.add(p, gradient));
        }
    }
    let scores: Vec<f64> = importance.iter().flat_map(|of_layer| (0..RANK).map(|j| score(of_layer, j))).collect();
    // Of a budget of all ranks nothing is pruned; of 7 the five least of both layers, as a replay in f64 has them.
    assert!(!pruned(&scores, 0).contains(&true));
    let gone = pruned(&scores, 2 * RANK - 7);
    let gone: Vec<usize> = (0..2 * RANK).filter(|&rank| gone[rank]).collect();
    assert_eq!(gone, [1, 3, RANK, RANK + 1, RANK + 5], "{scores:?}");
    gone.iter().for_each(|&rank| e[rank / RANK].values[rank % RANK] = 0.0);
    // The layers go on with what is left, their factors whole.
    let x = Matrix::random("importance x", M, K);
    for (layer, e) in layers.iter().zip(&e) {
        let left: Vec<u32> = (0..RANK as u32).filter(|&j| e.values[j as usize] != 0.0).collect();
        let listed = Middle::new().scale(e.view()).ranks(&left);
        let y = layer.forward(queue, &x, Some(scale_of(e)))?;
        near("pruned", &layer.forward(queue, &x, Some(listed))?, &y)?;
    }
    Ok(())
}
