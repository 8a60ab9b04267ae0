//! Views: storage, offset, extents and strides. Bounds are proven once, when a view is made.

use std::marker::PhantomData;
use std::ops::Range;

use crate::storage::{Guard, Read, Source, SourceMut, SourceMutPlace, SourcePlace, Write};
use crate::{Error, Layout, Queue, Result};

/// A view of elements to be read: storage, offset, extents and strides by value. `T` is the element type, `Q` the type of the queues that can use it, `N` the number of axes.
pub struct Tensor<'a, T, Q, const N: usize> {
    place: SourcePlace<'a, Q>,
    layout: Layout<N>,
    _elements: PhantomData<&'a [T]>,
}

/// A matrix to be read.
pub type Mat<'a, T, Q> = Tensor<'a, T, Q, 2>;
/// A vector to be read.
pub type Vector<'a, T, Q> = Tensor<'a, T, Q, 1>;

impl<T, Q, const N: usize> Clone for Tensor<'_, T, Q, N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T, Q, const N: usize> Copy for Tensor<'_, T, Q, N> {}

impl<T, Q, const N: usize> std::fmt::Debug for Tensor<'_, T, Q, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.layout.fmt(f)
    }
}

impl<'a, T: Copy + 'static, Q: Queue, const N: usize> Tensor<'a, T, Q, N> {
    /// A view with any layout.
    ///
    /// # Errors
    /// [`Error::Bounds`] if it reaches beyond the storage.
    pub fn with_layout(storage: impl Read<'a, Q, Element = T>, layout: Layout<N>) -> Result<Self> {
        let Source { place, length } = storage.source();
        layout.check("Tensor::with_layout", length)?;
        Ok(Self { place, layout, _elements: PhantomData })
    }

    /// A row-major view without gaps of the first elements of a storage.
    ///
    /// # Errors
    /// [`Error::Bounds`] if it reaches beyond the storage.
    pub fn contiguous(storage: impl Read<'a, Q, Element = T>, extents: [usize; N]) -> Result<Self> {
        Self::with_layout(storage, Layout::contiguous(extents))
    }

    /// The part with indices in `range` along `axis`.
    ///
    /// # Errors
    /// [`Error::Argument`] if the range is not within the extent.
    pub fn narrow(mut self, axis: usize, range: Range<usize>) -> Result<Self> {
        self.layout = self.layout.narrow("Tensor::narrow", axis, &range)?;
        Ok(self)
    }

    /// The elements, whose address is valid until the guards are dropped; without a queue, their layout alone.
    pub(crate) fn acquire<'s>(&'s self, queue: Option<&'s Q>, guards: &mut Vec<Guard<'s>>) -> Result<Elements<N>> {
        let address = match (queue, &self.place) {
            (None, _) => 0,
            (_, SourcePlace::Address(address)) => *address,
            (Some(queue), SourcePlace::Guarded(storage)) => {
                let (address, guard) = storage.acquire(queue)?;
                guards.push(guard);
                address
            }
        };
        Ok(Elements::new::<T>(address, &self.layout))
    }
}

impl<T, Q, const N: usize> Tensor<'_, T, Q, N> {
    /// Offset, extents and strides.
    pub fn layout(&self) -> &Layout<N> {
        &self.layout
    }

    /// How many elements there are along each axis.
    pub fn extents(&self) -> [usize; N] {
        self.layout.extents
    }
}

impl<'a, T: Copy + 'static, Q: Queue> Mat<'a, T, Q> {
    /// A row-major matrix without gaps.
    ///
    /// # Errors
    /// [`Error::Bounds`] if the storage is too small.
    pub fn new(storage: impl Read<'a, Q, Element = T>, rows: usize, columns: usize) -> Result<Self> {
        Self::contiguous(storage, [rows, columns])
    }

    /// A row-major matrix whose rows are `leading_dimension` elements apart.
    ///
    /// # Errors
    /// [`Error::Bounds`] if the storage is too small.
    pub fn with_leading_dimension(
        storage: impl Read<'a, Q, Element = T>,
        rows: usize,
        columns: usize,
        leading_dimension: usize,
    ) -> Result<Self> {
        Self::with_layout(storage, Layout { offset: 0, extents: [rows, columns], strides: [leading_dimension, 1] })
    }

    /// The transpose. Free: rows and columns change places.
    pub fn t(mut self) -> Self {
        self.layout.extents.swap(0, 1);
        self.layout.strides.swap(0, 1);
        self
    }
}

