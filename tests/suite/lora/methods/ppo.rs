//! PPO for language understanding, which uses LoRA as it is, of rsLoRA's s = 32/√16, with all biases trained and a head for values on the same hidden state.
//!
//! The divergence from the reference is in the reward. Generalised advantages are a scan from the end, whitened over the tokens that are no padding; what
//! values are to be is of them before. The policy's loss is `max(−A·ρ, −A·clip(ρ, 1 ± ε))`, that of values `½·max((v − R)², (clip(v, old ± ε) − R)²)`, means
//! over those tokens.

use peft_kernels::lora::{Backward, BackwardTarget, Forward, Gradient, Target};
use peft_kernels::{HostQueue, Vector};

use super::Outcome;
use super::layer::{Layer, run_backward, run_forward};
use super::matrix::{Matrix, near};
use super::policy::{K, TOKENS, VOCABULARY, by_logits, layer, of_policy, of_reference, of_tokens, stacked, twice};

/// Of the divergence, in the reward.
const DIVERGENCE: f64 = 0.2;
const CLIP: f64 = 0.2;
/// Of the values' loss.
const VALUES: f64 = 0.1;
/// The last tokens are padding.
const MASK: [bool; TOKENS] = [true, true, true, true, true, true, true, false, false];

/// Of what the mask has.
fn mean(list: &[f64], mask: &[bool]) -> f64 {
    let kept = list.iter().zip(mask).filter(|&(_, &kept)| kept);
    kept.clone().map(|(value, _)| value).sum::<f64>() / kept.count() as f64
}

/// The score is the last token's.
fn rewards(policy: &[f64], reference: &[f64], score: f64, mask: &[bool]) -> Vec<f64> {
    let last = mask.iter().rposition(|&kept| kept);
    let divergence = policy.iter().zip(reference).map(|(policy, reference)| policy - reference);
    divergence.enumerate().map(|(i, apart)| if Some(i) == last { score } else { 0.0 } - DIVERGENCE * apart).collect()
}

/// Advantages, and what values are to be: 0 for padding, of which nothing is read.
fn advantages(rewards: &[f64], values: &[f64], mask: &[bool], [gamma, lambda]: [f64; 2]) -> [Vec<f64>; 2] {
    let (mut advantages, mut returns) = (vec![0.0; mask.len()], vec![0.0; mask.len()]);
    let (mut next, mut later) = (0.0, 0.0);
    for i in (0..mask.len()).rev().filter(|&i| mask[i]) {
        advantages[i] = rewards[i] + gamma * next - values[i] + gamma * lambda * later;
        returns[i] = advantages[i] + values[i];
        (next, later) = (values[i], advantages[i]);
    }
    [advantages, returns]
}

/// Less the mean, over the deviation of samples.
fn whiten(list: &[f64], mask: &[bool]) -> Vec<f64> {
    let (center, count) = (mean(list, mask), mask.iter().filter(|&&kept| kept).count() as f64);
    let squares: Vec<f64> = list.iter().map(|value| (value - center).powi(2)).collect();
    let variance = mean(&squares, mask) * count / (count - 1.0);
    list.iter().map(|value| (value - center) / (variance + 1e-8).sqrt()).collect()
}

/// A token's loss, and its derivative by the log-probability.
fn policy_loss(policy: f64, older: f64, advantage: f64) -> [f64; 2] {
    let ratio = (policy - older).exp();
    let [free, clipped] = [ratio, ratio.clamp(1.0 - CLIP, 1.0 + CLIP)].map(|ratio| -advantage * ratio);
    [free.max(clipped), if free >= clipped { free } else { 0.0 }]
}

/// A value's loss, and its derivative by the value.
fn value_loss(value: f64, older: f64, wanted: f64) -> [f64; 2] {
    let [free, clipped] = [value, value.clamp(older - CLIP, older + CLIP)].map(|value| (value - wanted).powi(2));
    [free.max(clipped) / 2.0, if free >= clipped { value - wanted } else { 0.0 }]
}

