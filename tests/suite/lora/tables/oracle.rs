//! The plain formula of the gradients, row by row with the row's adapter.

use peft_kernels::Element;
use peft_kernels::reference::Terms;

use super::case::{Case, Spec, TargetCase, TargetSpec};
use crate::buffer::{Cell, indices};
use crate::lora::case::{Factors, Saved};
use crate::lora::gradient_case::{Mode, rounding_of};
use crate::lora::middle::case::{sum, times};

/// Value and Σ|terms| of each of them.
pub struct Oracle {
    pub dx: Vec<Terms>,
    /// How far rounding g ⊙ W to its type may move an element of dx.
    pub dx_rounded: Vec<f64>,
    pub factors: Vec<Vec<[Vec<Terms>; 2]>>,
    pub bias: Vec<Vec<Terms>>,
}

fn one(value: f64) -> Terms {
    Terms { value, magnitude: value.abs() }
}

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    /// Value and Σ|terms| of every element, by the plain formula; what is not asked for keeps what it has.
    pub fn oracle(&self) -> Oracle {
        self.reset();
        let Spec { batches, m, k, .. } = self.spec;
        let dropout = self.spec.dropout();
        let kept = |row: usize, column| dropout.as_ref().is_none_or(|dropout| dropout.keeps(row, column));
        let factor = self.spec.dropout.map_or(1.0, |(p, ..)| 1.0 / (1.0 - f64::from(p)));
        let at = |row: usize| [row / m, row % m];
        let weight = |row: usize| self.spec.weights.as_ref().map_or(1.0, |weights| weights.of_row(row, batches * m));
        let x = |row: usize, i: usize| match kept(row, i) {
            true => self.x.get_shared([at(row)[0], at(row)[1], i]).to_f64(),
            false => 0.0,
        };
        let mut dx: Vec<_> = vec![Terms::default(); batches * m * k];
        let (mut factors, mut bias) = (Vec::new(), Vec::new());
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            let n = spec.n;
            let dy = |row: usize, i: usize| case.dy.get_shared([at(row)[0], at(row)[1], i]).to_f64();
            let u = |row: usize, i: usize| dy(row, i) * case.scale_of(at(row)[0], i);
            let mut lists = vec![Vec::new(); spec.ranks.len()];
            for row in 0..batches * m {
                let of_w = |i: usize| {
                    let w = |j| case.w.as_ref().map_or(0.0, |w| w.get_shared([at(row)[0], j, i]).to_f64());
                    sum((0..n).map(|j| one(u(row, j) * w(j))))
                };
                if case.w.is_some() {
                    (0..k).for_each(|i| dx[row * k + i] = sum([dx[row * k + i], of_w(i)].into_iter()));
                }
                self.spec.rows.entry_of(row, spec.ranks.len()).into_iter().for_each(|entry| lists[entry].push(row));
            }
            let of_adapters = case.adapters.iter().zip(&lists).enumerate().map(|(number, (adapter, list))| {
                let Factors { a, b, scale } = &adapter.factors;
                let (rank, scale) = (spec.ranks[number], f64::from(*scale) * factor);
                let dh = |row: usize, r| sum((0..n).map(|j| times(one(u(row, j)), b.get([0, j, r]).to_f64())));
                let h = |row: usize, r| match spec.h {
                    Saved::Own => one(case.h.0.get([at(row)[0], at(row)[1], r]).to_f64()),
                    Saved::F32 => one(f64::from(case.h.1.get([at(row)[0], at(row)[1], r]))),
                    Saved::None => sum((0..k).map(|i| times(one(x(row, i)), a.get([0, r, i]).to_f64()))),
                };
                let of_rows = |of: &dyn Fn(usize, usize) -> Terms| -> Vec<Vec<Terms>> {
                    list.iter().map(|&row| (0..rank).map(|r| of(row, r)).collect()).collect()
                };
                let (dh, h) = (of_rows(&dh), of_rows(&h));
                for (&row, dh) in list.iter().zip(&dh) {
                    for i in (0..k).filter(|&i| kept(row, i)) {
                        let branch = (0..rank).map(|r| times(dh[r], scale * a.get([0, r, i]).to_f64()));
                        dx[row * k + i] = sum([dx[row * k + i]].into_iter().chain(branch));
                    }
                }
                let before = |mode: Mode, old: f64, terms: Terms| match mode {
                    Mode::None => one(old),
                    Mode::Accumulate if list.is_empty() => one(old),
                    Mode::Accumulate => sum([times(terms, scale), one(old)].into_iter()),
                    Mode::Overwrite if list.is_empty() => Terms::default(),
                    Mode::Overwrite => sum([times(terms, scale)].into_iter()),
                };
                let [da, db] = &adapter.gradients;
                let da = indices(da.layout.extents).map(|index| {
                    let terms = |(&row, dh): (&usize, &Vec<Terms>)| times(dh[index[1]], weight(row) * x(row, index[2]));
                    before(spec.mode(number, 0), da.get(index).to_f64(), sum(list.iter().zip(&dh).map(terms)))
                });
                let db = indices(db.layout.extents).map(|index| {
                    let terms = |(&row, h): (&usize, &Vec<Terms>)| times(h[index[2]], weight(row) * u(row, index[1]));
                    before(spec.mode(number, 1), db.get(index).to_f64(), sum(list.iter().zip(&h).map(terms)))
                });
                [da.collect(), db.collect()]
            });
            factors.push(of_adapters.collect());
            bias.push(
                indices(case.dbias.layout.extents)
                    .map(|index| {
                        let old = (spec.modes[2] != Mode::Overwrite).then(|| one(case.dbias.get(index).to_f64()));
                        let rows = (0..batches * m).filter(|_| spec.modes[2] != Mode::None);
                        sum(rows.map(|row| one(weight(row) * dy(row, index[2]))).chain(old))
                    })
                    .collect(),
            );
        }
        for (index, value) in indices([batches, m, k]).zip(&mut dx) {
            match self.spec.x {
                Mode::None => *value = one(self.dx.get(index).to_f64()),
                Mode::Accumulate => *value = sum([*value, one(self.dx.get(index).to_f64())].into_iter()),
                Mode::Overwrite => {}
            }
        }
        let dx_rounded = indices([batches, m, k]).map(|index| self.dx_rounded(index)).collect();
        Oracle { dx, dx_rounded, factors, bias }
    }

    /// Half a unit in the last place of every g·W, times its dY.
    fn dx_rounded(&self, [batch, row, i]: [usize; 3]) -> f64 {
        let Some((unit, least)) = rounding_of::<T>() else { return 0.0 };
        let of_target = |(case, spec): (&TargetCase<T, P>, &TargetSpec)| {
            let (Some(w), Some(_)) = (&case.w, &case.row_scale) else { return 0.0 };
            let product = |j| w.get_shared([batch, j, i]).to_f64() * case.scale_of(batch, j);
            let moved = |j| case.dy.get_shared([batch, row, j]).to_f64().abs() * (unit * product(j)).abs().max(least);
            (0..spec.n).map(moved).sum()
        };
        self.targets.iter().zip(&self.spec.targets).map(of_target).sum::<f64>()
    }
}
