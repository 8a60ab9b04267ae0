//! Some levels of a transform, tile by tile: where everything of a tile is.

use std::ops::Range;

use super::lanes::{Numbers, Sum};
#[cfg(target_arch = "x86_64")]
use super::lattice::Lattice;
use super::{Axis, Plan};
use crate::Element;
use crate::haar::Bands;
use crate::reference::product::View;

/// Levels of the subtrees of a tile, which a core's cache holds. What is deeper is a transform of their approximations.
const LEVELS: u32 = 6;
/// The same along columns alone.
const LEVELS_ALONG_COLUMNS: u32 = 12;
/// Elements of a tile where rows are contiguous, and how many of its columns and rows that is, if the levels do not need more.
const ELEMENTS: usize = 1 << 17;
/// Of a tile whose coefficients are staged.
const ELEMENTS_STAGED: usize = 1 << 15;
const ROWS: usize = 16;
const ROWS_STAGED: usize = 4;
const COLUMNS: usize = 4096;
/// Rows and columns of a tile, at least, where columns are contiguous, of the signal or of its coefficients.
const SQUARE: usize = 64;

/// What a level has besides approximations: details along rows, along columns, along both.
const KINDS: [[bool; 2]; 3] = [[true, false], [false, true], [true, true]];

/// Rows of a matrix, each of them contiguous.
pub struct Sheet<T> {
    first: *mut T,
    stride: usize,
}

impl<T> Clone for Sheet<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Sheet<T> {}

impl<T> Sheet<T> {
    pub fn new(elements: &mut [T], stride: usize) -> Self {
        Self { first: elements.as_mut_ptr(), stride }
    }

    /// # Safety
    /// There are so many elements in the row, and nobody writes them.
    #[inline(always)]
    pub unsafe fn row<'s>(self, row: usize, length: usize) -> &'s [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts(self.first.add(row * self.stride), length) }
    }

    pub fn pointer(self, row: usize, column: usize) -> *mut T {
        self.first.wrapping_add(row * self.stride + column)
    }

    /// # Safety
    /// There are so many elements in the row, and they are nobody else's.
    #[inline(always)]
    pub unsafe fn row_mut<'s>(self, row: usize, length: usize) -> &'s mut [T] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), length) }
    }
}

impl<T: Copy> View<T> {
    pub fn sheet(&self, index: [usize; 3]) -> Sheet<T> {
        Sheet { first: self.pointer(index), stride: self.row_stride() }
    }
}

/// A tile of one batch: positions of the extended signal.
pub struct Part {
    pub batch: usize,
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

impl Part {
    pub fn extents(&self) -> [usize; 2] {
        [self.rows.len(), self.columns.len()]
    }

    pub fn range(&self, axis: usize) -> &Range<usize> {
        if axis == 0 { &self.rows } else { &self.columns }
    }
}

/// Where a core keeps a tile.
pub struct Room<T, N> {
    /// The tile, and the approximations of every level.
    pub planes: Numbers<N>,
    /// Coefficients that are not together in memory: as they would be in the Mallat layout of the tile alone.
    pub staged: Vec<T>,
    /// Coefficients of the interleaved layout on their way: those after every level, in their order.
    between: Vec<T>,
    #[cfg(target_arch = "x86_64")]
    pub lattice: Lattice<N>,
}

/// Of one axis of a band of a tile: where its coefficients are.
struct Span {
    /// Of the first one.
    place: usize,
    step: usize,
    /// In the tile.
    total: usize,
    /// How many of them exist.
    inside: usize,
}

/// Coefficients of a band of a tile, where they are staged and where they are in memory.
pub struct Line<T> {
    pub staged: usize,
    pub staged_step: usize,
    pub first: *mut T,
    pub step: usize,
    /// How many there are.
    pub inside: usize,
    /// How many places after them have none.
    pub missing: usize,
}

/// Some levels of a transform.
pub struct Stage<'p> {
    pub plan: &'p Plan<'p>,
    pub rows: Axis,
    pub columns: Axis,
    /// Levels before.
    pub first: u32,
    pub levels: u32,
    pub is_last: bool,
    pub tile: [usize; 2],
}

impl<'p> Stage<'p> {
    pub fn new(plan: &'p Plan<'p>, first: u32, row_major: bool) -> Self {
        let problem = plan.problem;
        let most = if problem.along_rows { LEVELS } else { LEVELS_ALONG_COLUMNS };
        let levels = most.min(problem.levels - first);
        let [rows, columns] = [&plan.rows, &plan.columns].map(|axis| axis.after(first, levels));
        let span = |axis: &Axis, least: usize| (1usize << axis.levels).max(least).min(axis.padded());
        let tile = match row_major {
            true => {
                let (least, elements) =
                    if problem.bands == Bands::Interleaved { (ROWS_STAGED, ELEMENTS_STAGED) } else { (ROWS, ELEMENTS) };
                let rows = span(&rows, least);
                [rows, span(&columns, (elements / rows.next_power_of_two()).min(COLUMNS))]
            }
            false => [span(&rows, SQUARE), span(&columns, SQUARE)],
        };
        Self { plan, rows, columns, first, levels, is_last: first + levels == problem.levels, tile }
    }

    pub fn axes(&self) -> [&Axis; 2] {
        [&self.rows, &self.columns]
    }

    pub fn room<T: Element, N: Sum>(&self) -> Room<T, N> {
        let room = |begin| self.elements_before(begin, self.levels + 1);
        let (staged, between) = (self.tile.iter().product(), room(1));
        Room {
            planes: Numbers::zeros(room(0)),
            staged: vec![T::default(); staged],
            between: vec![T::default(); between],
            #[cfg(target_arch = "x86_64")]
            lattice: Lattice::new(self),
        }
    }

