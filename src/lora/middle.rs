//! What lies between A and B.

use super::forward::input;
use crate::check::{Check, LARGEST, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, StatusRecord, Tensor, Vector, ffi};

/// Which ranks of an adapter take part.
enum Ranks<'a, Q> {
    All,
    Host(&'a [u32]),
    Device(Vector<'a, i32, Q>),
}

impl<Q> Clone for Ranks<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Q> Copy for Ranks<'_, Q> {}

/// What lies between A and B of an adapter: `mid(H) = R·(γ ⊙ (λ ⊙ H))` in place of `H = x̃·Aᵀ`, of listed ranks alone. Any of the four, in this order:
///
/// | part | shape | methods |
/// |---|---|---|
/// | the ranks that take part | a list on the host or in the queue's memory | Maestro, CoDyRA's pruned ranks |
/// | λ, a scale for each rank | `[rank]`, or [batches, rank] | AdaLoRA's E, CoDyRA's w, LoLDU's diagonal |
/// | γ, a gate for each token and rank | [m, rank] in f32 | mixtures of rank-1 experts: 0 where an expert is not chosen |
/// | R, a core | [r_b, r_a], with A [r_a, k] and B [n, r_b] | LoRA-XS, LoRA-SB, Fed-SB |
///
/// **Ranks that do not take part.** With a list, those rows of A and columns of B are not read, and of their gradients, and of those of λ and γ, nothing is written: not a zero either. λ and γ have an entry for
/// every rank of A, listed or not; a saved H has a column for each entry of the list. Where a gate is 0, what is made of H is 0 whatever H and λ hold, NaN too; B is multiplied by that 0, so that a B that is no number still
/// spreads. A λ of 0 times NaN is NaN.
///
/// **A prefix** of the ranks needs no list, nor does one rank alone: give [`Tensor::narrow`] views of A and B, whose rows stay as far apart as they are (DyLoRA).
///
/// λ and R are of the adapter's type. A middle without a gate can be merged: [`super::Merge::adapter_with_middle`].
pub struct Middle<'a, P, Q> {
    ranks: Ranks<'a, Q>,
    scale: Option<Tensor<'a, P, Q, 2>>,
    gate: Option<Tensor<'a, f32, Q, 3>>,
    core: Option<Tensor<'a, P, Q, 3>>,
}

impl<P, Q> Clone for Middle<'_, P, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, Q> Copy for Middle<'_, P, Q> {}

impl<P: Element, Q: Queue> Default for Middle<'_, P, Q> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a, P: Element, Q: Queue> Middle<'a, P, Q> {
    /// None: `mid(H) = H`.
    pub const fn new() -> Self {
        Self { ranks: Ranks::All, scale: None, gate: None, core: None }
    }

    /// `λ ⊙ H`, with λ `[rank]`, or [batches, rank] for one of each batch.
    pub fn scale(mut self, scale: impl Into<Tensor<'a, P, Q, 2>>) -> Self {
        self.scale = Some(scale.into());
        self
    }

    /// `γ ⊙ H`, with γ [m, rank] in f32.
    pub fn gate(mut self, gate: impl Into<Tensor<'a, f32, Q, 3>>) -> Self {
        self.gate = Some(gate.into());
        self
    }

    /// `R·H` of every row, with R [r_b, r_a]: A is then [r_a, k], B is [n, r_b]. Not with a list of ranks.
    pub fn core(mut self, core: impl Into<Tensor<'a, P, Q, 3>>) -> Self {
        self.core = Some(core.into());
        self
    }

    /// These ranks of the adapter alone, in any order, each at most once: a list on the host, which the call copies.
    pub fn ranks(mut self, ranks: &'a [u32]) -> Self {
        self.ranks = Ranks::Host(ranks);
        self
    }

    /// The same list in the queue's memory, where it may change between calls. An entry that the adapter does not have, or that the list has before, counts as a rank of zeros (which an infinite x makes NaN on GPUs) and is
    /// reported: [`crate::Error::Data`] on host queues, the status of the call on a stream.
    pub fn ranks_on_device(mut self, ranks: Vector<'a, i32, Q>) -> Self {
        self.ranks = Ranks::Device(ranks);
        self
    }

    /// For an adapter of `rank` and `after`, the extents of A and of B, and m rows.
    pub(crate) fn problem<'s>(
        &'s self,
        check: Check,
        [batches, m]: [usize; 2],
        [rank, after]: [usize; 2],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<MiddleProblem> {
        let ranks = match &self.ranks {
            Ranks::All => RankChoice::All,
            Ranks::Host(list) => RankChoice::Host(checked(check, list, rank)?),
            Ranks::Device(list) => {
                let elements = list.acquire(queue, guards)?;
                check.contiguous("the list of ranks", &elements)?;
                check.alignment("the list of ranks", &elements)?;
                check.rank(elements.extents[0])?;
                RankChoice::Device { address: elements.address, count: elements.extents[0] }
            }
        };
        if self.core.is_some() && !matches!(ranks, RankChoice::All) {
            return Err(Error::Argument {
                operation: check.0,
                argument: "a middle",
                expected: "at most one of them".into(),
                got: "both a list of ranks and a core".into(),
            });
        }
        let scale = match &self.scale {
            None => None,
            Some(scale) => {
                let elements = super::forward::as_rows(scale.acquire(queue, guards)?);
                Some(input(check, batches, "the scale of ranks", elements, [1, rank])?)
            }
        };
        let gate = match &self.gate {
            None => None,
            Some(gate) => Some(input(check, batches, "the gate", gate.acquire(queue, guards)?, [m, rank])?),
        };
        let core = match &self.core {
            None => None,
            Some(core) => Some(input(check, batches, "the core", core.acquire(queue, guards)?, [after, rank])?),
        };
        Ok(MiddleProblem { ranks, scale, gate, core })
    }

