//! Coefficients of low rank, each made once: products of tiles of bands, their sums in registers.

use std::ops::Range;

use super::Group;
use crate::Element;
use crate::reference::haar::lanes::{Lanes, Numbers, Sum, prefetch};
#[cfg(target_arch = "x86_64")]
use crate::reference::haar::pairs::has_avx512;
use crate::reference::haar::pairs::vectors;
use crate::reference::haar::stage::Sheet;

/// Columns that are summed up together: two registers of AVX-512.
pub const fn block<N>() -> usize {
    2 * 64 / size_of::<N>()
}

/// The factors of a band as they are read: of B [rows, rank], of A [rank, columns] one block of columns after the other, with zeros after the last column.
pub struct Band<N> {
    pub level: u32,
    rank: usize,
    gain: N,
    left: Numbers<N>,
    right: Numbers<N>,
}

impl<N: Sum> Band<N> {
    /// Of the coefficients, or of their transpose, where W is read by columns.
    pub fn new<P: Element>(group: &Group<P>, transposed: bool) -> Self {
        let rank = group.rank;
        let ([left, right], [rows, columns]) = match (transposed, group.places.clone()) {
            (false, [of_b, of_a]) => ([group.b, group.a], [of_b, of_a]),
            (true, [of_b, of_a]) => ([group.a.transposed(), group.b.transposed()], [of_a, of_b]),
        };
        let mut packed =
            [rows.len(), columns.len().next_multiple_of(block::<N>())].map(|extent| Numbers::<N>::zeros(extent * rank));
        for (row, packed) in rows.zip(packed[0].chunks_exact_mut(rank)) {
            for (k, number) in packed.iter_mut().enumerate() {
                // SAFETY: a place of the band, and one of its ranks.
                *number = N::from_f64(unsafe { left.value([0, row, k]) });
            }
        }
        for (first, packed) in
            columns.clone().step_by(block::<N>()).zip(packed[1].chunks_exact_mut(rank * block::<N>()))
        {
            for (k, packed) in packed.chunks_exact_mut(block::<N>()).enumerate() {
                for (column, number) in (first..columns.end).zip(packed) {
                    // SAFETY: as above.
                    *number = N::from_f64(unsafe { right.value([0, k, column]) });
                }
            }
        }
        let [left, right] = packed;
        Self { level: group.level, rank, gain: N::from_f64(group.gain), left, right }
    }

    /// The factors of the coefficients of some rows and columns of W, which begin with a block of the band; of those that there are.
    pub fn of(&self, rows: &Range<usize>, columns: &Range<usize>) -> Factors<'_, N> {
        let [rows, columns] = [rows, columns].map(|range| of_level(range, self.level));
        let block_size = self.rank * block::<N>();
        let blocks = columns.start / block::<N>()..columns.end.div_ceil(block::<N>());
        let part = |of: Range<usize>, size: usize| of.start * size..of.end * size;
        Factors {
            rank: self.rank,
            gain: self.gain,
            left: &self.left[part(rows, self.rank)],
            right: &self.right[part(blocks, block_size)],
        }
    }
}

/// Where elements of W are in a band of a level.
pub fn of_level(range: &Range<usize>, level: u32) -> Range<usize> {
    range.start >> level..range.end.div_ceil(1 << level)
}

/// What a tile of a band is made of: `gain·left·right`.
#[derive(Clone, Copy)]
pub struct Factors<'b, N> {
    rank: usize,
    gain: N,
    left: &'b [N],
    right: &'b [N],
}

impl<'b, N: Sum> Factors<'b, N> {
    fn rows(&self) -> usize {
        self.left.len() / self.rank
    }

    fn blocks(&self) -> usize {
        self.right.len() / (self.rank * block::<N>())
    }

