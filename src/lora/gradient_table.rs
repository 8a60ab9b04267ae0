//! Where the gradients of a table's adapters go.

use super::GradientProblem;
use crate::check::Check;
use crate::storage::Guard;
use crate::tensor::Elements;
use crate::{Element, MatMut, Queue, Result, Vector, ffi};

/// Where the gradients of one adapter of a table go: of A, of B, of both or of neither.
pub struct AdapterGradient<'a, P, Q> {
    a: Option<MatMut<'a, P, Q>>,
    b: Option<MatMut<'a, P, Q>>,
}

impl<'a, P: Element, Q: Queue> AdapterGradient<'a, P, Q> {
    /// Neither.
    pub const fn none() -> Self {
        Self { a: None, b: None }
    }

    /// Asks for that of A, [rank, k].
    pub fn a(mut self, gradient: MatMut<'a, P, Q>) -> Self {
        self.a = Some(gradient);
        self
    }

    /// Asks for that of B, [n, rank].
    pub fn b(mut self, gradient: MatMut<'a, P, Q>) -> Self {
        self.b = Some(gradient);
        self
    }
}

/// Where the gradients of an adapter go as the kernels read it, in a table in the queue's memory.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
pub struct AdapterGradientEntry(pub(crate) ffi::pk_lora_adapter_gradient);

// SAFETY: addresses and numbers.
unsafe impl Send for AdapterGradientEntry {}
// SAFETY: addresses and numbers.
unsafe impl Sync for AdapterGradientEntry {}

/// Where the gradients of the adapters of an [`AdapterTable`](super::AdapterTable) go, in its order, for [`BackwardTarget::table_gradients`](super::BackwardTarget::table_gradients). They are written, whatever
/// the buffers hold, unless they are to be added.
///
/// The kernels read it from the queue's memory: on a stream, copy [`GradientTable::entries`] there once, and name the copy with
/// [`BackwardTarget::table_gradients_on_device`](super::BackwardTarget::table_gradients_on_device) of each call.
///
/// # Example
/// ```
/// use peft_kernels::{Cpu, Mat, MatMut, Vector, Workspace, lora};
/// let (x, dy) = ([1.0f32, 2.0, 3.0], [1.0f32, 1.0, -1.0]); // [3, 1] each
/// let (a, b) = ([1.0f32, 10.0], [2.0f32, 3.0]); // of two adapters [1, 1]
/// let adapters = [0, 1].map(|i| lora::Adapter::new(Mat::new(&a[i..], 1, 1).unwrap(), Mat::new(&b[i..], 1, 1).unwrap(), 1.0));
/// let table = lora::AdapterTable::new(&Cpu, &adapters)?;
/// let (mut da, mut db) = ([7.0f32; 2], [7.0f32; 1]);
/// {
///     let (first, second) = da.split_at_mut(1);
///     let mut gradients = [
///         lora::AdapterGradient::none().a(MatMut::new(first, 1, 1)?),
///         lora::AdapterGradient::none().a(MatMut::new(second, 1, 1)?).b(MatMut::new(&mut db, 1, 1)?),
///     ];
///     let target = lora::BackwardTarget::new(Mat::new(&dy, 3, 1)?)
///         .table(&table)
///         .table_gradients(lora::GradientTable::new(&Cpu, &mut gradients)?);
///     let call = lora::Backward::new(Mat::new(&x, 3, 1)?).target(target).row_adapter(Vector::whole(&[0, -1, 1]));
///     lora::backward(&Cpu, call, Workspace::none())?;
/// }
/// assert_eq!(da, [2.0, -9.0]); // dY · B · x of row 0, and of row 2
/// assert_eq!(db, [-30.0]); // dY · x · A of row 2
/// # Ok::<(), peft_kernels::Error>(())
/// ```
pub struct GradientTable<'a, P, Q> {
    entries: Vec<AdapterGradientEntry>,
    gradients: Vec<[Option<Elements<3>>; 2]>,
    accumulate: [bool; 2],
    _guards: Vec<Guard<'a>>,
    _views: std::marker::PhantomData<(MatMut<'a, P, Q>, *const ())>,
}

