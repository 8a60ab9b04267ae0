//! What Tina and PPO share: a policy, which is a layer with an adapter, and its reference, which is the same layer without. Rows of both are in one batch, so
//! that W is read once.

use peft_kernels::lora::{Adapter, AdapterTable, Dropout, Forward, Target};
use peft_kernels::{HostQueue, Vector};

use super::layer::{Layer, run_forward};
use super::matrix::Matrix;
use super::{Outcome, text};

pub const TOKENS: usize = 9;
pub const VOCABULARY: usize = 7;
pub const K: usize = 12;

pub fn layer(name: &str, rank: usize, scale: f32) -> Layer {
    let of = |part: &str, rows, columns| Matrix::random(&format!("{name} {part}"), rows, columns).scaled(0.25);
    Layer { w: of("w", VOCABULARY, K), a: of("a", rank, K), b: of("b", VOCABULARY, rank), scale }
}

/// The policy's rows, then the reference's: the same tokens.
pub fn twice(x: &Matrix) -> Matrix {
    Matrix::from(2 * x.rows, x.columns, |i, j| x.at(i % x.rows, j))
}

/// The policy's rows have the adapter, the reference's have none.
pub fn choice() -> Vec<i32> {
    (0..2 * TOKENS).map(|i| if i < TOKENS { 0 } else { -1 }).collect()
}

pub fn of_policy(stacked: &Matrix) -> Matrix {
    stacked.select_rows(&(0..TOKENS).collect::<Vec<_>>())
}

pub fn of_reference(stacked: &Matrix) -> Matrix {
    stacked.select_rows(&(TOKENS..2 * TOKENS).collect::<Vec<_>>())
}

/// Logits of both in one call.
pub fn stacked<Q: HostQueue>(queue: &Q, layer: &Layer, x: &Matrix, dropout: Option<Dropout>) -> Outcome<Matrix> {
    let adapters = [Adapter::new(layer.a.view(), layer.b.view(), layer.scale)];
    let table = AdapterTable::new(queue, &adapters).map_err(text)?;
    let index = choice();
    let mut y = Matrix::zeros(x.rows, VOCABULARY);
    let target = Target::dense(layer.w.view(), y.view_mut()).table(&table);
    let mut call = Forward::new(x.view()).target(target).row_adapter(Vector::whole(&index)).batch_invariant();
    if let Some(dropout) = dropout {
        call = call.dropout(dropout);
    }
    run_forward(queue, call)?;
    Ok(y)
}

fn token(row: usize) -> usize {
    (row * 5 + 2) % VOCABULARY
}

/// The logarithms of the probabilities of a row's tokens.
fn log_probabilities(logits: &Matrix, row: usize) -> Vec<f64> {
    let largest = (0..VOCABULARY).map(|j| logits.at(row, j)).fold(f64::MIN, f64::max);
    let sum: f64 = (0..VOCABULARY).map(|j| (logits.at(row, j) - largest).exp()).sum();
    (0..VOCABULARY).map(|j| logits.at(row, j) - largest - sum.ln()).collect()
}

/// Those of the token that each row has.
pub fn of_tokens(logits: &Matrix) -> Vec<f64> {
    (0..logits.rows).map(|row| log_probabilities(logits, row)[token(row)]).collect()
}

/// The gradient by logits, from the one by the logarithm of each row's token.
pub fn by_logits(logits: &Matrix, of_log: &[f64]) -> Matrix {
    let probability = |row: usize, j: usize| log_probabilities(logits, row)[j].exp();
    Matrix::from(logits.rows, VOCABULARY, |row, j| of_log[row] * (f64::from(j == token(row)) - probability(row, j)))
}
