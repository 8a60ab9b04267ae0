//! DP-LoRA: DP-SGD on the factors of two layers (M. Abadi et al., 2016; X.-Y. Liu et al., 2023).
//!
//! `g = Σᵢ min(1, C / |gᵢ|)·gᵢ + σ·C·z` with gᵢ the gradient of sample i by all trained parameters together. The trap: clipping the gradient of the batch, `g·min(1, C / |g|)`, bounds no sample's share.

use peft_kernels::lora::{
    self, AddNoise, Backward, BackwardTarget, ClipWeights, Gradient, SampleNormTarget, SampleNorms, Samples,
};
use peft_kernels::{Cpu, Mat, MatMut, Vector, VectorMut, Workspace};

use crate::buffer::{Buffer, Placement};
use crate::numbers::Random;
use crate::queues::{Runner, Trials, emulators};

/// Rows of each sample: one of none, too.
const OFFSETS: [i32; 6] = [0, 3, 4, 4, 9, 12];
const SAMPLES: usize = 5;
const ROWS: usize = 12;
const RANK: usize = 3;
const SCALE: f32 = 0.5;
/// k and n of the layers.
const LAYERS: [[usize; 2]; 2] = [[7, 9], [9, 5]];

/// A layer's x, dY, A and B.
struct Layer {
    k: usize,
    n: usize,
    x: Buffer<f32>,
    dy: Buffer<f32>,
    a: Buffer<f32>,
    b: Buffer<f32>,
}

fn layers() -> Vec<Layer> {
    let mut random = Random::of("dp_lora");
    let mut matrix = |rows: usize, columns: usize, of_row: fn(usize) -> f64| {
        let layout = Placement::default().layout([1, rows, columns]);
        Buffer::new(layout, |[_, row, _]| (random.real() * of_row(row)) as f32)
    };
    // The last sample's gradient is far larger than the others'.
    let outlier = |row| if row >= 9 { 20.0 } else { 1.0 };
    let layer = |&[k, n]: &[usize; 2]| Layer {
        k,
        n,
        x: matrix(ROWS, k, |_| 1.0),
        dy: matrix(ROWS, n, outlier),
        a: matrix(RANK, k, |_| 1.0),
        b: matrix(n, RANK, |_| 1.0),
    };
    LAYERS.iter().map(layer).collect()
}

fn flat<'a, Q: Runner>(queue: &Q, buffer: &'a Buffer<f32>, first: usize, rows: usize) -> Mat<'a, f32, Q> {
    let columns = buffer.layout.extents[2];
    let layout = peft_kernels::Layout { offset: first * columns, extents: [rows, columns], strides: [columns, 1] };
    Mat::with_layout(queue.source(buffer), layout).expect("rows that there are")
}

fn scratch(bytes: usize) -> Buffer<u8> {
    Buffer::list(&vec![0; bytes])
}

type Outcome<T> = peft_kernels::Result<T>;

/// dA and dB of a layer from some of its rows, each row weighed as its sample if there are weights.
fn gradients<Q: Runner>(
    queue: &Q,
    layer: &Layer,
    rows: std::ops::Range<usize>,
    weights: Option<(&Buffer<i32>, &Buffer<f32>)>,
) -> Outcome<[Vec<f32>; 2]> {
    let [da, db] = [[RANK, layer.k], [layer.n, RANK]]
        .map(|[rows, columns]| (Buffer::list(&vec![0f32; rows * columns]), rows, columns));
    let to = |(buffer, rows, columns): &'_ (Buffer<f32>, usize, usize)| {
        MatMut::new(queue.sink_at::<f32>(buffer.address(), rows * columns), *rows, *columns)
    };
    let (first, count) = (rows.start, rows.len());
    let target = BackwardTarget::new(flat(queue, &layer.dy, first, count))
        .adapter(flat(queue, &layer.a, 0, RANK), flat(queue, &layer.b, 0, layer.n), SCALE)
        .a_gradient(Gradient::overwrite(to(&da)?))
        .b_gradient(Gradient::overwrite(to(&db)?));
    let mut call = Backward::new(flat(queue, &layer.x, first, count)).target(target);
    if let Some((offsets, weights)) = weights {
        let samples = Samples::offsets(Vector::whole(queue.source(offsets)));
        call = call.sample_weights(samples, Vector::whole(queue.source(weights)));
    }
    let workspace = scratch(lora::backward_workspace(queue, &call)?);
    lora::backward(queue, call, Workspace::new(queue.sink(&workspace)))?;
    Ok([da, db].map(|(buffer, ..)| (0..buffer.len()).map(|i| buffer.read(i)).collect()))
}

