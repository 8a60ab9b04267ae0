//! The methods that these operations are for, as their users would put them together: WaRA in both modes beside plain LoRA, and WaveFT's sparse spectrum.

use peft_kernels::haar::{self, Axis, Transform, Wara, WaraBackward, WaraForward, WaraMerge};
use peft_kernels::{Cpu, Emulator, HostQueue, Mat, MatMut, Workspace, lora};

use crate::numbers::Random;
use crate::queues::Trials;

type Outcome<T = ()> = Result<T, String>;

fn text(error: peft_kernels::Error) -> String {
    error.to_string()
}

fn mat<Q: HostQueue>(values: &[f32], [rows, columns]: [usize; 2]) -> Mat<'_, f32, Q> {
    Mat::new(values, rows, columns).expect("it fits")
}

fn mat_mut<Q: HostQueue>(values: &mut [f32], [rows, columns]: [usize; 2]) -> MatMut<'_, f32, Q> {
    MatMut::new(values, rows, columns).expect("it fits")
}

fn reals(seed: u64, count: usize) -> Vec<f32> {
    let mut random = Random(seed);
    (0..count).map(|_| random.real() as f32).collect()
}

/// Of sums of at most a few hundred products of numbers in −1 … 1.
fn near(what: &str, got: &[f32], expected: &[f32]) -> Outcome {
    assert_eq!(got.len(), expected.len());
    let distance = |(got, expected): (&f32, &f32)| (got - expected).abs();
    let worst = got.iter().zip(expected).map(distance).fold(0.0, f32::max);
    if worst <= 2e-5 { Ok(()) } else { Err(format!("{what}: {worst} apart")) }
}

/// y of a layer W [n, k] with an adapter.
fn forward<Q: HostQueue>(
    queue: &Q,
    x: &[f32],
    w: &[f32],
    shape: [usize; 3],
    adapter: Wara<'_, f32, Q>,
) -> Outcome<Vec<f32>> {
    let [m, n, k] = shape;
    let mut y = vec![0.0; m * n];
    let mut scratch = vec![0; 1 << 16];
    let call = WaraForward::new(mat(x, [m, k]), mat_mut(&mut y, [m, n]), adapter).weights(mat(w, [n, k]));
    haar::wara_forward(queue, call, Workspace::new(&mut scratch[..])).map_err(text)?;
    Ok(y)
}

fn lora_forward<Q: HostQueue>(
    queue: &Q,
    x: &[f32],
    w: &[f32],
    [m, n, k]: [usize; 3],
    a: &[f32],
    b: &[f32],
    scale: f32,
) -> Outcome<Vec<f32>> {
    let (mut y, rank) = (vec![0.0; m * n], a.len() / k);
    let mut scratch = vec![0; 1 << 16];
    let target = lora::Target::dense(Mat::new(w, n, k).expect("it fits"), MatMut::new(&mut y, m, n).expect("it fits"));
    let target = target.adapter(Mat::new(a, rank, k).expect("it fits"), Mat::new(b, n, rank).expect("it fits"), scale);
    let call = lora::Forward::new(Mat::new(x, m, k).expect("it fits")).target(target);
    lora::forward(queue, call, Workspace::new(&mut scratch[..])).map_err(text)?;
    Ok(y)
}

