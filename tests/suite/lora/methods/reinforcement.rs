//! Tina (S. Wang et al., *Tiny Reasoning Models via LoRA*, 2025) and PPO for language understanding, which use LoRA as it is: s = 128/32, and rsLoRA's 32/√16.
//!
//! The reference policy is the model without its adapter. Rows of both are in one batch, of which the policy's have the adapter and the others none: W is read once. No gradient comes from the reference's rows.

use peft_kernels::lora::{self, Adapter, AdapterTable, Backward, BackwardTarget, Dropout, Forward, Gradient, Target};
use peft_kernels::{HostQueue, Vector, Workspace};

use super::layer::{Layer, product};
use super::matrix::{Matrix, apart, near};
use super::{Outcome, text};

const TOKENS: usize = 9;
const VOCABULARY: usize = 7;
const K: usize = 12;
/// Of the divergence from the reference.
const BETA: f64 = 0.04;

/// The policy's rows, then the reference's: the same tokens.
fn twice(x: &Matrix) -> Matrix {
    Matrix::from(2 * x.rows, x.columns, |i, j| x.at(i % x.rows, j))
}

fn layer(name: &str, rank: usize, scale: f32) -> Layer {
    let of = |part: &str, rows, columns| Matrix::random(&format!("{name} {part}"), rows, columns).scaled(0.25);
    Layer { w: of("w", VOCABULARY, K), a: of("a", rank, K), b: of("b", VOCABULARY, rank), scale }
}

/// Logits of both in one call.
fn stacked<Q: HostQueue>(queue: &Q, layer: &Layer, x: &Matrix, dropout: Option<Dropout>) -> Outcome<Matrix> {
    let adapters = [Adapter::new(layer.a.view(), layer.b.view(), layer.scale)];
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let index: Vec<i32> = (0..x.rows).map(|i| if i < TOKENS { 0 } else { -1 }).collect();
    let mut y = Matrix::zeros(x.rows, VOCABULARY);
    let target = Target::dense(layer.w.view(), y.view_mut()).table(&table);
    let mut call = Forward::new(x.view()).target(target).row_adapter(Vector::whole(&index)).batch_invariant();
    if let Some(dropout) = dropout {
        call = call.dropout(dropout);
    }
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    Ok(y)
}

/// The logarithms of the probabilities of a row's tokens.
fn log_probabilities(logits: &Matrix, row: usize) -> Vec<f64> {
    let largest = (0..VOCABULARY).map(|j| logits.at(row, j)).fold(f64::MIN, f64::max);
    let sum: f64 = (0..VOCABULARY).map(|j| (logits.at(row, j) - largest).exp()).sum();
    (0..VOCABULARY).map(|j| logits.at(row, j) - largest - sum.ln()).collect()
}

fn token(row: usize) -> usize {
    (row * 5 + 2) % VOCABULARY
}

/// Of a group of three answers, of three tokens each: the rewards less their mean, over the deviation of samples.
fn advantage(row: usize) -> f64 {
    let rewards = [1.0, 0.0, 2.5f64];
    let mean = rewards.iter().sum::<f64>() / 3.0;
    let deviation = (rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / 2.0).sqrt();
    (rewards[row / 3] - mean) / (deviation + 1e-4)
}

/// `exp(reference − policy) − (reference − policy) − 1` of two log-probabilities.
fn k3(policy: f64, reference: f64) -> f64 {
    (reference - policy).exp() - (reference - policy) - 1.0
}

/// The gradient of the mean of the tokens' losses, `−(ratio·advantage − β·k3)`, by the logits of both policies. The ratio is 1, and its gradient is that of the log-probability.
fn loss_gradient(logits: &Matrix) -> Matrix {
    let mut gradient = Matrix::zeros(2 * TOKENS, VOCABULARY);
    for row in 0..TOKENS {
        let (policy, reference) = (log_probabilities(logits, row), log_probabilities(logits, TOKENS + row));
        let apart = reference[token(row)] - policy[token(row)];
        let of_log = -(advantage(row) - BETA * (1.0 - apart.exp()));
        for (j, log) in policy.iter().enumerate() {
            let of_logit = f64::from(j == token(row)) - log.exp();
            gradient.values[row * VOCABULARY + j] = (of_log * of_logit / TOKENS as f64) as f32;
        }
    }
    gradient
}