fn by_hand() {
    let same = |what: &str, got: &[f64], expected: &[f64]| {
        let near = got.iter().zip(expected).all(|(got, expected)| (got - expected).abs() < 1e-7);
        assert!(got.len() == expected.len() && near, "{what}: {got:?}, expected {expected:?}");
    };
    // On each side of the clip and within, of advantages of each sign: the loss is flat where the ratio has left the way it should go.
    for (ratio, advantage, loss, derivative) in [
        (1.5, 2.0, -2.4, 0.0),
        (0.5, 2.0, -1.0, -1.0),
        (1.5, -2.0, 3.0, 3.0),
        (0.5, -2.0, 1.6, 0.0),
        (1.1, 2.0, -2.2, -2.2),
        (0.9, -2.0, 1.8, 1.8),
    ] {
        let older = -1.25;
        let got = policy_loss(older + f64::ln(ratio), older, advantage);
        same(&format!("ratio {ratio}, advantage {advantage}"), &got, &[loss, derivative]);
    }
    // Of an older value of 0.
    for (value, wanted, loss, derivative) in [
        (0.5, 1.0, 0.32, 0.0),
        (-0.5, 1.0, 1.125, -1.5),
        (0.5, -1.0, 1.125, 1.5),
        (-0.5, -1.0, 0.32, 0.0),
        (0.1, 1.0, 0.405, -0.9),
    ] {
        same(&format!("value {value}, wanted {wanted}"), &value_loss(value, 0.0, wanted), &[loss, derivative]);
    }
    // The policy finds the first token likelier than the reference does, and the second less likely; the third is padding.
    let mask = [true, true, false];
    same("rewards", &rewards(&[-1.0, -2.0, 0.0], &[-1.5, -1.0, -9.0], 1.0, &mask)[..2], &[-0.1, 1.2]);
    // Of errors −0.375, 0 and 0.5 from the next values, γ = ½ and λ = ¼.
    let mask = [true, true, true, false];
    let [of_three, returns] = advantages(&[0.0, 0.0, 1.0, 7.0], &[0.5, 0.25, 0.5, 7.0], &mask, [0.5, 0.25]);
    same("advantages", &of_three, &[-0.367_187_5, 0.0625, 0.5, 0.0]);
    same("returns", &returns, &[0.132_812_5, 0.3125, 1.0, 0.0]);
    // A mean of 3 and a variance of 4.
    same("whitened", &whiten(&[1.0, 3.0, 5.0, 100.0], &mask)[..3], &[-1.0, 0.0, 1.0]);
}

/// The policy's bias, and the head for values.
struct Head {
    bias: Matrix,
    w: Matrix,
    offset: Matrix,
}

/// Logits and values of the same hidden state.
fn forward<Q: HostQueue>(queue: &Q, layer: &Layer, head: &Head, x: &Matrix) -> Outcome<[Matrix; 2]> {
    let (mut logits, mut values) = (Matrix::zeros(TOKENS, VOCABULARY), Matrix::zeros(TOKENS, 1));
    let of_values = Target::dense(head.w.view(), values.view_mut()).bias(Vector::whole(&head.offset.values));
    let of_logits = layer.target(&mut logits).bias(Vector::whole(&head.bias.values));
    run_forward(queue, Forward::new(x.view()).target(of_logits).target(of_values))?;
    Ok([logits, values])
}

