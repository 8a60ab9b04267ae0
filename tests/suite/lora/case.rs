//! A forward call as a description, and its operands.

use peft_kernels::lora::{Dropout, Segment};
use peft_kernels::reference::Terms;
use peft_kernels::{Element, Layout};

use super::middle::case::{MiddleCase, MiddleSpec};
use super::quantized::case::QuantizedCase;
use crate::buffer::{Buffer, Cell, Placement, indices};
use crate::compare;
use crate::numbers::{Numbers, Random};

/// How the operands of a call lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrangement {
    /// Row-major without gaps.
    Plain,
    /// Bit i of `orders`: whether operand i (x, w, y, a, b, a gate, a core) is column-major; all with this gap and offset.
    Orders { orders: u32, gap: usize, offset: usize },
    /// Every operand by chance.
    Random,
}

impl Arrangement {
    /// How an operand of this number lies.
    pub fn place(self, random: &mut Random, operand: u32) -> Placement {
        match self {
            Arrangement::Plain => Placement::default(),
            Arrangement::Orders { orders, gap, offset } => {
                Placement { column_major: orders >> operand & 1 == 1, gap, offset, batch_gap: gap }
            }
            Arrangement::Random => Placement {
                column_major: random.coin(),
                gap: random.choose(&[0, 0, 1, 3, 8]),
                offset: random.choose(&[0, 0, 1, 5]),
                batch_gap: random.choose(&[0, 2]),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaseSpec {
    None,
    Dense,
    InY,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AdapterSpec {
    None,
    One(usize),
    /// Ranks of a table's adapters.
    Table(Vec<usize>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BiasSpec {
    None,
    /// One for all batches, elements this far apart.
    Shared(usize),
    Batched(usize),
}

#[derive(Clone, Debug)]
pub struct TargetSpec {
    pub n: usize,
    pub base: BaseSpec,
    pub adapters: AdapterSpec,
    pub middle: MiddleSpec,
    pub bias: BiasSpec,
    /// With a shared or batched row scale, laid out as a bias is.
    pub row_scale: BiasSpec,
}

impl TargetSpec {
    pub fn dense(n: usize, rank: usize) -> Self {
        Self {
            n,
            base: BaseSpec::Dense,
            adapters: AdapterSpec::One(rank),
            middle: MiddleSpec::default(),
            bias: BiasSpec::None,
            row_scale: BiasSpec::None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum RowSpec {
    Same,
    /// For each row of each batch.
    Index(Vec<i32>),
    Segments(Vec<(usize, usize, Option<u32>)>),
}

impl RowSpec {
    /// The adapter of a row of all batches, as an index into a table.
    pub fn adapter_of(&self, row: usize) -> Option<i32> {
        match self {
            RowSpec::Same => Some(0),
            RowSpec::Index(index) => Some(index[row]).filter(|&index| index != -1),
            RowSpec::Segments(list) => {
                let found = list.iter().find(|(begin, end, _)| (*begin..*end).contains(&row));
                found.and_then(|segment| segment.2).map(|index| i32::try_from(index).unwrap_or(i32::MAX))
            }
        }
    }

    /// Its adapter of a table of so many.
    pub fn entry_of(&self, row: usize, adapters: usize) -> Option<usize> {
        usize::try_from(self.adapter_of(row)?).ok().filter(|&index| index < adapters)
    }
}

/// In which type H is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    None,
    Own,
    F32,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub batches: usize,
    pub m: usize,
    pub k: usize,
    pub targets: Vec<TargetSpec>,
    pub rows: RowSpec,
    /// Whether x, w, a and b are one for all batches; bit by bit.
    pub shared: u32,
    /// All y in one buffer, side by side.
    pub one_y: bool,
    pub arrangement: Arrangement,
    pub numbers: Numbers,
    pub seed: u64,
    /// The kernel, or 0.
    pub algorithm: i32,
    pub allow_tf32: bool,
    pub batch_invariant: bool,
    /// Probability, seed and offset.
    pub dropout: Option<(f32, u64, u64)>,
    pub saved: Saved,
    /// For a quantised W.
    pub slab_bytes: usize,
}

/// The kernels of the emulator and the device for a W in memory, by number; 0 is the one that `pick` chooses.
pub const ALGORITHMS: [i32; 5] = [0, 1, 2, 3, 4];

impl Spec {
    /// One layer with one adapter.
    pub fn new(m: usize, n: usize, k: usize, rank: usize, numbers: Numbers) -> Self {
        Self {
            batches: 1,
            m,
            k,
            targets: vec![TargetSpec::dense(n, rank)],
            rows: RowSpec::Same,
            shared: 0,
            one_y: false,
            arrangement: Arrangement::Plain,
            numbers,
            seed: (m * 31 + n * 37 + k * 41 + rank) as u64,
            algorithm: 0,
            allow_tf32: false,
            batch_invariant: false,
            dropout: None,
            saved: Saved::None,
            slab_bytes: 0,
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn dropout(&self) -> Option<Dropout> {
        self.dropout.map(|(p, seed, offset)| Dropout::new(p, seed, offset).expect("a probability"))
    }

    /// The adapter of a row of all batches, as an index into a table.
    pub fn adapter_of(&self, row: usize) -> Option<i32> {
        self.rows.adapter_of(row)
    }

    /// The first row that names an adapter which a target's table lacks.
    pub fn first_bad_row(&self) -> Option<usize> {
        let lacks = |target: &TargetSpec, row| match &target.adapters {
            AdapterSpec::Table(ranks) => {
                self.adapter_of(row).is_some_and(|i| usize::try_from(i).map_or(true, |i| i >= ranks.len()))
            }
            _ => false,
        };
        (0..self.batches * self.m).find(|&row| self.targets.iter().any(|target| lacks(target, row)))
    }

    /// The first entry of a list of ranks that names none.
    pub fn first_bad_entry(&self) -> Option<usize> {
        let of_target = |target: &TargetSpec| match target.adapters {
            AdapterSpec::One(rank) => target.middle.first_bad_entry(rank),
            _ => None,
        };
        self.targets.iter().filter_map(of_target).min()
    }
}

pub struct Factors<P> {
    pub a: Buffer<P>,
    pub b: Buffer<P>,
    pub scale: f32,
}

impl<P> Factors<P> {
    pub fn rank(&self) -> usize {
        self.a.layout.extents[1]
    }
}

pub struct TargetCase<T, P> {
    pub w: Option<Buffer<T>>,
    /// Its lists, where the call is given them instead.
    pub quantized: Option<QuantizedCase>,
    pub factors: Vec<Factors<P>>,
    pub middle: MiddleCase<P>,
    pub bias: Option<Buffer<T>>,
    pub row_scale: Option<Buffer<f32>>,
    /// Where H goes, in either type.
    pub saved: (Buffer<T>, Buffer<f32>),
    /// The buffer of y, and where in it.
    pub y: (usize, Layout<3>),
}

pub enum RowCase {
    Same,
    Index(Buffer<i32>),
    Segments(Buffer<Segment>),
}

impl RowCase {
    pub fn new(spec: &RowSpec) -> Self {
        match spec {
            RowSpec::Same => RowCase::Same,
            RowSpec::Index(index) => RowCase::Index(Buffer::list(index)),
            RowSpec::Segments(list) => {
                let list: Vec<_> =
                    list.iter().map(|&(begin, end, adapter)| Segment::new(begin..end, adapter)).collect();
                RowCase::Segments(Buffer::list(&list))
            }
        }
    }
}

/// The operands of a call, in buffers.
pub struct Case<T, P> {
    pub spec: Spec,
    pub x: Buffer<T>,
    pub targets: Vec<TargetCase<T, P>>,
    pub rows: RowCase,
    pub outputs: Vec<Buffer<T>>,
}

const X: u32 = 0;
const W: u32 = 1;
const Y: u32 = 2;
const A: u32 = 3;
const B: u32 = 4;
const GATE: u32 = 5;
const CORE: u32 = 6;

impl<T: Element + Cell, P: Element + Cell> Case<T, P> {
    pub fn new(spec: &Spec) -> Self {
        let mut random = Random(spec.seed);
        let batches_of = |operand: u32| if spec.shared >> operand & 1 == 1 { 1 } else { spec.batches };
        let place = |random: &mut Random, operand: u32| spec.arrangement.place(random, operand);
        let numbers = spec.numbers;
        let (m, k) = (spec.m, spec.k);
        let layout = place(&mut random, X).layout([batches_of(X), m, k]);
        let x = Buffer::new(layout, |[_, _, i]| numbers.factor(&mut random, k, i + 1 == k));

        let total_n: usize = spec.targets.iter().map(|target| target.n).sum();
        let initial = |random: &mut Random, layout: Layout<3>, base: BaseSpec| {
            Buffer::new(layout, |_| if base == BaseSpec::InY { numbers.term(random) } else { T::POISON })
        };
        let mut outputs = Vec::new();
        if spec.one_y {
            let layout = place(&mut random, Y).layout([spec.batches, m, total_n]);
            outputs.push(initial(&mut random, layout, spec.targets[0].base));
        }
        let mut targets = Vec::new();
        let mut column = 0;
        for target in &spec.targets {
            let n = target.n;
            let w = (target.base == BaseSpec::Dense).then(|| {
                let layout = place(&mut random, W).layout([batches_of(W), n, k]);
                Buffer::new(layout, |[_, _, i]| numbers.factor(&mut random, k, i + 1 == k))
            });
            let mut factors = |rank: usize, batched: bool| {
                let batches = |operand| if batched { batches_of(operand) } else { 1 };
                let a_layout = place(&mut random, A).layout([batches(A), rank, k]);
                let after = target.middle.columns_of_b(rank);
                let b_layout = place(&mut random, B).layout([batches(B), n, after]);
                Factors {
                    a: Buffer::new(a_layout, |[_, _, i]| numbers.factor(&mut random, k, i + 1 == k)),
                    b: Buffer::new(b_layout, |[_, _, i]| numbers.factor(&mut random, 16 * after, i + 1 == after)),
                    scale: numbers.scale(&mut random),
                }
            };
            let factors = match &target.adapters {
                AdapterSpec::None => Vec::new(),
                AdapterSpec::One(rank) => vec![factors(*rank, true)],
                AdapterSpec::Table(ranks) => ranks.iter().map(|&rank| factors(rank, false)).collect(),
            };
            let row_layout = |batches: usize, step: usize| {
                let strides = [n * step + 1, 0, step];
                Layout { offset: step - 1, extents: [batches, 1, n], strides }
            };
            let bias = |batches: usize, step: usize, random: &mut Random| {
                Buffer::new(row_layout(batches, step), |_| numbers.term(random))
            };
            let bias = match target.bias {
                BiasSpec::None => None,
                BiasSpec::Shared(step) => Some(bias(1, step, &mut random)),
                BiasSpec::Batched(step) => Some(bias(spec.batches, step, &mut random)),
            };
            let row_scale = match target.row_scale {
                BiasSpec::None => None,
                BiasSpec::Shared(step) => Some(row_layout(1, step)),
                BiasSpec::Batched(step) => Some(row_layout(spec.batches, step)),
            };
            // Of integers, what leaves their number of bits.
            let one = |random: &mut Random| match numbers {
                Numbers::Integers => random.choose(&[1.0, -1.0]),
                Numbers::Reals => numbers.scale(random),
            };
            let row_scale = row_scale.map(|layout| Buffer::new(layout, |_| one(&mut random)));
            let rank = factors.iter().map(Factors::rank).max().unwrap_or(0);
            let of_middle = &mut Random(spec.seed + 78);
            let places = [place(of_middle, GATE), place(of_middle, CORE)];
            let middle = MiddleCase::new(&target.middle, numbers, spec.seed, [spec.batches, m, rank], places);
            let max_rank = middle.ranks.len();
            let saved = place(&mut Random(spec.seed + 77), Y).layout([spec.batches, m, max_rank]);
            let saved = (Buffer::new(saved, |_| T::POISON), Buffer::new(saved, |_| f32::POISON));
            let y = if spec.one_y {
                let mut layout = outputs[0].layout;
                layout.extents[2] = n;
                layout.offset += if layout.is_empty() { 0 } else { column * layout.strides[2] };
                (0, layout)
            } else {
                let layout = place(&mut random, Y).layout([spec.batches, m, n]);
                outputs.push(initial(&mut random, layout, target.base));
                (outputs.len() - 1, layout)
            };
            column += n;
            targets.push(TargetCase { w, quantized: None, factors, middle, bias, row_scale, saved, y });
        }
        let rows = RowCase::new(&spec.rows);
        Self { spec: spec.clone(), x, targets, rows, outputs }
    }

    /// The adapter of every row of all batches, and value and Σ|terms| of its H before a middle, by the plain formula.
    fn oracle_of_h(&self, target: &TargetCase<T, P>, spec_of: &TargetSpec) -> Vec<(Option<usize>, Vec<Terms>)> {
        let (spec, k, dropout) = (&self.spec, self.spec.k, self.spec.dropout());
        let rows = indices([spec.batches, spec.m, 1]).map(|[batch, row, _]| {
            let row_of_all = batch * spec.m + row;
            let chosen = match &spec_of.adapters {
                AdapterSpec::None => None,
                AdapterSpec::One(_) => Some(0),
                AdapterSpec::Table(_) => spec.adapter_of(row_of_all).and_then(|i| usize::try_from(i).ok()),
            };
            let factors = chosen.and_then(|i| target.factors.get(i));
            let kept = |i: usize| dropout.as_ref().is_none_or(|dropout| dropout.keeps(row_of_all, i));
            let of_rank = |rank: Option<usize>| {
                let mut terms = Terms::default();
                let Some(rank) = rank else { return terms };
                for i in (0..k).filter(|&i| kept(i)) {
                    let a = factors.unwrap().a.get_shared([batch, rank, i]).to_f64();
                    let product = self.x.get_shared([batch, row, i]).to_f64() * a;
                    terms.value += product;
                    terms.magnitude += product.abs();
                }
                terms
            };
            let ranks: Vec<_> = match factors {
                None => Vec::new(),
                Some(_) if spec_of.middle.is_some() => target.middle.ranks.clone(),
                Some(factors) => (0..factors.rank()).map(Some).collect(),
            };
            let after = if spec_of.middle.is_some() { target.middle.after } else { ranks.len() };
            (chosen.filter(|_| after > 0), ranks.into_iter().map(of_rank).collect())
        });
        rows.collect()
    }

    /// What a call saved of H, which must be within the bound; of rows and ranks that no adapter has, nothing.
    pub fn check_saved(&self, steps: usize) -> Result<(), String> {
        fn check<E: Element + Cell>(
            name: &str,
            buffer: &Buffer<E>,
            m: usize,
            h: &[(Option<usize>, Vec<Terms>)],
            steps: usize,
        ) -> Result<(), String> {
            buffer.check_padding(name, &[buffer.layout])?;
            for [batch, row, rank] in indices(buffer.layout.extents) {
                let got = buffer.get([batch, row, rank]);
                let expected = h[batch * m + row].1.get(rank);
                let right = match expected {
                    None => compare::hex(got) == compare::hex(E::POISON),
                    Some(terms) => (got.to_f64() - terms.value).abs() <= terms.allowed_error::<E>(steps),
                };
                if !right {
                    return Err(format!(
                        "{name} [{batch}, {row}, {rank}]: {}, expected {expected:?}",
                        compare::hex(got)
                    ));
                }
            }
            Ok(())
        }
        for (case, spec) in self.targets.iter().zip(&self.spec.targets) {
            let h = || self.oracle_of_h(case, spec);
            match self.spec.saved {
                Saved::None => {}
                Saved::Own => check("saved h", &case.saved.0, self.spec.m, &h(), steps)?,
                Saved::F32 => check("saved h in f32", &case.saved.1, self.spec.m, &h(), steps)?,
            }
        }
        Ok(())
    }

    /// Value and Σ|terms| of every element of every y, by the plain formula.
    pub fn oracle(&self) -> Vec<Vec<Terms>> {
        let (spec, k) = (&self.spec, self.spec.k);
        let dot = |left: &dyn Fn(usize) -> Terms, right: &dyn Fn(usize) -> f64, extent: usize| {
            (0..extent).fold(Terms::default(), |mut sum, i| {
                let (left, right) = (left(i), right(i));
                sum.value += left.value * right;
                sum.magnitude += left.magnitude * right.abs();
                sum
            })
        };
        let term = |value: f64| {
            let mut terms = Terms::default();
            (terms.value, terms.magnitude) = (value, value.abs());
            terms
        };
        let target = |target: &TargetCase<T, P>, spec_of: &TargetSpec| {
            let h = self.oracle_of_h(target, spec_of);
            let y = &self.outputs[target.y.0];
            let value = |[batch, row, column]: [usize; 3]| {
                let x = |i: usize| term(self.x.get_shared([batch, row, i]).to_f64());
                let mut sum = match (&target.w, spec_of.base) {
                    (Some(w), _) => dot(&x, &|i| w.get_shared([batch, column, i]).to_f64(), k),
                    (None, BaseSpec::InY) => {
                        term(y.read(crate::buffer::position(&target.y.1, [batch, row, column])).to_f64())
                    }
                    _ => Terms::default(),
                };
                let (chosen, h) = &h[batch * spec.m + row];
                if let Some(factors) = chosen.and_then(|i| target.factors.get(i)) {
                    let after = match spec_of.middle.is_some() {
                        true => target.middle.apply([batch, row], h),
                        false => h.clone(),
                    };
                    // With a core the columns of B are its own.
                    let rank_of = |i: usize| match target.middle.core {
                        None if spec_of.middle.is_some() => target.middle.ranks[i],
                        _ => Some(i),
                    };
                    let b = |i| rank_of(i).map_or(0.0, |rank| factors.b.get_shared([batch, column, rank]).to_f64());
                    let branch = dot(&|i| after[i], &b, after.len());
                    let scale =
                        f64::from(factors.scale) * spec.dropout.map_or(1.0, |(p, ..)| 1.0 / (1.0 - f64::from(p)));
                    sum.value += scale * branch.value;
                    sum.magnitude += scale.abs() * branch.magnitude;
                }
                if let Some(scale) = &target.row_scale {
                    let scale = scale.get_shared([batch, 0, column]).to_f64();
                    sum.value *= scale;
                    sum.magnitude *= scale.abs();
                }
                if let Some(bias) = &target.bias {
                    let bias = bias.get_shared([batch, 0, column]).to_f64();
                    sum.value += bias;
                    sum.magnitude += bias.abs();
                }
                sum
            };
            indices(target.y.1.extents).map(value).collect()
        };
        self.targets.iter().zip(&spec.targets).map(|(case, spec)| target(case, spec)).collect()
    }
}
