//! Tina (S. Wang et al., *Tiny Reasoning Models via LoRA*, 2025), which uses LoRA as it is, s = 128/32, with group-relative advantages: a reward less its
//! group's mean, over the deviation of samples, NaN among a reward's parts left out. A token's loss is `−(ratio·advantage − β·k3)`, the ratio 1 and with the
//! gradient of the log-probability; the loss is the mean of answers, each of which is the mean of its tokens.
//!
//! No gradient comes from the reference's rows, whatever their dY: in backward they have no adapter either.

use std::f64::consts::LN_2;

use peft_kernels::lora::{
    Adapter, AdapterGradient, AdapterTable, Backward, BackwardTarget, Dropout, Forward, Gradient, GradientTable, Target,
};
use peft_kernels::{HostQueue, Vector};

use super::layer::{Layer, product, run_backward, run_forward};
use super::matrix::{Matrix, apart, near};
use super::policy::{
    K, TOKENS, VOCABULARY, by_logits, choice, layer, of_policy, of_reference, of_tokens, stacked, twice,
};
use super::{Outcome, text};

/// Of the divergence from the reference.
const BETA: f64 = 0.04;
/// The tokens of a group's answers.
const LENGTHS: [usize; 3] = [2, 3, 4];

/// Which answer a token is of.
fn answer(row: usize) -> usize {
    usize::from(row >= LENGTHS[0]) + usize::from(row >= LENGTHS[0] + LENGTHS[1])
}

/// The weighted sum of what several functions say, without those that say nothing.
fn reward(parts: [f64; 2]) -> f64 {
    let weighted = parts.into_iter().zip([1.0, 0.5]).filter(|(part, _)| !part.is_nan());
    weighted.map(|(part, weight)| weight * part).sum()
}

/// Of a group of three answers.
fn advantages(rewards: [f64; 3]) -> [f64; 3] {
    let mean = rewards.iter().sum::<f64>() / 3.0;
    let deviation = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    rewards.map(|reward| (reward - mean) / (deviation + 1e-4))
}

/// `exp(reference − policy) − (reference − policy) − 1` of two log-probabilities.
fn k3(policy: f64, reference: f64) -> f64 {
    (reference - policy).exp() - (reference - policy) - 1.0
}

/// Of log-probabilities now, when the answers were drawn, and of the reference.
fn loss(policy: &[f64], before: &[f64], reference: &[f64], advantages: [f64; 3]) -> f64 {
    let of_token = |row: usize| {
        let ratio = (policy[row] - before[row]).exp();
        -(ratio * advantages[answer(row)] - BETA * k3(policy[row], reference[row]))
    };
    let of_answer = |i: usize| {
        let rows: Vec<usize> = (0..TOKENS).filter(|&row| answer(row) == i).collect();
        rows.iter().map(|&row| of_token(row)).sum::<f64>() / rows.len() as f64
    };
    (0..3).map(of_answer).sum::<f64>() / 3.0
}

/// Its gradient by the log-probabilities, which are those of the draw.
fn loss_gradient(policy: &[f64], reference: &[f64], advantages: [f64; 3]) -> Vec<f64> {
    let of_token = |row: usize| {
        let share = 1.0 / (3.0 * LENGTHS[answer(row)] as f64);
        -share * (advantages[answer(row)] - BETA * (1.0 - (reference[row] - policy[row]).exp()))
    };
    (0..TOKENS).map(of_token).collect()
}

/// The gradients of A, B and x, of rows that have the adapter and rows that have none.
fn backward<Q: HostQueue>(queue: &Q, layer: &Layer, x: &Matrix, dy: &Matrix) -> Outcome<[Matrix; 3]> {
    let adapters = [Adapter::new(layer.a.view(), layer.b.view(), layer.scale)];
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let index = choice();
    let mut da = Matrix::zeros(layer.a.rows, K);
    let mut db = Matrix::zeros(VOCABULARY, layer.a.rows);
    let mut dx = Matrix::zeros(x.rows, K);
    {
        let mut gradients = [AdapterGradient::none().a(da.view_mut()).b(db.view_mut())];
        let target = BackwardTarget::new(dy.view())
            .dense(layer.w.view())
            .table(&table)
            .table_gradients(GradientTable::new(queue, &mut gradients).map_err(text)?);
        let call = Backward::new(x.view()).target(target).row_adapter(Vector::whole(&index));
        run_backward(queue, call.x_gradient(Gradient::overwrite(dx.view_mut())))?;
    }
    Ok([da, db, dx])
}

