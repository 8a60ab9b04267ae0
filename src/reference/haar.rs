//! Haar wavelets. The plan here says in f64 what is right, with every element's terms; what [`crate::Cpu`] runs makes the same sums faster, those of elements of 16 bits in f32.

use super::product::{View, for_each};
use super::{Number, Terms};
use crate::haar::{Bands, Boundary, Operation, Scaling, Transform, TransformProblem};
use crate::tensor::Elements;
use crate::{Cpu, Element, ElementType, Kernel, Result};

mod fold;
mod hadamard;
mod lanes;
mod lattice;
mod pairs;
mod registers;
mod stage;
mod tiles;
mod wara;
mod weave;

pub(crate) use hadamard::hadamard;
pub use hadamard::hadamard_terms;
pub(crate) use tiles::transform;
pub use wara::{WaraGradients, wara_backward_terms, wara_forward_terms, wara_merge_terms};
pub(crate) use wara::{wara_backward, wara_forward, wara_merge, wara_merge_kernel};

/// The sums of what the CPU queue runs.
#[derive(PartialEq)]
enum Sums {
    F32,
    F64,
}

impl Sums {
    /// The last digit of 16 bits is 2¹³ times as coarse as f32's.
    const fn of<T: Element>() -> Self {
        match T::TYPE {
            ElementType::F16 | ElementType::BF16 => Sums::F32,
            ElementType::F32 | ElementType::F64 => Sums::F64,
        }
    }
}

/// What the CPU queue runs for sums of so many levels.
pub(crate) fn kernel<T: Element>(levels: usize) -> Kernel {
    match Sums::of::<T>() {
        // The factors as well, and the products with them.
        Sums::F32 => Kernel::reference_in_f32(levels + 3),
        Sums::F64 => Kernel::reference(),
    }
}

/// Columns of a tile, at least.
const COLUMNS: usize = 512;
/// Rows of a tile that are not transformed.
const ROWS: usize = 8;

/// One axis of a transform. Positions are those of the interleaved layout, of a signal extended to whole subtrees.
struct Axis {
    extent: usize,
    /// 0 where the axis is not transformed.
    levels: u32,
    /// Where the details of each level begin.
    offsets: Vec<usize>,
    boundary: Boundary,
}

impl Axis {
    fn new(extent: usize, transformed: bool, problem: &TransformProblem) -> Self {
        let levels = if transformed { problem.levels } else { 0 };
        let mut offsets = vec![extent.div_ceil(1 << levels); levels as usize + 1];
        for level in (1..levels as usize).rev() {
            offsets[level] = offsets[level + 1] + extent.div_ceil(1 << (level + 1));
        }
        // The adjoint of an inverse, which drops what is beyond the end, takes zeros for it.
        let boundary = if problem.adjoint && !problem.inverse { Boundary::Zero } else { problem.boundary };
        Self { extent, levels, offsets, boundary }
    }

    /// Of the approximations after `first` levels, `levels` more.
    fn after(&self, first: u32, levels: u32) -> Self {
        let (first, levels) = if self.levels == 0 { (0, 0) } else { (first, levels) };
        let offsets = self.offsets[first as usize..=(first + levels) as usize].to_vec();
        Self { extent: self.count(first), levels, offsets, boundary: self.boundary }
    }

    fn count(&self, level: u32) -> usize {
        self.extent.div_ceil(1 << level)
    }

    fn padded(&self) -> usize {
        self.count(self.levels) << self.levels
    }

    /// The element at a position of the extension, level by level from the top; none is zero.
    fn extended(&self, position: usize) -> Option<usize> {
        let mut index = position >> self.levels;
        for level in (0..self.levels).rev() {
            index = 2 * index + (position >> level & 1);
            let count = self.count(level);
            if index == count {
                index = match self.boundary {
                    Boundary::None | Boundary::Zero => return None,
                    Boundary::Edge | Boundary::Symmetric => count - 1,
                    Boundary::Periodic => 0,
                };
            }
        }
        (index < self.extent).then_some(index)
    }