impl<'a, T, Q> From<Mat<'a, T, Q>> for Tensor<'a, T, Q, 3> {
    /// A batch of one.
    fn from(matrix: Mat<'a, T, Q>) -> Self {
        Self { place: matrix.place, layout: matrix.layout.into(), _elements: PhantomData }
    }
}

/// A view of elements to be written, which nobody else can reach while it lives.
pub struct TensorMut<'a, T, Q, const N: usize> {
    place: SourceMutPlace<'a, Q>,
    layout: Layout<N>,
    _elements: PhantomData<(&'a mut [T], *mut T)>,
}

/// A matrix to be written.
pub type MatMut<'a, T, Q> = TensorMut<'a, T, Q, 2>;
/// A vector to be written.
pub type VectorMut<'a, T, Q> = TensorMut<'a, T, Q, 1>;

impl<T, Q, const N: usize> std::fmt::Debug for TensorMut<'_, T, Q, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.layout.fmt(f)
    }
}

impl<'a, T: Copy + 'static, Q: Queue, const N: usize> TensorMut<'a, T, Q, N> {
    /// A view with any layout that reaches no element twice.
    ///
    /// # Errors
    /// [`Error::Bounds`] if it reaches beyond the storage, [`Error::SelfOverlap`] if two indices reach one element.
    pub fn with_layout(storage: impl Write<'a, Q, Element = T>, layout: Layout<N>) -> Result<Self> {
        let SourceMut { place, length } = storage.source_mut();
        layout.check("TensorMut::with_layout", length)?;
        if layout.overlaps_itself() {
            return Err(Error::SelfOverlap { operation: "TensorMut::with_layout", view: layout.to_string() });
        }
        Ok(Self { place, layout, _elements: PhantomData })
    }

    /// A row-major view without gaps of the first elements of a storage.
    ///
    /// # Errors
    /// [`Error::Bounds`] if it reaches beyond the storage.
    pub fn contiguous(storage: impl Write<'a, Q, Element = T>, extents: [usize; N]) -> Result<Self> {
        Self::with_layout(storage, Layout::contiguous(extents))
    }

    /// The parts before and from `index` along `axis`, which share no element and can be written side by side.
    ///
    /// # Errors
    /// [`Error::Argument`] if the index is beyond the extent.
    pub fn split_at(self, axis: usize, index: usize) -> Result<(Self, Self)> {
        let part = |range| {
            let layout = self.layout.narrow("TensorMut::split_at", axis, &range)?;
            Ok(Self { place: self.place.clone(), layout, _elements: PhantomData })
        };
        let extent = self.layout.extents[axis];
        Ok((part(0..index)?, part(index..extent.max(index))?))
    }

    /// The elements, whose address is valid until the guards are dropped; without a queue, their layout alone.
    pub(crate) fn acquire<'s>(&'s self, queue: Option<&'s Q>, guards: &mut Vec<Guard<'s>>) -> Result<Elements<N>> {
        let address = match (queue, &self.place) {
            (None, _) => 0,
            (_, SourceMutPlace::Address(address)) => *address,
            (Some(queue), SourceMutPlace::Guarded(storage)) => {
                let (address, guard) = storage.acquire(queue)?;
                guards.push(guard);
                address
            }
        };
        Ok(Elements::new::<T>(address, &self.layout))
    }
}

impl<T, Q, const N: usize> TensorMut<'_, T, Q, N> {
    /// Offset, extents and strides.
    pub fn layout(&self) -> &Layout<N> {
        &self.layout
    }

    /// How many elements there are along each axis.
    pub fn extents(&self) -> [usize; N] {
        self.layout.extents
    }
}

impl<'a, T: Copy + 'static, Q: Queue> VectorMut<'a, T, Q> {
    /// Every element of a storage.
    pub fn whole(storage: impl Write<'a, Q, Element = T>) -> Self {
        let SourceMut { place, length } = storage.source_mut();
        Self { place, layout: Layout::contiguous([length]), _elements: PhantomData }
    }
}