fn by_hand() {
    assert_eq!([[1.0, f64::NAN], [1.5, 1.0], [5.0, 2.0]].map(reward), [1.0, 2.0, 6.0]);
    // The mean is 3, the deviation √7.
    for (got, expected) in advantages([1.0, 2.0, 6.0]).into_iter().zip([-0.755_900_4, -0.377_950_2, 1.133_850_6]) {
        assert!((got - expected).abs() < 1e-6, "an advantage of {got}, expected {expected}");
    }
    // A token that the reference finds twice as likely.
    assert!((k3(-LN_2, 0.0) - (1.0 - LN_2)).abs() < 1e-12);
    // An answer of two tokens counts as much as one of four.
    let same = [-1.0; TOKENS];
    assert!((loss(&same, &same, &same, [3.0, 0.0, 0.0]) + 1.0).abs() < 1e-12);
}

pub fn tina<Q: HostQueue>(queue: &Q) -> Outcome {
    by_hand();
    let rank = 32;
    let (layer, tokens) = (layer("tina", rank, 128.0 / rank as f32), Matrix::random("tina x", TOKENS, K));
    let x = twice(&tokens);
    let logits = stacked(queue, &layer, &x, None)?;
    near("the policy", &of_policy(&logits), &layer.forward(queue, &tokens, None)?)?;
    near("the reference", &of_reference(&logits), &product(queue, &tokens, &layer.w)?)?;
    apart("policy and reference", &of_policy(&logits), &of_reference(&logits))?;
    // Whatever its neighbours do, a row of the reference has the bits that it has among references.
    let mut alone = Matrix::zeros(TOKENS, VOCABULARY);
    let call = Forward::<f32, f32, Q>::new(tokens.view());
    let call = call.target(Target::dense(layer.w.view(), alone.view_mut())).batch_invariant();
    run_forward(queue, call)?;
    assert_eq!(of_reference(&logits), alone, "bits of the reference");
    // Dropout is the policy's: the reference has no adapter that could read less.
    let dropped = stacked(queue, &layer, &x, Some(Dropout::new(0.05, 3, 0).map_err(text)?))?;
    assert_eq!(of_reference(&dropped), alone, "the reference with dropout");
    apart("the policy with dropout", &dropped, &logits)?;

    // The gradient of the policy's rows is that of the loss, and no dY of the reference's rows comes to the adapter.
    let rewards = [[1.0, f64::NAN], [1.5, 1.0], [5.0, 2.0]].map(reward);
    let advantages = advantages(rewards);
    let (before, reference) = (of_tokens(&of_policy(&logits)), of_tokens(&of_reference(&logits)));
    let of_loss = by_logits(&of_policy(&logits), &loss_gradient(&before, &reference, advantages));
    let noise = Matrix::random("tina dy", TOKENS, VOCABULARY);
    let dy = Matrix::from(
        2 * TOKENS,
        VOCABULARY,
        |i, j| {
            if i < TOKENS { of_loss.at(i, j) } else { noise.at(i - TOKENS, j) }
        },
    );
    let [da, db, dx] = backward(queue, &layer, &x, &dy)?;
    let alone = layer.backward(queue, &tokens, &of_loss, None)?;
    near("dA of the policy's rows", &da, &alone.a)?;
    near("dB of the policy's rows", &db, &alone.b)?;
    near("dX of the policy's rows", &of_policy(&dx), &alone.x)?;
    near("dX of the reference's rows", &of_reference(&dx), &noise.times(&layer.w))?;
    let direction = [Matrix::random("tina da", rank, K), Matrix::random("tina db", VOCABULARY, rank)];
    let at = |step: f64| {
        let a = layer.a.plus_scaled(step, &direction[0]);
        let b = layer.b.plus_scaled(step, &direction[1]);
        let moved = Layer { w: layer.w.clone(), a, b, scale: layer.scale };
        let policy = of_tokens(&of_policy(&stacked(queue, &moved, &x, None)?));
        Ok::<_, String>(loss(&policy, &before, &reference, advantages))
    };
    let step = 2e-3;
    let difference = (at(step)? - at(-step)?) / (2.0 * step);
    let expected = da.dot(&direction[0]) + db.dot(&direction[1]);
    assert!((difference - expected).abs() < 2e-3 * expected.abs().max(1.0), "{difference}, expected {expected}");
    Ok(())
}