    /// Of the approximations of the levels from `begin` to before `level`.
    fn elements_before(&self, begin: u32, level: u32) -> usize {
        (begin..level).map(|level| self.band_extents(self.tile, level).iter().product::<usize>()).sum()
    }

    /// Of a band of a level, in a tile of so many rows and columns.
    pub fn band_extents(&self, [rows, columns]: [usize; 2], level: u32) -> [usize; 2] {
        [rows >> self.rows.levels.min(level), columns >> self.columns.levels.min(level)]
    }

    pub fn factor<N: Sum>(&self, level: u32) -> N {
        N::from_f64(self.plan.factors[(self.first + level) as usize])
    }

    /// Nothing of it is beyond the signal.
    pub fn is_whole(&self, part: &Part) -> bool {
        part.rows.end <= self.rows.extent && part.columns.end <= self.columns.extent
    }

    /// The tile (level 0), or the approximations of a level.
    pub fn plane<T, N: Sum>(&self, room: &mut Room<T, N>, part: &Part, level: u32) -> Sheet<N> {
        let [_, columns] = self.band_extents(part.extents(), level);
        Sheet { first: room.planes.as_mut_ptr().wrapping_add(self.elements_before(0, level)), stride: columns }
    }

    /// Coefficients after a level, but for the first and the last.
    pub fn between<T, N>(&self, room: &mut Room<T, N>, part: &Part, level: u32) -> Sheet<T> {
        let [_, columns] = self.band_extents(part.extents(), level);
        Sheet { first: room.between.as_mut_ptr().wrapping_add(self.elements_before(1, level)), stride: columns }
    }

    fn spans(&self, part: &Part, level: u32, details: [bool; 2]) -> [Span; 2] {
        [0, 1].map(|axis| {
            let (range, detail, axis) = (part.range(axis), details[axis], self.axes()[axis]);
            let level = axis.levels.min(level);
            let (offset, step) = match self.plan.problem.bands {
                _ if axis.levels == 0 => (0, 1),
                Bands::Mallat => (if detail { axis.offsets[level as usize] } else { 0 }, 1),
                Bands::Interleaved => ((usize::from(detail) << level >> 1) << self.first, 1 << level << self.first),
            };
            let (index, total) = (range.start >> level, range.len() >> level);
            let inside = axis.count(level).saturating_sub(index).min(total);
            Span { place: index * step + offset, step, total, inside }
        })
    }

    /// Where a band of a tile is in what is staged.
    fn staged_at(&self, part: &Part, level: u32, [row_detail, column_detail]: [bool; 2]) -> usize {
        let [rows, columns] = self.band_extents(part.extents(), level);
        usize::from(row_detail) * rows * part.columns.len() + usize::from(column_detail) * columns
    }

    /// The bands of a tile, `(level, details)`.
    fn bands(&self) -> impl Iterator<Item = (u32, [bool; 2])> {
        let along = [self.rows.levels > 0, self.columns.levels > 0];
        let possible = move |kind: &[bool; 2]| along[0] >= kind[0] && along[1] >= kind[1];
        let details =
            (1..=self.levels).flat_map(move |level| KINDS.into_iter().filter(possible).map(move |kind| (level, kind)));
        details.chain(self.is_last.then_some((self.levels, [false; 2])))
    }

    /// Whether the bands of a tile are rows of the coefficients.
    pub fn is_direct<T: Element>(&self, part: &Part, coefficients: &View<T>) -> bool {
        self.is_whole(part) && self.plan.problem.bands == Bands::Mallat && coefficients.is_row_major()
    }

    /// A band of a tile, in memory or staged.
    pub fn band<T: Element, N>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        coefficients: &View<T>,
        level: u32,
        kind: [bool; 2],
    ) -> Sheet<T> {
        if self.is_direct(part, coefficients) {
            let [rows, columns] = self.spans(part, level, kind);
            return coefficients.sheet([part.batch, rows.place, columns.place]);
        }
        // A kind that a transform along one axis does not have is never looked at.
        let first = room.staged.as_mut_ptr().wrapping_add(self.staged_at(part, level, kind));
        Sheet { first, stride: part.columns.len() }
    }

    /// Details along rows, along columns and along both.
    pub fn details<T: Element, N>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        coefficients: &View<T>,
        level: u32,
    ) -> [Sheet<T>; 3] {
        KINDS.map(|kind| self.band(room, part, coefficients, level, kind))
    }

    /// Calls `visit` for the lines of coefficients that a tile stages, along the contiguous extent; in the Mallat layout only for those that there are.
    #[inline(always)]
    pub fn each_line<T: Element>(&self, part: &Part, coefficients: &View<T>, mut visit: impl FnMut(Line<T>)) {
        let all = self.plan.problem.bands == Bands::Interleaved;
        let by_rows = coefficients.is_row_major();
        for (level, kind) in self.bands() {
            let [rows, columns] = self.spans(part, level, kind);
            let begin = self.staged_at(part, level, kind);
            let width = part.columns.len();
            let (across, along) = if by_rows { (&rows, &columns) } else { (&columns, &rows) };
            let [across_step, along_step] = if by_rows { [width, 1] } else { [1, width] };
            for i in 0..if all { across.total } else { across.inside } {
                let moved = i * across.step;
                let [row, column] = if by_rows { [moved, 0] } else { [0, moved] };
                let inside = if i < across.inside { along.inside } else { 0 };
                visit(Line {
                    staged: begin + i * across_step,
                    staged_step: along_step,
                    first: coefficients.pointer([part.batch, rows.place + row, columns.place + column]),
                    // Elements along it are contiguous.
                    step: along.step,
                    inside,
                    missing: if all { along.total - inside } else { 0 },
                });
            }
        }
    }
}