    /// Whether tokens differ in it.
    pub(crate) fn has_gate(&self) -> bool {
        self.gate.is_some()
    }

    /// Whether B has as many ranks as A.
    pub(crate) fn keeps_rank(&self) -> bool {
        self.core.is_none()
    }
}

/// A list on the host that names ranks which there are, each once.
fn checked(check: Check, list: &[u32], rank: usize) -> Result<Vec<i32>> {
    let wrong = |argument, expected, got| Err(Error::Argument { operation: check.0, argument, expected, got });
    let mut seen = std::collections::HashSet::new();
    for (i, &entry) in list.iter().enumerate() {
        if entry as usize >= rank {
            let expected = format!("below {rank}, the adapter's rank");
            return wrong("an entry of the list of ranks", expected, format!("{entry}, at {i}"));
        }
        if !seen.insert(entry) {
            return wrong("the list of ranks", "each rank once".into(), format!("one with {entry} twice"));
        }
    }
    // Below a rank that the kernels can count to.
    Ok(list.iter().map(|&entry| entry as i32).collect())
}

/// A middle whose operands have addresses.
pub(crate) struct MiddleProblem {
    pub ranks: RankChoice,
    /// [batches, 1, rank]
    pub scale: Option<Elements<3>>,
    /// [batches, m, rank] of f32
    pub gate: Option<Elements<3>>,
    /// [batches, after, rank]
    pub core: Option<Elements<3>>,
}

pub(crate) enum RankChoice {
    All,
    Host(Vec<i32>),
    Device { address: u64, count: usize },
}

impl MiddleProblem {
    /// Columns of H of an adapter whose A has so many rows.
    pub fn columns(&self, rank: usize) -> usize {
        match &self.ranks {
            RankChoice::All => rank,
            RankChoice::Host(list) => list.len(),
            RankChoice::Device { count, .. } => *count,
        }
    }

    /// Itself, if the copies of listed ranks, of A and B for each batch, have a size that can be counted, whatever strides of 0 make of extents.
    pub fn counted(self, check: Check, batches: usize, extent: usize) -> Result<Self> {
        let (count, elements) = (self.columns(0), extent.saturating_mul(batches.max(1))); // without a list none
        if count.saturating_mul(elements) <= LARGEST {
            return Ok(self);
        }
        Err(Error::Argument {
            operation: check.0,
            argument: "the number of listed ranks times their elements of all batches",
            expected: "at most 2^48".into(),
            got: format!("{count} times {elements}"),
        })
    }

    /// For each column of H its rank, if all do not take part in their order. What a list in the queue's memory cannot name is none, and added to the record.
    ///
    /// # Safety
    /// The list is in ordinary memory.
    pub unsafe fn ranks(&self, rank: usize, record: &mut StatusRecord) -> Option<Vec<Option<usize>>> {
        let list = match &self.ranks {
            RankChoice::All => return None,
            RankChoice::Host(list) => list.clone(),
            RankChoice::Device { address, count } => {
                // SAFETY: the caller's.
                (0..*count).map(|i| unsafe { (*address as *const i32).add(i).read() }).collect()
            }
        };
        let mut seen = std::collections::HashSet::new();
        let of_entry = |(i, entry): (usize, &i32)| {
            let sound = usize::try_from(*entry).ok().filter(|&entry| entry < rank && seen.insert(entry));
            if sound.is_none() {
                record.add(ffi::PK_FAILURE_RANK, i);
            }
            sound
        };
        Some(list.iter().enumerate().map(of_entry).collect())
    }

    /// What it reads, by the names that errors give them.
    pub fn operands(&self, name: impl Fn(&str) -> String) -> Vec<Operand> {
        let parts = [("the scale of ranks", self.scale), ("the gate", self.gate), ("the core", self.core)];
        let parts = parts.into_iter().filter_map(|(part, elements)| Some(Operand::new(name(part), elements?)));
        let list = match self.ranks {
            RankChoice::Device { address, count } => {
                Some(Operand::bytes(&name("the list of ranks"), address, 4 * count))
            }
            _ => None,
        };
        parts.chain(list).collect()
    }

    /// For the C side; a list on the host is read while this problem lives.
    pub fn descriptor(&self, adapter_element_type: ElementType) -> ffi::pk_lora_middle {
        let mut middle = ffi::pk_lora_middle::default();
        match &self.ranks {
            RankChoice::All => {}
            RankChoice::Host(list) => {
                middle.has |= ffi::PK_LORA_MIDDLE_HOST_RANKS as u32;
                (middle.ranks, middle.rank_count) = (list.as_ptr(), list.len() as i64);
            }
            RankChoice::Device { address, count } => {
                middle.has |= ffi::PK_LORA_MIDDLE_RANKS as u32;
                (middle.ranks, middle.rank_count) = (*address as *const i32, *count as i64);
            }
        }
        let parts = [
            (&self.scale, ffi::PK_LORA_MIDDLE_SCALE, adapter_element_type, &mut middle.scale),
            (&self.gate, ffi::PK_LORA_MIDDLE_GATE, ElementType::F32, &mut middle.gate),
            (&self.core, ffi::PK_LORA_MIDDLE_CORE, adapter_element_type, &mut middle.core),
        ];
        for (elements, bit, element_type, matrix) in parts {
            if let Some(elements) = elements {
                middle.has |= bit as u32;
                *matrix = elements.matrix(element_type);
            }
        }
        middle
    }
}
