//! The reference of [`crate::lora::merge`] and [`crate::lora::unmerge`].

use std::sync::Mutex;

use super::{Middle, tile};
use crate::lora::{AdapterProblem, Merge, MergeProblem};
use crate::reference::product::{TILE, Tile, View, for_each};
use crate::reference::{Number, Terms};
use crate::{Cpu, Element, Result, StatusRecord, ffi};

/// Value and Σ|terms| of every element that [`crate::lora::merge`] (`direction` 1) or [`crate::lora::unmerge`] without a residual (−1) would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of [`crate::lora::merge`], but for what depends on data.
pub fn merge_terms<T: Element, P: Element>(call: &Merge<'_, T, P, Cpu>, direction: f64) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem("lora::merge_terms", Some(&Cpu), &mut guards)?;
    let [_, n, k] = problem.source.extents;
    let result = Mutex::new(vec![Terms::default(); n * k]);
    let source = View::<T>::new(&problem.source);
    // SAFETY: the call's views were proven, and nothing is written to them.
    unsafe {
        let middles = middles::<P>(&problem, &mut StatusRecord::default());
        each_delta::<P, Terms>([n, k], &problem.adapters, &middles, |[row, column], delta| {
            let (weight, g) = (source.value([0, row, column]), row_scale(&problem, row));
            let mut terms = Terms::new(if direction > 0.0 { weight } else { weight / g });
            terms.add_product(delta, direction);
            result.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[row * k + column] =
                if direction > 0.0 { terms.times(g) } else { terms };
        });
    }
    Ok(result.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

/// What [`crate::lora::merge`] (`direction` 1) and [`crate::lora::unmerge`] (−1) do on [`Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from everything else, but for a source that is the destination.
pub(crate) unsafe fn merge<T: Element, P: Element>(problem: &MergeProblem, direction: f64, record: &mut StatusRecord) {
    let [_, n, k] = problem.source.extents;
    let (source, destination) = (View::<T>::new(&problem.source), View::<T>::new(&problem.destination));
    // Sixteen-bit weights only: their bits, as the residual counts them.
    let bits = |value: T| {
        // SAFETY: a T of two bytes.
        unsafe { (&raw const value).cast::<u16>().read_unaligned() }
    };
    let merges = direction > 0.0;
    // SAFETY: the caller's; an element is read before it is written, by the one thread that writes it.
    unsafe {
        let middles = middles::<P>(problem, record);
        // Without a residual nothing comes back from under a scale of 0.
        let scaled = if merges || problem.residual.is_some() || problem.row_scale.is_none() { 0 } else { n };
        if let Some(row) = (0..scaled).find(|&row| row_scale(problem, row) == 0.0) {
            record.add(ffi::PK_FAILURE_ZERO_ROW_SCALE, row);
        }
        each_delta::<P, f64>([n, k], &problem.adapters, &middles, |[row, column], delta| {
            let (index, g) = ([0, row, column], row_scale(problem, row));
            let original = source.get(index);
            let forth = |weight: T| T::from_f64(g * (weight.to_f64() + delta));
            let back = |weight: T| T::from_f64(weight.to_f64() / g - delta);
            let mut result = if merges { forth(original) } else { back(original) };
            if let Some(residual) = &problem.residual {
                let residual = View::<u16>::new(residual);
                if merges {
                    residual.set(index, bits(original).wrapping_sub(bits(back(result))));
                } else {
                    let restored = bits(result).wrapping_add(residual.get(index));
                    (&raw mut result).cast::<u16>().write_unaligned(restored);
                }
            }
            destination.set(index, result);
        });
    }
}

/// Of a row of W; 1 without.
///
/// # Safety
/// The problem's operands are in ordinary memory, and the row is one of W.
unsafe fn row_scale(problem: &MergeProblem, row: usize) -> f64 {
    // SAFETY: the caller's.
    problem.row_scale.as_ref().map_or(1.0, |scale| unsafe { View::<f32>::new(scale).value([0, 0, row]) })
}

/// Of every adapter, where it has one. Columns of A stand for tokens: there are no gates.
///
/// # Safety
/// The problem's operands are in ordinary memory, and nobody writes to them.
unsafe fn middles<P: Element>(problem: &MergeProblem, record: &mut StatusRecord) -> Vec<Option<Middle<P>>> {
    let m = problem.source.extents[2].max(1);
    let of_adapter = |(adapter, middle): (&AdapterProblem, &Option<_>)| {
        let ranks = [adapter.rank(), adapter.b.extents[2]];
        // SAFETY: the caller's.
        middle.is_some().then(|| unsafe { Middle::new(middle.as_ref(), m, ranks, record) })
    };
    problem.adapters.iter().zip(&problem.middles).map(of_adapter).collect()
}

/// An adapter as its product is made.
struct Factors<'p, P, N> {
    adapter: &'p AdapterProblem,
    middle: Option<&'p Middle<P>>,
    rank: usize,
    /// `(R·diag(λ)·A)ᵀ` [k, rank], or nothing: A itself. Made first, as the kernels make it: with `B·R` first infinities would meet others.
    made: Option<Vec<N>>,
}

impl<'p, P: Element, N: Number> Factors<'p, P, N> {
    /// # Safety
    /// The adapter is in ordinary memory, and nobody writes to it.
    unsafe fn new(adapter: &'p AdapterProblem, middle: Option<&'p Middle<P>>, k: usize) -> Self {
        let Some(middle) = middle else { return Self { adapter, middle, rank: adapter.rank(), made: None } };
        let a = View::<P>::new(&adapter.a);
        // SAFETY: the caller's; an index within the extents of A.
        let element = |column, i| middle.rank_of(i).map_or(0.0, |rank| unsafe { a.value([0, rank, column]) });
        let elements = (0..k).flat_map(|column| (0..middle.columns).map(move |i| (column, i)));
        let made = middle.apply(elements.map(|(column, i)| N::new(element(column, i))).collect());
        // Without ranks it is nothing, whatever a core makes of it.
        let rank = if middle.columns > 0 { middle.after } else { 0 };
        Self { adapter, middle: Some(middle), rank, made: Some(made) }
    }

    /// # Safety
    /// As [`Factors::new`], for an index within its extents.
    unsafe fn a(&self, rank: usize, column: usize) -> N {
        match &self.made {
            Some(made) => made[column * self.rank + rank],
            // SAFETY: the caller's.
            None => N::new(unsafe { View::<P>::new(&self.adapter.a).value([0, rank, column]) }),
        }
    }

    /// # Safety
    /// As [`Factors::new`], for an index within its extents.
    unsafe fn b(&self, row: usize, rank: usize) -> f64 {
        let rank = self.middle.map_or(Some(rank), |middle| middle.rank_of(rank));
        // SAFETY: the caller's.
        rank.map_or(0.0, |rank| unsafe { View::<P>::new(&self.adapter.b).value([0, row, rank]) })
    }
}

/// Calls `write([row, column], Σᵢ sᵢ·(Bᵢ·midᵢ·Aᵢ)[row, column])` for every element; of adapters beyond the list of middles, without one.
///
/// # Safety
/// The adapters are in ordinary memory, and nobody writes to them.
pub(in crate::reference) unsafe fn each_delta<P: Element, N: Number>(
    [n, k]: [usize; 2],
    adapters: &[AdapterProblem],
    middles: &[Option<Middle<P>>],
    write: impl Fn([usize; 2], N) + Sync,
) {
    if n == 0 || k == 0 {
        return;
    }
    let factors = |(i, adapter)| {
        let middle = middles.get(i).and_then(Option::as_ref);
        // SAFETY: the caller's.
        unsafe { Factors::<P, N>::new(adapter, middle, k) }
    };
    let factors: Vec<_> = adapters.iter().enumerate().map(factors).collect();
    let ranks: usize = factors.iter().map(|factors| factors.rank).sum();
    let column_tiles = k.div_ceil(TILE);
    let state = || (Tile::<N>::new(), vec![N::default(); TILE * TILE]);
    for_each(n.div_ceil(TILE) * column_tiles, (n * k).saturating_mul(ranks + 1), state, |(product, delta), work| {
        let (rows, columns) = (tile(work / column_tiles, n), tile(work % column_tiles, k));
        delta.fill(N::default());
        for factors in factors.iter().filter(|factors| factors.rank > 0) {
            // SAFETY: indices within the extents of A and B.
            unsafe {
                product.product(
                    [columns.len(), rows.len(), factors.rank],
                    |j, rank| factors.a(rank, columns.start + j),
                    |i, rank| factors.b(rows.start + i, rank),
                );
            }
            for i in 0..rows.len() {
                for j in 0..columns.len() {
                    delta[i * TILE + j].add_product(product.get(j, i), f64::from(factors.adapter.scale));
                }
            }
        }
        for (i, row) in rows.clone().enumerate() {
            for (j, column) in columns.clone().enumerate() {
                write([row, column], delta[i * TILE + j]);
            }
        }
    });
}
