//! Scratch memory that an operation is given, and the record of what depends on data.

use crate::check::Check;
use crate::storage::{Guard, Write};
use crate::{Error, Place, Queue, Result, TensorMut, VectorMut, ffi};

/// The alignment that kernels ask of scratch memory.
pub(crate) const ALIGNMENT: usize = ffi::PK_WORKSPACE_ALIGNMENT as usize;

/// Scratch memory for one call at a time on one queue; what it holds on entry does not matter.
///
/// Ask the operation's `*_workspace` how many bytes its descriptor needs. The storage may start anywhere: the figure includes what alignment to 256 bytes can cost.
pub struct Workspace<'a, Q> {
    memory: Option<VectorMut<'a, u8, Q>>,
}

impl<'a, Q: Queue> Workspace<'a, Q> {
    /// Nothing, for calls that need nothing.
    pub const fn none() -> Self {
        Self { memory: None }
    }

    /// All of `storage`.
    pub fn new(storage: impl Write<'a, Q, Element = u8>) -> Self {
        Self { memory: Some(VectorMut::whole(storage)) }
    }

    /// The address of `needed` aligned bytes (`needed` includes [`ALIGNMENT`] − 1 bytes to spare), or 0 for none.
    pub(crate) fn acquire<'s>(
        &'s self,
        operation: &'static str,
        needed: usize,
        queue: &'s Q,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<u64> {
        if needed == 0 {
            return Ok(0);
        }
        let got = self.memory.as_ref().map_or(0, |memory| memory.extents()[0]);
        match &self.memory {
            Some(memory) if got >= needed => {
                Ok(memory.acquire(Some(queue), guards)?.address.next_multiple_of(ALIGNMENT as u64))
            }
            _ => Err(Error::Workspace { operation, needed, got }),
        }
    }
}

/// What depends on data, in the queue's memory: [`Status::read`] makes it an error. Zeroes mean that nothing failed; calls add to it, the first failure stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct StatusRecord(pub(crate) ffi::pk_status_record);

/// A [`StatusRecord`] in the queue's memory, for an operation to report to.
pub struct Status<'a, Q> {
    record: TensorMut<'a, StatusRecord, Q, 1>,
}

impl<'a, Q: Queue> Status<'a, Q> {
    /// The first record of `storage`, which must be zeroed before its first use.
    ///
    /// # Errors
    /// [`Error::Bounds`] if there is none.
    pub fn new(storage: impl Write<'a, Q, Element = StatusRecord>) -> Result<Self> {
        Ok(Self { record: TensorMut::contiguous(storage, [1])? })
    }

    /// Waits for the queue and returns the failure that the record holds, if any. The only call of this crate that synchronises.
    ///
    /// # Errors
    /// [`Error::Data`] for a failure; [`Error::Cuda`] if the queue is broken.
    pub fn read(&self, queue: &Q) -> Result<()> {
        let mut guards = Vec::new();
        let address = self.acquire("Status::read", queue, &mut guards)?;
        let record = match queue.place() {
            // SAFETY: the storage of a host queue is ordinary memory, and its operations are complete.
            Place::Cpu | Place::Emulator { .. } => unsafe { *(address as *const StatusRecord) },
            place => ffi::status_read(place, address)?,
        };
        record.into_result("Status::read")
    }

    pub(crate) fn acquire<'s>(
        &'s self,
        operation: &'static str,
        queue: &'s Q,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<u64> {
        let elements = self.record.acquire(Some(queue), guards)?;
        Check(operation).alignment("the status", &elements)?;
        Ok(elements.address)
    }
}

impl StatusRecord {
    /// Keeps the failure with the smallest index.
    pub(crate) fn add(&mut self, code: i32, index: usize) {
        self.0.failure = self.0.failure.max(!(index as u64) << 8 | code as u64);
    }

    pub(crate) fn merge(&mut self, other: &StatusRecord) {
        self.0.failure = self.0.failure.max(other.0.failure);
    }

    /// On a host queue: what a call found in the data, into the caller's record, if there is one, and as the call's error.
    pub(crate) fn returned(self, operation: &'static str, record: u64) -> Result<()> {
        if record != 0 {
            // SAFETY: the storage of a host queue is ordinary memory, and the view holds a record.
            unsafe { (*(record as *mut StatusRecord)).merge(&self) };
        }
        self.into_result(operation)
    }

    pub(crate) fn into_result(self, operation: &'static str) -> Result<()> {
        const INDEX: u64 = ffi::PK_FAILURE_ADAPTER_INDEX as u64;
        const RANK: u64 = ffi::PK_FAILURE_ADAPTER_RANK as u64;
        const ZERO_NORM: u64 = ffi::PK_FAILURE_ZERO_NORM as u64;
        const SAMPLE: u64 = ffi::PK_FAILURE_SAMPLE as u64;
        const LISTED_RANK: u64 = ffi::PK_FAILURE_RANK as u64;
        const ZERO_MAGNITUDE: u64 = ffi::PK_FAILURE_ZERO_MAGNITUDE as u64;
        const ZERO_ROW_SCALE: u64 = ffi::PK_FAILURE_ZERO_ROW_SCALE as u64;
        let index = !self.0.failure >> 8;
        let (argument, problem) = match self.0.failure & 0xff {
            0 => return Ok(()),
            INDEX => ("row_adapter", "no adapter of the table"),
            RANK => ("adapter of row", "of a rank outside 0..=max_rank"),
            ZERO_NORM => ("row", "of norm 0"),
            SAMPLE => ("sample", "of rows that are not in order, or not there"),
            LISTED_RANK => ("the list of ranks", "no rank of the adapter, or one that the list has before"),
            ZERO_MAGNITUDE => ("row", "of magnitude 0"),
            ZERO_ROW_SCALE => ("row", "of scale 0, from under which nothing comes back"),
            _ => ("status", "a failure that this version does not know"),
        };
        Err(Error::Data { operation, argument, index, problem })
    }
}