fn backward<Q: HostQueue>(queue: &Q, layer: &Layer, x: &Matrix, dy: &Matrix) -> Outcome<[Matrix; 3]> {
    let rank = layer.a.rows;
    let (mut da, mut db) = (Matrix::zeros(rank, K), Matrix::zeros(VOCABULARY, rank));
    let mut dbias = Matrix::zeros(1, VOCABULARY);
    let target = BackwardTarget::new(dy.view())
        .adapter(layer.a.view(), layer.b.view(), layer.scale)
        .a_gradient(Gradient::overwrite(da.view_mut()))
        .b_gradient(Gradient::overwrite(db.view_mut()))
        .bias_gradient(Gradient::overwrite(dbias.view_mut()));
    let call = Backward::new(x.view()).target(target);
    let mut scratch = vec![0; lora::backward_workspace(queue, &call).map_err(text)?];
    lora::backward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    Ok([da, db, dbias])
}

pub fn tina<Q: HostQueue>(queue: &Q) -> Outcome {
    let rank = 32;
    let (layer, tokens) = (layer("tina", rank, 128.0 / rank as f32), Matrix::random("tina x", TOKENS, K));
    let x = twice(&tokens);
    let rows = |first: usize| (first..first + TOKENS).collect::<Vec<_>>();
    let logits = stacked(queue, &layer, &x, None)?;
    near("the policy", &logits.select_rows(&rows(0)), &layer.forward(queue, &tokens, None)?)?;
    near("the reference", &logits.select_rows(&rows(TOKENS)), &product(queue, &tokens, &layer.w)?)?;
    apart("policy and reference", &logits.select_rows(&rows(0)), &logits.select_rows(&rows(TOKENS)))?;
    // Whatever its neighbours do, a row of the reference has the bits that it has among references.
    let mut alone = Matrix::zeros(TOKENS, VOCABULARY);
    let call = Forward::<f32, f32, Q>::new(tokens.view());
    let call = call.target(Target::dense(layer.w.view(), alone.view_mut())).batch_invariant();
    let mut scratch = vec![0; lora::forward_workspace(queue, &call).map_err(text)?];
    lora::forward(queue, call, Workspace::new(&mut scratch)).map_err(text)?;
    assert_eq!(logits.select_rows(&rows(TOKENS)), alone, "bits of the reference");
    // Dropout is the policy's: the reference has no adapter that could read less.
    let dropped = stacked(queue, &layer, &x, Some(Dropout::new(0.05, 3, 0).map_err(text)?))?;
    assert_eq!(dropped.select_rows(&rows(TOKENS)), alone, "the reference with dropout");
    apart("the policy with dropout", &dropped, &logits)?;

    // The reference's rows have no gradient, and the policy's one is that of the loss.
    let dy = loss_gradient(&logits);
    let [da, db, _] = backward(queue, &layer, &x, &dy)?;
    let [of_policy, _, _] = backward(queue, &layer, &tokens, &dy.select_rows(&rows(0)))?;
    near("dA of the policy's rows", &da, &of_policy)?;
    let direction = [Matrix::random("tina da", rank, K), Matrix::random("tina db", VOCABULARY, rank)];
    let at = |step: f64| {
        let a = layer.a.plus_scaled(step, &direction[0]);
        let b = layer.b.plus_scaled(step, &direction[1]);
        let moved = Layer { w: layer.w.clone(), a, b, scale: layer.scale };
        let policy = stacked(queue, &moved, &x, None)?;
        let value = |row: usize| {
            let log = log_probabilities(&policy, row)[token(row)];
            let before = log_probabilities(&logits, row)[token(row)];
            let reference = log_probabilities(&logits, TOKENS + row)[token(row)];
            -((log - before).exp() * advantage(row) - BETA * k3(log, reference))
        };
        Ok::<_, String>((0..TOKENS).map(value).sum::<f64>() / TOKENS as f64)
    };
    let step = 2e-3;
    let difference = (at(step)? - at(-step)?) / (2.0 * step);
    let expected = da.dot(&direction[0]) + db.dot(&direction[1]);
    assert!((difference - expected).abs() < 2e-3 * expected.abs().max(1.0), "{difference}, expected {expected}");
    Ok(())
}

