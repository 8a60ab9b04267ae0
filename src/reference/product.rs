//! Matrix products in f64, blocked and on all cores: the plain double loop's results, at a speed that real layers can be checked with.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Number;
use crate::Element;
use crate::tensor::Elements;

/// Rows and columns of a tile.
pub(crate) const TILE: usize = 64;
/// How much of the summed axis is packed at a time.
const DEPTH: usize = 256;
/// Rows that the innermost loop keeps in registers.
const ROWS: usize = 4;
/// Columns that the innermost loop keeps in registers.
const COLUMNS: usize = 8;

/// Elements of acquired views, in ordinary memory.
#[derive(Clone, Copy)]
pub(crate) struct View<T> {
    address: u64,
    strides: [usize; 3],
    _element: std::marker::PhantomData<T>,
}

impl<T: Copy> View<T> {
    pub fn new(elements: &Elements<3>) -> Self {
        debug_assert_eq!(elements.element_size, size_of::<T>());
        Self { address: elements.address, strides: elements.strides, _element: std::marker::PhantomData }
    }

    #[inline(always)]
    pub fn pointer(&self, [batch, row, column]: [usize; 3]) -> *mut T {
        let index = batch * self.strides[0] + row * self.strides[1] + column * self.strides[2];
        (self.address as *mut T).wrapping_add(index)
    }

    /// Rows as columns, and columns as rows.
    pub fn transposed(self) -> Self {
        let [batch, row, column] = self.strides;
        Self { strides: [batch, column, row], ..self }
    }

    pub fn row_stride(&self) -> usize {
        self.strides[1]
    }

    /// Whether the elements of a row are contiguous.
    pub fn is_row_major(&self) -> bool {
        self.strides[2] == 1
    }

    /// # Safety
    /// The index is within the extents, and the memory is valid.
    #[inline(always)]
    pub unsafe fn get(&self, index: [usize; 3]) -> T {
        // SAFETY: the caller's.
        unsafe { self.pointer(index).read() }
    }

    /// # Safety
    /// The index is within the extents, and the memory is valid and nobody else's.
    #[inline(always)]
    pub unsafe fn set(&self, index: [usize; 3], value: T) {
        // SAFETY: the caller's.
        unsafe { self.pointer(index).write(value) }
    }

    /// # Safety
    /// As [`View::get`], for so many elements of a row.
    pub unsafe fn read_row(&self, first: [usize; 3], row: &mut [T]) {
        // SAFETY: the caller's.
        unsafe {
            match self.strides[2] {
                1 => row.copy_from_slice(std::slice::from_raw_parts(self.pointer(first), row.len())),
                stride => row
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, value)| *value = self.pointer(first).add(i * stride).read()),
            }
        }
    }

    /// # Safety
    /// As [`View::set`], for so many elements of a row.
    pub unsafe fn write_row(&self, first: [usize; 3], row: &[T]) {
        // SAFETY: the caller's.
        unsafe {
            match self.strides[2] {
                1 => std::slice::from_raw_parts_mut(self.pointer(first), row.len()).copy_from_slice(row),
                stride => {
                    row.iter().enumerate().for_each(|(i, &value)| self.pointer(first).add(i * stride).write(value))
                }
            }
        }
    }
}

impl<T: Element> View<T> {
    /// # Safety
    /// As [`View::get`].
    #[inline(always)]
    pub unsafe fn value(&self, index: [usize; 3]) -> f64 {
        // SAFETY: the caller's.
        unsafe { self.get(index) }.to_f64()
    }
}

/// A tile of sums, [`TILE`] × [`TILE`], and the packed pieces of its factors. One per core.
pub(crate) struct Tile<N> {
    sums: Vec<N>,
    left: Vec<N>,
    right: Vec<f64>,
}

impl<N: Number> Tile<N> {
    pub fn new() -> Self {
        Self {
            sums: vec![N::default(); TILE * TILE],
            left: vec![N::default(); DEPTH * TILE],
            right: vec![0.0; DEPTH * TILE],
        }
    }

