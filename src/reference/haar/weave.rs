//! Coefficients in the interleaved layout, whole rows of a tile at a time: those of a level lie between those of the deeper ones.

use super::lanes::Sum;
#[cfg(target_arch = "x86_64")]
use super::lattice::Sheets;
use super::pairs;
use super::stage::{Part, Room, Sheet, Stage};
use crate::Element;
use crate::haar::Bands;
use crate::reference::product::View;

impl Stage<'_> {
    /// Whether the coefficients of a tile, all bands together, are rows of memory.
    pub fn is_woven<T: Element>(&self, part: &Part, coefficients: &View<T>) -> bool {
        let interleaved = self.plan.problem.bands == Bands::Interleaved;
        interleaved && self.first == 0 && self.is_whole(part) && coefficients.is_row_major()
    }

    /// How many levels of a tile, the first ones, [`Stage::weave_in_registers`] makes.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub fn levels_in_registers<S: Element, T: Element, N: Sum>(
        &self,
        room: &Room<T, N>,
        part: &Part,
        (signal, coefficients): (&View<S>, &View<T>),
    ) -> u32 {
        #[cfg(target_arch = "x86_64")]
        if self.plan.in_registers
            && self.is_woven(part, coefficients)
            && signal.is_row_major()
            && room.lattice.divides(part.extents())
        {
            return room.lattice.levels;
        }
        0
    }

    /// The first levels, from the signal to memory or back. Where there are more, their approximations are in a plane, and the coefficients of those are for [`Stage::weave`].
    ///
    /// # Safety
    /// There are such levels; the tile of what is written is nobody else's, and nobody writes that of what is read.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    pub unsafe fn weave_in_registers<S: Element, T: Element, N: Sum>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        (signal, coefficients): (&View<S>, &View<T>),
    ) {
        #[cfg(target_arch = "x86_64")]
        {
            let begin = [part.batch, part.rows.start, part.columns.start];
            let approximations = self.plane(room, part, room.lattice.levels);
            let sheets = Sheets {
                extents: part.extents(),
                signal: signal.sheet(begin),
                coefficients: coefficients.sheet(begin),
                approximations,
            };
            // SAFETY: the caller's.
            unsafe { room.lattice.run(self.plan.problem.inverse, &sheets) }
        }
    }

    /// All coefficients after a level, in their order; after the last one the band that is staged.
    fn woven<T: Element, N>(&self, room: &mut Room<T, N>, part: &Part, coefficients: &View<T>, level: u32) -> Sheet<T> {
        match level {
            0 => coefficients.sheet([part.batch, part.rows.start, part.columns.start]),
            _ if level == self.levels => self.band(room, part, coefficients, level, [false; 2]),
            _ => self.between(room, part, level),
        }
    }

    /// Calls `copy(own, all, count)` for the coefficients of all levels after the first `first`, if it is not 0: where they are together, and where among those of all levels.
    #[inline(always)]
    fn each_deeper<T: Element, N: Sum>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        coefficients: &View<T>,
        first: u32,
        copy: impl Fn(*mut T, *mut T, usize),
    ) {
        if first == 0 {
            return;
        }
        let [row_step, column_step] = self.axes().map(|axis| 1 << axis.levels.min(first));
        let own = self.woven(room, part, coefficients, first);
        let all = self.woven(room, part, coefficients, 0);
        let [rows, columns] = self.band_extents(part.extents(), first);
        for row in 0..rows {
            if column_step == 1 {
                copy(own.pointer(row, 0), all.pointer(row * row_step, 0), columns);
                continue;
            }
            for column in 0..columns {
                copy(own.pointer(row, column), all.pointer(row * row_step, column * column_step), 1);
            }
        }
    }

    /// From the staged bands of the levels after the first `first` to memory. Where a deeper stage follows, its places are filled with anything.
    ///
    /// # Safety
    /// The tile of the coefficients is nobody else's.
    pub unsafe fn weave<T: Element, N: Sum>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        coefficients: &View<T>,
        first: u32,
    ) {
        for level in (first + 1..=self.levels).rev() {
            let deeper = self.woven(room, part, coefficients, level);
            let output = self.woven(room, part, coefficients, level - 1);
            let ([h, v, d], [rows, columns]) =
                (self.details(room, part, coefficients, level), self.band_extents(part.extents(), level));
            for i in 0..rows {
                // SAFETY: the caller's; rows of a tile, of what is between, or of bands, which are disjoint.
                unsafe {
                    let (deeper, row) = (deeper.row(i, columns), |row, length| output.row_mut(row, length));
                    match [self.rows.levels > 0, self.columns.levels > 0] {
                        [true, true] => {
                            pairs::zip::<T, N>(deeper, v.row(i, columns), row(2 * i, 2 * columns));
                            pairs::zip::<T, N>(h.row(i, columns), d.row(i, columns), row(2 * i + 1, 2 * columns));
                        }
                        [true, false] => {
                            row(2 * i, columns).copy_from_slice(deeper);
                            row(2 * i + 1, columns).copy_from_slice(h.row(i, columns));
                        }
                        _ => pairs::zip::<T, N>(deeper, v.row(i, columns), row(i, 2 * columns)),
                    }
                }
            }
        }
        self.each_deeper(room, part, coefficients, first, |own, all, count| {
            // SAFETY: the caller's; elements of the tile, and of what is between.
            unsafe { std::ptr::copy_nonoverlapping(own, all, count) }
        });
    }

    /// Takes [`Stage::weave`] back.
    ///
    /// # Safety
    /// Nobody writes the tile of the coefficients.
    pub unsafe fn unweave<T: Element, N: Sum>(
        &self,
        room: &mut Room<T, N>,
        part: &Part,
        coefficients: &View<T>,
        first: u32,
    ) {
        self.each_deeper(room, part, coefficients, first, |own, all, count| {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(all, own, count) }
        });
        for level in first + 1..=self.levels {
            let input = self.woven(room, part, coefficients, level - 1);
            let deeper = self.woven(room, part, coefficients, level);
            let ([h, v, d], [rows, columns]) =
                (self.details(room, part, coefficients, level), self.band_extents(part.extents(), level));
            for i in 0..rows {
                // SAFETY: as above.
                unsafe {
                    let (deeper, row) = (deeper.row_mut(i, columns), |row, length| input.row(row, length));
                    match [self.rows.levels > 0, self.columns.levels > 0] {
                        [true, true] => {
                            pairs::unzip::<T, N>(row(2 * i, 2 * columns), deeper, v.row_mut(i, columns));
                            pairs::unzip::<T, N>(
                                row(2 * i + 1, 2 * columns),
                                h.row_mut(i, columns),
                                d.row_mut(i, columns),
                            );
                        }
                        [true, false] => {
                            deeper.copy_from_slice(row(2 * i, columns));
                            h.row_mut(i, columns).copy_from_slice(row(2 * i + 1, columns));
                        }
                        _ => pairs::unzip::<T, N>(row(i, 2 * columns), deeper, v.row_mut(i, columns)),
                    }
                }
            }
        }
    }
}