/// Weight mode: the image B·A of one level is LoRA with its factors transformed back, along rows and along columns; merged, the layer alone does the same.
fn wara_weight<Q: HostQueue>(queue: &Q) -> Outcome {
    let (shape @ [m, n, k], rank, scale) = ([6, 24, 40], 4, 0.5);
    let (x, w, a, b) = (reals(1, m * k), reals(2, n * k), reals(3, rank * k), reals(4, n * rank));
    let adapter = || Wara::new(mat(&a, [rank, k]), mat(&b, [n, rank]), scale);
    let y = forward(queue, &x, &w, shape, adapter())?;

    let (mut back_a, mut back_b) = (vec![0.0; rank * k], vec![0.0; n * rank]);
    let of_a = Transform::new(mat(&a, [rank, k]), mat_mut(&mut back_a, [rank, k]), 1);
    haar::inverse_1d(queue, of_a.axis(Axis::Columns)).map_err(text)?;
    let of_b = Transform::new(mat(&b, [n, rank]), mat_mut(&mut back_b, [n, rank]), 1);
    haar::inverse_1d(queue, of_b.axis(Axis::Rows)).map_err(text)?;
    near("LoRA of transformed factors", &y, &lora_forward(queue, &x, &w, shape, &back_a, &back_b, scale)?)?;

    let mut merged = w.clone();
    haar::wara_merge(queue, WaraMerge::in_place(mat_mut(&mut merged, [n, k]), adapter())).map_err(text)?;
    near("the merged layer", &y, &lora_forward(queue, &x, &merged, shape, &vec![0.0; k], &vec![0.0; n], 0.0)?)?;
    haar::wara_unmerge(queue, WaraMerge::in_place(mat_mut(&mut merged, [n, k]), adapter())).map_err(text)?;
    near("the layer unmerged", &merged, &w)
}

/// Activation mode: one pair of factors for all bands, without gains, is plain LoRA on every token; with the gain of a band it is not.
fn wara_activation<Q: HostQueue>(queue: &Q) -> Outcome {
    let (shape @ [m, n, k], rank, scale) = ([2 * 5 * 6, 12, 20], 3, 0.25);
    let (x, w, a, b) = (reals(5, m * k), reals(6, n * k), reals(7, rank * k), reals(8, n * rank));
    let adapter = || {
        let adapter = Wara::new(mat(&a, [rank, k]), mat(&b, [n, rank]), scale);
        adapter.activations([5, 6]).boundary(haar::Boundary::Edge).levels(2)
    };
    let plain = lora_forward(queue, &x, &w, shape, &a, &b, scale)?;
    near("LoRA", &forward(queue, &x, &w, shape, adapter())?, &plain)?;
    let gains = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0];
    match near("LoRA", &forward(queue, &x, &w, shape, adapter().gains(&gains))?, &plain) {
        Err(_) => Ok(()),
        Ok(()) => Err("a band's gain changes nothing".into()),
    }
}

/// From B = 0 a layer learns another one whose difference is of low rank in the wavelet domain: its loss falls to nothing, by the gradients of backward alone.
fn wara_learns<Q: HostQueue>(queue: &Q) -> Outcome {
    let (shape @ [m, n, k], rank, scale) = ([16, 8, 8], 2, 1.0);
    let (x, w) = (reals(9, m * k), reals(10, n * k));
    let (teacher_a, teacher_b) = (reals(11, rank * k), reals(12, n * rank));
    let teacher = Wara::new(mat(&teacher_a, [rank, k]), mat(&teacher_b, [n, rank]), scale);
    let wanted = forward(queue, &x, &w, shape, teacher)?;
    let (mut a, mut b) = (reals(13, rank * k), vec![0.0; n * rank]);
    let mut losses = Vec::new();
    for _ in 0..250 {
        let adapter = || Wara::new(mat(&a, [rank, k]), mat(&b, [n, rank]), scale);
        let y = forward(queue, &x, &w, shape, adapter())?;
        let dy: Vec<_> = y.iter().zip(&wanted).map(|(y, wanted)| (y - wanted) / m as f32).collect();
        losses.push(dy.iter().map(|dy| f64::from(dy * dy)).sum::<f64>());
        let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
        let mut scratch = vec![0; 1 << 14];
        let call = WaraBackward::new(mat(&x, [m, k]), mat(&dy, [m, n]), adapter());
        let call = call.factor_gradients(mat_mut(&mut da, [rank, k]), mat_mut(&mut db, [n, rank]));
        haar::wara_backward(queue, call, Workspace::new(&mut scratch[..])).map_err(text)?;
        let step = |values: &mut [f32], gradient: &[f32]| {
            values.iter_mut().zip(gradient).for_each(|(value, gradient)| *value -= 0.5 * gradient)
        };
        step(&mut a, &da);
        step(&mut b, &db);
    }
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    if last < 1e-4 * first { Ok(()) } else { Err(format!("the loss went from {first} to {last}")) }
}

