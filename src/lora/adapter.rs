//! Adapters: one by its factors, or many in a table that the kernels read.

use crate::check::Check;
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, Mat, Queue, Result, Vector, ffi};

/// One adapter, `ΔW = scale·B·A`.
pub struct Adapter<'a, P, Q> {
    pub(crate) a: Mat<'a, P, Q>,
    pub(crate) b: Mat<'a, P, Q>,
    pub(crate) scale: f32,
}

impl<P, Q> Clone for Adapter<'_, P, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<P, Q> Copy for Adapter<'_, P, Q> {}

impl<'a, P: Element, Q: Queue> Adapter<'a, P, Q> {
    /// `a` is [rank, k], `b` is [n, rank]; `scale` is α/rank, or α/√rank for rsLoRA.
    pub const fn new(a: Mat<'a, P, Q>, b: Mat<'a, P, Q>, scale: f32) -> Self {
        Self { a, b, scale }
    }
}

/// An adapter whose operands have addresses.
#[derive(Clone, Copy)]
pub(crate) struct AdapterProblem {
    pub a: Elements<3>,
    pub b: Elements<3>,
    pub scale: f32,
}

impl AdapterProblem {
    pub fn rank(&self) -> usize {
        self.a.extents[1]
    }

    /// As an entry of a table, or of a list on the host.
    pub fn entry(&self) -> ffi::pk_lora_adapter {
        ffi::pk_lora_adapter {
            a: self.a.address as *const _,
            b: self.b.address as *const _,
            a_row_stride: self.a.strides[1] as i64,
            a_column_stride: self.a.strides[2] as i64,
            b_row_stride: self.b.strides[1] as i64,
            b_column_stride: self.b.strides[2] as i64,
            rank: self.rank() as i32,
            scale: self.scale,
        }
    }
}

impl<P: Element, Q: Queue> Adapter<'_, P, Q> {
    /// Checks the factors against each other and against `[n, k]`, where given.
    pub(crate) fn problem<'s>(
        &'s self,
        check: Check,
        shape: Option<[usize; 2]>,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<AdapterProblem> {
        self.problem_around(check, shape, true, queue, guards)
    }

    /// Around what lies between the factors, which may leave B other ranks than A has.
    pub(crate) fn problem_around<'s>(
        &'s self,
        check: Check,
        shape: Option<[usize; 2]>,
        keeps_rank: bool,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<AdapterProblem> {
        let [rank, k] = self.a.extents();
        let [n, columns] = self.b.extents();
        let [expected_n, expected_k] = shape.unwrap_or([n, k]);
        let after = if keeps_rank { rank } else { columns };
        check.extents("a", [rank, k], [rank, expected_k])?;
        check.extents("b", [n, columns], [expected_n, after])?;
        check.rank(rank)?;
        check.rank(after)?;
        let a = self.a.acquire(queue, guards)?;
        let b = self.b.acquire(queue, guards)?;
        for (name, elements) in [("a", &a), ("b", &b)] {
            check.stride(name, elements)?;
            check.alignment(name, elements)?;
            check.size(name, elements)?;
        }
        Ok(AdapterProblem { a: a.into(), b: b.into(), scale: self.scale })
    }
}

/// An adapter as the kernels read it, in a table in the queue's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct AdapterEntry(pub(crate) ffi::pk_lora_adapter);

// SAFETY: addresses and numbers.
unsafe impl Send for AdapterEntry {}
// SAFETY: addresses and numbers.
unsafe impl Sync for AdapterEntry {}

/// A run of rows that share an adapter. In a list each begins where the one before ends, or later; empty ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Segment(pub(crate) ffi::pk_lora_segment);

impl Segment {
    /// Rows `rows.start..rows.end` use adapter `adapter` of the table; `None` is the base alone.
    pub const fn new(rows: std::ops::Range<usize>, adapter: Option<u32>) -> Self {
        // What does not fit is beyond every table and every row as well.
        const fn row(row: usize) -> i64 {
            if row as u64 > i64::MAX as u64 { i64::MAX } else { row as i64 }
        }
        let adapter = match adapter {
            Some(index) if index > i32::MAX as u32 => i32::MAX,
            Some(index) => index as i32,
            None => -1,
        };
        Self(ffi::pk_lora_segment { row_begin: row(rows.start), row_end: row(rows.end), adapter, reserved: 0 })
    }
}

/// Adapters of one layer, each with its own rank and scale, for rows to choose from.
///
/// The kernels read the table from the queue's memory: on a stream, copy [`AdapterTable::entries`] there once and name the copy with
/// [`Target::table_on_device`](super::Target::table_on_device); host queues read the entries where they are. What the factors hold may change between calls, so that a captured graph
/// can be replayed with other adapters.
pub struct AdapterTable<'a, P, Q> {
    entries: Vec<AdapterEntry>,
    adapters: Vec<AdapterProblem>,
    shape: [usize; 2],
    max_rank: usize,
    _guards: Vec<Guard<'a>>,
    _factors: std::marker::PhantomData<(Mat<'a, P, Q>, *const ())>,
}

impl<'a, P: Element, Q: Queue> AdapterTable<'a, P, Q> {
    /// A table of these adapters: every A is [rank, k], every B [n, rank], with the same k and n.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] or [`crate::Error::Stride`] for a factor that does not fit.
    pub fn new(queue: &'a Q, adapters: &'a [Adapter<'a, P, Q>]) -> Result<Self> {
        let check = Check("lora::AdapterTable::new");
        let mut guards = Vec::new();
        let shape = adapters.first().map_or([0, 0], |first| [first.b.extents()[0], first.a.extents()[1]]);
        let adapters = adapters
            .iter()
            .map(|adapter| adapter.problem(check, Some(shape), Some(queue), &mut guards))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            entries: adapters.iter().map(|adapter| AdapterEntry(adapter.entry())).collect(),
            max_rank: adapters.iter().map(AdapterProblem::rank).max().unwrap_or(0),
            adapters,
            shape,
            _guards: guards,
            _factors: std::marker::PhantomData,
        })
    }
}

/// A table as the kernels and the reference take it.
pub(crate) struct TableProblem {
    /// Of the entries in the queue's memory.
    pub address: u64,
    /// As the host knows them.
    pub adapters: Vec<AdapterProblem>,
    pub max_rank: usize,
}

impl<P: Element, Q: Queue> AdapterTable<'_, P, Q> {
    /// Checks it against `[n, k]`, and the copy of its entries in the queue's memory.
    pub(crate) fn problem<'s>(
        &self,
        check: Check,
        shape: [usize; 2],
        device: &'s Vector<'_, AdapterEntry, Q>,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<TableProblem> {
        if !self.entries.is_empty() {
            check.extents("table", self.shape, shape)?;
        }
        let address = check.copy("table on the device", device, self.entries.len(), queue, guards)?;
        Ok(TableProblem { address, adapters: self.adapters.clone(), max_rank: self.max_rank })
    }
}

impl<P, Q> AdapterTable<'_, P, Q> {
    /// What the kernels read; on a stream, to be copied to the device.
    pub fn entries(&self) -> &[AdapterEntry] {
        &self.entries
    }

    /// The largest rank of the table.
    pub fn max_rank(&self) -> usize {
        self.max_rank
    }
}