    /// How many times a position can be halved, up to the levels; as often as anyone asks where the axis is not transformed.
    fn step(&self, position: usize) -> u32 {
        match self.levels {
            0 => u32::MAX,
            levels if position == 0 => levels,
            levels => position.trailing_zeros().min(levels),
        }
    }

    /// The place of a coefficient of a level in the Mallat layout, if it has one.
    fn place(&self, position: usize, level: u32, detail: bool) -> Option<usize> {
        let level = level.min(self.levels);
        let index = position >> level;
        let offset = if detail { self.offsets[level as usize] } else { 0 };
        (index < self.count(level)).then_some(index + offset)
    }
}

/// A transform whose elements are read and written by others.
struct Plan<'p> {
    problem: &'p TransformProblem,
    rows: Axis,
    columns: Axis,
    factors: Vec<f64>,
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// What AVX-512 has instructions for is done by them.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    in_registers: bool,
}

impl<'p> Plan<'p> {
    fn new(problem: &'p TransformProblem) -> Self {
        let [_, rows, columns] = if problem.inverse { problem.destination.extents } else { problem.source.extents };
        let rows = Axis::new(rows, problem.along_rows, problem);
        let columns = Axis::new(columns, problem.along_columns, problem);
        let axes = f64::from(u32::from(problem.along_rows) + u32::from(problem.along_columns));
        let factor = |level: u32| match problem.scaling {
            Scaling::Orthonormal => (-0.5 * axes * f64::from(level)).exp2(),
            Scaling::Sums if problem.inverse != problem.adjoint => (-axes * f64::from(level)).exp2(),
            Scaling::Sums => 1.0,
        };
        let span = |axis: &Axis, least: usize| (1usize << axis.levels).max(least).min(axis.padded());
        // Copies lead from one tile to another.
        let folds = problem.inverse && problem.adjoint;
        let tile = match folds {
            true => [rows.padded(), columns.padded()],
            false => [span(&rows, ROWS), span(&columns, COLUMNS)],
        };
        let factors = (0..=problem.levels).map(factor).collect();
        Self { problem, rows, columns, factors, tile, in_registers: pairs::has_avx512() }
    }

    /// Level and place of the coefficient at a position; no place where the layout has none.
    fn coefficient(&self, row: usize, row_step: u32, column: usize, column_step: u32) -> (u32, Option<[usize; 2]>) {
        let levels = self.problem.levels;
        let step = row_step.min(column_step);
        let level = (step + 1).min(levels);
        let detail = |axis: &Axis, of: u32| axis.levels > 0 && step < levels && of == step;
        let place = |axis: &Axis, position, of| axis.place(position, level, detail(axis, of));
        let mallat = match (place(&self.rows, row, row_step), place(&self.columns, column, column_step)) {
            (Some(row), Some(column)) => Some([row, column]),
            _ => None,
        };
        let interleaved = self.problem.bands == Bands::Interleaved;
        (level, mallat.map(|place| if interleaved { [row, column] } else { place }))
    }