    /// The coefficients of `ROWS` rows from `row` on, and of as many columns from `column` of a block on as the registers hold.
    #[inline(always)]
    fn in_registers<V: Lanes<Sum = N>, const ROWS: usize, const REGISTERS: usize>(
        &self,
        of_block: usize,
        row: usize,
        column: usize,
    ) -> [[V; REGISTERS]; ROWS] {
        let (rank, block) = (self.rank, block::<N>());
        let (left, right) =
            (&self.left[row * rank..(row + ROWS) * rank], &self.right[of_block * rank * block..][..rank * block]);
        // Loops, as closures would not be compiled for the registers.
        let mut sums = [[V::splat(N::default()); REGISTERS]; ROWS];
        for (k, right) in right.chunks_exact(block).enumerate() {
            let mut registers = [V::splat(N::default()); REGISTERS];
            for (j, register) in registers.iter_mut().enumerate() {
                // SAFETY: numbers of a block.
                *register = unsafe { V::load(right, column + j * V::COUNT) };
            }
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: k is below the rank, i below the rows.
                let left = V::splat(unsafe { *left.get_unchecked(i * rank + k) });
                for (sum, right) in sums.iter_mut().zip(registers) {
                    *sum = sum.plus_product(left, right);
                }
            }
        }
        for sum in sums.as_flattened_mut() {
            *sum = sum.times(V::splat(self.gain));
        }
        sums
    }
}

/// What is made of blocks of columns, a few rows of one at a time, in registers.
trait Blocks<N: Sum> {
    /// Rows whose sums there are registers for.
    const ROWS: usize;

    /// Rows, and blocks of columns.
    fn extents(&self) -> [usize; 2];

    /// `ROWS` rows from `row` on, of as many columns of a block, from `column` on, as the registers hold.
    fn make<V: Lanes<Sum = N>, const ROWS: usize, const REGISTERS: usize>(
        &mut self,
        of_block: usize,
        row: usize,
        column: usize,
    );

    #[inline(always)]
    fn make_all<V: Lanes<Sum = N>>(&mut self) {
        let [rows, blocks] = self.extents();
        for of_block in 0..blocks {
            let mut row = 0;
            while row < rows {
                row += match rows - row {
                    8.. if V::COUNT > 1 && Self::ROWS >= 8 => self.make_rows::<V, 8>(of_block, row),
                    4.. if V::COUNT > 1 => self.make_rows::<V, 4>(of_block, row),
                    2.. => self.make_rows::<V, 2>(of_block, row),
                    _ => self.make_rows::<V, 1>(of_block, row),
                };
            }
        }
    }

    /// Returns how many rows.
    #[inline(always)]
    fn make_rows<V: Lanes<Sum = N>, const ROWS: usize>(&mut self, of_block: usize, row: usize) -> usize {
        /// Numbers of a row that the compiler makes vectors of.
        const NARROW: usize = 8;
        match V::COUNT {
            1 => {
                (0..block::<N>()).step_by(NARROW).for_each(|column| self.make::<V, ROWS, NARROW>(of_block, row, column))
            }
            _ => self.make::<V, ROWS, 2>(of_block, row, 0),
        }
        ROWS
    }
}

/// The coefficients of a tile, to rows of `stride` numbers.
pub struct Product<'t, N> {
    pub factors: Factors<'t, N>,
    pub output: &'t mut [N],
    pub stride: usize,
}

/// The last level of the way back: approximations, rows of `stride` numbers, and what its details (along rows, along columns, along both) are made of.
pub struct Level<'t, N> {
    pub approximations: &'t [N],
    pub stride: usize,
    pub details: [Factors<'t, N>; 3],
    pub scale: N,
}

/// `destination = source + scale·D⁻¹(level)`
pub struct Union<'t, T, N> {
    level: &'t Level<'t, N>,
    source: Sheet<T>,
    destination: Sheet<T>,
}

vectors! {
    fn make_product<; N>(product: &mut Product<'_, N>), V: {
        product.make_all::<V>();
    }

    fn make_union<T; N>(union: &mut Union<'_, T, N>), V: {
        union.make_all::<V>();
    }
}

impl<N: Sum> Product<'_, N> {
    pub fn run(mut self) {
        make_product(&mut self);
    }
}

