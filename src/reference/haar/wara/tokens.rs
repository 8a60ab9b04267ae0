//! Bands of tokens.

use super::{Group, ranks, row_major};
use crate::Element;
use crate::haar::{WaraProblem, band};
use crate::reference::Number;
use crate::reference::haar::Axis;
use crate::reference::product::{View, for_each};

/// One axis of the grid: of each element, what a band of it is made of, as indices and factors.
type Projector = Vec<Vec<(usize, f64)>>;

/// D⁻¹ of the approximations (details) of a level alone, of D.
fn projector(axis: &Axis, level: u32, detail: bool) -> Projector {
    let sign = |position: usize| if detail && position >> (level - 1) & 1 == 1 { -1.0 } else { 1.0 };
    let of = |element: usize| {
        let begin = element >> level << level;
        let positions = begin..begin + (1 << level);
        let factor = sign(element) / f64::from(1u32 << level);
        positions.filter_map(|position| Some((axis.extended(position)?, factor * sign(position)))).collect()
    };
    (0..axis.extent).map(of).collect()
}

fn transposed(projector: &Projector) -> Projector {
    let mut result = vec![Vec::new(); projector.len()];
    for (row, entries) in projector.iter().enumerate() {
        entries.iter().for_each(|&(column, factor)| result[column].push((row, factor)));
    }
    result
}

/// `h` [m, ranks] with the bands of tokens times their gains, or the adjoint of that; as it is in weight mode.
pub fn filtered<P: Element, N: Number>(problem: &WaraProblem, groups: &[Group<P>], h: Vec<N>, adjoint: bool) -> Vec<N> {
    let Some(grid @ [_, columns]) = problem.grid else { return h };
    let (ranks, tokens) = (ranks(groups), grid.iter().product::<usize>());
    let axes =
        grid.map(|extent| Axis { extent, levels: problem.levels, offsets: Vec::new(), boundary: problem.boundary });
    let projectors: Vec<_> = (0..3 * problem.levels as usize + 1)
        .map(|number| {
            let (level, details) = band(problem.levels, number);
            [0, 1].map(|axis: usize| {
                let projector = projector(&axes[axis], level, details[axis]);
                if adjoint { transposed(&projector) } else { projector }
            })
        })
        .collect();
    let mut result = vec![N::default(); h.len()];
    let rows = result.len() / ranks.max(1);
    let view = View::<N>::new(&row_major(&mut result, [1, rows, ranks]));
    let work = (h.len()).saturating_mul(1 << (2 * problem.levels));
    for_each(
        rows,
        work,
        || (),
        |(), row| {
            let (first, token) = (row / tokens * tokens, row % tokens);
            for (group, channel) in groups.iter().flat_map(|group| (0..group.rank).map(move |i| (group, i))) {
                let channel = group.first + channel;
                let mut sum = N::default();
                for number in group.bands.clone() {
                    let [of_row, of_column] = &projectors[number];
                    for &(i, row_factor) in &of_row[token / columns] {
                        for &(j, column_factor) in &of_column[token % columns] {
                            let factor = f64::from(problem.gains[number]) * row_factor * column_factor;
                            sum.add_product(h[(first + i * columns + j) * ranks + channel], factor);
                        }
                    }
                }
                // SAFETY: an element of the result, which this thread alone writes.
                unsafe { view.set([0, row, channel], sum) };
            }
        },
    );
    result
}