    /// Calls `write([batch, row, column], value)` for every element of the result.
    ///
    /// # Safety
    /// The problem's source is in ordinary memory, and written to by `write` alone, if at all.
    unsafe fn run<T: Element, N: Number>(&self, write: impl Fn([usize; 3], N) + Sync) {
        let source = View::<T>::new(&self.problem.source);
        let batches = self.problem.source.extents[0];
        let [tile_rows, tile_columns] = self.tile;
        let (rows, columns) = (self.rows.padded(), self.columns.padded());
        let [row_tiles, column_tiles] = [rows.div_ceil(tile_rows), columns.div_ceil(tile_columns)];
        let operations = (batches * rows * columns).saturating_mul(4 + self.problem.levels as usize);
        let state = || vec![N::default(); tile_rows * tile_columns];
        for_each(batches * row_tiles * column_tiles, operations, state, |values, work| {
            let (batch, tile) = (work / (row_tiles * column_tiles), work % (row_tiles * column_tiles));
            let (row, column) = (tile / column_tiles * tile_rows, tile % column_tiles * tile_columns);
            let part = Part {
                plan: self,
                batch,
                rows: row..rows.min(row + tile_rows),
                columns: column..columns.min(column + tile_columns),
            };
            // SAFETY: the caller's.
            unsafe {
                match self.problem.inverse {
                    false => part.forward(&source, values, &write),
                    true => part.inverse(&source, values, &write),
                }
            }
        });
        if !self.problem.inverse && self.problem.bands == Bands::Mallat {
            self.fill_gaps(&write);
        }
    }

    /// Zeros where bands of different extents leave room.
    fn fill_gaps<N: Number>(&self, write: &impl Fn([usize; 3], N)) {
        if self.rows.levels == 0 || self.columns.levels == 0 {
            return;
        }
        for level in 1..=self.problem.levels {
            let [row, column] =
                [&self.rows, &self.columns].map(|axis| (axis.count(level), axis.offsets[level as usize]));
            for batch in 0..self.problem.source.extents[0] {
                let zeros = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
                    rows.for_each(|i| columns.clone().for_each(|j| write([batch, i, j], N::default())));
                };
                zeros(row.0..row.1, column.1..column.1 + column.0);
                zeros(row.1..row.1 + row.0, column.0..column.1);
            }
        }
    }
}

/// A tile of one batch.
struct Part<'p> {
    plan: &'p Plan<'p>,
    batch: usize,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

