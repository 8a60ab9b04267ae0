//! W as codes and scales, wherever a call reads it.

use super::BlockFormat;
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Error, Queue, Result, Vector, ffi};

/// W [n, k] as [`super::quantize`] made it, or bitsandbytes: codes, scales, and what they stand for. Of the n·k elements, one row after the other; blocks run on across rows.
pub struct Quantized<'a, Q> {
    codes: Vector<'a, u8, Q>,
    absmax: Vector<'a, f32, Q>,
    nested: Option<(Vector<'a, u8, Q>, Vector<'a, f32, Q>)>,
    format: BlockFormat<'a>,
}

impl<Q> Clone for Quantized<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Q> Copy for Quantized<'_, Q> {}

impl<'a, Q: Queue> Quantized<'a, Q> {
    /// With `codes` of [`BlockFormat::code_bytes`], and `absmax`, one a block.
    pub fn new(codes: Vector<'a, u8, Q>, absmax: Vector<'a, f32, Q>) -> Self {
        Self { codes, absmax, nested: None, format: BlockFormat::default() }
    }

    /// As it was when they were quantised.
    pub fn format(mut self, format: BlockFormat<'a>) -> Self {
        self.format = format;
        self
    }

    /// What [`super::Quantize::nested`] got: `codes` of absmax, one a block, and their `offset`; `absmax` is that of [`BlockFormat::absmax_blocks`].
    pub fn nested(mut self, codes: Vector<'a, u8, Q>, offset: Vector<'a, f32, Q>) -> Self {
        self.nested = Some((codes, offset));
        self
    }

    /// Of a matrix of this name and shape.
    pub(super) fn problem<'s>(
        &'s self,
        operation: &'static str,
        matrix: &'static str,
        shape: [usize; 2],
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<QuantizedProblem<'a>> {
        let nested = match &self.nested {
            None => None,
            Some((codes, offset)) => Some([codes.acquire(queue, guards)?, offset.acquire(queue, guards)?]),
        };
        let lists = [self.codes.acquire(queue, guards)?, self.absmax.acquire(queue, guards)?];
        QuantizedProblem::new(operation, matrix, shape, lists, nested, self.format)
    }
}

/// Checked lists that have addresses.
pub(crate) struct QuantizedProblem<'a> {
    pub codes: u64,
    pub absmax: u64,
    /// The codes of absmax, and the offset.
    pub nested: Option<[u64; 2]>,
    pub format: BlockFormat<'a>,
    pub elements: usize,
}

/// More than any memory, and than a grid's blocks can have.
const MOST_ELEMENTS: usize = 1 << 42;

impl<'a> QuantizedProblem<'a> {
    pub(super) fn new(
        operation: &'static str,
        matrix: &'static str,
        [n, k]: [usize; 2],
        [codes, absmax]: [Elements<1>; 2],
        nested: Option<[Elements<1>; 2]>,
        format: BlockFormat<'a>,
    ) -> Result<Self> {
        let check = Check(operation);
        let Some(elements) = n.checked_mul(k).filter(|&elements| elements <= MOST_ELEMENTS) else {
            let (expected, got) = ("at most 2^42 elements".into(), crate::layout::extents(&[n, k]));
            return Err(Error::Shape { operation, argument: matrix, expected, got });
        };
        format.check(operation, elements, nested.is_some())?;
        let list = |name, list: &Elements<1>, length| {
            check.extents(name, list.extents, [length])?;
            check.contiguous(name, list)?;
            check.alignment(name, list)
        };
        list("codes", &codes, format.code_bytes(elements))?;
        match &nested {
            None => list("absmax", &absmax, format.blocks(elements))?,
            Some([codes, offset]) => {
                list("absmax", &absmax, format.absmax_blocks(elements))?;
                list("absmax_codes", codes, format.blocks(elements))?;
                list("absmax_offset", offset, 1)?;
            }
        }
        let nested = nested.map(|nested| nested.map(|list| list.address));
        Ok(Self { codes: codes.address, absmax: absmax.address, nested, format, elements })
    }

    /// How many absmax there are.
    fn absmax_count(&self) -> usize {
        match self.nested {
            None => self.format.blocks(self.elements),
            Some(_) => self.format.absmax_blocks(self.elements),
        }
    }

    /// The lists, by the names that errors give them.
    pub(super) fn operands(&self, name: impl Fn(&str) -> String) -> Vec<Operand> {
        let list = |list, address, bytes| Operand::bytes(&name(list), address, bytes);
        let mut operands = vec![
            list("codes", self.codes, self.format.code_bytes(self.elements)),
            list("absmax", self.absmax, 4 * self.absmax_count()),
        ];
        if let Some([codes, offset]) = self.nested {
            operands.push(list("absmax_codes", codes, self.format.blocks(self.elements)));
            operands.push(list("absmax_offset", offset, 4));
        }
        operands
    }

    /// As the C side reads it.
    pub(super) fn descriptor(&self) -> ffi::pk_lora_quantized {
        let nested = self.nested.is_some();
        let [absmax_codes, absmax_offset] = self.nested.unwrap_or_default();
        ffi::pk_lora_quantized {
            codes: self.codes as *const u8,
            code_bytes: self.format.code_bytes(self.elements) as i64,
            absmax: self.absmax as *const f32,
            absmax_count: self.absmax_count() as i64,
            absmax_codes: absmax_codes as *const u8,
            absmax_code_count: if nested { self.format.blocks(self.elements) as i64 } else { 0 },
            absmax_offset: absmax_offset as *const f32,
            book: self.format.book.descriptor(),
            absmax_book: if nested { self.format.absmax_book.descriptor() } else { Default::default() },
            block: self.format.block as i32,
            absmax_block: if nested { self.format.absmax_block as i32 } else { 0 },
            short_block: self.format.short_block as i32,
            reserved: 0,
        }
    }
}