pub fn ppo<Q: HostQueue>(queue: &Q) -> Outcome {
    by_hand();
    let rank = 16;
    let layer = layer("ppo", rank, 32.0 / (rank as f32).sqrt());
    assert_eq!(layer.scale, 8.0);
    let tokens = Matrix::random("ppo x", TOKENS, K);
    let head = Head {
        bias: Matrix::zeros(1, VOCABULARY),
        w: Matrix::random("ppo head", 1, K).scaled(0.5),
        offset: Matrix::list(1, &[0.125]),
    };
    let both = stacked(queue, &layer, &twice(&tokens), None)?;
    let [logits, values] = forward(queue, &layer, &head, &tokens)?;
    let delta = layer.b.times(&layer.a).scaled(8.0);
    near("the policy", &logits, &tokens.times(&layer.w.plus(&delta).t()))?;
    near("the policy beside the reference", &of_policy(&both), &logits)?;

    // An older policy has drawn the tokens, and an older head has made the values that advantages are made of.
    let older: Vec<f64> = of_tokens(&logits).iter().enumerate().map(|(i, log)| log - 0.15 * (i as f64 - 3.0)).collect();
    let offsets = [0.5, -0.5, 0.1, -0.1, 0.4, -0.4, 0.05, 0.3, -0.3];
    let older_values: Vec<f64> = (0..TOKENS).map(|i| values.at(i, 0) + offsets[i]).collect();
    let rewards = rewards(&older, &of_tokens(&of_reference(&both)), 1.0, &MASK);
    let [advantages, returns] = advantages(&rewards, &older_values, &MASK, [1.0, 0.95]);
    let white = whiten(&advantages, &MASK);
    let losses = |logits: &Matrix, values: &Matrix| {
        let of_policy = |(i, log): (usize, f64)| policy_loss(log, older[i], white[i]);
        let of_policy: Vec<_> = of_tokens(logits).into_iter().enumerate().map(of_policy).collect();
        let of_value = |i: usize| value_loss(values.at(i, 0), older_values[i], returns[i]);
        (of_policy, (0..TOKENS).map(of_value).collect::<Vec<_>>())
    };

    // Of the means, the tokens that are kept have an equal share, and padding has none.
    let (of_policy, of_values) = losses(&logits, &values);
    let flat = of_policy.iter().zip(MASK).filter(|&(&[_, derivative], kept)| kept && derivative == 0.0).count();
    let flat_values = of_values.iter().zip(MASK).filter(|&(&[_, derivative], kept)| kept && derivative == 0.0).count();
    assert_eq!([flat, flat_values], [3, 3], "so many are clipped of 7");
    let share = |i: usize| if MASK[i] { 1.0 / 7.0 } else { 0.0 };
    let of_logs: Vec<f64> = of_policy.iter().enumerate().map(|(i, [_, derivative])| share(i) * derivative).collect();
    let dy = by_logits(&logits, &of_logs);
    let dv = Matrix::from(TOKENS, 1, |i, _| VALUES * share(i) * of_values[i][1]);

    // Adapters and all biases are trained, and x's gradient is of both heads.
    let (mut da, mut db, mut dx) = (Matrix::zeros(rank, K), Matrix::zeros(VOCABULARY, rank), Matrix::zeros(TOKENS, K));
    let (mut dbias, mut doffset) = (Matrix::zeros(1, VOCABULARY), Matrix::zeros(1, 1));
    let of_logits = BackwardTarget::new(dy.view())
        .dense(layer.w.view())
        .adapter(layer.a.view(), layer.b.view(), layer.scale)
        .a_gradient(Gradient::overwrite(da.view_mut()))
        .b_gradient(Gradient::overwrite(db.view_mut()))
        .bias_gradient(Gradient::overwrite(dbias.view_mut()));
    let of_values = BackwardTarget::new(dv.view()).dense(head.w.view());
    let of_values = of_values.bias_gradient(Gradient::overwrite(doffset.view_mut()));
    let call = Backward::new(tokens.view()).target(of_logits).target(of_values);
    run_backward(queue, call.x_gradient(Gradient::overwrite(dx.view_mut())))?;
    let dw = dy.t().times(&tokens);
    let ones = Matrix::from(1, TOKENS, |_, _| 1.0);
    near("dA", &da, &layer.b.t().times(&dw).scaled(8.0))?;
    near("dB", &db, &dw.times(&layer.a.t()).scaled(8.0))?;
    near("dbias", &dbias, &ones.times(&dy))?;
    near("dbias of values", &doffset, &ones.times(&dv))?;
    near("dX", &dx, &dy.times(&layer.w.plus(&delta)).plus(&dv.times(&head.w)))?;
    assert!(dx.values[7 * K..].iter().all(|&value| value == 0.0), "padding has no gradient");

    // Together they are the gradient of the loss.
    let of = |name: &str, like: &Matrix| Matrix::random(&format!("ppo d{name}"), like.rows, like.columns);
    let along = [of("a", &da), of("b", &db), of("x", &dx), of("bias", &dbias)];
    let at = |step: f64| {
        let moved = |matrix: &Matrix, i: usize| matrix.plus_scaled(step, &along[i]);
        let (a, b) = (moved(&layer.a, 0), moved(&layer.b, 1));
        let policy = Layer { w: layer.w.clone(), a, b, scale: layer.scale };
        let offset = head.offset.plus_scaled(step, &Matrix::list(1, &[1.0]));
        let head = Head { bias: moved(&head.bias, 3), w: head.w.clone(), offset };
        let [logits, values] = forward(queue, &policy, &head, &moved(&tokens, 2))?;
        let (of_policy, of_values) = losses(&logits, &values);
        let [policy, values] =
            [of_policy, of_values].map(|list| mean(&list.iter().map(|of| of[0]).collect::<Vec<_>>(), &MASK));
        Ok::<_, String>(policy + VALUES * values)
    };
    let step = 1e-3;
    let difference = (at(step)? - at(-step)?) / (2.0 * step);
    let expected: f64 = [&da, &db, &dx, &dbias].iter().zip(&along).map(|(d, along)| d.dot(along)).sum();
    let expected = expected + doffset.at(0, 0);
    assert!((difference - expected).abs() < 3e-4, "{difference}, expected {expected}");
    Ok(())
}
