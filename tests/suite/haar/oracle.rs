//! The transform by its definition: level by level, each axis on its own, with the boundary as PyWavelets has it.

use peft_kernels::haar::{Bands, Boundary, Scaling};
use peft_kernels::reference::Terms;

pub type Grid = Vec<Vec<Terms>>;

/// What a transform is.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub along: [bool; 2],
    pub levels: u32,
    pub boundary: Boundary,
    pub bands: Bands,
    pub scaling: Scaling,
    pub adjoint: bool,
}

fn combine(a: Terms, b: Terms, sign: f64) -> Terms {
    Terms { value: a.value + sign * b.value, magnitude: a.magnitude + b.magnitude }
}

fn scaled(a: Terms, factor: f64) -> Terms {
    Terms { value: a.value * factor, magnitude: a.magnitude * factor }
}

pub fn transposed(grid: &Grid) -> Grid {
    (0..grid.first().map_or(0, Vec::len)).map(|j| grid.iter().map(|row| row[j]).collect()).collect()
}

/// Sums and differences of neighbours of a row.
fn analysis(row: &[Terms], boundary: Boundary) -> [Vec<Terms>; 2] {
    let mut row = row.to_vec();
    if row.len() % 2 == 1 {
        row.push(match boundary {
            Boundary::Edge | Boundary::Symmetric => row[row.len() - 1],
            Boundary::Periodic => row[0],
            _ => Terms::default(),
        });
    }
    [1.0, -1.0].map(|sign| row.chunks(2).map(|pair| combine(pair[0], pair[1], sign)).collect())
}

/// A row of `count` elements from sums and differences. What is beyond goes to where `fold` says that it came from.
fn synthesis(sums: &[Terms], details: &[Terms], count: usize, fold: Option<Boundary>) -> Vec<Terms> {
    let pairs = sums.iter().zip(details);
    let mut row: Vec<_> = pairs.flat_map(|(&a, &d)| [combine(a, d, 1.0), combine(a, d, -1.0)]).collect();
    if row.len() > count {
        let beyond = row.pop().expect("a row of pairs");
        let target = match fold {
            Some(Boundary::Edge | Boundary::Symmetric) => Some(count - 1),
            Some(Boundary::Periodic) => Some(0),
            _ => None,
        };
        if let Some(target) = target {
            row[target] = combine(row[target], beyond, 1.0);
        }
    }
    row
}

impl Rule {
    /// Of a coefficient of a level, in one product: as long as it is a power of two, everything is exact.
    fn factor(&self, inverse: bool, level: u32) -> f64 {
        let halves = self.along.iter().filter(|&&along| along).count() as u32 * level;
        match self.scaling {
            Scaling::Sums if inverse => 0.5f64.powi(halves as i32),
            Scaling::Sums => 1.0,
            _ => 0.5f64.powi(halves as i32 / 2) * if halves % 2 == 1 { 0.5f64.sqrt() } else { 1.0 },
        }
    }

    /// Extents of the approximations of each level, from the signal's on.
    pub fn counts(&self, extents: [usize; 2]) -> Vec<[usize; 2]> {
        let halved =
            |counts: &[usize; 2]| [0, 1].map(|i| if self.along[i] { counts[i].div_ceil(2) } else { counts[i] });
        std::iter::successors(Some(extents), |counts| Some(halved(counts))).take(self.levels as usize + 1).collect()
    }

    pub fn coefficient_extents(&self, extents: [usize; 2]) -> [usize; 2] {
        let counts = self.counts(extents);
        let last = counts[self.levels as usize];
        [0, 1].map(|i| match (self.along[i], self.bands) {
            (false, _) => extents[i],
            (true, Bands::Interleaved) => last[i] << self.levels,
            (true, _) => last[i] + counts[1..].iter().map(|counts| counts[i]).sum::<usize>(),
        })
    }

    /// Where coefficient [i, j] of a level is; `detail` says along which axes it is one.
    pub fn place(&self, extents: [usize; 2], level: u32, detail: [bool; 2], index: [usize; 2]) -> [usize; 2] {
        let counts = self.counts(extents);
        // As PyWavelets puts them: details begin where everything of higher levels ends.
        let begin = |i: usize| {
            counts[self.levels as usize][i] + counts[level as usize + 1..].iter().map(|counts| counts[i]).sum::<usize>()
        };
        [0, 1].map(|i| match (self.along[i], self.bands) {
            (false, _) => index[i],
            (true, Bands::Interleaved) => (index[i] << level) + if detail[i] { 1 << (level - 1) } else { 0 },
            (true, _) => index[i] + if detail[i] { begin(i) } else { 0 },
        })
    }

    fn kinds(&self) -> impl Iterator<Item = [bool; 2]> {
        let along = self.along;
        let kinds = [[false, false], [false, true], [true, false], [true, true]];
        kinds.into_iter().filter(move |kind| (0..2).all(|i| along[i] || !kind[i]))
    }

    pub fn forward(&self, signal: &Grid) -> Grid {
        let extents = [signal.len(), signal[0].len()];
        let boundary = if self.adjoint { Boundary::Zero } else { self.boundary };
        let [rows, columns] = self.coefficient_extents(extents);
        let mut result = vec![vec![Terms::default(); columns]; rows];
        let mut put = |level, kind, band: &Grid| {
            for (i, row) in band.iter().enumerate() {
                for (j, &value) in row.iter().enumerate() {
                    let [row, column] = self.place(extents, level, kind, [i, j]);
                    result[row][column] = scaled(value, self.factor(self.adjoint, level));
                }
            }
        };
        let split = |grid: &Grid, detail: bool| -> Grid {
            grid.iter().map(|row| analysis(row, boundary)[usize::from(detail)].clone()).collect()
        };
        let mut rest = signal.clone();
        for level in 1..=self.levels {
            let mut next = Grid::new();
            for kind in self.kinds() {
                let band = if self.along[1] { split(&rest, kind[1]) } else { rest.clone() };
                let band = if self.along[0] { transposed(&split(&transposed(&band), kind[0])) } else { band };
                match kind {
                    [false, false] => next = band,
                    kind => put(level, kind, &band),
                }
            }
            rest = next;
        }
        put(self.levels, [false, false], &rest);
        result
    }

    pub fn inverse(&self, coefficients: &Grid, extents: [usize; 2]) -> Grid {
        let fold = self.adjoint.then_some(self.boundary);
        let counts = self.counts(extents);
        let take = |level: u32, kind| -> Grid {
            let [rows, columns] = counts[level as usize];
            let at = |i, j| {
                let [row, column] = self.place(extents, level, kind, [i, j]);
                scaled(coefficients[row][column], self.factor(!self.adjoint, level))
            };
            (0..rows).map(|i| (0..columns).map(|j| at(i, j)).collect()).collect()
        };
        let join = |sums: &Grid, details: &Grid, count: usize| -> Grid {
            sums.iter().zip(details).map(|(a, d)| synthesis(a, d, count, fold)).collect()
        };
        let mut rest = take(self.levels, [false, false]);
        for level in (1..=self.levels).rev() {
            let [rows, columns] = counts[level as usize - 1];
            if self.along[0] {
                let detail = take(level, [true, false]);
                rest = transposed(&join(&transposed(&rest), &transposed(&detail), rows));
            }
            if self.along[1] {
                let mut detail = take(level, [false, true]);
                if self.along[0] {
                    detail = transposed(&join(&transposed(&detail), &transposed(&take(level, [true, true])), rows));
                }
                rest = join(&rest, &detail, columns);
            }
        }
        rest
    }
}
