//! Outputs as Hugging Face's peft makes them: hf_peft.txt, which hf_peft.py has written.

use peft_kernels::lora::{self, Adapter, Forward, Target, WeightNorm};
use peft_kernels::reference::{self, Terms};
use peft_kernels::{Cpu, Emulator, HostQueue, Mat, MatMut, Result, Vector, VectorMut, Workspace};

use super::case::ALGORITHMS;
use crate::queues::Trials;

const FIXTURES: &str = include_str!("hf_peft.txt");

struct Fixture {
    method: &'static str,
    m: usize,
    k: usize,
    n: usize,
    rank: usize,
    scale: f32,
    /// W, bias, A, B, DoRA's magnitude or AdaLoRA's E, and x.
    given: [Vec<f32>; 6],
    y: Vec<f64>,
    norms: Vec<f64>,
}

fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|_| panic!("a number, not {word}"))).collect()
}

fn parse(line: &'static str) -> Fixture {
    let mut fields = line.split(';').map(str::trim);
    let mut next = || fields.next().expect("another field");
    let method = next();
    let shape = numbers(next());
    let [m, k, n, rank] = std::array::from_fn(|i| shape[i] as usize);
    let scale = numbers(next())[0] as f32;
    let given = std::array::from_fn(|_| numbers(next()).into_iter().map(|value| value as f32).collect());
    Fixture { method, m, k, n, rank, scale, given, y: numbers(next()), norms: numbers(next()) }
}

/// Whether these are peft's, up to the roundings of `terms`; those of peft's are in f64, and the scale's is one.
fn close(name: &str, got: &[f32], expected: &[f64], terms: &[Terms], steps: usize) -> std::result::Result<(), String> {
    assert_eq!([got.len(), terms.len()], [expected.len(); 2]);
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let allowed = terms[i].allowed_error::<f32>(steps + 1);
        if (f64::from(got) - expected).abs() > allowed {
            return Err(format!("{name} {i}: {got}, in peft {expected}, allowed {allowed}"));
        }
    }
    Ok(())
}

impl Fixture {
    fn norm_call<'a, Q: HostQueue>(&'a self, [norm, g]: &'a mut [Vec<f32>; 2]) -> Result<WeightNorm<'a, f32, f32, Q>> {
        let Self { k, n, rank, scale, given: [w, _, a, b, magnitude, _], .. } = self;
        let adapter = Adapter::new(Mat::new(a, *rank, *k)?, Mat::new(b, *n, *rank)?, *scale);
        let call = WeightNorm::new(Mat::new(w, *n, *k)?, VectorMut::whole(norm)).adapter(adapter);
        Ok(call.row_scale(Vector::whole(magnitude), VectorMut::whole(g)))
    }

    fn forward_call<'a, Q: HostQueue>(
        &'a self,
        a: &'a [f32],
        g: Option<&'a [f32]>,
        y: &'a mut [f32],
    ) -> Result<Forward<'a, f32, f32, Q>> {
        let Self { m, k, n, rank, scale, given: [w, bias, _, b, _, x], .. } = self;
        let target = Target::dense(Mat::new(w, *n, *k)?, MatMut::new(y, *m, *n)?).bias(Vector::whole(bias));
        let target = target.adapter(Mat::new(a, *rank, *k)?, Mat::new(b, *n, *rank)?, *scale);
        Ok(Forward::new(Mat::new(x, *m, *k)?).target(match g {
            Some(g) => target.row_scale(Vector::whole(g)),
            None => target,
        }))
    }
}

/// Norms and row scales as peft's DoRA has them.
fn row_scale<Q: HostQueue>(queue: &Q, fixture: &Fixture) -> Result<std::result::Result<Vec<f32>, String>> {
    let empty = || [vec![f32::NAN; fixture.n], vec![f32::NAN; fixture.n]];
    let (mut got, mut unused) = (empty(), empty());
    let call = fixture.norm_call(&mut got)?;
    let steps = lora::weight_norm_kernel(queue, &call)?.rounding_steps;
    let mut workspace = vec![0u8; lora::weight_norm_workspace(queue, &call)?];
    lora::weight_norm(queue, call, Workspace::new(&mut workspace))?;
    let terms = reference::weight_norm::weight_norm_terms(&fixture.norm_call::<Cpu>(&mut unused)?)?;
    let [norm, g] = got;
    Ok(close("norm", &norm, &fixture.norms, &terms, steps).map(|()| g))
}

fn check<Q: HostQueue>(queue: &Q, fixture: &Fixture, algorithm: i32) -> Result<std::result::Result<(), String>> {
    let Fixture { method, m, k, n, rank, given: [_, _, a, _, vector, _], .. } = fixture;
    // AdaLoRA's E, row by row: the products of these short numbers are exact.
    let of_rank = |i: usize| if *method == "adalora" { vector[i / k] } else { 1.0 };
    let a: Vec<f32> = a.iter().enumerate().map(|(i, a)| a * of_rank(i)).collect();
    let g = match *method {
        "dora" => match row_scale(queue, fixture)? {
            Ok(g) => Some(g),
            Err(text) => return Ok(Err(text)),
        },
        _ => None,
    };
    let (mut y, mut unused) = (vec![f32::NAN; m * n], vec![f32::NAN; m * n]);
    let call = fixture.forward_call(&a, g.as_deref(), &mut y)?.algorithm(algorithm);
    let steps = lora::forward_kernel(queue, &call)?.rounding_steps;
    let mut workspace = vec![0u8; lora::forward_workspace(queue, &call)?];
    lora::forward(queue, call, Workspace::new(&mut workspace))?;
    let terms = fixture.forward_call::<Cpu>(&a, g.as_deref(), &mut unused)?;
    let terms = reference::lora::forward_terms(&terms)?.remove(0);
    // A row scale has the roundings of a norm's elements and squares, and the quotient's.
    let of_scale = if g.is_some() { rank + k + 40 } else { 0 };
    Ok(close(method, &y, &fixture.y, &terms, steps + of_scale))
}

fn equals_peft() -> std::result::Result<(), String> {
    assert_eq!(FIXTURES.lines().count(), 12);
    for fixture in FIXTURES.lines().map(parse) {
        check(&Cpu, &fixture, 0).map_err(|error| error.to_string())??;
        for algorithm in ALGORITHMS {
            check(&Emulator::new(1), &fixture, algorithm).map_err(|error| error.to_string())??;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::forward::equals_peft", equals_peft);
}