impl<'a, T: Copy + 'static, Q: Queue> Vector<'a, T, Q> {
    /// Every element of a storage.
    pub fn whole(storage: impl Read<'a, Q, Element = T>) -> Self {
        let Source { place, length } = storage.source();
        Self { place, layout: Layout::contiguous([length]), _elements: PhantomData }
    }
}

impl<'a, T: Copy + 'static, Q: Queue> MatMut<'a, T, Q> {
    /// A row-major matrix without gaps.
    ///
    /// # Errors
    /// [`Error::Bounds`] if the storage is too small.
    pub fn new(storage: impl Write<'a, Q, Element = T>, rows: usize, columns: usize) -> Result<Self> {
        Self::contiguous(storage, [rows, columns])
    }

    /// A row-major matrix whose rows are `leading_dimension` elements apart.
    ///
    /// # Errors
    /// [`Error::Bounds`] if the storage is too small, [`Error::SelfOverlap`] if rows overlap.
    pub fn with_leading_dimension(
        storage: impl Write<'a, Q, Element = T>,
        rows: usize,
        columns: usize,
        leading_dimension: usize,
    ) -> Result<Self> {
        Self::with_layout(storage, Layout { offset: 0, extents: [rows, columns], strides: [leading_dimension, 1] })
    }

    /// The transpose. Free: rows and columns change places.
    pub fn t(mut self) -> Self {
        self.layout.extents.swap(0, 1);
        self.layout.strides.swap(0, 1);
        self
    }

    /// The columns before and from `column`, which can be written side by side: the outputs of q, k and v in one buffer.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer columns.
    pub fn split_columns(self, column: usize) -> Result<(Self, Self)> {
        self.split_at(1, column)
    }

    /// The rows before and from `row`, which can be written side by side.
    ///
    /// # Errors
    /// [`Error::Argument`] if there are fewer rows.
    pub fn split_rows(self, row: usize) -> Result<(Self, Self)> {
        self.split_at(0, row)
    }
}

impl<'a, T, Q> From<Vector<'a, T, Q>> for Tensor<'a, T, Q, 2> {
    /// A matrix of one row.
    fn from(vector: Vector<'a, T, Q>) -> Self {
        let Layout { offset, extents: [extent], strides: [stride] } = vector.layout;
        let layout = Layout { offset, extents: [1, extent], strides: [0, stride] };
        Self { place: vector.place, layout, _elements: PhantomData }
    }
}

impl<'a, T, Q> From<MatMut<'a, T, Q>> for TensorMut<'a, T, Q, 3> {
    /// A batch of one.
    fn from(matrix: MatMut<'a, T, Q>) -> Self {
        Self { place: matrix.place, layout: matrix.layout.into(), _elements: PhantomData }
    }
}

/// The elements of an acquired view: an address that is valid until the guards are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Elements<const N: usize> {
    /// Of element (0, 0, …), in bytes.
    pub address: u64,
    pub extents: [usize; N],
    pub strides: [usize; N],
    pub element_size: usize,
    /// Bytes that an element's address is a multiple of.
    pub alignment: usize,
}

impl<const N: usize> Elements<N> {
    fn new<T>(address: u64, layout: &Layout<N>) -> Self {
        let element_size = size_of::<T>();
        // Where there is no element the address is never used, and an offset could lead out of the storage.
        let offset = if layout.is_empty() { 0 } else { layout.offset * element_size };
        let (extents, mut strides) = (layout.extents, layout.strides);
        for (stride, extent) in strides.iter_mut().zip(extents) {
            // Never used, and it could be more than the C side can say.
            if extent <= 1 && *stride > isize::MAX as usize {
                *stride = 0;
            }
        }
        let address = address + offset as u64;
        Self { address, extents, strides, element_size, alignment: align_of::<T>() }
    }
}

impl From<Elements<2>> for Elements<3> {
    /// A batch of one.
    fn from(elements: Elements<2>) -> Self {
        let ([rows, columns], [row_stride, column_stride]) = (elements.extents, elements.strides);
        let (extents, strides) = ([1, rows, columns], [0, row_stride, column_stride]);
        let Elements { address, element_size, alignment, .. } = elements;
        Self { address, extents, strides, element_size, alignment }
    }
}