pub fn ppo<Q: HostQueue>(queue: &Q) -> Outcome {
    let rank = 16;
    let layer = layer("ppo", rank, 32.0 / (rank as f32).sqrt());
    assert_eq!(layer.scale, 8.0);
    let tokens = Matrix::random("ppo x", TOKENS, K);
    let x = twice(&tokens);
    let logits = stacked(queue, &layer, &x, None)?;
    let delta = layer.b.times(&layer.a).scaled(8.0);
    let policy: Vec<usize> = (0..TOKENS).collect();
    near("the policy", &logits.select_rows(&policy), &tokens.times(&layer.w.plus(&delta).t()))?;

    // The KL penalty is in the reward, by the log-probabilities of both; then generalised advantages, a scan from the end, whitened.
    let of_token = |row: usize| log_probabilities(&logits, row)[token(row)];
    let penalty: Vec<f64> = (0..TOKENS).map(|row| 0.2 * (of_token(row) - of_token(TOKENS + row))).collect();
    let values: Vec<f64> = (0..TOKENS).map(|row| (row as f64 * 0.7).sin() / 2.0).collect();
    let reward = |row: usize| f64::from(row + 1 == TOKENS) - penalty[row];
    let (gamma, lambda) = (1.0, 0.95);
    let mut advantages = [0.0; TOKENS];
    for row in (0..TOKENS).rev() {
        let [next, later] = if row + 1 < TOKENS { [values[row + 1], advantages[row + 1]] } else { [0.0; 2] };
        advantages[row] = reward(row) + gamma * next - values[row] + gamma * lambda * later;
    }
    let mean = advantages.iter().sum::<f64>() / TOKENS as f64;
    let variance = advantages.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / TOKENS as f64;
    let white: Vec<f64> = advantages.iter().map(|a| (a - mean) / (variance + 1e-8).sqrt()).collect();

    // The clipped ratio's gradient, of an older policy: none where the ratio has left 1 ± 0.2 the way it should go.
    let older: Vec<f64> = (0..TOKENS).map(|row| of_token(row) - 0.15 * (row as f64 - 4.0)).collect();
    let mut clipped = 0;
    let mut dy = Matrix::zeros(2 * TOKENS, VOCABULARY);
    for row in 0..TOKENS {
        let (log, ratio) = (log_probabilities(&logits, row), (of_token(row) - older[row]).exp());
        let goes_on = if white[row] > 0.0 { ratio <= 1.2 } else { ratio >= 0.8 };
        clipped += usize::from(!goes_on);
        let of_log = if goes_on { -white[row] * ratio / TOKENS as f64 } else { 0.0 };
        for (j, log) in log.iter().enumerate() {
            dy.values[row * VOCABULARY + j] = (of_log * (f64::from(j == token(row)) - log.exp())) as f32;
        }
    }
    assert!((1..TOKENS).contains(&clipped), "{clipped} are clipped");
    // Adapters and all biases are trained.
    let [da, db, dbias] = backward(queue, &layer, &x, &dy)?;
    let dw = dy.t().times(&x);
    near("dA", &da, &layer.b.t().times(&dw).scaled(8.0))?;
    near("dB", &db, &dw.times(&layer.a.t()).scaled(8.0))?;
    near("dbias", &dbias, &Matrix::from(1, 2 * TOKENS, |_, _| 1.0).times(&dy))
}
