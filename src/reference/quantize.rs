//! The reference of block-wise quantisation. In f32: which code a number gets, and what a code comes back as, is defined in f32's arithmetic.

use super::product::{View, for_each};
use crate::Element;
use crate::lora::{CodeBook, QuantizeProblem, QuantizedProblem};

/// Numbers that are added up side by side, before halves of the sums are added.
const LANES: usize = 256;
/// Absmax that are added up on their own.
const CHUNK: usize = 8192;

/// The sum of a list in the order of the kernels.
fn sum(numbers: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    for (i, number) in numbers.iter().enumerate() {
        sums[i % LANES] += number;
    }
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
        half /= 2;
    }
    sums[0]
}

fn mean(absmax: &[f32]) -> f32 {
    let chunks = absmax.chunks(CHUNK).map(|chunk| sum(&chunk.iter().copied().map(f64::from).collect::<Vec<_>>()));
    (sum(&chunks.collect::<Vec<_>>()) / absmax.len() as f64) as f32
}

/// The absmax of a block, and its codes through `write(byte, codes)`; a byte that it does not fill has the codes of zeroes.
fn block(numbers: &[f32], book: &CodeBook, mut write: impl FnMut(usize, u8)) -> f32 {
    // Magnitudes are in the order of their bits, NaNs beyond all.
    let largest = numbers.iter().map(|number| number.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let absmax = f32::from_bits(if largest > f32::INFINITY.to_bits() { 0x7fff_ffff } else { largest });
    let inverse = 1.0 / if absmax < 1e-38 { 1e-38 } else { absmax };
    let code =
        |number: f32| u64::from(book.code(if number.is_infinite() { 1f32.copysign(number) } else { number * inverse }));
    let bits = book.bits() as usize;
    // Eight codes are whole bytes.
    for (i, eight) in numbers.chunks(8).enumerate() {
        let zeros = std::iter::repeat_n(0.0, 8 - eight.len());
        let codes = eight.iter().copied().chain(zeros).fold(0, |codes, number| codes << bits | code(number));
        for byte in 0..(eight.len() * bits).div_ceil(8) {
            write(i * bits + byte, (codes >> (8 * (bits - 1 - byte))) as u8);
        }
    }
    absmax
}

/// What [`crate::lora::quantize`] does on [`crate::Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its outputs are disjoint from everything else.
pub(crate) unsafe fn quantize<T: Element>(problem: &QuantizeProblem) {
    let (columns, source) = (problem.matrix.extents[2], View::<T>::new(&problem.matrix));
    let problem = &problem.lists;
    let (elements, format) = (problem.elements, &problem.format);
    let blocks = format.blocks(elements);
    let bytes = format.block * format.book.bits() as usize / 8;
    let mut scales = Vec::new();
    let absmax = match problem.nested {
        None => problem.absmax as *mut f32,
        Some(_) => {
            scales.resize(blocks, 0.0);
            scales.as_mut_ptr()
        }
    } as u64;
    for_each(
        blocks,
        elements.saturating_mul(8),
        || Vec::with_capacity(format.block),
        |numbers, index| {
            numbers.clear();
            let begin = index * format.block;
            // SAFETY: an index within the extents; each block's codes and absmax are written by one thread.
            unsafe {
                numbers.extend(
                    (begin..elements.min(begin + format.block))
                        .map(|i| source.value([0, i / columns, i % columns]) as f32),
                );
                let codes = (problem.codes as *mut u8).add(index * bytes);
                let scale = block(numbers, format.book, |byte, code| codes.add(byte).write(code));
                (absmax as *mut f32).add(index).write(scale);
            }
        },
    );
    let Some([codes, offset]) = problem.nested else { return };
    if blocks == 0 {
        return;
    }
    let mean = mean(&scales);
    scales.iter_mut().for_each(|scale| *scale -= mean);
    // SAFETY: the caller's.
    unsafe { (offset as *mut f32).write(mean) };
    for (index, part) in scales.chunks(format.absmax_block).enumerate() {
        // SAFETY: as many codes as blocks, and as many scales as blocks of them.
        unsafe {
            let codes = (codes as *mut u8).add(index * format.absmax_block);
            let scale = block(part, format.absmax_book, |byte, code| codes.add(byte).write(code));
            (problem.absmax as *mut f32).add(index).write(scale);
        }
    }
}

/// The scale of a block, as it comes back.
///
/// # Safety
/// The lists are in ordinary memory, and there is such a block.
unsafe fn scale(lists: &QuantizedProblem, block: usize) -> f32 {
    let absmax = lists.absmax as *const f32;
    // SAFETY: the caller's.
    unsafe {
        match lists.nested {
            None => absmax.add(block).read(),
            Some([codes, offset]) => {
                let code = (codes as *const u8).add(block).read();
                let of_code = lists.format.absmax_book.values()[code as usize];
                let product = of_code * absmax.add(block / lists.format.absmax_block).read();
                product + (offset as *const f32).read()
            }
        }
    }
}

/// What the code of an element stands for.
///
/// # Safety
/// The lists are in ordinary memory, and there is such an element.
unsafe fn value(lists: &QuantizedProblem, element: usize) -> f32 {
    let bits = lists.format.book.bits() as usize;
    // The bits of a code are in one byte or in two.
    let (byte, bit) = (element * bits / 8, element * bits % 8);
    let codes = lists.codes as *const u8;
    // SAFETY: the caller's.
    let both = unsafe {
        let next = if bit + bits > 8 { codes.add(byte + 1).read() } else { 0 };
        u32::from(codes.add(byte).read()) << 8 | u32::from(next)
    };
    lists.format.book.values()[(both >> (16 - bit - bits)) as usize & ((1 << bits) - 1)]
}

/// An element of a quantised W as [`dequantize`] makes it, of type T.
///
/// # Safety
/// The lists are in ordinary memory, and there is such an element.
pub(crate) unsafe fn weight<T: Element>(lists: &QuantizedProblem, element: usize) -> f64 {
    // SAFETY: the caller's.
    let weight = unsafe { value(lists, element) * scale(lists, element / lists.format.block) };
    T::from_f64(f64::from(weight)).to_f64()
}

/// What [`crate::lora::dequantize`] does on [`crate::Cpu`].
///
/// # Safety
/// The problem's operands are in ordinary memory, and its output is disjoint from everything else.
pub(crate) unsafe fn dequantize<T: Element>(problem: &QuantizeProblem) {
    let (columns, destination) = (problem.matrix.extents[2], View::<T>::new(&problem.matrix));
    let lists = &problem.lists;
    let (elements, block) = (lists.elements, lists.format.block);
    for_each(
        lists.format.blocks(elements),
        elements.saturating_mul(4),
        || (),
        |(), index| {
            // SAFETY: indices within the extents and lists; each block is written by one thread.
            unsafe {
                let scale = scale(lists, index);
                for i in index * block..elements.min((index + 1) * block) {
                    destination.set([0, i / columns, i % columns], T::from_f64(f64::from(value(lists, i) * scale)));
                }
            }
        },
    );
}