impl Part<'_> {
    /// # Safety
    /// As [`Plan::run`].
    unsafe fn forward<T: Element, N: Number>(
        &self,
        source: &View<T>,
        values: &mut [N],
        write: &impl Fn([usize; 3], N),
    ) {
        let (plan, width) = (self.plan, self.columns.len());
        let column_indices: Vec<_> = self.columns.clone().map(|column| plan.columns.extended(column)).collect();
        for (values, row) in values.chunks_exact_mut(width).zip(self.rows.clone()) {
            match plan.rows.extended(row) {
                None => values.fill(N::default()),
                Some(row) => {
                    for (value, &column) in values.iter_mut().zip(&column_indices) {
                        // SAFETY: indices within the extents.
                        *value = column
                            .map_or(N::default(), |column| unsafe { N::new(source.value([self.batch, row, column])) });
                    }
                }
            }
        }
        (1..=plan.problem.levels).for_each(|level| self.level(values, level));
        self.coefficients(|at, level, place| match place {
            Some([row, column]) => {
                let mut value = N::default();
                value.add_product(values[at], plan.factors[level as usize]);
                write([self.batch, row, column], value);
            }
            None if plan.problem.bands == Bands::Interleaved => {
                let (row, column) = (self.rows.start + at / width, self.columns.start + at % width);
                write([self.batch, row, column], N::default());
            }
            None => {}
        });
    }

    /// # Safety
    /// As [`Plan::run`].
    unsafe fn inverse<T: Element, N: Number>(
        &self,
        source: &View<T>,
        values: &mut [N],
        write: &impl Fn([usize; 3], N),
    ) {
        let (plan, width) = (self.plan, self.columns.len());
        self.coefficients(|at, level, place| {
            values[at] = N::default();
            if let Some([row, column]) = place {
                // SAFETY: a place within the extents of the coefficients.
                let coefficient = unsafe { N::new(source.value([self.batch, row, column])) };
                values[at].add_product(coefficient, plan.factors[level as usize]);
            }
        });
        (1..=plan.problem.levels).rev().for_each(|level| self.level(values, level));
        if plan.problem.adjoint {
            self.fold(values);
        }
        for (values, row) in
            values.chunks_exact(width).zip(self.rows.clone()).filter(|(_, row)| *row < plan.rows.extent)
        {
            for (&value, column) in values.iter().zip(self.columns.clone()) {
                if column < plan.columns.extent {
                    write([self.batch, row, column], value);
                }
            }
        }
    }

    /// What the extension copied is added to what it was copied from. The tile is the whole matrix.
    fn fold<N: Number>(&self, values: &mut [N]) {
        let (plan, width) = (self.plan, self.columns.len());
        for row in self.rows.clone() {
            for column in plan.columns.extent..width {
                if let Some(target) = plan.columns.extended(column) {
                    let copy = values[row * width + column];
                    values[row * width + target].add(copy);
                }
            }
        }
        for row in plan.rows.extent..self.rows.len() {
            if let Some(target) = plan.rows.extended(row) {
                for column in 0..width {
                    let copy = values[row * width + column];
                    values[target * width + column].add(copy);
                }
            }
        }
    }

    /// Sums and differences of what is `2^(level − 1)` apart, in place; the same there and back.
    fn level<N: Number>(&self, values: &mut [N], level: u32) {
        let (width, half) = (self.columns.len(), 1usize << (level - 1));
        let pair = |a: &mut N, b: &mut N| {
            let (mut sum, mut difference) = (*a, *a);
            sum.add(*b);
            difference.add_product(*b, -1.0);
            (*a, *b) = (sum, difference);
        };
        let row_step = if self.plan.rows.levels > 0 { half } else { 1 };
        let column_step = if self.plan.columns.levels > 0 { half } else { 1 };
        if self.plan.columns.levels > 0 {
            for values in values.chunks_exact_mut(width).step_by(row_step) {
                for block in values.chunks_exact_mut(2 * half) {
                    let (left, right) = block.split_at_mut(half);
                    pair(&mut left[0], &mut right[0]);
                }
            }
        }
        if self.plan.rows.levels > 0 {
            for block in values[..self.rows.len() * width].chunks_exact_mut(2 * half * width) {
                let (upper, lower) = block.split_at_mut(half * width);
                let pairs = upper[..width].iter_mut().zip(&mut lower[..width]);
                pairs.step_by(column_step).for_each(|(a, b)| pair(a, b));
            }
        }
    }

    /// Calls `visit(index in the tile, level, place)` for every position.
    fn coefficients(&self, mut visit: impl FnMut(usize, u32, Option<[usize; 2]>)) {
        let plan = self.plan;
        let mut at = 0;
        for row in self.rows.clone() {
            let row_step = plan.rows.step(row);
            for column in self.columns.clone() {
                let (level, place) = plan.coefficient(row, row_step, column, plan.columns.step(column));
                visit(at, level, place);
                at += 1;
            }
        }
    }
}

/// A result as a view for several threads.
fn row_major<N>(result: &mut [N], extents: [usize; 3]) -> Elements<3> {
    let [_, rows, columns] = extents;
    Elements {
        address: result.as_mut_ptr() as u64,
        extents,
        strides: [rows * columns, columns, 1],
        element_size: size_of::<N>(),
        alignment: align_of::<N>(),
    }
}

/// Value and Σ|terms| of every element that the operation would write, in row-major order. Writes nothing.
///
/// # Errors
/// Those of the operation.
pub fn terms<T: Element>(operation: Operation, call: &Transform<'_, T, Cpu>) -> Result<Vec<Terms>> {
    let mut guards = Vec::new();
    let problem = call.problem(operation, Some(&Cpu), &mut guards)?;
    let mut result = vec![Terms::default(); problem.destination.extents.iter().product()];
    let view = View::<Terms>::new(&row_major(&mut result, problem.destination.extents));
    // SAFETY: the call's views were proven; every element of the result is written by one thread.
    unsafe { Plan::new(&problem).run::<T, Terms>(|index, terms| view.set(index, terms)) };
    Ok(result)
}