impl<N: Sum> Blocks<N> for Product<'_, N> {
    const ROWS: usize = 8;

    fn extents(&self) -> [usize; 2] {
        [self.factors.rows(), self.factors.blocks()]
    }

    #[inline(always)]
    fn make<V: Lanes<Sum = N>, const ROWS: usize, const REGISTERS: usize>(
        &mut self,
        of_block: usize,
        row: usize,
        column: usize,
    ) {
        let sums = self.factors.in_registers::<V, ROWS, REGISTERS>(of_block, row, column);
        for (i, sums) in sums.into_iter().enumerate() {
            let output = &mut self.output[(row + i) * self.stride + of_block * block::<N>() + column..];
            let output = &mut output[..REGISTERS * V::COUNT];
            for (j, sum) in sums.into_iter().enumerate() {
                // SAFETY: the output has so many.
                unsafe { sum.store(output, j * V::COUNT) };
            }
        }
    }
}

impl<N: Sum> Level<'_, N> {
    /// `destination = source + scale·D⁻¹(self)`; they may be the same.
    ///
    /// # Safety
    /// Both have two rows for each one here, of whole blocks; nobody else has those of the destination, or writes those of the source.
    pub unsafe fn add_to<T: Element>(&self, source: Sheet<T>, destination: Sheet<T>) {
        make_union(&mut Union { level: self, source, destination });
    }
}

impl<T: Element, N: Sum> Union<'_, T, N> {
    /// The lines of the next block, which come from memory while this one's products are made.
    #[inline(always)]
    fn fetch_next<const ROWS: usize>(&self, of_block: usize, row: usize) {
        const LINE: usize = 64;
        let columns = 2 * block::<N>();
        for i in 2 * row..2 * (row + ROWS) {
            for column in ((of_block + 1) * columns..(of_block + 2) * columns).step_by(LINE / size_of::<T>()) {
                prefetch(self.source.pointer(i, column));
                prefetch(self.destination.pointer(i, column));
            }
        }
    }
}

