//! Which adapter of its tables a row uses.

use super::Segment;
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::{Error, Queue, Result, Vector};

/// Which adapter of its tables a row uses.
pub(crate) enum Rows<'a, Q> {
    Same,
    Index(Vector<'a, i32, Q>),
    Segments(Vector<'a, Segment, Q>),
}

/// The same, with addresses.
pub(crate) enum RowChoice {
    Same,
    Index { address: u64, rows: usize },
    Segments { address: u64, count: usize },
}

/// What adapters a target has.
#[derive(Clone, Copy)]
pub(crate) enum Chosen {
    None,
    One,
    Table,
}

impl<Q: Queue> Rows<'_, Q> {
    /// Of so many rows of all batches.
    pub fn problem<'s>(
        &'s self,
        check: Check,
        rows: usize,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<RowChoice> {
        Ok(match self {
            Rows::Same => RowChoice::Same,
            Rows::Index(index) => {
                check.extents("row_adapter", index.extents(), [rows])?;
                let elements = index.acquire(queue, guards)?;
                check.contiguous("row_adapter", &elements)?;
                check.alignment("row_adapter", &elements)?;
                RowChoice::Index { address: elements.address, rows }
            }
            Rows::Segments(segments) => {
                let elements = segments.acquire(queue, guards)?;
                check.contiguous("segments", &elements)?;
                check.alignment("segments", &elements)?;
                RowChoice::Segments { address: elements.address, count: elements.extents[0] }
            }
        })
    }

    /// A table and a choice from it go together, in every target.
    pub fn check_choice(&self, check: Check, mut targets: impl Iterator<Item = Chosen>) -> Result<()> {
        let chosen = !matches!(self, Rows::Same);
        let wrong = targets.position(|target| match target {
            Chosen::None => false,
            Chosen::One => chosen,
            Chosen::Table => !chosen,
        });
        let Some(index) = wrong else { return Ok(()) };
        Err(Error::Argument {
            operation: check.0,
            argument: "the choice of adapters",
            expected: match chosen {
                true => format!("a table in target {index}, which has one adapter"),
                false => format!("row_adapter or segments, for the table of target {index}"),
            },
            got: if chosen { "row_adapter or segments" } else { "none" }.into(),
        })
    }
}

impl RowChoice {
    /// What a call reads of it.
    pub fn operand(&self) -> Option<Operand> {
        match *self {
            RowChoice::Same => None,
            RowChoice::Index { address, rows } => Some(Operand::bytes("row_adapter", address, rows * 4)),
            RowChoice::Segments { address, count } => {
                Some(Operand::bytes("segments", address, count * size_of::<Segment>()))
            }
        }
    }
}

/// A pointer that says "given" to the C side, even where there is no element and so no address.
pub(crate) fn present<T>(address: u64) -> *const T {
    if address == 0 { std::ptr::without_provenance(align_of::<T>()) } else { address as *const T }
}
