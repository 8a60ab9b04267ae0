//! The references of [`crate::lora::sample_norms`], [`crate::lora::clip_weights`] and [`crate::lora::add_noise`].

use super::{factor, kept};
use crate::lora::{AddNoise, ClipProblem, NoiseProblem, SampleNormTargetProblem, SampleNorms, SampleNormsProblem};
use crate::reference::product::{View, for_each};
use crate::reference::{Number, Terms, philox};
use crate::{Cpu, Element, ElementType, Result, StatusRecord};

/// Value and bound of every number that [`crate::lora::sample_norms`] would write: the sum of the squares of the gradients' elements, and of those of their magnitudes. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::sample_norms`], but for what depends on data.
pub fn sample_norms_terms<T: Element, P: Element>(call: &SampleNorms<'_, T, P, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::sample_norms_terms", Some(&Cpu), &mut guards)?;
    let squares = |terms: Terms| Terms { value: terms.value.powi(2), magnitude: terms.magnitude.powi(2) };
    // SAFETY: the call's views were proven, and nothing is written to them.
    Ok(unsafe { norms::<T, P, Terms>(&problem, &mut StatusRecord::default(), squares) })
}

/// What [`crate::lora::sample_norms`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its output is disjoint from everything else.
pub(crate) unsafe fn sample_norms<T: Element, P: Element>(problem: &SampleNormsProblem, record: &mut StatusRecord) {
    // SAFETY: the caller's; as many numbers as samples.
    unsafe {
        for (i, square) in norms::<T, P, f64>(problem, record, |value| value * value).into_iter().enumerate() {
            (problem.squares as *mut f32).add(i).write(square as f32);
        }
    }
}

/// # Safety
/// The problem's inputs are in ordinary memory, and nobody writes to them.
unsafe fn norms<T: Element, P: Element, N: Number>(
    problem: &SampleNormsProblem,
    record: &mut StatusRecord,
    square: impl Fn(N) -> N + Sync,
) -> Vec<N> {
    // SAFETY: the caller's.
    let (before, ranges) = unsafe {
        let before =
            |i| if problem.accumulate { f64::from((problem.squares as *const f32).add(i).read()) } else { 0.0 };
        let before: Vec<_> = (0..problem.samples.count).map(|i| N::new(before(i))).collect();
        (before, problem.samples.ranges(record))
    };
    let sums: Vec<_> = before.into_iter().map(std::sync::Mutex::new).collect();
    for target in &problem.targets {
        let of_target = OfTarget::<T, P> { problem, target, _types: std::marker::PhantomData };
        let operations = problem.samples.rows * target.adapter.rank().max(1) * (problem.k + target.n);
        for_each(
            sums.len(),
            2 * operations,
            || (),
            |_, sample| {
                // SAFETY: the caller's, and rows that there are.
                let sum = unsafe { of_target.squares(ranges[sample].clone(), &square) };
                let mut slot = sums[sample].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                slot.add(sum);
            },
        );
    }
    sums.into_iter().map(|sum| sum.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())).collect()
}

struct OfTarget<'p, T, P> {
    problem: &'p SampleNormsProblem,
    target: &'p SampleNormTargetProblem,
    _types: std::marker::PhantomData<fn() -> (T, P)>,
}

impl<T: Element, P: Element> OfTarget<'_, T, P> {
    /// The sum of the squares of the gradients of these rows.
    ///
    /// # Safety
    /// Operands in ordinary memory, and rows that there are.
    unsafe fn squares<N: Number>(&self, rows: std::ops::Range<usize>, square: &impl Fn(N) -> N) -> N {
        let Self { problem, target, .. } = self;
        let (rank, m, dropout) = (target.adapter.rank(), problem.m, problem.dropout.as_ref());
        let scale = f64::from(target.adapter.scale) * factor(dropout);
        let (x, dy) = (View::<T>::new(&problem.x), View::<T>::new(&target.dy));
        let (a, b) = (View::<P>::new(&target.adapter.a), View::<P>::new(&target.adapter.b));
        // SAFETY: the caller's.
        let x = |row: usize, column| unsafe { kept(&x, dropout, m, [row / m, row % m, column]) };
        // SAFETY: the caller's.
        let dy = |row: usize, column| unsafe { dy.value([row / m, row % m, column]) };
        let [counts_a, counts_b, counts_bias] = target.counts;
        let mut sum = N::default();
        if counts_a && rank > 0 {
            // SAFETY: the caller's.
            let b = |rank, i| unsafe { b.value([0, i, rank]) };
            let dh = product(rows.clone(), rank, target.n, &dy, &b);
            sum.add(outer_squares(rows.clone(), [rank, problem.k], scale, &dh, &x, square));
        }
        if counts_b && rank > 0 {
            // SAFETY: the caller's.
            let a = |rank, i| unsafe { a.value([0, rank, i]) };
            let h: Vec<N> = match &target.h {
                None => product(rows.clone(), rank, problem.k, &x, &a),
                Some((view, element_type)) => {
                    let value = |row: usize, rank: usize| {
                        let index = [row / m, row % m, rank];
                        // SAFETY: the caller's.
                        N::new(unsafe {
                            match element_type {
                                ElementType::F32 => View::<f32>::new(view).value(index),
                                _ => View::<T>::new(view).value(index),
                            }
                        })
                    };
                    rows.clone().flat_map(|row| (0..rank).map(move |rank| value(row, rank))).collect()
                }
            };
            sum.add(outer_squares(rows.clone(), [rank, target.n], scale, &h, &dy, square));
        }
        if counts_bias {
            let ones = vec![N::new(1.0); rows.len()];
            sum.add(outer_squares(rows, [1, target.n], 1.0, &ones, &dy, square));
        }
        sum
    }
}