    /// Element (i, j) becomes `Σₖ left(i, k)·right(j, k)`.
    pub fn product(
        &mut self,
        [rows, columns, depth]: [usize; 3],
        left: impl Fn(usize, usize) -> N,
        right: impl Fn(usize, usize) -> f64,
    ) {
        self.sums.fill(N::default());
        for begin in (0..depth).step_by(DEPTH) {
            let count = DEPTH.min(depth - begin);
            for i in 0..rows {
                for k in 0..count {
                    self.left[k * TILE + i] = left(i, begin + k);
                }
            }
            for j in 0..columns {
                for k in 0..count {
                    self.right[k * TILE + j] = right(j, begin + k);
                }
            }
            accumulate(&mut self.sums, &self.left, &self.right, [rows, columns, count]);
        }
    }

    pub fn get(&self, row: usize, column: usize) -> N {
        self.sums[row * TILE + column]
    }
}

/// `sums[i, j] += Σₖ left[k, i]·right[k, j]`, with wider registers where the processor has them; the bits are the same. One for all products.
#[inline(never)]
fn accumulate<N: Number>(sums: &mut [N], left: &[N], right: &[f64], extents: [usize; 3]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[target_feature(enable = "avx2")]
        fn wide<N: Number>(sums: &mut [N], left: &[N], right: &[f64], extents: [usize; 3]) {
            accumulate_plain(sums, left, right, extents);
        }
        // SAFETY: the processor has AVX2.
        return unsafe { wide(sums, left, right, extents) };
    }
    accumulate_plain(sums, left, right, extents);
}

#[inline(always)]
fn accumulate_plain<N: Number>(sums: &mut [N], left: &[N], right: &[f64], [rows, columns, depth]: [usize; 3]) {
    for row in (0..rows).step_by(ROWS) {
        for column in (0..columns).step_by(COLUMNS) {
            let mut block = [[N::default(); COLUMNS]; ROWS];
            for (i, sums_row) in block.iter_mut().enumerate() {
                let begin = (row + i) * TILE + column;
                sums_row.copy_from_slice(&sums[begin..begin + COLUMNS]);
            }
            for (left, right) in left.chunks_exact(TILE).zip(right.chunks_exact(TILE)).take(depth) {
                let (left, right) = (&left[row..row + ROWS], &right[column..column + COLUMNS]);
                for i in 0..ROWS {
                    for j in 0..COLUMNS {
                        block[i][j].add_product(left[i], right[j]);
                    }
                }
            }
            for (i, sums_row) in block.iter().enumerate() {
                let begin = (row + i) * TILE + column;
                sums[begin..begin + COLUMNS].copy_from_slice(sums_row);
            }
        }
    }
}

/// Runs `work(state, i)` for every i below `count`, on all cores when there is enough to do. Each core makes itself a state.
pub(crate) fn for_each<S>(
    count: usize,
    operations: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) + Sync,
) {
    /// Below this a thread costs more than it saves.
    const OPERATIONS_A_THREAD: usize = 1 << 18;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(count).min(operations / OPERATIONS_A_THREAD + 1);
    let next = AtomicUsize::new(0);
    on_threads(threads, &|| {
        let mut state = state();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            work(&mut state, i);
        }
    });
}

/// Of one type, so that threads are not compiled anew for each kind of work.
fn on_threads(threads: usize, run: &(dyn Fn() + Sync)) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_equal_the_double_loop() {
        let left = |i: usize, k: usize| ((i * 7 + k * 3) % 11) as f64 - 5.0;
        let right = |j: usize, k: usize| ((j * 5 + k) % 13) as f64 - 6.0;
        let mut tile = Tile::<f64>::new();
        for [rows, columns, depth] in [[1, 1, 1], [64, 64, 600], [3, 61, 257], [5, 8, 0]] {
            tile.product([rows, columns, depth], left, right);
            for i in 0..rows {
                for j in 0..columns {
                    let expected: f64 = (0..depth).map(|k| left(i, k) * right(j, k)).sum();
                    assert_eq!(tile.get(i, j), expected, "[{rows}, {columns}, {depth}] at ({i}, {j})");
                }
            }
        }
    }
}
