//! The first levels of the interleaved layout with AVX-512: there sums and differences take the places of their terms, which are in one register, or in those of rows side by side.
#![cfg(target_arch = "x86_64")]

use super::lanes::{Lanes, Register, Sum};
use super::stage::{Sheet, Stage};
use crate::Element;

/// Levels of a block, which along columns are those of eight lanes.
pub const LEVELS: u32 = 3;
/// Rows of a block, at most.
const ROWS: usize = 1 << LEVELS;
/// Lanes of a register, at most.
const LANES: usize = 16;

/// The first levels of a stage.
pub struct Lattice<N> {
    pub levels: u32,
    along: [bool; 2],
    /// Of the coefficients of a block, row by row.
    factors: [[N; LANES]; ROWS],
    /// There are more levels: the approximations are given and taken as they are.
    is_deeper: bool,
}

/// Where a tile is.
pub struct Sheets<S, T, N> {
    pub extents: [usize; 2],
    pub signal: Sheet<S>,
    pub coefficients: Sheet<T>,
    pub approximations: Sheet<N>,
}

impl<N: Sum> Lattice<N> {
    pub fn new(stage: &Stage) -> Self {
        let (levels, along) = (stage.levels.min(LEVELS), stage.axes().map(|axis| axis.levels > 0));
        let halvings = |axis: usize, place: usize| match along[axis] {
            true => (place as u32 | 1 << levels).trailing_zeros(),
            false => levels,
        };
        let factor = |row, lane| {
            let step = halvings(0, row).min(halvings(1, lane));
            stage.factor((step + 1).min(levels))
        };
        let factors = std::array::from_fn(|row| std::array::from_fn(|lane| factor(row, lane)));
        Self { levels, along, factors, is_deeper: stage.levels > levels }
    }

    /// Whether a tile of so many rows and columns is of whole blocks and registers.
    pub fn divides(&self, [rows, columns]: [usize; 2]) -> bool {
        columns.is_multiple_of(N::Widest::COUNT) && (!self.along[0] || rows.is_multiple_of(1 << self.levels))
    }

