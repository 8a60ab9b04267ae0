//! Outputs and gradients as PyTorch's autograd makes them: autograd.txt, which autograd.py has written. Small integers, so that every bit is known.

use peft_kernels::lora::{self, Backward, BackwardTarget, Dropout, Forward, Gradient, Target};
use peft_kernels::{Cpu, Emulator, HostQueue, Mat, MatMut, Vector, Workspace};

use super::gradient_case::ALGORITHMS;
use crate::queues::Trials;

const FIXTURES: &str = include_str!("autograd.txt");

struct Layer {
    n: usize,
    rank: usize,
    scale: f32,
    /// W, A, B, bias and dY; then y, dA, dB and dbias.
    given: [Vec<f32>; 5],
    expected: [Vec<f32>; 4],
}

struct Fixture {
    m: usize,
    k: usize,
    dropout: Dropout,
    x: Vec<f32>,
    layers: Vec<Layer>,
    dx: Vec<f32>,
}

fn numbers(text: &str) -> Vec<f32> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("a number, not {word}"))).collect()
}

fn parse(line: &str) -> Fixture {
    let mut fields = line.split(';').map(str::trim);
    let mut next = || fields.next().expect("another field");
    let head: Vec<_> = next().split_whitespace().collect();
    let whole = |i: usize| head[i].parse::<u64>().expect("a number");
    let (m, k, count) = (whole(0) as usize, whole(1) as usize, whole(5));
    let dropout = Dropout::new(head[2].parse().expect("a number"), whole(3), whole(4)).expect("a probability");
    let x = numbers(next());
    let layers = (0..count).map(|_| {
        let shape = numbers(next());
        let given = std::array::from_fn(|_| numbers(next()));
        let expected = std::array::from_fn(|_| numbers(next()));
        Layer { n: shape[0] as usize, rank: shape[1] as usize, scale: shape[2], given, expected }
    });
    let layers = layers.collect();
    Fixture { m, k, dropout, x, layers, dx: numbers(next()) }
}

fn same(name: &str, got: &[f32], expected: &[f32]) -> Result<(), String> {
    // Autograd has zeros of either sign.
    if got == expected { Ok(()) } else { Err(format!("{name}: {got:?}, expected {expected:?}")) }
}

/// Forward with H saved or not, then backward.
fn check<Q: HostQueue>(
    queue: &Q,
    fixture: &Fixture,
    algorithm: i32,
    saves: bool,
) -> peft_kernels::Result<Result<(), String>> {
    let Fixture { m, k, dropout, x, layers, dx } = fixture;
    let (m, k) = (*m, *k);
    let zeros = |elements: usize| vec![f32::NAN; elements];
    let mut y: Vec<_> = layers.iter().map(|layer| zeros(m * layer.n)).collect();
    let mut h: Vec<_> = layers.iter().map(|layer| zeros(m * layer.rank)).collect();
    let mut call = Forward::new(Mat::new(x, m, k)?).dropout(*dropout).algorithm(algorithm);
    for ((Layer { n, rank, scale, given: [w, a, b, bias, _], .. }, y), h) in layers.iter().zip(&mut y).zip(&mut h) {
        let target = Target::dense(Mat::new(w, *n, k)?, MatMut::new(y, m, *n)?).bias(Vector::whole(bias));
        let target = target.adapter(Mat::new(a, *rank, k)?, Mat::new(b, *n, *rank)?, *scale);
        call = call.target(target.save_h(MatMut::new(h, m, *rank)?));
    }
    let mut workspace = vec![0u8; lora::forward_workspace(queue, &call)?];
    lora::forward(queue, call, Workspace::new(&mut workspace))?;

    let mut got_x = zeros(m * k);
    let empty = |layer: &Layer| (zeros(layer.rank * k), zeros(layer.n * layer.rank), zeros(layer.n));
    let mut gradients: Vec<_> = layers.iter().map(empty).collect();
    let mut call = Backward::new(Mat::new(x, m, k)?).dropout(*dropout).algorithm(algorithm);
    call = call.x_gradient(Gradient::overwrite(MatMut::new(&mut got_x, m, k)?));
    for ((layer, (da, db, dbias)), h) in layers.iter().zip(&mut gradients).zip(&h) {
        let Layer { n, rank, scale, given: [w, a, b, _, dy], .. } = layer;
        let target = BackwardTarget::new(Mat::new(dy, m, *n)?).dense(Mat::new(w, *n, k)?);
        let target = target.adapter(Mat::new(a, *rank, k)?, Mat::new(b, *n, *rank)?, *scale);
        let target = target
            .a_gradient(Gradient::overwrite(MatMut::new(da, *rank, k)?))
            .b_gradient(Gradient::overwrite(MatMut::new(db, *n, *rank)?))
            .bias_gradient(Gradient::overwrite(MatMut::new(dbias, 1, *n)?));
        call = call.target(if saves { target.saved_h(Mat::new(h, m, *rank)?) } else { target });
    }
    let mut workspace = vec![0u8; lora::backward_workspace(queue, &call)?];
    lora::backward(queue, call, Workspace::new(&mut workspace))?;

    let all = || {
        same("dx", &got_x, dx)?;
        for (i, (layer, (da, db, dbias))) in layers.iter().zip(&gradients).enumerate() {
            let [expected_y, expected_a, expected_b, expected_bias] = &layer.expected;
            same("y", &y[i], expected_y)?;
            same("da", da, expected_a)?;
            same("db", db, expected_b)?;
            same("dbias", dbias, expected_bias)?;
        }
        Ok(())
    };
    Ok(all())
}

fn equals_autograd() -> Result<(), String> {
    assert_eq!(FIXTURES.lines().count(), 4);
    for fixture in FIXTURES.lines().map(parse) {
        for saves in [false, true] {
            check(&Cpu, &fixture, 0, saves).map_err(|error| error.to_string())??;
            for algorithm in ALGORITHMS {
                check(&Emulator::new(1), &fixture, algorithm, saves).map_err(|error| error.to_string())??;
            }
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::backward::equals_autograd", equals_autograd);
}
