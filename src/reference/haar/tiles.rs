//! The transforms as [`crate::Cpu`] runs them: the sums of [`super::Plan`], in the same order, a level at a time over whole rows of a tile. What a tile holds is read and written once.

use super::lanes::Sum;
use super::stage::{Part, Room, Sheet, Stage};
use super::{Axis, Plan, Sums, pairs, row_major};
use crate::Element;
use crate::haar::{Bands, TransformProblem};
use crate::reference::product::{View, for_each};

/// What a stage leads from and to.
pub struct Views<S, T, N> {
    signal: View<S>,
    coefficients: View<T>,
    /// The approximations, unless it is the last stage.
    deeper: View<N>,
}

/// What the transforms do on [`crate::Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its destination is disjoint from its source, or the same elements in the interleaved layout.
pub(crate) unsafe fn transform<T: Element>(problem: &TransformProblem) {
    let plan = Plan::new(problem);
    match Sums::of::<T>() {
        // SAFETY: the caller's.
        Sums::F32 => unsafe { transform_in::<T, f32>(&plan) },
        // SAFETY: the caller's.
        Sums::F64 => unsafe { transform_in::<T, f64>(&plan) },
    }
}

/// # Safety
/// As [`transform`].
unsafe fn transform_in<T: Element, N: Sum>(plan: &Plan) {
    let problem = plan.problem;
    let (source, destination) = (View::<T>::new(&problem.source), View::<T>::new(&problem.destination));
    if problem.inverse {
        // SAFETY: the caller's.
        return unsafe { run::<T, T, N>(plan, 0, destination, source) };
    }
    // SAFETY: an element of the destination, which nobody writes or reads meanwhile.
    let zero = |index| unsafe { destination.set(index, T::from_f64(0.0)) };
    match problem.bands {
        Bands::Mallat => plan.fill_gaps::<f64>(&|index, _| zero(index)),
        Bands::Interleaved => fill_beyond(plan, zero),
    }
    // SAFETY: the caller's.
    unsafe { run::<T, T, N>(plan, 0, source, destination) };
}

/// Zeros, in the interleaved layout, beyond the tiles of the first levels. Deeper ones write theirs after it.
fn fill_beyond(plan: &Plan, zero: impl Fn([usize; 3])) {
    let [batches, rows, columns] = plan.problem.destination.extents;
    let stage = Stage::new(plan, 0, true);
    let (first_row, first_column) = (stage.rows.padded(), stage.columns.padded());
    for batch in 0..batches {
        for row in 0..rows {
            let begin = if row < first_row { first_column } else { 0 };
            (begin..columns).for_each(|column| zero([batch, row, column]));
        }
    }
}

/// The levels after the first `first`, of a signal that is the approximations of those.
///
/// # Safety
/// As [`transform`].
unsafe fn run<S: Element, T: Element, N: Sum>(plan: &Plan, first: u32, signal: View<S>, coefficients: View<T>) {
    let stage = Stage::new(plan, first, signal.is_row_major() && coefficients.is_row_major());
    let [rows, columns] = stage.axes().map(|axis| axis.count(axis.levels));
    let extents = [plan.problem.source.extents[0], rows, columns];
    let mut approximations = vec![N::default(); if stage.is_last { 0 } else { extents.iter().product() }];
    let deeper = View::<N>::new(&row_major(&mut approximations, extents));
    let views = Views { signal, coefficients, deeper };
    // SAFETY: the caller's; the approximations are this call's own.
    unsafe {
        if plan.problem.inverse && !stage.is_last {
            run::<N, T, N>(plan, first + stage.levels, deeper, coefficients);
        }
        stage.run(&views);
        if !plan.problem.inverse && !stage.is_last {
            run::<N, T, N>(plan, first + stage.levels, deeper, coefficients);
        }
    }
}

