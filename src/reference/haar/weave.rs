//! Coefficients in the interleaved layout, whole rows of a tile at a time: those of a level lie between those of the deeper ones.

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

    /// All coefficients after a level, in their order; after the last one the band that is staged.
    fn woven<T: Element>(&self, room: &mut Room<T>, part: &Part, coefficients: &View<T>, level: u32) -> Sheet<T> {
        match level {
            0 => coefficients.sheet([part.batch, part.rows.start, part.columns.start]),
            _ if level == self.levels => self.band(room, part, coefficients, level, [false; 2]),
            _ => self.between(room, part, level),
        }
    }

    /// From the staged bands to memory. Where a deeper stage follows, its places are filled with anything.
    ///
    /// # Safety
    /// The tile of the coefficients is nobody else's.
    pub unsafe fn weave<T: Element>(&self, room: &mut Room<T>, part: &Part, coefficients: &View<T>) {
        for level in (1..=self.levels).rev() {
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
                            pairs::zip(deeper, v.row(i, columns), row(2 * i, 2 * columns));
                            pairs::zip(h.row(i, columns), d.row(i, columns), row(2 * i + 1, 2 * columns));
                        }
                        [true, false] => {
                            row(2 * i, columns).copy_from_slice(deeper);
                            row(2 * i + 1, columns).copy_from_slice(h.row(i, columns));
                        }
                        _ => pairs::zip(deeper, v.row(i, columns), row(i, 2 * columns)),
                    }
                }
            }
        }
    }

    /// Takes [`Stage::weave`] back.
    ///
    /// # Safety
    /// Nobody writes the tile of the coefficients.
    pub unsafe fn unweave<T: Element>(&self, room: &mut Room<T>, part: &Part, coefficients: &View<T>) {
        for level in 1..=self.levels {
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
                            pairs::unzip(row(2 * i, 2 * columns), deeper, v.row_mut(i, columns));
                            pairs::unzip(row(2 * i + 1, 2 * columns), h.row_mut(i, columns), d.row_mut(i, columns));
                        }
                        [true, false] => {
                            deeper.copy_from_slice(row(2 * i, columns));
                            h.row_mut(i, columns).copy_from_slice(row(2 * i + 1, columns));
                        }
                        _ => pairs::unzip(row(i, 2 * columns), deeper, v.row_mut(i, columns)),
                    }
                }
            }
        }
    }
}
