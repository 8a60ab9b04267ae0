//! What lies between A and B, element by element.

use crate::lora::MiddleProblem;
use crate::reference::Number;
use crate::reference::product::View;
use crate::{Element, StatusRecord};

/// A target's middle, or that of a target without one.
pub(in crate::reference) struct Middle<P> {
    /// For each column of H its rank, where they are listed.
    ranks: Option<Vec<Option<usize>>>,
    scale: Option<View<P>>,
    gate: Option<View<f32>>,
    core: Option<View<P>>,
    m: usize,
    /// Columns of H, and of what is made of it.
    pub columns: usize,
    pub after: usize,
}

impl<P: Element> Middle<P> {
    /// Of an adapter whose A has `rank` rows, and B `after` columns.
    ///
    /// # Safety
    /// The middle's operands are in ordinary memory, which nobody writes to while this lives.
    pub unsafe fn new(
        problem: Option<&MiddleProblem>,
        m: usize,
        [rank, after]: [usize; 2],
        record: &mut StatusRecord,
    ) -> Self {
        // SAFETY: the caller's.
        let ranks = problem.and_then(|problem| unsafe { problem.ranks(rank, record) });
        let columns = ranks.as_ref().map_or(rank, Vec::len);
        Self {
            scale: problem.and_then(|problem| problem.scale.as_ref()).map(View::new),
            gate: problem.and_then(|problem| problem.gate.as_ref()).map(View::new),
            core: problem.and_then(|problem| problem.core.as_ref()).map(View::new),
            after: if ranks.is_some() { columns } else { after },
            ranks,
            m,
            columns,
        }
    }

    /// The rank that a column of H is.
    pub fn rank_of(&self, column: usize) -> Option<usize> {
        match &self.ranks {
            None => Some(column),
            Some(ranks) => ranks[column],
        }
    }

    fn scale(&self, row: usize, column: usize) -> f64 {
        let (Some(scale), Some(rank)) = (&self.scale, self.rank_of(column)) else { return 1.0 };
        // SAFETY: an index within its extents, as the caller of `new` says.
        unsafe { scale.value([row / self.m, 0, rank]) }
    }

    fn gate(&self, row: usize, column: usize) -> f64 {
        let Some(rank) = self.rank_of(column) else { return 0.0 };
        // SAFETY: an index within its extents, as the caller of `new` says.
        self.gate.as_ref().map_or(1.0, |gate| unsafe { gate.value([row / self.m, row % self.m, rank]) })
    }

    fn core(&self, row: usize, after: usize, column: usize) -> f64 {
        // SAFETY: an index within its extents, as the caller of `new` says.
        self.core.as_ref().map_or(0.0, |core| unsafe { core.value([row / self.m, after, column]) })
    }

    /// `g·value`: nothing where the gate is 0, whatever the value is. Rows are those of all batches.
    fn gated<N: Number>(&self, row: usize, column: usize, value: N) -> N {
        match self.gate(row, column) {
            0.0 => N::default(),
            gate => value.times(gate),
        }
    }

    /// `g·(λ·h)`
    pub fn before_core<N: Number>(&self, row: usize, column: usize, h: N) -> N {
        self.gated(row, column, h.times(self.scale(row, column)))
    }

    /// `mid(H)`, [rows, after], of H [rows, columns].
    pub fn apply<N: Number>(&self, h: Vec<N>) -> Vec<N> {
        if self.columns == 0 {
            // Of which the rows cannot be told from H.
            return Vec::new();
        }
        let rows = h.chunks_exact(self.columns).enumerate();
        let result = rows.flat_map(|(row, h)| {
            let inner: Vec<N> = h.iter().enumerate().map(|(i, &h)| self.before_core(row, i, h)).collect();
            match self.core {
                None => inner,
                Some(_) => (0..self.after).map(|i| sum(&inner, |j| self.core(row, i, j))).collect(),
            }
        });
        result.collect()
    }

    /// `F = dH'·R`, [rows, columns], of dH' [rows, after].
    pub fn through_core<N: Number>(&self, rows: usize, after: Vec<N>) -> Vec<N> {
        if self.core.is_none() {
            return after;
        }
        let of_row = |row: usize| &after[row * self.after..(row + 1) * self.after];
        let element = |row: usize| (0..self.columns).map(move |j| sum(of_row(row), |i| self.core(row, i, j)));
        (0..rows).flat_map(element).collect()
    }

    /// `g·λ·f`, an element of dH.
    pub fn gradient_of_h<N: Number>(&self, row: usize, column: usize, f: N) -> N {
        self.gated(row, column, f.times(self.scale(row, column)))
    }

    /// `f·g·h`, a row's part of the gradient of λ.
    pub fn gradient_of_scale<N: Number>(&self, row: usize, column: usize, f: N, h: N) -> N {
        f.multiplied(self.gated(row, column, h))
    }

    /// `f·λ·h`, the gradient of a gate.
    pub fn gradient_of_gate<N: Number>(&self, row: usize, column: usize, f: N, h: N) -> N {
        f.multiplied(h.times(self.scale(row, column)))
    }
}

fn sum<N: Number>(list: &[N], by: impl Fn(usize) -> f64) -> N {
    let mut sum = N::default();
    for (i, &value) in list.iter().enumerate() {
        sum.add_product(value, by(i));
    }
    sum
}