/// `left·rightᵀ` of some rows, [rows, rank].
fn product<N: Number>(
    rows: std::ops::Range<usize>,
    rank: usize,
    depth: usize,
    left: &impl Fn(usize, usize) -> f64,
    right: &impl Fn(usize, usize) -> f64,
) -> Vec<N> {
    let mut result = vec![N::default(); rows.len() * rank];
    for (row, sums) in rows.zip(result.chunks_mut(rank.max(1))) {
        for i in 0..depth {
            let factor = N::new(left(row, i));
            for (rank, sum) in sums.iter_mut().enumerate() {
                sum.add_product(factor, right(rank, i));
            }
        }
    }
    result
}

/// `Σ (scale·hᵀ·left)²` over ranks and columns, the product over rows.
fn outer_squares<N: Number>(
    rows: std::ops::Range<usize>,
    [rank, columns]: [usize; 2],
    scale: f64,
    h: &[N],
    left: &impl Fn(usize, usize) -> f64,
    square: &impl Fn(N) -> N,
) -> N {
    let mut sum = N::default();
    let mut of_column = vec![N::default(); rank];
    for column in 0..columns {
        of_column.fill(N::default());
        for (row, h) in rows.clone().zip(h.chunks(rank)) {
            let value = left(row, column);
            for (sum, &h) in of_column.iter_mut().zip(h) {
                sum.add_product(h, value);
            }
        }
        for &element in &of_column {
            let mut scaled = N::default();
            scaled.add_product(element, scale);
            sum.add(square(scaled));
        }
    }
    sum
}

/// What [`crate::lora::clip_weights`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and disjoint.
pub(crate) unsafe fn clip_weights(problem: &ClipProblem) {
    for i in 0..problem.count {
        // SAFETY: the caller's; as many weights as squares.
        unsafe {
            let ratio = f64::from(problem.max_norm) / f64::from((problem.squares as *const f32).add(i).read()).sqrt();
            // NaN stays.
            let weight = if ratio >= 1.0 { 1.0 } else { ratio };
            (problem.weights as *mut f32).add(i).write(weight as f32);
        }
    }
}

/// Value and Σ|terms| of every element that [`crate::lora::add_noise`] would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::add_noise`].
pub fn add_noise_terms<T: Element>(call: &AddNoise<'_, T, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::add_noise_terms", Some(&Cpu), &mut guards)?;
    let mut terms = Vec::new();
    // SAFETY: the call's view was proven, and nothing is written to it.
    unsafe {
        each_noise::<T>(&problem, |_, [value, noise]| {
            terms.push(Terms { value: value + noise, magnitude: value.abs() + noise.abs() })
        })
    };
    Ok(terms)
}

/// What [`crate::lora::add_noise`] does on [`Cpu`].
///
/// # Safety
/// The problem's operand is in ordinary memory, and nobody else's.
pub(crate) unsafe fn add_noise<T: Element>(problem: &NoiseProblem) {
    let view = View::<T>::new(&problem.gradient);
    // SAFETY: the caller's.
    unsafe { each_noise::<T>(problem, |index, [value, noise]| view.set(index, T::from_f64(value + noise))) };
}

/// Calls `run(index, [element, its noise])` for every element.
///
/// # Safety
/// The problem's operand is in ordinary memory.
unsafe fn each_noise<T: Element>(problem: &NoiseProblem, mut run: impl FnMut([usize; 3], [f64; 2])) {
    let [_, rows, columns] = problem.gradient.extents;
    let view = View::<T>::new(&problem.gradient);
    let mut four = [0.0; 4];
    for e in 0..rows * columns {
        if e % 4 == 0 {
            four = normal(problem.seed, problem.offset, e as u64 / 4);
        }
        let index = [0, e / columns, e % columns];
        // SAFETY: the caller's.
        run(index, [unsafe { view.value(index) }, f64::from(problem.scale) * four[e % 4]]);
    }
}

/// Four numbers of the standard normal distribution.
fn normal(seed: u64, offset: u64, quad: u64) -> [f64; 4] {
    let counter = [quad as u32, (quad >> 32) as u32, offset as u32, (offset >> 32) as u32];
    let words = philox(counter, [seed as u32, (seed >> 32) as u32]);
    let pair = |distance: u32, direction: u32| {
        let u = f64::from((distance as f32).mul_add(2f32.powi(-32), 2f32.powi(-33)));
        let (radius, angle) = ((-2.0 * u.ln()).sqrt(), std::f64::consts::TAU * f64::from(direction) * 2f64.powi(-32));
        [radius * angle.cos(), radius * angle.sin()]
    };
    let ([a, b], [c, d]) = (pair(words[0], words[1]), pair(words[2], words[3]));
    [a, b, c, d]
}
