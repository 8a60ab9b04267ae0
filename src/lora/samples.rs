//! Which rows are a sample's.

use std::ops::Range;

use crate::check::{Check, Operand};
use crate::storage::Guard;
use crate::{Error, Queue, Result, StatusRecord, Vector, ffi};

/// Samples as segments of x's rows, those of all batches one after the other: what [`super::sample_norms`] gives a norm each, and [`super::Backward::sample_weights`] a weight.
pub struct Samples<'a, Q>(Kind<'a, Q>);

enum Kind<'a, Q> {
    Equal(usize),
    Offsets(Vector<'a, i32, Q>),
}

impl<'a, Q: Queue> Samples<'a, Q> {
    /// As many samples, of equally many rows: for activations [batch, length, k] seen as rows, or as batches, the size of the batch.
    pub fn equal(count: usize) -> Self {
        Self(Kind::Equal(count))
    }

    /// Sample i has rows `offsets[i]..offsets[i + 1]`, none and more: packed sequences. One more offset than samples, ascending, among less than 2³¹ rows; rows before the first and after the last are no
    /// sample's. The contents are in the queue's memory and not checked before: [`super::sample_norms`] reports a sample that is not so.
    pub fn offsets(offsets: Vector<'a, i32, Q>) -> Self {
        Self(Kind::Offsets(offsets))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        match &self.0 {
            Kind::Equal(count) => *count,
            Kind::Offsets(offsets) => offsets.extents()[0].saturating_sub(1),
        }
    }

    pub(super) fn problem<'s>(
        &'s self,
        check: Check,
        rows: usize,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<SamplesProblem> {
        let wrong = |argument, expected: &str, got| {
            Err(Error::Argument { operation: check.0, argument, expected: expected.into(), got })
        };
        let count = self.count();
        let most = i32::MAX as usize;
        if count > most || (count == 0 && rows > 0) {
            return wrong(
                "the number of samples",
                "at least 1 where there are rows, and less than 2^31",
                count.to_string(),
            );
        }
        let offsets = match &self.0 {
            Kind::Equal(count) if *count > 0 && !rows.is_multiple_of(*count) => {
                let got = format!("{count} of {rows} rows");
                return wrong("the number of samples", "one that divides the rows, or offsets", got);
            }
            Kind::Equal(_) => None,
            Kind::Offsets(offsets) => {
                let offsets = offsets.acquire(queue, guards)?;
                if offsets.extents[0] == 0 {
                    return wrong("the number of sample offsets", "one more than samples", "0".into());
                }
                if rows > most {
                    return wrong("rows with sample offsets", "less than 2^31", rows.to_string());
                }
                check.contiguous("sample offsets", &offsets)?;
                check.alignment("sample offsets", &offsets)?;
                Some(offsets.address)
            }
        };
        Ok(SamplesProblem { count, rows, offsets })
    }
}

/// Checked samples of so many rows. The offsets have an address where there was a queue.
pub(crate) struct SamplesProblem {
    pub count: usize,
    pub rows: usize,
    offsets: Option<u64>,
}

impl SamplesProblem {
    pub(super) fn descriptor(&self) -> ffi::pk_samples {
        ffi::pk_samples { count: self.count as i64, offsets: self.offsets.unwrap_or(0) as *const i32 }
    }

    pub(super) fn operand(&self) -> Operand {
        let bytes = if self.offsets.is_some() { 4 * (self.count + 1) } else { 0 };
        Operand::bytes("the sample offsets", self.offsets.unwrap_or(0), bytes)
    }

    /// # Safety
    /// The offsets are in ordinary memory.
    unsafe fn offset(address: u64, index: usize) -> i64 {
        // SAFETY: the caller's.
        i64::from(unsafe { (address as *const i32).add(index).read() })
    }

    /// The rows of every sample; those whose offsets name rows that there are not, or not in their order, are added to the record.
    ///
    /// # Safety
    /// The offsets are in ordinary memory.
    pub unsafe fn ranges(&self, record: &mut StatusRecord) -> Vec<Range<usize>> {
        let each = self.rows / self.count.max(1);
        let range = |sample: usize| {
            let Some(address) = self.offsets else { return sample * each..(sample + 1) * each };
            // SAFETY: the caller's, and one more than samples.
            let (from, to) = unsafe { (Self::offset(address, sample), Self::offset(address, sample + 1)) };
            let begin = from.clamp(0, self.rows as i64);
            let end = to.max(begin).min(self.rows as i64);
            if (begin, end) != (from, to) {
                record.add(ffi::PK_FAILURE_SAMPLE, sample);
            }
            begin as usize..end as usize
        };
        (0..self.count).map(range).collect()
    }

    /// What every row counts, where its sample weighs so much.
    ///
    /// # Safety
    /// The offsets and the weights, one a sample, are in ordinary memory.
    pub unsafe fn row_weights(&self, weights: u64) -> Vec<f64> {
        let weight = |row: usize| {
            let sample = match self.offsets {
                None => row / (self.rows / self.count),
                Some(address) => {
                    let (mut low, mut high) = (0, self.count + 1);
                    while low < high {
                        let middle = (low + high) / 2;
                        // SAFETY: the caller's, and one more than samples.
                        if unsafe { Self::offset(address, middle) } <= row as i64 {
                            low = middle + 1;
                        } else {
                            high = middle;
                        }
                    }
                    if low == 0 || low > self.count {
                        return 0.0;
                    }
                    low - 1
                }
            };
            // SAFETY: the caller's, and the sample is one of them.
            f64::from(unsafe { (weights as *const f32).add(sample).read() })
        };
        (0..self.rows).map(weight).collect()
    }
}
