//! The reference of [`crate::lora::weight_norm`].

use super::lora::each_delta;
use super::product::{TILE, View};
use super::{Number, Terms};
use crate::lora::{WeightNorm, WeightNormProblem};
use crate::tensor::Elements;
use crate::{Cpu, Element, Result, StatusRecord, ffi};

/// For each row the sums of `squares` of its elements, tile by tile and then over the tiles, so that they do not depend on how many cores there are.
///
/// # Safety
/// The problem's inputs are in ordinary memory, and nobody writes to them.
unsafe fn sums<T: Element, P: Element, N: Number>(
    problem: &WeightNormProblem,
    squares: impl Fn(N) -> [f64; 2] + Sync,
) -> Vec<[f64; 2]> {
    let [_, n, k] = problem.w.extents;
    let tiles = k.div_ceil(TILE);
    let mut parts = vec![[0.0; 2]; n * tiles];
    let layout = Elements { address: parts.as_mut_ptr() as u64, extents: [1, n, tiles], ..of_parts(tiles) };
    let (w, view) = (View::<T>::new(&problem.w), View::<[f64; 2]>::new(&layout));
    // SAFETY: the caller's; a tile's parts are read and written by the one thread that has the tile.
    unsafe {
        each_delta::<P, N>([n, k], &problem.adapters, &[], |[row, column], delta| {
            let mut element = N::new(w.value([0, row, column]));
            element.add(delta);
            let ([value, magnitude], part) = (squares(element), [0, row, column / TILE]);
            let [values, magnitudes] = view.get(part);
            view.set(part, [values + value, magnitudes + magnitude]);
        });
    }
    let add = |[a, b]: [f64; 2], [c, d]: &[f64; 2]| [a + c, b + d];
    (0..n).map(|row| parts[row * tiles..][..tiles].iter().fold([0.0; 2], add)).collect()
}

/// A list of pairs for each row.
fn of_parts(tiles: usize) -> Elements<3> {
    let (element_size, alignment) = (size_of::<[f64; 2]>(), align_of::<[f64; 2]>());
    Elements { address: 0, extents: [0; 3], strides: [0, tiles, 1], element_size, alignment }
}

/// Value and bound of every norm that [`crate::lora::weight_norm`] would write: the norm of the elements, and that of what each was added up from. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::weight_norm`].
pub fn weight_norm_terms<T: Element, P: Element>(call: &WeightNorm<'_, T, P, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::weight_norm_terms", Some(&Cpu), &mut guards)?;
    let eps = f64::from(problem.eps);
    // SAFETY: the call's views were proven, and nothing is written to them.
    let sums = unsafe { sums::<T, P, Terms>(&problem, |terms| [terms.value.powi(2), terms.magnitude.powi(2)]) };
    let terms = |[value, magnitude]: [f64; 2]| Terms { value: value.sqrt() + eps, magnitude: magnitude.sqrt() + eps };
    Ok(sums.into_iter().map(terms).collect())
}

/// What [`crate::lora::weight_norm`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its output is disjoint from everything else.
pub(crate) unsafe fn weight_norm<T: Element, P: Element>(problem: &WeightNormProblem, record: &mut StatusRecord) {
    // SAFETY: the caller's.
    let sums = unsafe { sums::<T, P, f64>(problem, |value| [value * value, 0.0]) };
    for (row, [sum, _]) in sums.into_iter().enumerate() {
        let norm = (sum.sqrt() + f64::from(problem.eps)) as f32;
        if norm == 0.0 {
            record.add(ffi::PK_FAILURE_ZERO_NORM, row);
        }
        // SAFETY: as many norms as rows.
        unsafe { (problem.norm as *mut f32).add(row).write(norm) };
        if let Some([magnitude, scale]) = problem.scale {
            // SAFETY: as many of both.
            unsafe { (scale as *mut f32).add(row).write((magnitude as *const f32).add(row).read() / norm) };
        }
    }
}