impl Stage<'_> {
    /// # Safety
    /// As [`transform`].
    unsafe fn run<S: Element, T: Element, N: Sum>(&self, views: &Views<S, T, N>) {
        let (batches, [tile_rows, tile_columns]) = (self.plan.problem.source.extents[0], self.tile);
        let [rows, columns] = self.axes().map(Axis::padded);
        let [row_tiles, column_tiles] = [rows.div_ceil(tile_rows), columns.div_ceil(tile_columns)];
        let operations = (batches * rows * columns).saturating_mul(4);
        for_each(
            batches * row_tiles * column_tiles,
            operations,
            || self.room::<T, N>(),
            |room, work| {
                let (batch, tile) = (work / (row_tiles * column_tiles), work % (row_tiles * column_tiles));
                let (row, column) = (tile / column_tiles * tile_rows, tile % column_tiles * tile_columns);
                let (rows, columns) = (row..rows.min(row + tile_rows), column..columns.min(column + tile_columns));
                let part = Part { batch, rows, columns };
                // SAFETY: the caller's.
                unsafe {
                    match self.plan.problem.inverse {
                        false => self.forward(&part, views, room),
                        true => self.inverse(&part, views, room),
                    }
                }
            },
        );
    }

    // ---- there ----------------------------------------------------------------------------------------------------------------------------------------------

    unsafe fn forward<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        views: &Views<S, T, N>,
        room: &mut Room<T, N>,
    ) {
        let coefficients = &views.coefficients;
        // SAFETY: the caller's; rows of a tile's planes and bands lie within them.
        unsafe {
            let first = self.levels_in_registers(room, part, (&views.signal, coefficients));
            if first > 0 {
                self.weave_in_registers(room, part, (&views.signal, coefficients));
            }
            if first == self.levels {
                return;
            }
            for level in first + 1..=self.levels {
                let output = self.plane(room, part, level);
                let bands = self.details(room, part, coefficients, level);
                if level > 1 {
                    let input = self.plane(room, part, level - 1);
                    self.analyse(part, level, input, output, bands);
                } else if self.is_whole(part) && views.signal.is_row_major() {
                    let input = views.signal.sheet([part.batch, part.rows.start, part.columns.start]);
                    self.analyse(part, level, input, output, bands);
                } else {
                    self.load(part, &views.signal, &mut room.planes);
                    self.analyse(part, level, self.plane(room, part, 0), output, bands);
                }
            }
            let [rows, columns] = self.band_extents(part.extents(), self.levels);
            let approximations = self.plane(room, part, self.levels);
            let factor = self.factor(self.levels);
            let last = self.band(room, part, coefficients, self.levels, [false; 2]);
            let deeper = views.deeper.sheet([
                part.batch,
                part.rows.start >> self.rows.levels,
                part.columns.start >> self.columns.levels,
            ]);
            for i in 0..rows {
                let approximations = approximations.row(i, columns);
                match self.is_last {
                    false => deeper.row_mut(i, columns).copy_from_slice(approximations),
                    true => pairs::scale(approximations, last.row_mut(i, columns), factor),
                }
            }
            if self.is_woven(part, coefficients) {
                self.weave(room, part, coefficients, first);
            } else if !self.is_direct(part, coefficients) {
                let staged = &room.staged;
                self.each_line(part, coefficients, |line| {
                    for (i, &value) in
                        staged[line.staged..].iter().step_by(line.staged_step).take(line.inside).enumerate()
                    {
                        line.first.add(i * line.step).write(value);
                    }
                    for i in line.inside..line.inside + line.missing {
                        line.first.add(i * line.step).write(T::from_f64(0.0));
                    }
                });
            }
        }
    }

    /// One level of a tile.
    unsafe fn analyse<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        level: u32,
        input: Sheet<S>,
        output: Sheet<N>,
        bands: [Sheet<T>; 3],
    ) {
        let ([rows, columns], factor) = (self.band_extents(part.extents(), level), self.factor(level));
        for i in 0..rows {
            // SAFETY: the caller's.
            unsafe {
                let a = output.row_mut(i, columns);
                let [h, v, d] = bands;
                match [self.rows.levels > 0, self.columns.levels > 0] {
                    [true, true] => {
                        let (upper, lower) = (input.row(2 * i, 2 * columns), input.row(2 * i + 1, 2 * columns));
                        let (h, v, d) = (h.row_mut(i, columns), v.row_mut(i, columns), d.row_mut(i, columns));
                        pairs::forward_both(upper, lower, a, h, v, d, factor);
                    }
                    [true, false] => {
                        let (upper, lower) = (input.row(2 * i, columns), input.row(2 * i + 1, columns));
                        pairs::forward_rows(upper, lower, a, h.row_mut(i, columns), factor);
                    }
                    _ => pairs::forward_columns(input.row(i, 2 * columns), a, v.row_mut(i, columns), factor),
                }
            }
        }
    }

    /// The tile with what the boundary mode adds.
    unsafe fn load<S: Element, N: Sum>(&self, part: &Part, signal: &View<S>, planes: &mut [N]) {
        let [rows, columns] = [0, 1].map(|axis| {
            let indices = part.range(axis).clone().map(|position| self.axes()[axis].extended(position));
            indices.collect::<Vec<_>>()
        });
        let width = columns.len();
        let mut one = |i: usize, j: usize| {
            planes[i * width + j] = match (rows[i], columns[j]) {
                // SAFETY: the caller's; an index within the extents.
                (Some(row), Some(column)) => N::from_f64(unsafe { signal.value([part.batch, row, column]) }),
                _ => N::default(),
            };
        };
        match signal.is_row_major() {
            true => (0..rows.len()).for_each(|i| (0..width).for_each(|j| one(i, j))),
            false => (0..width).for_each(|j| (0..rows.len()).for_each(|i| one(i, j))),
        }
    }

    // ---- and back -------------------------------------------------------------------------------------------------------------------------------------------

    unsafe fn inverse<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        views: &Views<S, T, N>,
        room: &mut Room<T, N>,
    ) {
        let signal = &views.signal;
        // SAFETY: the caller's.
        unsafe {
            if self.is_whole(part) && signal.is_row_major() && !self.wraps(part, 0) && !self.wraps(part, 1) {
                let output = signal.sheet([part.batch, part.rows.start, part.columns.start]);
                return self.synthesise(part, views, room, Some(output));
            }
            self.folded(part, views, room);
            let [rows, columns] =
                [0, 1].map(|axis| self.axes()[axis].extent.min(part.range(axis).end) - part.range(axis).start);
            let one = |i: usize, j: usize| {
                let value = room.planes[i * part.columns.len() + j];
                signal.set([part.batch, part.rows.start + i, part.columns.start + j], S::from_f64(value.to_f64()));
            };
            match signal.is_row_major() {
                true => (0..rows).for_each(|i| (0..columns).for_each(|j| one(i, j))),
                false => (0..columns).for_each(|j| (0..rows).for_each(|i| one(i, j))),
            }
        }
    }

    /// To `output`, or to the first plane.
    pub unsafe fn synthesise<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        views: &Views<S, T, N>,
        room: &mut Room<T, N>,
        output: Option<Sheet<S>>,
    ) {
        let coefficients = &views.coefficients;
        // SAFETY: the caller's; rows of a tile's planes and bands lie within them.
        unsafe {
            let first = match output {
                Some(_) => self.levels_in_registers(room, part, (&views.signal, coefficients)),
                None => 0,
            };
            if first == self.levels {
                return self.weave_in_registers(room, part, (&views.signal, coefficients));
            }
            if self.is_woven(part, coefficients) {
                self.unweave(room, part, coefficients, first);
            } else if !self.is_direct(part, coefficients) {
                room.staged.fill(T::from_f64(0.0));
                let staged = &mut room.staged;
                self.each_line(part, coefficients, |line| {
                    let values = staged[line.staged..].iter_mut().step_by(line.staged_step).take(line.inside);
                    for (i, value) in values.enumerate() {
                        *value = line.first.add(i * line.step).read();
                    }
                });
            }
            let [rows, columns] = self.band_extents(part.extents(), self.levels);
            let approximations = self.plane(room, part, self.levels);
            let factor = self.factor(self.levels);
            let last = self.band(room, part, coefficients, self.levels, [false; 2]);
            let deeper = views.deeper.sheet([
                part.batch,
                part.rows.start >> self.rows.levels,
                part.columns.start >> self.columns.levels,
            ]);
            for i in 0..rows {
                let approximations = approximations.row_mut(i, columns);
                match self.is_last {
                    false => approximations.copy_from_slice(deeper.row(i, columns)),
                    true => pairs::unscale(last.row(i, columns), approximations, factor),
                }
            }
            for level in (first + 1..=self.levels).rev() {
                let input = self.plane(room, part, level);
                let bands = self.details(room, part, coefficients, level);
                match output {
                    Some(output) if level == 1 => self.unite(part, level, input, bands, output),
                    _ => self.unite(part, level, input, bands, self.plane(room, part, level - 1)),
                }
            }
            if first > 0 {
                self.weave_in_registers(room, part, (&views.signal, coefficients));
            }
        }
    }

    /// One level of a tile.
    unsafe fn unite<S: Element, T: Element, N: Sum>(
        &self,
        part: &Part,
        level: u32,
        input: Sheet<N>,
        bands: [Sheet<T>; 3],
        output: Sheet<S>,
    ) {
        let ([rows, columns], factor) = (self.band_extents(part.extents(), level), self.factor(level));
        for i in 0..rows {
            // SAFETY: the caller's.
            unsafe {
                let a = input.row(i, columns);
                let [h, v, d] = bands;
                match [self.rows.levels > 0, self.columns.levels > 0] {
                    [true, true] => {
                        let (upper, lower) =
                            (output.row_mut(2 * i, 2 * columns), output.row_mut(2 * i + 1, 2 * columns));
                        let (h, v, d) = (h.row(i, columns), v.row(i, columns), d.row(i, columns));
                        pairs::inverse_both(upper, lower, a, h, v, d, factor);
                    }
                    [true, false] => {
                        let (upper, lower) = (output.row_mut(2 * i, columns), output.row_mut(2 * i + 1, columns));
                        pairs::inverse_rows(upper, lower, a, h.row(i, columns), factor);
                    }
                    _ => pairs::inverse_columns(output.row_mut(i, 2 * columns), a, v.row(i, columns), factor),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::haar::{Axis, Operation, Transform};
    use crate::storage::Plain;
    use crate::{Cpu, Mat, MatMut};

    /// The coefficients of a signal, and what it is made of them, with AVX-512 or without.
    fn there_and_back<T: Element + Plain, N: Sum>(
        (operation, axis): (Operation, Axis),
        [rows, columns, levels]: [usize; 3],
        in_registers: bool,
    ) -> [Vec<T>; 2] {
        let signal: Vec<T> = (0..rows * columns).map(|i| T::from_f64(((i * 37 % 1009) as f64 - 504.0) / 7.0)).collect();
        let (mut coefficients, mut inverse) = (vec![T::default(); signal.len()], vec![T::default(); signal.len()]);
        let back = if operation == Operation::Forward1d { Operation::Inverse1d } else { Operation::Inverse2d };
        for (operation, from, to) in [(operation, &signal, &mut coefficients), (back, &signal, &mut inverse)] {
            let (from, to) = (Mat::new(from, rows, columns).unwrap(), MatMut::new(to, rows, columns).unwrap());
            let call = Transform::<T, Cpu>::new(from, to, levels as u32).bands(Bands::Interleaved).axis(axis);
            let problem = call.problem(operation, Some(&Cpu), &mut Vec::new()).unwrap();
            let mut plan = Plan::new(&problem);
            plan.in_registers &= in_registers;
            // SAFETY: the problem is a call's.
            unsafe { transform_in::<T, N>(&plan) };
        }
        [coefficients, inverse]
    }

    fn bits_are_those_of_any_processor<T: Element + Plain, N: Sum>() {
        let operations = [
            (Operation::Forward1d, Axis::Columns),
            (Operation::Forward1d, Axis::Rows),
            (Operation::Forward2d, Axis::Columns),
        ];
        for extents in [[64, 64], [128, 4160], [192, 320]] {
            for (operation, levels) in operations.into_iter().flat_map(|one| (1..=6).map(move |levels| (one, levels))) {
                let extents = [extents[0], extents[1], levels];
                let [got, expected] = [true, false].map(|yes| there_and_back::<T, N>(operation, extents, yes));
                assert!(got == expected, "{operation:?} {extents:?}");
            }
        }
    }

    #[test]
    fn registers_have_the_bits_of_any_processor() {
        if !pairs::has_avx512() {
            println!("not run: this processor has no AVX-512");
            return;
        }
        bits_are_those_of_any_processor::<f32, f64>();
        bits_are_those_of_any_processor::<f16, f32>();
        bits_are_those_of_any_processor::<bf16, f32>();
    }
}
