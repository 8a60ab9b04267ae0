//! Weights as codes of a few bits, in blocks that share a scale, and back.

use super::{CodeBook, Quantized, QuantizedProblem};
use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::workspace::ALIGNMENT;
use crate::{
    Element, ElementType, Error, Kernel, Mat, MatMut, Place, Queue, Result, Vector, VectorMut, Workspace, ffi,
    reference,
};

/// Code book, size of the blocks, and what becomes of the last one. The default is bitsandbytes' NF4.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BlockFormat<'a> {
    /// What the codes stand for. [`CodeBook::nf4`].
    pub book: &'a CodeBook,
    /// Elements that share a scale, a power of two from 16 to 4096. 64.
    pub block: usize,
    /// Nested: what the codes of absmax stand for, of 8 bits. [`CodeBook::dynamic`].
    pub absmax_book: &'a CodeBook,
    /// Nested: blocks that share a scale of absmax. 256.
    pub absmax_block: usize,
    /// Whether the last block may be shorter, as it may in bitsandbytes. No: a block that does not divide the elements is an error.
    pub short_block: bool,
}

impl Default for BlockFormat<'_> {
    fn default() -> Self {
        let (book, absmax_book) = (CodeBook::nf4(), CodeBook::dynamic());
        Self { book, block: 64, absmax_book, absmax_block: 256, short_block: false }
    }
}

impl<'a> BlockFormat<'a> {
    /// With another code book.
    pub fn book(mut self, book: &'a CodeBook) -> Self {
        self.book = book;
        self
    }

    /// With other blocks.
    pub fn block(mut self, block: usize) -> Self {
        self.block = block;
        self
    }

    /// Nested, with another code book for absmax, and other blocks of them.
    pub fn absmax(mut self, book: &'a CodeBook, block: usize) -> Self {
        (self.absmax_book, self.absmax_block) = (book, block);
        self
    }

    /// Lets the last block be shorter.
    pub fn short_block(mut self) -> Self {
        self.short_block = true;
        self
    }

    /// Bytes of the codes of so many elements.
    pub fn code_bytes(&self, elements: usize) -> usize {
        // Whole bytes of eight elements first, which cannot overflow.
        let bits = self.book.bits() as usize;
        elements / 8 * bits + (elements % 8 * bits).div_ceil(8)
    }

    /// Blocks of so many elements: the absmax that they have, or nested the codes of absmax.
    pub fn blocks(&self, elements: usize) -> usize {
        elements.div_ceil(self.block.max(1))
    }

    /// Nested: the scales of absmax.
    pub fn absmax_blocks(&self, elements: usize) -> usize {
        self.blocks(elements).div_ceil(self.absmax_block.max(1))
    }

    pub(super) fn check(&self, operation: &'static str, elements: usize, nested: bool) -> Result<()> {
        let wrong =
            |argument, expected: String, got: String| Err(Error::Argument { operation, argument, expected, got });
        for (argument, block) in [("block", self.block), ("absmax_block", self.absmax_block)] {
            if (argument == "block" || nested) && (!block.is_power_of_two() || !(16..=4096).contains(&block)) {
                return wrong(argument, "a power of two from 16 to 4096".into(), block.to_string());
            }
        }
        if nested && self.absmax_book.bits() != 8 {
            return wrong("absmax_book", "codes of 8 bits".into(), format!("of {} bits", self.absmax_book.bits()));
        }
        if !self.short_block && !elements.is_multiple_of(self.block) {
            let expected = format!("one that divides {elements} elements, or short_block");
            return wrong("block", expected, self.block.to_string());
        }
        Ok(())
    }
}

/// The descriptor of a [`quantize`] call.
pub struct Quantize<'a, T, Q> {
    source: Mat<'a, T, Q>,
    codes: VectorMut<'a, u8, Q>,
    absmax: VectorMut<'a, f32, Q>,
    nested: Option<NestedMut<'a, Q>>,
    format: BlockFormat<'a>,
    algorithm: i32,
}

type NestedMut<'a, Q> = (VectorMut<'a, u8, Q>, VectorMut<'a, f32, Q>);

impl<'a, T: Element, Q: Queue> Quantize<'a, T, Q> {
    /// The weights `source` [n, k] to `codes`, of [`BlockFormat::code_bytes`], and `absmax`, one a block.
    pub fn new(source: Mat<'a, T, Q>, codes: VectorMut<'a, u8, Q>, absmax: VectorMut<'a, f32, Q>) -> Self {
        Self { source, codes, absmax, nested: None, format: BlockFormat::default(), algorithm: 0 }
    }