impl<T: Element, N: Sum> Blocks<N> for Union<'_, T, N> {
    const ROWS: usize = 4;

    fn extents(&self) -> [usize; 2] {
        let details = &self.level.details[0];
        [details.rows(), details.blocks()]
    }

    #[inline(always)]
    fn make<V: Lanes<Sum = N>, const ROWS: usize, const REGISTERS: usize>(
        &mut self,
        of_block: usize,
        row: usize,
        column: usize,
    ) {
        self.fetch_next::<ROWS>(of_block, row);
        let Level { approximations, stride, details: [h, v, d], scale } = self.level;
        let scale = V::splat(*scale);
        let h = h.in_registers::<V, ROWS, REGISTERS>(of_block, row, column);
        let v = v.in_registers::<V, ROWS, REGISTERS>(of_block, row, column);
        let d = d.in_registers::<V, ROWS, REGISTERS>(of_block, row, column);
        let first = of_block * block::<N>() + column;
        for i in 0..ROWS {
            let a = &approximations[(row + i) * stride + first..][..REGISTERS * V::COUNT];
            for j in 0..REGISTERS {
                // SAFETY: there are so many.
                let a = unsafe { V::load(a, j * V::COUNT) };
                let ([left, right], [left_detail, right_detail]) = (a.pair(v[i][j]), h[i][j].pair(d[i][j]));
                let ([p, r], [q, s]) = (left.pair(left_detail), right.pair(right_detail));
                let at = first + j * V::COUNT;
                for (row, [even, odd]) in std::iter::zip(2 * (row + i).., [[p, q], [r, s]]) {
                    let length = 2 * (at + V::COUNT);
                    // SAFETY: the caller's of [`Level::add_to`].
                    unsafe {
                        let [x, y] = V::load_pairs(self.source.row(row, length), at);
                        let pair = [x.plus_product(even, scale), y.plus_product(odd, scale)];
                        V::store_pairs(pair, self.destination.row_mut(row, length), at);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, rank, blocks.
    const EXTENTS: [[usize; 3]; 5] = [[1, 1, 1], [15, 7, 2], [8, 16, 1], [3, 300, 3], [6, 2, 2]];

    fn numbers<T: Element>(count: usize, seed: usize) -> Vec<T> {
        (0..count).map(|i| T::from_f64(((i + seed) * 37 % 23) as f64 - 11.0)).collect()
    }

    fn factors<'f, N: Sum>(left: &'f [N], right: &'f [N], rank: usize) -> Factors<'f, N> {
        Factors { rank, gain: N::from_f64(2.0), left, right }
    }

    fn coefficient<N: Sum>(factors: &Factors<'_, N>, row: usize, column: usize) -> f64 {
        let (of_block, column, rank) = (column / block::<N>(), column % block::<N>(), factors.rank);
        let right = |k: usize| factors.right[(of_block * rank + k) * block::<N>() + column].to_f64();
        2.0 * (0..rank).map(|k| factors.left[row * rank + k].to_f64() * right(k)).sum::<f64>()
    }

    /// With the registers that there are, and without.
    fn products<N: Sum>() {
        for [rows, rank, blocks] in EXTENTS {
            let (columns, stride) = (blocks * block::<N>(), blocks * block::<N>() + 5);
            let (left, right) = (numbers(rows * rank, 1), numbers(rank * columns, 5));
            let factors = factors::<N>(&left, &right, rank);
            for in_registers in [true, false] {
                let mut output = vec![N::from_f64(0.25); (rows - 1) * stride + columns];
                let mut product = Product { factors, output: &mut output, stride };
                if in_registers {
                    product.run()
                } else {
                    product.make_all::<N>()
                }
                for (i, row) in output.chunks(stride).enumerate() {
                    for (j, &got) in row.iter().enumerate() {
                        let expected = if j < columns { coefficient(&factors, i, j) } else { 0.25 };
                        assert_eq!(got.to_f64(), expected, "[{rows}, {rank}, {columns}] at ({i}, {j})");
                    }
                }
            }
        }
    }

    fn levels<T: Element, N: Sum>() {
        for [rows, rank, blocks] in EXTENTS {
            let columns = blocks * block::<N>();
            let a = numbers::<N>(rows * columns, 3);
            let pairs = [rank, rank + 1, 1].map(|rank| (numbers(rows * rank, rank), numbers(rank * columns, 7), rank));
            let details = pairs.each_ref().map(|(left, right, rank)| factors::<N>(left, right, *rank));
            let level = Level { approximations: &a, stride: columns, details, scale: N::from_f64(-4.0) };
            let mut source = numbers::<T>(4 * rows * columns, 11);
            for in_registers in [true, false] {
                let mut destination = vec![T::from_f64(0.0); source.len()];
                let [from, to] = [&mut source, &mut destination].map(|all| Sheet::new(all, 2 * columns));
                match in_registers {
                    // SAFETY: as many elements as the level has.
                    true => unsafe { level.add_to(from, to) },
                    false => Union { level: &level, source: from, destination: to }.make_all::<N>(),
                }
                for (i, &got) in destination.iter().enumerate() {
                    let (row, column) = (i / (2 * columns), i % (2 * columns));
                    let sign = |index: usize| 1.0 - 2.0 * (index % 2) as f64;
                    let [h, v, d] = details.map(|factors| coefficient(&factors, row / 2, column / 2));
                    let sum = a[row / 2 * columns + column / 2].to_f64()
                        + sign(row) * h
                        + sign(column) * v
                        + sign(row) * sign(column) * d;
                    let expected = T::from_f64(source[i].to_f64() - 4.0 * sum);
                    assert_eq!(got.to_f64(), expected.to_f64(), "[{rows}, {rank}, {columns}] at ({row}, {column})");
                }
            }
        }
    }

    #[test]
    fn coefficients_are_those_of_the_double_loop() {
        products::<f32>();
        products::<f64>();
    }

    #[test]
    fn last_levels_are_sums_and_differences() {
        levels::<f32, f64>();
        levels::<half::f16, f32>();
        levels::<half::bf16, f32>();
    }
}
