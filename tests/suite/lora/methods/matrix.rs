//! Small matrices on the host: what methods' formulas are written in. Numbers of f32, products summed in f64.

use peft_kernels::{HostQueue, Mat, MatMut};

use super::Outcome;
use crate::numbers::Random;

#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn from(rows: usize, columns: usize, mut value: impl FnMut(usize, usize) -> f64) -> Self {
        let values = (0..rows * columns).map(|i| value(i / columns, i % columns) as f32).collect();
        Self { rows, columns, values }
    }

    /// Row by row.
    pub fn list(rows: usize, values: &[f32]) -> Self {
        assert_eq!(values.len() % rows, 0);
        Self { rows, columns: values.len() / rows, values: values.to_vec() }
    }

    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self::from(rows, columns, |_, _| 0.0)
    }

    /// In −1 … 1.
    pub fn random(name: &str, rows: usize, columns: usize) -> Self {
        let mut random = Random::of(name);
        Self::from(rows, columns, |_, _| random.real())
    }

    pub fn diagonal(values: &[f32]) -> Self {
        Self::from(values.len(), values.len(), |i, j| if i == j { values[i].into() } else { 0.0 })
    }

    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column].into()
    }

    pub fn t(&self) -> Self {
        Self::from(self.columns, self.rows, |i, j| self.at(j, i))
    }

    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows);
        Self::from(self.rows, other.columns, |i, j| (0..self.columns).map(|k| self.at(i, k) * other.at(k, j)).sum())
    }

    pub fn plus(&self, other: &Self) -> Self {
        self.plus_scaled(1.0, other)
    }

    pub fn plus_scaled(&self, scale: f64, other: &Self) -> Self {
        assert_eq!([self.rows, self.columns], [other.rows, other.columns]);
        Self::from(self.rows, self.columns, |i, j| self.at(i, j) + scale * other.at(i, j))
    }

    pub fn scaled(&self, scale: f64) -> Self {
        Self::from(self.rows, self.columns, |i, j| scale * self.at(i, j))
    }

    pub fn select_rows(&self, rows: &[usize]) -> Self {
        Self::from(rows.len(), self.columns, |i, j| self.at(rows[i], j))
    }

    pub fn select_columns(&self, columns: &[usize]) -> Self {
        self.t().select_rows(columns).t()
    }

    /// Σ of the products of elements.
    pub fn dot(&self, other: &Self) -> f64 {
        self.values.iter().zip(&other.values).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    }

    pub fn norm(&self) -> f64 {
        self.dot(self).sqrt()
    }

    pub fn view<Q: HostQueue>(&self) -> Mat<'_, f32, Q> {
        Mat::new(&self.values, self.rows, self.columns).expect("as large as it is")
    }

    pub fn view_mut<Q: HostQueue>(&mut self) -> MatMut<'_, f32, Q> {
        MatMut::new(&mut self.values, self.rows, self.columns).expect("as large as it is")
    }
}

/// Of sums of at most a few hundred products of numbers in −1 … 1.
pub fn near(what: &str, got: &Matrix, expected: &Matrix) -> Outcome {
    assert_eq!([got.rows, got.columns], [expected.rows, expected.columns], "{what}");
    let worst = got.values.iter().zip(&expected.values).map(|(got, expected)| (got - expected).abs());
    let worst = worst.fold(0.0, |worst: f32, apart| if apart.is_nan() { f32::NAN } else { worst.max(apart) });
    if worst <= 5e-5 { Ok(()) } else { Err(format!("{what}: {worst} apart")) }
}

/// What is to be seen is that two are not the same.
pub fn apart(what: &str, got: &Matrix, other: &Matrix) -> Outcome {
    match near(what, got, other) {
        Ok(()) => Err(format!("{what}: no difference")),
        Err(_) => Ok(()),
    }
}

/// A matrix in f64, by its elements.
pub type Elements<'a> = dyn Fn(usize, usize) -> f64 + 'a;

/// The derivatives of a number by the elements of a matrix, which the function is given: by differences, in f64.
pub fn differences(at: &Matrix, of: &dyn Fn(&Elements) -> f64) -> Matrix {
    let step = 1e-5;
    Matrix::from(at.rows, at.columns, |i, j| {
        let moved = |by: f64| of(&|row, column| at.at(row, column) + if (row, column) == (i, j) { by } else { 0.0 });
        (moved(step) - moved(-step)) / (2.0 * step)
    })
}

/// `[U, V]` and the singular values of a matrix `U·diag(S)·Vᵀ`, largest first: by Jacobi's rotations of its columns.
pub fn singular(matrix: &Matrix) -> (Matrix, Vec<f32>, Matrix) {
    let (rows, columns) = (matrix.rows, matrix.columns);
    let mut left: Vec<Vec<f64>> = (0..columns).map(|j| (0..rows).map(|i| matrix.at(i, j)).collect()).collect();
    let mut right: Vec<Vec<f64>> = (0..columns).map(|j| (0..columns).map(|i| f64::from(i == j)).collect()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (p, q) in (0..30).flat_map(|_| (0..columns).flat_map(|p| (p + 1..columns).map(move |q| (p, q)))) {
        let (alpha, beta, gamma) = (dot(&left[p], &left[p]), dot(&left[q], &left[q]), dot(&left[p], &left[q]));
        if gamma.abs() <= 1e-15 * (alpha * beta).sqrt() {
            continue;
        }
        let zeta = (beta - alpha) / (2.0 * gamma);
        let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
        let c = 1.0 / (1.0 + t * t).sqrt();
        for list in [&mut left, &mut right] {
            for i in 0..list[p].len() {
                let (a, b) = (list[p][i], list[q][i]);
                (list[p][i], list[q][i]) = (c * a - c * t * b, c * t * a + c * b);
            }
        }
    }
    let norms: Vec<f64> = left.iter().map(|column| dot(column, column).sqrt()).collect();
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
    let norm = |j: usize| norms[order[j]];
    let u = Matrix::from(rows, columns, |i, j| if norm(j) > 0.0 { left[order[j]][i] / norm(j) } else { 0.0 });
    let v = Matrix::from(columns, columns, |i, j| right[order[j]][i]);
    (u, (0..columns).map(|j| norm(j) as f32).collect(), v)
}