/// WaveFT: a few coefficients of ΔW anywhere in its spectrum, zeros elsewhere. As an image of rank-one entries WaRA makes the same ΔW as the transform of the spectrum, and the same gradients.
fn waveft<Q: HostQueue>(queue: &Q) -> Outcome {
    let ([m, n, k], entries, scaling) = ([5, 22, 34], 19, 25.0);
    let mut random = Random(777);
    let (mut spectrum, mut a, mut b) = (vec![0.0; n * k], vec![0.0; entries * k], vec![0.0; n * entries]);
    let mut places = Vec::new();
    while places.len() < entries {
        let (row, column) = (random.below(n), random.below(k));
        if spectrum[row * k + column] == 0.0 {
            let (entry, value) = (places.len(), random.real() as f32 / 32.0);
            spectrum[row * k + column] = value;
            (a[entry * k + column], b[row * entries + entry]) = (1.0, value);
            places.push((row, column));
        }
    }
    let mut delta = vec![0.0; n * k];
    haar::inverse_2d(queue, Transform::new(mat(&spectrum, [n, k]), mat_mut(&mut delta, [n, k]), 1)).map_err(text)?;
    delta.iter_mut().for_each(|delta| *delta *= scaling);
    let adapter = || Wara::new(mat(&a, [entries, k]), mat(&b, [n, entries]), scaling);
    let mut merged = vec![0.0; n * k];
    haar::wara_merge(queue, WaraMerge::in_place(mat_mut(&mut merged, [n, k]), adapter())).map_err(text)?;
    near("the update", &merged, &delta)?;

    // The gradient of a coefficient is that of its entry of B, and a coefficient of dW.
    let (x, dy) = (reals(14, m * k), reals(15, m * n));
    let mut dw = vec![0.0f32; n * k];
    for (token, (row, column)) in (0..m).flat_map(|token| (0..n * k).map(move |i| (token, (i / k, i % k)))) {
        dw[row * k + column] += dy[token * n + row] * x[token * k + column] / 25.0;
    }
    let mut of_spectrum = vec![0.0; n * k];
    haar::forward_2d(queue, Transform::new(mat(&dw, [n, k]), mat_mut(&mut of_spectrum, [n, k]), 1)).map_err(text)?;
    let scaled: Vec<_> = dy.iter().map(|dy| dy / (25.0 * scaling)).collect();
    let (mut da, mut db) = (vec![0.0; a.len()], vec![0.0; b.len()]);
    let mut scratch = vec![0; 1 << 14];
    let call = WaraBackward::new(mat(&x, [m, k]), mat(&scaled, [m, n]), adapter());
    let call = call.factor_gradients(mat_mut(&mut da, [entries, k]), mat_mut(&mut db, [n, entries]));
    haar::wara_backward(queue, call, Workspace::new(&mut scratch[..])).map_err(text)?;
    let got: Vec<_> = places.iter().enumerate().map(|(entry, (row, _))| db[row * entries + entry]).collect();
    let expected: Vec<_> = places.iter().map(|(row, column)| of_spectrum[row * k + column]).collect();
    near("the gradient of the spectrum", &got, &expected)
}

pub fn trials(trials: &mut Trials) {
    trials.add("haar::methods::wara/weight/cpu", || wara_weight(&Cpu));
    trials.add("haar::methods::wara/weight/emulator", || wara_weight(&Emulator::new(0)));
    trials.add("haar::methods::wara/activation/cpu", || wara_activation(&Cpu));
    trials.add("haar::methods::wara/activation/emulator", || wara_activation(&Emulator::new(0)));
    trials.add("haar::methods::wara/learns/cpu", || wara_learns(&Cpu));
    trials.add("haar::methods::wara/learns/emulator", || wara_learns(&Emulator::new(0)));
    trials.add("haar::methods::waveft/cpu", || waveft(&Cpu));
    trials.add("haar::methods::waveft/emulator", || waveft(&Emulator::new(0)));
}
