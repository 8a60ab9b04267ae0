//! Where the elements of a view are: offset, extents and strides.

use std::fmt::Write as _;
use std::ops::Range;

use crate::{Error, Result};

/// Where the elements of a view are within its storage. Element `(i₀, i₁, …)` is at `offset + Σ iₐ·strides[a]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<const N: usize> {
    /// Elements before the first.
    pub offset: usize,
    /// How many there are along each axis.
    pub extents: [usize; N],
    /// Elements between two neighbours along each axis.
    pub strides: [usize; N],
}

impl<const N: usize> Layout<N> {
    /// Row-major and without gaps.
    pub fn contiguous(extents: [usize; N]) -> Self {
        let mut strides = [1usize; N];
        for axis in (1..N).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(extents[axis].max(1));
        }
        Self { offset: 0, extents, strides }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.extents.contains(&0)
    }

    /// Elements that a storage must have for this view, its offset included.
    pub(crate) fn needed(&self) -> u128 {
        let first = self.offset as u128;
        if self.is_empty() {
            first
        } else {
            first.saturating_add(1).saturating_add(self.reach(&std::array::from_fn::<_, N, _>(|axis| axis)))
        }
    }

    /// Elements from the first to the last along some axes; at most [`u128::MAX`].
    fn reach(&self, axes: &[usize]) -> u128 {
        let along = |&axis: &usize| (self.extents[axis] as u128 - 1) * self.strides[axis] as u128;
        axes.iter().map(along).fold(0, u128::saturating_add)
    }

    /// Whether two indices reach one element. Exact where one stride is 1; otherwise strides that do not nest count as overlapping.
    pub(crate) fn overlaps_itself(&self) -> bool {
        let mut axes: Vec<usize> = (0..N).filter(|&axis| self.extents[axis] > 1).collect();
        axes.sort_by_key(|&axis| self.strides[axis]);
        let nested = |i: usize| self.strides[axes[i]] as u128 > self.reach(&axes[..i]);
        !self.is_empty() && !(0..axes.len()).all(nested)
    }

    pub(crate) fn check(&self, operation: &'static str, length: usize) -> Result<()> {
        let needed = self.needed();
        if needed > length as u128 {
            return Err(Error::Bounds { operation, view: self.to_string(), needed, length });
        }
        Ok(())
    }

    pub(crate) fn narrow(&self, operation: &'static str, axis: usize, range: &Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.extents[axis] {
            return Err(Error::Argument {
                operation,
                argument: "range",
                expected: format!("a range within 0..{}", self.extents[axis]),
                got: format!("{}..{}", range.start, range.end),
            });
        }
        let mut part = *self;
        part.extents[axis] = range.len();
        if !part.is_empty() {
            part.offset += range.start * self.strides[axis];
        }
        Ok(part)
    }
}

impl<const N: usize> std::fmt::Display for Layout<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = format!("a view of {}", extents(&self.extents));
        if *self != Self::contiguous(self.extents) {
            let _ = write!(text, " with strides {:?} at offset {}", self.strides, self.offset);
        }
        f.write_str(&text)
    }
}

/// `[62, 384]`
pub(crate) fn extents(extents: &[usize]) -> String {
    format!("{extents:?}")
}

impl From<Layout<2>> for Layout<3> {
    /// A batch of one.
    fn from(layout: Layout<2>) -> Self {
        let ([rows, columns], [row_stride, column_stride]) = (layout.extents, layout.strides);
        Self { offset: layout.offset, extents: [1, rows, columns], strides: [0, row_stride, column_stride] }
    }
}
