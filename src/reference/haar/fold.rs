//! The adjoint of an extension, tile by tile: what is beyond the end is added to what it was copied from.

use super::lanes::Sum;
use super::stage::{Part, Room, Stage};
use super::tiles::Views;
use crate::Element;
use crate::haar::Boundary;

impl Stage<'_> {
    /// Whether elements of a tile have copies in the last one.
    pub fn wraps(&self, part: &Part, axis: usize) -> bool {
        let problem = self.plan.problem;
        let (range, axis) = (part.range(axis), self.axes()[axis]);
        let folds = problem.inverse && problem.adjoint && axis.boundary == Boundary::Periodic;
        folds && range.start == 0 && range.end < axis.padded() && axis.extent < axis.padded()
    }

    /// The tile, in the first plane, with what the extension copied from it.
    pub unsafe fn folded<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        views: &Views<S, T, N>,
        room: &mut Room<T, N>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.folded_along_columns(part, views, room);
            self.fold(part, 0, &mut room.planes, None);
            if self.wraps(part, 0) {
                let (padded, mut other) = (self.rows.padded(), self.room());
                let last =
                    Part { rows: padded - (1 << self.rows.levels)..padded, columns: part.columns.clone(), ..*part };
                self.folded_along_columns(&last, views, &mut other);
                self.fold(part, 0, &mut room.planes, Some((&last, &other.planes)));
            }
        }
    }

    unsafe fn folded_along_columns<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        views: &Views<S, T, N>,
        room: &mut Room<T, N>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            self.synthesise(part, views, room, None);
            self.fold(part, 1, &mut room.planes, None);
            if self.wraps(part, 1) {
                let (padded, mut other) = (self.columns.padded(), self.room());
                let last =
                    Part { rows: part.rows.clone(), columns: padded - (1 << self.columns.levels)..padded, ..*part };
                self.synthesise(&last, views, &mut other, None);
                self.fold(part, 1, &mut room.planes, Some((&last, &other.planes)));
            }
        }
    }

    /// What is beyond the end, of the tile itself or of another, is added to what it was copied from.
    fn fold<N: Sum>(&self, part: &Part, along: usize, values: &mut [N], other: Option<(&Part, &[N])>) {
        let problem = self.plan.problem;
        if !problem.inverse || !problem.adjoint {
            return;
        }
        let (axis, from) = (self.axes()[along], other.map_or(part, |(other, _)| other));
        let at = |part: &Part, position: usize, line: usize| match along {
            0 => (position - part.rows.start) * part.columns.len() + line,
            _ => line * part.columns.len() + position - part.columns.start,
        };
        let range = from.range(along);
        for position in range.start.max(axis.extent)..range.end {
            let Some(target) = axis.extended(position).filter(|target| part.range(along).contains(target)) else {
                continue;
            };
            for line in 0..part.extents()[1 - along] {
                let copy = match other {
                    Some((other, others)) => others[at(other, position, line)],
                    None => values[at(part, position, line)],
                };
                let target = &mut values[at(part, target, line)];
                *target = *target + copy;
            }
        }
    }
}
