//! WaRA by its definition: coefficients, all of them, and the transform level by level.

use peft_kernels::Element;
use peft_kernels::haar::{Bands, Boundary, Scaling};
use peft_kernels::reference::Terms;

use super::case::{Base, Case, Expected, Operation};
use crate::buffer::{Buffer, Cell};
use crate::haar::oracle::{Grid, Rule};

/// `left·right`, with the magnitudes of all terms.
fn product(left: &Grid, right: &Grid) -> Grid {
    let columns = right.first().map_or(0, Vec::len);
    let element = |row: &Vec<Terms>, j: usize| {
        row.iter().zip(right).fold(Terms::default(), |sum, (a, b)| Terms {
            value: sum.value + a.value * b[j].value,
            magnitude: sum.magnitude + a.magnitude * b[j].magnitude,
        })
    };
    left.iter().map(|row| (0..columns).map(|j| element(row, j)).collect()).collect()
}

fn transposed(grid: &Grid) -> Grid {
    crate::haar::oracle::transposed(grid)
}

fn scaled(grid: &Grid, factor: f64) -> Grid {
    let terms = |terms: &Terms| Terms { value: terms.value * factor, magnitude: terms.magnitude * factor.abs() };
    grid.iter().map(|row| row.iter().map(terms).collect()).collect()
}

fn sum(a: &Grid, b: &Grid) -> Grid {
    let add = |a: &Terms, b: &Terms| Terms { value: a.value + b.value, magnitude: a.magnitude + b.magnitude };
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| add(a, b)).collect()).collect()
}

fn grid<E: Element + Cell>(buffer: &Buffer<E>) -> Grid {
    let [_, rows, columns] = buffer.layout.extents;
    let element = |i, j| {
        let value = buffer.get([0, i, j]).to_f64();
        Terms { value, magnitude: value.abs() }
    };
    (0..rows).map(|i| (0..columns).map(|j| element(i, j)).collect()).collect()
}

