//! What every operation checks on the host before anything is launched.

use crate::layout::extents;
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, ElementType, Error, Queue, Result, Vector};

/// Rows, columns and elements beyond it are mistakes, and would overflow offsets.
pub(crate) const LARGEST: usize = 1 << 48;

/// The checks of one call, whose errors name the operation.
#[derive(Clone, Copy)]
pub(crate) struct Check(pub &'static str);

impl Check {
    /// The extents that the formula asks for.
    pub fn extents<const N: usize>(self, argument: &'static str, got: [usize; N], expected: [usize; N]) -> Result<()> {
        if got == expected {
            return Ok(());
        }
        Err(Error::Shape { operation: self.0, argument, expected: extents(&expected), got: extents(&got) })
    }

    /// A matrix [batch, rows, columns] of the extents that the formula asks for; an input may be shared by all batches (1 instead of `batches`).
    pub fn batched(self, argument: &'static str, got: [usize; 3], batches: usize, matrix: [usize; 2]) -> Result<()> {
        let [rows, columns] = matrix;
        if got[0] == 1 {
            // Said without the batch where there is none.
            return if batches <= 1 || got[1..] != matrix {
                self.extents(argument, [got[1], got[2]], matrix)
            } else {
                Ok(())
            };
        }
        self.extents(argument, got, [batches, rows, columns])
    }

    /// One of the strides of each matrix is 1, or belongs to an axis of at most one element.
    pub fn stride<const N: usize>(self, argument: &'static str, elements: &Elements<N>) -> Result<()> {
        let (rows, columns) = (elements.extents[N - 2], elements.extents[N - 1]);
        let (row_stride, column_stride) = (elements.strides[N - 2], elements.strides[N - 1]);
        if row_stride == 1 || column_stride == 1 || rows <= 1 || columns <= 1 {
            return Ok(());
        }
        Err(Error::Stride { operation: self.0, argument, row_stride, column_stride })
    }

    /// A list without gaps.
    pub fn contiguous(self, argument: &'static str, list: &Elements<1>) -> Result<()> {
        let column_stride = list.strides[0];
        if column_stride == 1 || list.extents[0] <= 1 {
            return Ok(());
        }
        Err(Error::Stride { operation: self.0, argument, row_stride: 0, column_stride })
    }

    /// The address of a list of so many in the queue's memory, of what the host knows as well.
    pub fn copy<'s, T: Copy + 'static, Q: Queue>(
        self,
        argument: &'static str,
        list: &'s Vector<'_, T, Q>,
        length: usize,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<u64> {
        self.extents(argument, list.extents(), [length])?;
        let elements = list.acquire(queue, guards)?;
        self.contiguous(argument, &elements)?;
        self.alignment(argument, &elements)?;
        Ok(elements.address)
    }

    /// A rank that the kernels can count to.
    pub fn rank(self, rank: usize) -> Result<()> {
        if i32::try_from(rank).is_ok() {
            return Ok(());
        }
        let (expected, got) = (format!("at most {}", i32::MAX), rank.to_string());
        Err(Error::Argument { operation: self.0, argument: "rank", expected, got })
    }

    /// At most 2^48 rows and columns, rows of all batches together.
    pub fn size<const N: usize>(self, argument: &'static str, elements: &Elements<N>) -> Result<()> {
        let (rows, columns) = (&elements.extents[..N - 1], elements.extents[N - 1]);
        let rows = rows.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if columns <= LARGEST && rows.is_some_and(|rows| rows <= LARGEST) {
            return Ok(());
        }
        let (expected, got) = ("at most 2^48 rows and columns".into(), extents(&elements.extents));
        Err(Error::Shape { operation: self.0, argument, expected, got })
    }

    /// The address is one of the element type's.
    pub fn alignment<const N: usize>(self, argument: &'static str, elements: &Elements<N>) -> Result<()> {
        let (address, alignment) = (elements.address, elements.alignment as u64);
        if elements.extents.contains(&0) || address.is_multiple_of(alignment) {
            return Ok(());
        }
        Err(Error::Alignment { operation: self.0, argument, address, alignment })
    }

    /// f32, f16 or bf16.
    pub fn element_type<T: Element>(self, argument: &'static str) -> Result<()> {
        match T::TYPE {
            ElementType::F64 => self.wrong_element_type::<T>(argument, "f32, f16 or bf16".into()),
            _ => Ok(()),
        }
    }

    /// The same of an argument, with adapters of its type or f32.
    pub fn element_types<T: Element, P: Element>(self, argument: &'static str) -> Result<()> {
        self.element_type::<T>(argument)?;
        if P::TYPE != T::TYPE && P::TYPE != ElementType::F32 {
            let expected = if T::TYPE == ElementType::F32 { "f32".into() } else { format!("{} or f32", T::TYPE) };
            return self.wrong_element_type::<P>("adapter", expected);
        }
        Ok(())
    }

    fn wrong_element_type<T: Element>(self, argument: &'static str, expected: String) -> Result<()> {
        Err(Error::ElementType { operation: self.0, argument, expected, got: T::TYPE })
    }

    /// An output and another operand share no element.
    pub fn disjoint(self, output: &Operand, other: &Operand) -> Result<()> {
        match shared_address(&output.elements, &other.elements) {
            None => Ok(()),
            Some(address) => Err(Error::Overlap {
                operation: self.0,
                output: output.name.clone(),
                other: other.name.clone(),
                address,
            }),
        }
    }

    /// Each output shares no element with another output or with an input.
    pub fn all_disjoint(self, outputs: &[Operand], inputs: &[Operand]) -> Result<()> {
        if !spans_meet(outputs, inputs) {
            return Ok(());
        }
        for (i, output) in outputs.iter().enumerate() {
            for other in outputs[i + 1..].iter().chain(inputs) {
                self.disjoint(output, other)?;
            }
        }
        Ok(())
    }
}

/// An operand by the name that errors give it.
pub(crate) struct Operand {
    pub name: String,
    pub elements: Elements<3>,
}

impl Operand {
    pub fn new(name: impl Into<String>, elements: Elements<3>) -> Self {
        Self { name: name.into(), elements }
    }

    /// `bytes` bytes without structure.
    pub fn bytes(name: &str, address: u64, bytes: usize) -> Self {
        let elements = Elements { address, extents: [1, 1, bytes], strides: [0, 0, 1], element_size: 1, alignment: 1 };
        Self { name: name.into(), elements }
    }
}

/// Runs of bytes at equal distances: `count` of `length` bytes each, `pitch` apart.
#[derive(Clone, Copy)]
struct Runs {
    first: i128,
    count: i128,
    pitch: i128,
    length: i128,
}

impl Runs {
    fn end(&self) -> i128 {
        self.first + (self.count - 1) * self.pitch + self.length
    }

    /// The first byte that run i of this and run j of the other share, if they do.
    fn meet(&self, i: i128, other: &Runs, j: i128) -> Option<i128> {
        let (a, b) = (self.first + i * self.pitch, other.first + j * other.pitch);
        (a < b + other.length && b < a + self.length).then(|| a.max(b))
    }

    fn shared(&self, other: &Runs) -> Option<i128> {
        if self.first >= other.end() || other.first >= self.end() {
            return None;
        }
        if self.count > other.count {
            return other.shared(self);
        }
        if self.pitch == other.pitch && self.pitch > 0 {
            // Runs i and j depend on i - j alone: the smallest difference that reaches into the other's run.
            let distance = self.first - other.first;
            let difference = ((-self.length - distance).div_euclid(self.pitch) + 1).max(1 - other.count);
            let (i, j) = if difference > 0 { (difference, 0) } else { (0, -difference) };
            return if i < self.count { self.meet(i, other, j) } else { None };
        }
        (0..self.count).find_map(|i| {
            let begin = self.first + i * self.pitch;
            let j = match other.pitch {
                0 => 0,
                pitch => ((begin - other.length - other.first).div_euclid(pitch) + 1).max(0),
            };
            if j < other.count { self.meet(i, other, j) } else { None }
        })
    }
}

/// The runs of one batch.
fn runs_of(elements: &Elements<3>, batch: i128) -> Runs {
    let [_, rows, columns] = elements.extents.map(|extent| extent as i128);
    let size = elements.element_size as i128;
    let [batch_stride, row_stride, column_stride] = elements.strides.map(|stride| stride as i128 * size);
    let first = elements.address as i128 + batch * batch_stride;
    // The axis whose elements lie side by side makes the runs; one of a single element always can.
    let (count, pitch, along) = if columns == 1 || column_stride == size {
        (rows, row_stride, columns)
    } else if rows == 1 || row_stride == size {
        (columns, column_stride, rows)
    } else {
        // No operation takes such a matrix: everything from its first to its last element.
        (1, 0, (rows - 1) * (row_stride / size) + (columns - 1) * (column_stride / size) + 1)
    };
    let length = along * size;
    match pitch {
        0 => Runs { first, count: 1, pitch, length },
        pitch if pitch == length => Runs { first, count: 1, pitch: 0, length: count * length },
        _ => Runs { first, count, pitch, length },
    }
}

/// The bytes from the first element of the first batch to the last of the last.
fn span_of(elements: &Elements<3>, batches: i128) -> Runs {
    let first = runs_of(elements, 0);
    Runs { count: 1, pitch: 0, length: runs_of(elements, batches - 1).end() - first.first, ..first }
}

/// Whether an output's bytes, from its first to its last, reach among another operand's. Tables have many operands: a sweep is quicker than all pairs.
fn spans_meet(outputs: &[Operand], inputs: &[Operand]) -> bool {
    let span = |operand: &Operand, written: bool| {
        let elements = &operand.elements;
        if elements.extents.contains(&0) {
            return None;
        }
        let batches = if elements.strides[0] == 0 { 1 } else { elements.extents[0] as i128 };
        let span = span_of(elements, batches);
        Some((span.first, span.end(), written))
    };
    let outputs = outputs.iter().filter_map(|output| span(output, true));
    let mut spans: Vec<_> = outputs.chain(inputs.iter().filter_map(|input| span(input, false))).collect();
    spans.sort_unstable();
    let (mut end_of_all, mut end_of_outputs) = (i128::MIN, i128::MIN);
    spans.into_iter().any(|(first, end, written)| {
        let meets = first < if written { end_of_all } else { end_of_outputs };
        end_of_all = end_of_all.max(end);
        if written {
            end_of_outputs = end_of_outputs.max(end);
        }
        meets
    })
}

/// The address of an element that both have, if there is one. Decides on elements: matrices that interleave without meeting are disjoint.
fn shared_address(a: &Elements<3>, b: &Elements<3>) -> Option<u64> {
    if a.extents.contains(&0) || b.extents.contains(&0) {
        return None;
    }
    let batches = |of: &Elements<3>| if of.strides[0] == 0 { 1 } else { of.extents[0] as i128 };
    let (batches_of_a, batches_of_b) = (batches(a), batches(b));
    span_of(a, batches_of_a).shared(&span_of(b, batches_of_b))?;
    let shared = |i, j| runs_of(a, i).shared(&runs_of(b, j)).map(|address| address as u64);
    if a.strides[0] * a.element_size == b.strides[0] * b.element_size {
        // Batches that are equally far apart: the difference of their numbers alone decides.
        return (1 - batches_of_b..batches_of_a).find_map(|difference| shared(difference.max(0), (-difference).max(0)));
    }
    (0..batches_of_a).find_map(|i| (0..batches_of_b).find_map(|j| shared(i, j)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn bytes(elements: &Elements<3>) -> HashSet<u64> {
        let mut set = HashSet::new();
        for batch in 0..elements.extents[0] {
            for row in 0..elements.extents[1] {
                for column in 0..elements.extents[2] {
                    let index = batch * elements.strides[0] + row * elements.strides[1] + column * elements.strides[2];
                    let first = elements.address + (index * elements.element_size) as u64;
                    set.extend(first..first + elements.element_size as u64);
                }
            }
        }
        set
    }

    /// Against the sets of bytes themselves, over many small matrices of both orders.
    #[test]
    fn shared_elements_are_those_of_the_sets() {
        let mut state = 1u64;
        let mut next = |limit: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % limit
        };
        let (mut shared, mut disjoint) = (0, 0);
        for _ in 0..20_000 {
            let mut matrix = || {
                let [batches, rows, columns] = [next(3), next(5), next(5)].map(|extent| extent as usize);
                let element_size = [1, 2, 4][next(3) as usize];
                let (short, long) = (1, next(9) as usize);
                let (row_stride, column_stride) = if next(2) == 0 { (long, short) } else { (short, long) };
                let strides = [[0, 20, next(40) as usize][next(3) as usize], row_stride, column_stride];
                let extents = [batches, rows, columns];
                Elements { address: 1000 + next(80), extents, strides, element_size, alignment: 1 }
            };
            let (a, b) = (matrix(), matrix());
            let expected = !bytes(&a).is_disjoint(&bytes(&b));
            match shared_address(&a, &b) {
                Some(address) => {
                    assert!(bytes(&a).contains(&address) && bytes(&b).contains(&address), "{a:?} {b:?} {address}");
                    shared += 1;
                }
                None => disjoint += 1,
            }
            assert_eq!(shared_address(&a, &b).is_some(), expected, "{a:?} {b:?}");
        }
        assert!(shared > 1_000 && disjoint > 2_000, "{shared} shared, {disjoint} disjoint");
    }

    #[test]
    fn interleaved_columns_of_one_buffer_are_disjoint() {
        let columns = |first: u64, count| Elements {
            address: first * 2,
            extents: [1, 1_000_000, count],
            strides: [0, 4096, 1],
            element_size: 2,
            alignment: 2,
        };
        assert_eq!(shared_address(&columns(0, 1024), &columns(1024, 3072)), None);
        assert_eq!(shared_address(&columns(0, 1025), &columns(1024, 3072)), Some(2048));
        assert_eq!(shared_address(&columns(1, 1024), &columns(1024, 3072)), Some(2048));
    }
}
