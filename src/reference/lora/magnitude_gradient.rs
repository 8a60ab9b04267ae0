//! The reference of [`crate::lora::magnitude_gradient`].

use crate::lora::{MagnitudeGradient, MagnitudeProblem};
use crate::reference::product::View;
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Result, StatusRecord, ffi};

/// Value and Σ|terms| of every element that [`crate::lora::magnitude_gradient`] would write: [batches or 1, n]. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::magnitude_gradient`], but for what depends on data.
pub fn magnitude_gradient_terms<T: Element>(call: &MagnitudeGradient<'_, T, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::magnitude_gradient_terms", Some(&Cpu), &mut guards)?;
    // SAFETY: the call's views were proven, and nothing is written to them.
    Ok(unsafe { gradients::<T, Terms>(&problem, &mut StatusRecord::default()) })
}

/// What [`crate::lora::magnitude_gradient`] does on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its output is disjoint from everything else.
pub(crate) unsafe fn magnitude_gradient<T: Element>(problem: &MagnitudeProblem, record: &mut StatusRecord) {
    let gradient = View::<f32>::new(&problem.gradient);
    // SAFETY: the caller's; an index within the gradient's extents.
    unsafe {
        for (i, value) in gradients::<T, f64>(problem, record).into_iter().enumerate() {
            gradient.set([i / problem.n, 0, i % problem.n], value as f32);
        }
    }
}

/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them.
unsafe fn gradients<T: Element, N: Number>(problem: &MagnitudeProblem, record: &mut StatusRecord) -> Vec<N> {
    let (dy, y) = (View::<T>::new(&problem.dy), View::<T>::new(&problem.y));
    let bias = problem.bias.as_ref().map(View::<T>::new);
    let (magnitude, gradient) = (View::<f32>::new(&problem.magnitude), View::<f32>::new(&problem.gradient));
    let groups = problem.gradient.extents[0];
    let element = |i: usize| {
        let (group, column) = (i / problem.n, i % problem.n);
        let batches = if groups == 1 { 0..problem.batches } else { group..group + 1 };
        let mut sum = N::default();
        // SAFETY: the caller's; indices within the extents. One gradient for all batches has one magnitude, that of any of them; without a batch its strides are not used.
        unsafe {
            for (batch, row) in batches.flat_map(|batch| (0..problem.m).map(move |row| (batch, row))) {
                let mut value = N::new(y.value([batch, row, column]));
                if let Some(bias) = &bias {
                    value.add(N::new(-bias.value([batch, 0, column])));
                }
                sum.add_product(value, dy.value([batch, row, column]));
            }
            let magnitude = magnitude.value([group, 0, column]);
            let mut value = N::default();
            if magnitude == 0.0 {
                record.add(ffi::PK_FAILURE_ZERO_MAGNITUDE, i);
            } else {
                value.add(sum.times(1.0 / magnitude));
            }
            if problem.accumulate {
                value.add(N::new(gradient.value([group, 0, column])));
            }
            value
        }
    };
    (0..groups * problem.n).map(element).collect()
}