fn zeros([rows, columns]: [usize; 2]) -> Grid {
    vec![vec![Terms::default(); columns]; rows]
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    fn rule(&self, adjoint: bool) -> Rule {
        let (levels, boundary) = (self.spec.levels, self.spec.boundary);
        Rule { along: [true; 2], levels, boundary, bands: Bands::Mallat, scaling: Scaling::Orthonormal, adjoint }
    }

    /// Of a band, of a transform of these extents: rows and columns in the image of coefficients.
    fn places(&self, extents: [usize; 2], band: usize) -> (Vec<usize>, Vec<usize>) {
        let (level, detail) = self.spec.band(band);
        let rule = self.rule(false);
        let [rows, columns] = rule.counts(extents)[level as usize];
        let [row, column] = rule.place(extents, level, detail, [0, 0]);
        ((row..row + rows).collect(), (column..column + columns).collect())
    }

    fn band(&self, image: &Grid, extents: [usize; 2], band: usize) -> Grid {
        let (rows, columns) = self.places(extents, band);
        rows.iter().map(|&i| columns.iter().map(|&j| image[i][j]).collect()).collect()
    }

    /// The image whose bands these are, each times its gain.
    fn image(&self, extents: [usize; 2], bands: impl Fn(usize) -> Grid) -> Grid {
        let mut image = zeros(self.rule(false).coefficient_extents(extents));
        for number in 0..self.spec.bands() {
            let (rows, columns) = self.places(extents, number);
            let band = scaled(&bands(number), f64::from(self.gains[number]));
            for (&i, values) in rows.iter().zip(&band) {
                for (&j, &value) in columns.iter().zip(values) {
                    image[i][j] = value;
                }
            }
        }
        image
    }

    fn factors(&self, band: usize) -> [Grid; 2] {
        let number = if self.a.len() == 1 { 0 } else { band };
        [grid(&self.a[number]), grid(&self.b[number])]
    }

    /// ΔW
    fn delta(&self) -> Grid {
        let shape = self.spec.shape;
        let whole = (self.a.len() == 1).then(|| {
            let [a, b] = self.factors(0);
            product(&b, &a)
        });
        let image = self.image(shape, |number| match &whole {
            Some(image) => self.band(image, shape, number),
            None => {
                let [a, b] = self.factors(number);
                product(&b, &a)
            }
        });
        scaled(&self.rule(false).inverse(&image, shape), f64::from(self.scale))
    }

    /// One column of tokens, as grids.
    fn grids(&self, tokens: &Grid, column: usize) -> Vec<Grid> {
        let [rows, columns] = self.spec.grid.expect("activation mode");
        let at = |first: usize, i: usize, j: usize| tokens[first + i * columns + j][column];
        let grid = |first| (0..rows).map(|i| (0..columns).map(|j| at(first, i, j)).collect()).collect();
        (0..tokens.len()).step_by(rows * columns).map(grid).collect()
    }

    /// The coefficients of tokens, for each band [coefficients of all grids, features].
    fn token_bands(&self, tokens: &Grid, adjoint: bool) -> Vec<Grid> {
        let grid = self.spec.grid.expect("activation mode");
        let features = tokens.first().map_or(0, Vec::len);
        let images = |feature| -> Vec<Grid> {
            self.grids(tokens, feature).iter().map(|tokens| self.rule(adjoint).forward(tokens)).collect()
        };
        let images: Vec<_> = (0..features).map(images).collect();
        let of_band = |number| {
            let of_feature = |images: &Vec<Grid>| -> Vec<Terms> {
                images.iter().flat_map(|image| self.band(image, grid, number).concat()).collect()
            };
            transposed(&images.iter().map(of_feature).collect())
        };
        (0..self.spec.bands()).map(of_band).collect()
    }

    /// Tokens of the coefficients of all bands, each times its gain.
    fn tokens(&self, bands: &[Grid], adjoint: bool) -> Grid {
        let grid @ [rows, columns] = self.spec.grid.expect("activation mode");
        let features = bands[0].first().map_or(0, Vec::len);
        let of_feature = |feature: usize| -> Vec<Terms> {
            let of_grid = |number_of_grid: usize| {
                let image = self.image(grid, |number| {
                    let (rows, columns) = self.places(grid, number);
                    let first = number_of_grid * rows.len() * columns.len();
                    let at = |i: usize, j: usize| bands[number][first + i * columns.len() + j][feature];
                    (0..rows.len()).map(|i| (0..columns.len()).map(|j| at(i, j)).collect()).collect()
                });
                self.rule(adjoint).inverse(&image, grid).concat()
            };
            (0..self.spec.m / (rows * columns)).flat_map(of_grid).collect()
        };
        transposed(&(0..features).map(of_feature).collect())
    }

    fn forward_oracle(&self) -> Grid {
        let x = grid(&self.x);
        let base = match self.spec.base {
            Base::None => zeros([self.spec.m, self.spec.shape[0]]),
            Base::Dense => product(&x, &transposed(&grid(&self.w))),
            Base::InY => grid(&self.y),
        };
        let branch = if self.spec.grid.is_none() {
            product(&x, &transposed(&self.delta()))
        } else {
            let bands = self.token_bands(&x, false);
            let bands = bands.iter().enumerate().map(|(number, band)| {
                let [a, b] = self.factors(number);
                product(&product(band, &transposed(&a)), &transposed(&b))
            });
            scaled(&self.tokens(&bands.collect::<Vec<_>>(), false), f64::from(self.scale))
        };
        sum(&base, &branch)
    }

    /// dx, then every dA, then every dB.
    fn backward_oracle(&self) -> Vec<Grid> {
        let (x, dy) = (grid(&self.x), grid(&self.dy));
        let base = match self.spec.base {
            Base::Dense => product(&dy, &grid(&self.w)),
            _ => zeros([self.spec.m, self.spec.shape[1]]),
        };
        let add = |sums: &mut Option<Grid>, more: Grid| {
            *sums = Some(match sums.take() {
                None => more,
                Some(sums) => sum(&sums, &more),
            });
        };
        let (mut da, mut db) = (vec![None; self.a.len()], vec![None; self.a.len()]);
        if self.spec.grid.is_some() {
            let (of_x, of_dy) = (self.token_bands(&x, false), self.token_bands(&dy, true));
            let mut of_dx = Vec::new();
            for number in 0..self.spec.bands() {
                let [a, b] = self.factors(number);
                let factor = if self.a.len() == 1 { 0 } else { number };
                let gain = f64::from(self.scale) * f64::from(self.gains[number]);
                let dy = scaled(&of_dy[number], gain);
                add(&mut da[factor], product(&transposed(&product(&dy, &b)), &of_x[number]));
                add(&mut db[factor], product(&transposed(&dy), &product(&of_x[number], &transposed(&a))));
                of_dx.push(scaled(&product(&product(&of_dy[number], &b), &a), f64::from(self.scale)));
            }
            let dx = sum(&base, &self.tokens(&of_dx, true));
            return std::iter::once(dx).chain(da.into_iter().chain(db).flatten()).collect();
        }
        let shape = self.spec.shape;
        let dw = scaled(&product(&transposed(&dy), &x), f64::from(self.scale));
        // The adjoint of the inverse takes zeros for what is beyond the end, whatever the boundary.
        let dc = Rule { boundary: Boundary::Zero, ..self.rule(true) }.forward(&dw);
        let dc = self.image(shape, |number| self.band(&dc, shape, number));
        for factor in 0..self.a.len() {
            let [a, b] = self.factors(factor);
            let dc = if self.a.len() == 1 { dc.clone() } else { self.band(&dc, shape, factor) };
            da[factor] = Some(product(&transposed(&b), &dc));
            db[factor] = Some(product(&dc, &transposed(&a)));
        }
        let dx = sum(&base, &product(&dy, &self.delta()));
        std::iter::once(dx).chain(da.into_iter().chain(db).flatten()).collect()
    }

    /// Values and Σ|terms| of every output, in the order of the operation's.
    pub fn oracle(&self, operation: Operation) -> Expected {
        let merged = |sign: f64| vec![sum(&grid(&self.w), &scaled(&self.delta(), sign))];
        let grids = match operation {
            Operation::Forward => vec![self.forward_oracle()],
            Operation::Backward => self.backward_oracle(),
            Operation::Merge => merged(1.0),
            Operation::Unmerge => merged(-1.0),
        };
        grids.iter().map(|grid| grid.concat()).collect()
    }
}