/// One step: norms over all layers, weights, weighted gradients of each layer, noise.
fn step<Q: Runner>(queue: &Q, layers: &[Layer], max_norm: f32, sigma: f32) -> Outcome<(Vec<f32>, Vec<f32>)> {
    let offsets = Buffer::list(&OFFSETS);
    let (squares, weights) = (Buffer::list(&[f32::NAN; SAMPLES]), Buffer::list(&[f32::NAN; SAMPLES]));
    for (number, layer) in layers.iter().enumerate() {
        let (a, b) = (flat(queue, &layer.a, 0, RANK), flat(queue, &layer.b, 0, layer.n));
        let target = SampleNormTarget::new(flat(queue, &layer.dy, 0, ROWS), a, b, SCALE);
        let samples = Samples::offsets(Vector::whole(queue.source(&offsets)));
        let to = VectorMut::whole(queue.sink(&squares));
        let mut call = SampleNorms::new(flat(queue, &layer.x, 0, ROWS), samples, to).target(target);
        if number > 0 {
            call = call.accumulate();
        }
        let workspace = scratch(lora::sample_norms_workspace(queue, &call)?);
        lora::sample_norms(queue, call, Workspace::new(queue.sink(&workspace)))?;
    }
    let clip =
        ClipWeights::new(Vector::whole(queue.source(&squares)), VectorMut::whole(queue.sink(&weights)), max_norm);
    lora::clip_weights(queue, clip)?;
    let mut gradient = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let parts = gradients(queue, layer, 0..ROWS, Some((&offsets, &weights)))?;
        for (which, part) in parts.into_iter().enumerate() {
            let noisy = Buffer::list(&part);
            let to = MatMut::new(queue.sink_at::<f32>(noisy.address(), part.len()), 1, part.len())?;
            lora::add_noise(queue, AddNoise::new(to, sigma * max_norm, 42, (2 * number + which) as u64))?;
            gradient.extend((0..part.len()).map(|i| noisy.read(i)));
        }
    }
    Ok(((0..SAMPLES).map(|i| weights.read(i)).collect(), gradient))
}

fn norm(gradient: &[f64]) -> f64 {
    gradient.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The gradients of all layers' factors from the rows of one sample, or of all.
fn of_rows(layers: &[Layer], rows: std::ops::Range<usize>) -> Outcome<Vec<f64>> {
    let mut all = Vec::new();
    for layer in layers {
        all.extend(gradients(&Cpu, layer, rows.clone(), None)?.concat().into_iter().map(f64::from));
    }
    Ok(all)
}

fn check<Q: Runner>(queue: &Q) -> Result<(), String> {
    let say = |error: peft_kernels::Error| error.to_string();
    let layers = layers();
    const C: f32 = 4.0;
    // Clipping as a loop over samples, each with a full backward call.
    let mut expected = vec![0.0; LAYERS.iter().map(|[k, n]| RANK * (k + n)).sum()];
    let (mut weights, mut clipped) = (Vec::new(), 0);
    for sample in 0..SAMPLES {
        let of_sample = of_rows(&layers, OFFSETS[sample] as usize..OFFSETS[sample + 1] as usize).map_err(say)?;
        let weight = (f64::from(C) / norm(&of_sample)).min(1.0);
        clipped += usize::from(weight < 1.0);
        weights.push(weight);
        expected.iter_mut().zip(&of_sample).for_each(|(sum, value)| *sum += weight * value);
    }
    assert!((1..SAMPLES - 1).contains(&clipped), "some are clipped, and some are not: {weights:?}");
    let near = |name: &str, got: &[f32], expected: &[f64], allowed: f64| {
        let wrong = got.iter().zip(expected).position(|(got, expected)| (f64::from(*got) - expected).abs() > allowed);
        wrong
            .map_or(Ok(()), |i| Err(format!("{:?}: {name} {i} is {}, expected {}", queue.place(), got[i], expected[i])))
    };
    let (got_weights, got) = step(queue, &layers, C, 0.0).map_err(say)?;
    near("weight", &got_weights, &weights, 1e-5)?;
    near("element", &got, &expected, 1e-4)?;
    // The trap: the clipped gradient of the batch is something else, in which one sample has nearly everything.
    let batch = of_rows(&layers, 0..ROWS).map_err(say)?;
    let of_batch = f64::from(C) / norm(&batch);
    let difference: Vec<_> = batch.iter().zip(&expected).map(|(batch, ours)| of_batch * batch - ours).collect();
    assert!(of_batch < 1.0 && norm(&difference) > 0.5 * f64::from(C), "{of_batch} {}", norm(&difference));
    // Leaving a sample out changes the sum by no more than C, whatever its gradient is.
    let outlier = of_rows(&layers, 9..12).map_err(say)?;
    assert!(norm(&outlier) > 10.0 * f64::from(C) && weights[4] * norm(&outlier) <= f64::from(C) * 1.000_001);
    // Noise of the standard deviation σ·C, once a step, the same again for the same seed and offsets.
    let noisy = step(queue, &layers, C, 3.0).map_err(say)?.1;
    assert_eq!(noisy, step(queue, &layers, C, 3.0).map_err(say)?.1);
    let noise: Vec<_> = noisy.iter().zip(&got).map(|(noisy, clean)| f64::from(noisy - clean)).collect();
    let deviation = norm(&noise) / (noise.len() as f64).sqrt();
    if (deviation / 12.0 - 1.0).abs() < 0.3 { Ok(()) } else { Err(format!("noise of {deviation}, expected 12")) }
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::dp_lora", || {
        check(&Cpu)?;
        emulators().try_for_each(|queue| check(&queue))
    });
}