    /// Another code book or size of the blocks.
    pub fn format(mut self, format: BlockFormat<'a>) -> Self {
        self.format = format;
        self
    }

    /// Quantises absmax as well, less its mean: `codes` gets one a block, `offset` the mean, and `absmax` becomes that of [`BlockFormat::absmax_blocks`].
    pub fn nested(mut self, codes: VectorMut<'a, u8, Q>, offset: VectorMut<'a, f32, Q>) -> Self {
        self.nested = Some((codes, offset));
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`quantize_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<QuantizeProblem<'a>> {
        let nested = match &self.nested {
            None => None,
            Some((codes, offset)) => Some([codes.acquire(queue, guards)?, offset.acquire(queue, guards)?]),
        };
        let source = self.source.acquire(queue, guards)?;
        let lists = [self.codes.acquire(queue, guards)?, self.absmax.acquire(queue, guards)?];
        QuantizeProblem::new::<T>(operation, ("source", source), self.algorithm, |shape| {
            QuantizedProblem::new(operation, "source", shape, lists, nested, self.format)
        })
    }
}

/// The descriptor of a [`dequantize`] call.
pub struct Dequantize<'a, T, Q> {
    weights: Quantized<'a, Q>,
    destination: MatMut<'a, T, Q>,
    algorithm: i32,
}

impl<'a, T: Element, Q: Queue> Dequantize<'a, T, Q> {
    /// From what [`quantize`] made to the weights `destination` [n, k].
    pub fn new(codes: Vector<'a, u8, Q>, absmax: Vector<'a, f32, Q>, destination: MatMut<'a, T, Q>) -> Self {
        Self { weights: Quantized::new(codes, absmax), destination, algorithm: 0 }
    }

    /// As it was when they were quantised.
    pub fn format(mut self, format: BlockFormat<'a>) -> Self {
        self.weights = self.weights.format(format);
        self
    }

    /// What [`Quantize::nested`] got.
    pub fn nested(mut self, codes: Vector<'a, u8, Q>, offset: Vector<'a, f32, Q>) -> Self {
        self.weights = self.weights.nested(codes, offset);
        self
    }

    /// A certain kernel instead of the automatic choice: [`Kernel::algorithm`] of [`dequantize_kernel`].
    pub fn algorithm(mut self, algorithm: i32) -> Self {
        self.algorithm = algorithm;
        self
    }

    pub(crate) fn problem<'s>(
        &'s self,
        operation: &'static str,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<QuantizeProblem<'a>> {
        let destination = ("destination", self.destination.acquire(queue, guards)?);
        QuantizeProblem::new::<T>(operation, destination, self.algorithm, |shape| {
            self.weights.problem(operation, "destination", shape, queue, guards)
        })
    }
}

/// A checked call of either direction whose operands have addresses.
pub(crate) struct QuantizeProblem<'a> {
    pub matrix: Elements<3>,
    pub lists: QuantizedProblem<'a>,
    element_type: ElementType,
    algorithm: i32,
    matrix_name: &'static str,
}

impl<'a> QuantizeProblem<'a> {
    /// `lists` for the shape of the matrix, which is checked first.
    fn new<T: Element>(
        operation: &'static str,
        (matrix_name, matrix): (&'static str, Elements<2>),
        algorithm: i32,
        lists: impl FnOnce([usize; 2]) -> Result<QuantizedProblem<'a>>,
    ) -> Result<Self> {
        let check = Check(operation);
        check.element_type::<T>(matrix_name)?;
        check.stride(matrix_name, &matrix)?;
        check.alignment(matrix_name, &matrix)?;
        check.size(matrix_name, &matrix)?;
        let lists = lists(matrix.extents)?;
        Ok(Self { matrix: matrix.into(), lists, element_type: T::TYPE, algorithm, matrix_name })
    }

    fn check_disjoint(&self, operation: &'static str, quantizes: bool, workspace: (u64, usize)) -> Result<()> {
        let matrix = Operand::new(self.matrix_name, self.matrix);
        let mut lists = self.lists.operands(str::to_owned);
        if self.lists.nested.is_some() {
            lists.push(Operand::bytes("workspace", workspace.0, workspace.1));
        }
        match quantizes {
            true => Check(operation).all_disjoint(&lists, &[matrix]),
            false => Check(operation).all_disjoint(&[matrix], &lists),
        }
    }

    fn with_descriptor<R>(
        &self,
        workspace: (u64, usize),
        call: impl FnOnce(&ffi::pk_lora_quantize_descriptor) -> R,
    ) -> R {
        let lists = self.lists.descriptor();
        call(&ffi::pk_lora_quantize_descriptor {
            size: size_of::<ffi::pk_lora_quantize_descriptor>() as u64,
            algorithm: self.algorithm,
            matrix: self.matrix.matrix(self.element_type),
            codes: lists.codes.cast_mut(),
            code_bytes: lists.code_bytes,
            absmax: lists.absmax.cast_mut(),
            absmax_count: lists.absmax_count,
            absmax_codes: lists.absmax_codes.cast_mut(),
            absmax_code_count: lists.absmax_code_count,
            absmax_offset: lists.absmax_offset.cast_mut(),
            book: lists.book,
            absmax_book: lists.absmax_book,
            block: lists.block,
            absmax_block: lists.absmax_block,
            short_block: lists.short_block,
            workspace: workspace.0 as *mut _,
            workspace_bytes: workspace.1 as u64,
            ..Default::default()
        })
    }

    fn workspace(&self, operation: &'static str) -> Result<usize> {
        let mut bytes = 0u64;
        self.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_quantize_workspace(descriptor, &mut bytes))
        })?;
        Ok(bytes as usize)
    }

    fn check_algorithm(&self, operation: &'static str) -> Result<()> {
        if self.algorithm == 0 {
            return Ok(());
        }
        let message = format!("algorithm {} does not exist on the CPU queue, expected 0", self.algorithm);
        Err(Error::Algorithm { operation, message })
    }
}

/// `codeᵢ = the code of the value nearest to xᵢ / absmax`, `absmax = max |x|` of each block of [`BlockFormat::block`] elements of W [n, k], one row after the other: blocks cross the ends of rows.
///
/// **Shapes.** W [n, k] with any strides of which one is 1. Codes are a stream of bits, the first element in the highest of the first byte, `⌈n·k·bits/8⌉` bytes; with 4 bits that is
/// bitsandbytes' layout. Bits left over at its end are those of zeroes. Nested, absmax less its mean is quantised in blocks of [`BlockFormat::absmax_block`] to codes of 8 bits.
///
/// **Numbers.** Which code it is, is decided in f32, in the order that bitsandbytes has: `xᵢ·(1/absmax)`, and half-way the lower value. (absmax below 1e-38 counts as that: a block of zeroes
/// has absmax 0 and zero's codes.) An infinity is its block's absmax and gets the code of ±1, what is finite beside it that of 0, which comes back as NaN where the book has an exact 0, as
/// all that have names, and otherwise as an infinity. With a NaN absmax is NaN, and so is all that comes back. The mean of absmax is summed in f64, in one order everywhere. The same bits
/// on every run and on every queue.
///
/// **Cost.** One read of W, one write of codes and absmax. Nested: absmax goes through a workspace of 4 bytes a block and 1/1024 of a byte more, see [`quantize_workspace`]; four launches instead of one. Can be captured in a graph.
///
/// T. Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, NeurIPS 2023.
///
/// # Errors
/// [`Error::Argument`] (a block that is no power of two, or does not divide n·k elements unless [`BlockFormat::short_block`] lets it), [`Error::Shape`] (the length of a list),
/// [`Error::Stride`], [`Error::ElementType`], [`Error::Overlap`], [`Error::Alignment`], [`Error::Workspace`], [`Error::NoDevice`], [`Error::NotBuilt`], [`Error::Algorithm`]: nothing was
/// launched, nothing written.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Vector, VectorMut, Workspace, lora};
/// let weights: Vec<f32> = (0..128).map(|i| (i as f32).sin()).collect(); // [2, 64]
/// let (mut codes, mut absmax) = ([0u8; 64], [0.0f32; 2]);
/// let call = lora::Quantize::new(Mat::new(&weights, 2, 64)?, VectorMut::whole(&mut codes), VectorMut::whole(&mut absmax));
/// lora::quantize(&Cpu, call, Workspace::none())?;
///
/// let mut back = vec![0.0f32; 128];
/// lora::dequantize(&Cpu, lora::Dequantize::new(Vector::whole(&codes), Vector::whole(&absmax), MatMut::new(&mut back, 2, 64)?))?;
/// assert_eq!(codes[0] >> 4, 7); // sin 0, in the first byte's upper half
/// assert!(weights.iter().zip(&back).all(|(x, y)| (x - y).abs() <= 0.16)); // NF4's widest gap is 0.304
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn quantize<T: Element, Q: Queue>(queue: &Q, call: Quantize<'_, T, Q>, workspace: Workspace<'_, Q>) -> Result<()> {
    let operation = "lora::quantize";
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(operation, Some(queue), &mut guards)?;
    if place == Place::Cpu {
        problem.check_disjoint(operation, true, (0, 0))?;
        problem.check_algorithm(operation)?;
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the outputs are disjoint from all other operands.
        unsafe { reference::quantize::quantize::<T>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    let with_slack = if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 };
    let address = workspace.acquire(operation, with_slack, queue, &mut guards)?;
    problem.check_disjoint(operation, true, (address, bytes))?;
    problem.with_descriptor((address, bytes), |quantize| ffi::call!(operation, pk_lora_quantize(&descriptor, quantize)))
}

/// Bytes that [`quantize`] needs as its workspace for this descriptor; alignment is included. 0 on [`crate::Cpu`], and unless it is nested.
///
/// # Errors
/// As [`quantize`], as far as they depend on shapes and types.
pub fn quantize_workspace<T: Element, Q: Queue>(queue: &Q, call: &Quantize<'_, T, Q>) -> Result<usize> {
    let operation = "lora::quantize_workspace";
    let problem = call.problem(operation, None, &mut Vec::new())?;
    if queue.place() == Place::Cpu {
        return Ok(0);
    }
    queue.place().descriptor(operation)?;
    let bytes = problem.workspace(operation)?;
    Ok(if bytes == 0 { 0 } else { bytes + ALIGNMENT - 1 })
}

/// `xᵢ = value(codeᵢ)·absmax`: what [`quantize`] made, or bitsandbytes. Nested, `absmax = value(absmax_code)·absmax_of_absmax + offset`.
///
/// **Shapes.** As [`quantize`].
///
/// **Numbers.** Products and sums are f32, in the order of the formula, each rounded, and then rounded to W's type: the same bits on every run, on every queue, and in bitsandbytes.
///
/// **Cost.** One read of the codes and of absmax, one write of W. No workspace; can be captured in a graph.
///
/// # Errors
/// As [`quantize`], but for the workspace.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, MatMut, Vector, lora};
/// let (codes, absmax) = ([0x0fu8, 0x7f, 0x77, 0x77, 0x77, 0x77, 0x77, 0x77], [2.0f32]); // of 16 weights
/// let mut weights = [0.0f32; 16];
/// let call = lora::Dequantize::new(Vector::whole(&codes), Vector::whole(&absmax), MatMut::new(&mut weights, 2, 8)?);
/// lora::dequantize(&Cpu, call.format(lora::BlockFormat::default().block(16)))?;
/// assert_eq!(weights[..4], [-2.0, 2.0, 0.0, 2.0]); // codes 0, 15, 7, 15
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub fn dequantize<T: Element, Q: Queue>(queue: &Q, call: Dequantize<'_, T, Q>) -> Result<()> {
    let operation = "lora::dequantize";
    let place = queue.place();
    let mut guards = Vec::new();
    let problem = call.problem(operation, Some(queue), &mut guards)?;
    problem.check_disjoint(operation, false, (0, 0))?;
    if place == Place::Cpu {
        problem.check_algorithm(operation)?;
        // SAFETY: the storage of the CPU queue is ordinary memory, the views' bounds were proven, and the output is disjoint from all other operands.
        unsafe { reference::quantize::dequantize::<T>(&problem) };
        return Ok(());
    }
    let descriptor = place.descriptor(operation)?;
    problem.with_descriptor((0, 0), |dequantize| ffi::call!(operation, pk_lora_dequantize(&descriptor, dequantize)))
}

fn kernel<Q: Queue>(operation: &'static str, queue: &Q, problem: &QuantizeProblem, dequantizes: i32) -> Result<Kernel> {
    if queue.place() == Place::Cpu {
        return Ok(Kernel::reference());
    }
    ffi::pick(operation, queue.place(), |chip, choice| {
        problem.with_descriptor((0, 0), |descriptor| {
            ffi::call!(operation, pk_lora_quantize_pick(chip, descriptor, dequantizes, choice))
        })
    })
}

/// The kernel that [`quantize`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`quantize`], as far as they depend on shapes and types.
pub fn quantize_kernel<T: Element, Q: Queue>(queue: &Q, call: &Quantize<'_, T, Q>) -> Result<Kernel> {
    let operation = "lora::quantize_kernel";
    kernel(operation, queue, &call.problem(operation, None, &mut Vec::new())?, 0)
}

/// The kernel that [`dequantize`] runs for this descriptor on this queue's chip.
///
/// # Errors
/// As [`dequantize`], as far as they depend on shapes and types.
pub fn dequantize_kernel<T: Element, Q: Queue>(queue: &Q, call: &Dequantize<'_, T, Q>) -> Result<Kernel> {
    let operation = "lora::dequantize_kernel";
    kernel(operation, queue, &call.problem(operation, None, &mut Vec::new())?, 1)
}