    /// # Safety
    /// The processor has AVX-512; the extents are those of the sheets, and divided; what is written is nobody else's.
    pub unsafe fn run<S: Element, T: Element>(&self, inverse: bool, sheets: &Sheets<S, T, N>) {
        // SAFETY: the caller's.
        unsafe {
            match (inverse, self.along, self.levels) {
                (false, [true, true], 1) => self.forward::<S, T, 1, true, true>(sheets),
                (false, [true, true], 2) => self.forward::<S, T, 2, true, true>(sheets),
                (false, [true, true], _) => self.forward::<S, T, 3, true, true>(sheets),
                (false, [true, false], 1) => self.forward::<S, T, 1, true, false>(sheets),
                (false, [true, false], 2) => self.forward::<S, T, 2, true, false>(sheets),
                (false, [true, false], _) => self.forward::<S, T, 3, true, false>(sheets),
                (false, _, 1) => self.forward::<S, T, 1, false, true>(sheets),
                (false, _, 2) => self.forward::<S, T, 2, false, true>(sheets),
                (false, _, _) => self.forward::<S, T, 3, false, true>(sheets),
                (true, [true, true], 1) => self.inverse::<S, T, 1, true, true>(sheets),
                (true, [true, true], 2) => self.inverse::<S, T, 2, true, true>(sheets),
                (true, [true, true], _) => self.inverse::<S, T, 3, true, true>(sheets),
                (true, [true, false], 1) => self.inverse::<S, T, 1, true, false>(sheets),
                (true, [true, false], 2) => self.inverse::<S, T, 2, true, false>(sheets),
                (true, [true, false], _) => self.inverse::<S, T, 3, true, false>(sheets),
                (true, _, 1) => self.inverse::<S, T, 1, false, true>(sheets),
                (true, _, 2) => self.inverse::<S, T, 2, false, true>(sheets),
                (true, _, _) => self.inverse::<S, T, 3, false, true>(sheets),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn forward<S: Element, T: Element, const LEVELS: u32, const ALONG_ROWS: bool, const ALONG_COLUMNS: bool>(
        &self,
        sheets: &Sheets<S, T, N>,
    ) {
        let (rows, [_, width]) = (if ALONG_ROWS { 1 << LEVELS } else { 1 }, sheets.extents);
        for row in (0..sheets.extents[0]).step_by(rows) {
            for column in (0..width).step_by(N::Widest::COUNT) {
                let mut lines = [N::Widest::splat(N::default()); ROWS];
                // SAFETY: the caller's.
                unsafe {
                    for (i, line) in lines.iter_mut().take(rows).enumerate() {
                        *line = N::Widest::load(sheets.signal.row(row + i, width), column);
                    }
                    level::<_, 1, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    if LEVELS > 1 {
                        level::<_, 2, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    }
                    if LEVELS > 2 {
                        level::<_, 3, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    }
                    for (i, line) in lines.iter().take(rows).enumerate() {
                        let output = sheets.coefficients.row_mut(row + i, width);
                        line.scaled(N::Widest::load(&self.factors[i], 0)).store(output, column);
                    }
                    if self.is_deeper && ALONG_COLUMNS {
                        lines[0].store_eighths(sheets.approximations.row_mut(row / rows, width / 8), column / 8);
                    } else if self.is_deeper {
                        lines[0].store(sheets.approximations.row_mut(row / rows, width), column);
                    }
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn inverse<S: Element, T: Element, const LEVELS: u32, const ALONG_ROWS: bool, const ALONG_COLUMNS: bool>(
        &self,
        sheets: &Sheets<S, T, N>,
    ) {
        let (rows, [_, width]) = (if ALONG_ROWS { 1 << LEVELS } else { 1 }, sheets.extents);
        for row in (0..sheets.extents[0]).step_by(rows) {
            for column in (0..width).step_by(N::Widest::COUNT) {
                let mut lines = [N::Widest::splat(N::default()); ROWS];
                // SAFETY: the caller's.
                unsafe {
                    for (i, line) in lines.iter_mut().take(rows).enumerate() {
                        let coefficients = N::Widest::load(sheets.coefficients.row(row + i, width), column);
                        *line = coefficients.scaled(N::Widest::load(&self.factors[i], 0));
                    }
                    if self.is_deeper && ALONG_COLUMNS {
                        lines[0] = lines[0].with_eighths(sheets.approximations.row(row / rows, width / 8), column / 8);
                    } else if self.is_deeper {
                        lines[0] = N::Widest::load(sheets.approximations.row(row / rows, width), column);
                    }
                    if LEVELS > 2 {
                        level::<_, 3, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    }
                    if LEVELS > 1 {
                        level::<_, 2, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    }
                    level::<_, 1, ALONG_ROWS, ALONG_COLUMNS>(&mut lines, rows);
                    for (i, line) in lines.iter().take(rows).enumerate() {
                        line.store(sheets.signal.row_mut(row + i, width), column);
                    }
                }
            }
        }
    }
}

/// One level of a block; the same there and back.
#[inline(always)]
fn level<V: Register, const LEVEL: u32, const ALONG_ROWS: bool, const ALONG_COLUMNS: bool>(
    lines: &mut [V; ROWS],
    rows: usize,
) {
    let distance = 1 << (LEVEL - 1);
    if ALONG_COLUMNS {
        for i in (0..rows).step_by(distance) {
            lines[i] = lines[i].level::<LEVEL>();
        }
    }
    if ALONG_ROWS {
        for i in (0..rows).step_by(2 * distance) {
            let (first, second) = (lines[i], lines[i + distance]);
            let pair = if ALONG_COLUMNS { first.pair_of_level::<LEVEL>(second) } else { first.pair(second) };
            [lines[i], lines[i + distance]] = pair;
        }
    }
}