impl<'a, P: Element, Q: Queue> GradientTable<'a, P, Q> {
    /// One for each adapter of a table.
    ///
    /// # Errors
    /// [`crate::Error::Stride`], [`crate::Error::Alignment`] or [`crate::Error::Shape`] for a view that no gradient can have.
    pub fn new<'g: 'a>(queue: &'a Q, gradients: &'a mut [AdapterGradient<'g, P, Q>]) -> Result<Self> {
        let check = Check("lora::GradientTable::new");
        let gradients: &'a [AdapterGradient<'g, P, Q>] = gradients;
        let mut guards = Vec::new();
        let mut elements = |name, view: &'a Option<MatMut<'g, P, Q>>| {
            let Some(view) = view else { return Ok(None) };
            let elements = view.acquire(Some(queue), &mut guards)?;
            check.stride(name, &elements)?;
            check.alignment(name, &elements)?;
            check.size(name, &elements)?;
            Ok(Some(Elements::<3>::from(elements)))
        };
        let gradients = gradients
            .iter()
            .map(|gradient| {
                Ok([elements("the gradient of a", &gradient.a)?, elements("the gradient of b", &gradient.b)?])
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            entries: gradients.iter().map(entry).collect(),
            gradients,
            accumulate: [false; 2],
            _guards: guards,
            _views: std::marker::PhantomData,
        })
    }

    /// Those of A are added to what the buffers hold, and rounded once.
    pub fn accumulate_a(mut self) -> Self {
        self.accumulate[0] = true;
        self
    }

    /// Those of B are added to what the buffers hold, and rounded once.
    pub fn accumulate_b(mut self) -> Self {
        self.accumulate[1] = true;
        self
    }

    /// Checks it against the extents of A and B of every adapter, and the copy of its entries in the queue's memory, where that is not where they are.
    pub(super) fn problem<'s>(
        &'s self,
        check: Check,
        shapes: &[[[usize; 2]; 2]],
        device: Option<&'s Vector<'_, AdapterGradientEntry, Q>>,
        queue: Option<&'s Q>,
        guards: &mut Vec<Guard<'s>>,
    ) -> Result<GradientTableProblem> {
        check.extents("the table of gradients", [self.entries.len()], [shapes.len()])?;
        let address = match device {
            None => self.entries.as_ptr() as u64,
            Some(device) => check.copy("the gradients on the device", device, self.entries.len(), queue, guards)?,
        };
        let names = ["the gradient of a", "the gradient of b"];
        let mut gradients = Vec::with_capacity(shapes.len());
        for (of_adapter, shapes) in self.gradients.iter().zip(shapes) {
            let mut problems = [None, None];
            for (i, elements) in of_adapter.iter().enumerate() {
                let Some(elements) = *elements else { continue };
                check.extents(names[i], [elements.extents[1], elements.extents[2]], shapes[i])?;
                problems[i] = Some(GradientProblem { elements, accumulate: self.accumulate[i] });
            }
            gradients.push(problems);
        }
        Ok(GradientTableProblem { address, gradients, accumulate: self.accumulate })
    }
}

impl<P, Q> GradientTable<'_, P, Q> {
    /// What the kernels read; on a stream, to be copied to the device.
    pub fn entries(&self) -> &[AdapterGradientEntry] {
        &self.entries
    }
}

fn entry([a, b]: &[Option<Elements<3>>; 2]) -> AdapterGradientEntry {
    let place = |elements: &Option<Elements<3>>| {
        let Some(Elements { address, strides: [_, row, column], .. }) = *elements else { return (0, 0, 0) };
        (address, row as i64, column as i64)
    };
    let ((da, da_row_stride, da_column_stride), (db, db_row_stride, db_column_stride)) = (place(a), place(b));
    AdapterGradientEntry(ffi::pk_lora_adapter_gradient {
        da: da as *mut _,
        db: db as *mut _,
        da_row_stride,
        da_column_stride,
        db_row_stride,
        db_column_stride,
    })
}

/// A checked table of gradients.
pub(crate) struct GradientTableProblem {
    /// Of the entries in the queue's memory.
    pub address: u64,
    /// Of A and of B, for each adapter.
    pub gradients: Vec<[Option<GradientProblem>; 2]>,
    accumulate: [bool; 2],
}

impl GradientTableProblem {
    /// What becomes of all gradients of A (0) or of B (1), as the C side says it.
    pub fn mode(&self, which: usize) -> i32 {
        match self.gradients.iter().any(|of_adapter| of_adapter[which].is_some()) {
            false => ffi::PK_GRADIENT_NONE,
            true if self.accumulate[which] => ffi::PK_GRADIENT_ACCUMULATE,
            true => ffi::PK_GRADIENT_OVERWRITE,
        }
    }
}
