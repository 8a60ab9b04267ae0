//! What lies between A and B as a description, its operands, and the plain formulas of what it makes and of its gradients.

use peft_kernels::lora::Middle;
use peft_kernels::reference::Terms;
use peft_kernels::{Element, Layout, Tensor};

use crate::buffer::{Buffer, Cell, Placement};
use crate::lora::run::{list, matrix};
use crate::numbers::{Numbers, Random};
use crate::queues::Runner;

/// Whether there is a part, and whether one for all batches or one for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    #[default]
    None,
    Shared,
    Batched,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Listed {
    #[default]
    All,
    Host(Vec<u32>),
    Device(Vec<i32>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MiddleSpec {
    pub ranks: Listed,
    pub scale: Part,
    pub gate: Part,
    pub core: Part,
    /// With a core: the columns of B.
    pub after: usize,
}

impl MiddleSpec {
    pub fn is_some(&self) -> bool {
        *self != Self::default()
    }

    /// Columns of B of an adapter whose A has so many rows.
    pub fn columns_of_b(&self, rank: usize) -> usize {
        if self.core == Part::None { rank } else { self.after }
    }

    /// For each column of H its rank; of entries that name none, or one that is there before, none.
    pub fn ranks(&self, rank: usize) -> Vec<Option<usize>> {
        let entries: Vec<i64> = match &self.ranks {
            Listed::All => (0..rank as i64).collect(),
            Listed::Host(list) => list.iter().map(|&entry| entry.into()).collect(),
            Listed::Device(list) => list.iter().map(|&entry| entry.into()).collect(),
        };
        let sound = |i: usize| (0..rank as i64).contains(&entries[i]) && !entries[..i].contains(&entries[i]);
        (0..entries.len()).map(|i| sound(i).then_some(entries[i] as usize)).collect()
    }

    /// The first entry that a call reports.
    pub fn first_bad_entry(&self, rank: usize) -> Option<usize> {
        self.ranks(rank).iter().position(Option::is_none)
    }
}

/// Its operands, in buffers.
pub struct MiddleCase<P> {
    spec: MiddleSpec,
    /// For each column of H.
    pub ranks: Vec<Option<usize>>,
    /// Columns of what is made of H.
    pub after: usize,
    list: Buffer<i32>,
    pub scale: Option<Buffer<P>>,
    pub gate: Option<Buffer<f32>>,
    pub core: Option<Buffer<P>>,
}

impl<P: Element + Cell> MiddleCase<P> {
    /// For an adapter of this rank; `place` for the gate and the core.
    pub fn new(
        spec: &MiddleSpec,
        numbers: Numbers,
        seed: u64,
        [batches, m, rank]: [usize; 3],
        place: [Placement; 2],
    ) -> Self {
        let mut random = Random(seed ^ 0x6d69_6464);
        let [of_gate, of_core] = place;
        let present = |part: Part| match part {
            Part::None => None,
            Part::Shared => Some(1),
            Part::Batched => Some(batches),
        };
        let scale = present(spec.scale).map(|batches| {
            let layout = Layout { offset: 1, extents: [batches, 1, rank], strides: [rank * 2 + 1, 0, 2] };
            Buffer::new(layout, |_| P::from_f64(numbers.scale(&mut random).into()))
        });
        let gate = present(spec.gate).map(|batches| {
            let chosen = |random: &mut Random| match (random.below(3), numbers) {
                (0, _) => 0.0,
                (_, Numbers::Integers) => random.choose(&[1.0, -1.0, 2.0]),
                (_, Numbers::Reals) => random.real() as f32,
            };
            Buffer::new(of_gate.layout([batches, m, rank]), |_| chosen(&mut random))
        });
        let core = present(spec.core).map(|batches| {
            let layout = of_core.layout([batches, spec.after, rank]);
            Buffer::new(layout, |[_, _, i]| numbers.factor(&mut random, 16 * rank, i + 1 == rank))
        });
        let entries = if let Listed::Device(entries) = &spec.ranks { &entries[..] } else { &[] };
        let ranks = spec.ranks(rank);
        let after = if spec.core == Part::None { ranks.len() } else { spec.after };
        Self { spec: spec.clone(), list: Buffer::list(entries), ranks, after, scale, gate, core }
    }

    /// What a target of a call is given; none for a target without.
    pub fn given<Q: Runner>(&self, queue: &Q) -> Option<Middle<'_, P, Q>> {
        if !self.spec.is_some() {
            return None;
        }
        let mut middle = match &self.spec.ranks {
            Listed::All => Middle::new(),
            Listed::Host(entries) => Middle::new().ranks(entries),
            Listed::Device(_) => Middle::new().ranks_on_device(list(queue, &self.list)),
        };
        if let Some(scale) = &self.scale {
            let Layout { offset, extents: [batches, _, rank], strides: [pitch, _, step] } = scale.layout;
            let layout = Layout { offset, extents: [batches, rank], strides: [pitch, step] };
            let view: Tensor<'_, P, Q, 2> = Tensor::with_layout(queue.source(scale), layout).expect("it fits");
            middle = middle.scale(view);
        }
        if let Some(gate) = &self.gate {
            middle = middle.gate(matrix(queue, gate));
        }
        if let Some(core) = &self.core {
            middle = middle.core(matrix(queue, core));
        }
        Some(middle)
    }

    pub fn check_untouched(&self) -> Result<(), String> {
        self.list.check_untouched("the list of ranks")?;
        self.scale.iter().try_for_each(|scale| scale.check_untouched("the scale"))?;
        self.gate.iter().try_for_each(|gate| gate.check_untouched("the gate"))?;
        self.core.iter().try_for_each(|core| core.check_untouched("the core"))
    }

    fn scale_of(&self, batch: usize, column: usize) -> f64 {
        let value = |rank| self.scale.as_ref().map(|scale| scale.get_shared([batch, 0, rank]).to_f64());
        self.ranks[column].and_then(value).unwrap_or(1.0)
    }

    fn gate_of(&self, batch: usize, row: usize, column: usize) -> f64 {
        let Some(rank) = self.ranks[column] else { return 0.0 };
        self.gate.as_ref().map_or(1.0, |gate| gate.get_shared([batch, row, rank]).into())
    }

    fn gated(&self, batch: usize, row: usize, column: usize, value: Terms) -> Terms {
        match self.gate_of(batch, row, column) {
            0.0 => Terms::default(),
            gate => times(value, gate),
        }
    }

    fn core_of(&self, batch: usize, after: usize, column: usize) -> f64 {
        self.core.as_ref().map_or(0.0, |core| core.get_shared([batch, after, column]).to_f64())
    }

    /// `g·λ·h` of a row.
    pub fn inner(&self, [batch, row]: [usize; 2], h: &[Terms]) -> Vec<Terms> {
        assert_eq!(h.len(), self.ranks.len());
        (0..h.len()).map(|i| self.gated(batch, row, i, times(h[i], self.scale_of(batch, i)))).collect()
    }

    /// `mid(H)` of a row.
    pub fn apply(&self, [batch, row]: [usize; 2], h: &[Terms]) -> Vec<Terms> {
        let inner = self.inner([batch, row], h);
        if self.core.is_none() {
            return inner;
        }
        (0..self.after).map(|i| sum((0..inner.len()).map(|j| times(inner[j], self.core_of(batch, i, j))))).collect()
    }

    /// `dH'·R` of a row.
    pub fn back(&self, batch: usize, after: &[Terms]) -> Vec<Terms> {
        if self.core.is_none() {
            return after.to_vec();
        }
        let element = |j| sum((0..after.len()).map(|i| times(after[i], self.core_of(batch, i, j))));
        (0..self.ranks.len()).map(element).collect()
    }

    /// `f·g·λ`, dH of a row.
    pub fn gradient_of_h(&self, [batch, row]: [usize; 2], f: &[Terms]) -> Vec<Terms> {
        self.inner([batch, row], f)
    }

    /// `f·g·h` of an element.
    pub fn gradient_of_scale(&self, [batch, row, column]: [usize; 3], f: Terms, h: Terms) -> Terms {
        product(f, self.gated(batch, row, column, h))
    }

    /// `f·λ·h` of an element.
    pub fn gradient_of_gate(&self, [batch, _, column]: [usize; 3], f: Terms, h: Terms) -> Terms {
        product(f, times(h, self.scale_of(batch, column)))
    }
}

pub fn times(terms: Terms, by: f64) -> Terms {
    Terms { value: terms.value * by, magnitude: terms.magnitude * by.abs() }
}

pub fn product(a: Terms, b: Terms) -> Terms {
    Terms { value: a.value * b.value, magnitude: a.magnitude * b.magnitude }
}

pub fn sum(terms: impl Iterator<Item = Terms>) -> Terms {
    let add =
        |sum: Terms, terms: Terms| Terms { value: sum.value + terms.value, magnitude: sum.magnitude + terms.magnitude };
    terms.fold(Terms::default(), add)
}
