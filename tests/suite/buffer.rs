//! The one test buffer: exactly as many elements as its view needs, poison everywhere else, compared byte for byte.

use std::marker::PhantomData;

use half::{bf16, f16};
use peft_kernels::{Layout, lora::Segment};

use crate::memory::Memory;

/// What a buffer may hold, and what it holds where no view leads.
pub trait Cell: Copy + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    const POISON: Self;
}

macro_rules! cell {
    ($($type:ty: $poison:expr),* $(,)?) => { $(impl Cell for $type { const POISON: Self = $poison; })* };
}
cell!(
    f32: f32::from_bits(0x7fc0_dead),
    f16: f16::from_bits(0x7e5a),
    bf16: bf16::from_bits(0x7fda),
    f64: f64::NAN,
    i32: 0x5a5a_5a5a,
    u16: 0xa55a,
    u8: 0xff,
    Segment: Segment::new(0..1_000_000_000, Some(0x5a5a_5a5a)),
);

/// How a matrix lies in its buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placement {
    /// Rows side by side instead of columns.
    pub column_major: bool,
    /// Elements between two rows (or columns) beyond the extent.
    pub gap: usize,
    /// Elements before the first.
    pub offset: usize,
    /// Elements between two batches beyond the extent.
    pub batch_gap: usize,
}

impl Placement {
    pub fn layout(self, [batches, rows, columns]: [usize; 3]) -> Layout<3> {
        let strides = if self.column_major {
            [columns * (rows + self.gap) + self.batch_gap, 1, rows + self.gap]
        } else {
            [rows * (columns + self.gap) + self.batch_gap, columns + self.gap, 1]
        };
        Layout { offset: self.offset, extents: [batches, rows, columns], strides }
    }
}

/// Where element `index` of a layout is.
pub fn position(layout: &Layout<3>, index: [usize; 3]) -> usize {
    layout.offset + index.iter().zip(layout.strides).map(|(index, stride)| index * stride).sum::<usize>()
}

/// Every index of a [batches, rows, columns] array, in row-major order.
pub fn indices([batches, rows, columns]: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let in_batch = move |b| (0..rows).flat_map(move |i| (0..columns).map(move |j| [b, i, j]));
    (0..batches).flat_map(in_batch)
}

pub struct Buffer<T> {
    memory: Memory,
    /// None: too large to be copied.
    before: Option<Vec<u8>>,
    pub layout: Layout<3>,
    _elements: PhantomData<T>,
}

impl<T: Cell> Buffer<T> {
    /// Exactly the elements that the layout needs, those that it names filled by `value`.
    pub fn new(layout: Layout<3>, value: impl FnMut([usize; 3]) -> T) -> Self {
        let reach: usize = layout.extents.iter().zip(layout.strides).map(|(e, s)| e.saturating_sub(1) * s).sum();
        let length = layout.offset + if layout.is_empty() { 0 } else { reach + 1 };
        Self::with_length(length, layout, value)
    }

    /// A list.
    pub fn list(values: &[T]) -> Self {
        Self::new(Layout { offset: 0, extents: [1, 1, values.len()], strides: [0, 0, 1] }, |[_, _, i]| values[i])
    }

    /// `length` elements, for several views of one buffer.
    pub fn with_length(length: usize, layout: Layout<3>, mut value: impl FnMut([usize; 3]) -> T) -> Self {
        let memory = Memory::new(length * size_of::<T>());
        let mut buffer = Self { memory, before: None, layout, _elements: PhantomData };
        for i in 0..length {
            buffer.write(i, T::POISON);
        }
        for index in indices(layout.extents) {
            buffer.write(position(&layout, index), value(index));
        }
        buffer.remember();
        buffer
    }

    /// A copy whose elements are far apart, in memory of which only the touched pages exist. Nothing is compared after a call but what the test reads.
    pub fn spread(&self, strides: [usize; 3]) -> Self {
        let layout = Layout { strides, ..self.layout };
        let reach: usize = layout.extents.iter().zip(strides).map(|(extent, stride)| (extent - 1) * stride).sum();
        let memory = Memory::new((layout.offset + reach + 1) * size_of::<T>());
        let copy = Self { memory, before: None, layout, _elements: PhantomData };
        indices(layout.extents).for_each(|index| copy.write(position(&layout, index), self.get(index)));
        copy
    }

    /// Changes an element.
    pub fn set(&mut self, index: [usize; 3], value: T) {
        self.write(position(&self.layout, index), value);
        self.remember();
    }

    /// Takes what the buffer holds now as what it should hold.
    pub fn remember(&mut self) {
        self.before = Some(self.memory.snapshot());
    }

    /// Back to what it held at first.
    pub fn reset(&self) {
        if let Some(before) = &self.before {
            self.memory.restore(before);
        }
    }

    /// Everything that the memory holds, padding too.
    pub fn bytes(&self) -> Vec<u8> {
        self.memory.snapshot()
    }

    pub fn address(&self) -> u64 {
        self.memory.address() as u64
    }

    pub fn len(&self) -> usize {
        self.memory.len() / size_of::<T>()
    }

    pub fn write(&self, position: usize, value: T) {
        assert!(position < self.len());
        // SAFETY: within the memory; no operation runs now.
        unsafe { (self.memory.address() as *mut T).add(position).write(value) }
    }

    pub fn read(&self, position: usize) -> T {
        assert!(position < self.len());
        // SAFETY: within the memory; no operation runs now.
        unsafe { (self.memory.address() as *const T).add(position).read() }
    }

    pub fn get(&self, index: [usize; 3]) -> T {
        self.read(position(&self.layout, index))
    }

    /// Element `index` of an input that all batches may share.
    pub fn get_shared(&self, [batch, row, column]: [usize; 3]) -> T {
        self.get([if self.layout.extents[0] == 1 { 0 } else { batch }, row, column])
    }

    /// The elements of a view of this buffer, in row-major order.
    pub fn elements(&self, layout: &Layout<3>) -> Vec<T> {
        indices(layout.extents).map(|index| self.read(position(layout, index))).collect()
    }

    /// An input, or an output of a call that failed: every byte is as it was.
    pub fn check_untouched(&self, name: &str) -> Result<(), String> {
        match &self.before {
            Some(before) if !self.memory.equals(before) => Err(self.first_change(name, before, &[])),
            _ => Ok(()),
        }
    }

    /// An output: every byte outside these views is as it was.
    pub fn check_padding(&self, name: &str, views: &[Layout<3>]) -> Result<(), String> {
        let Some(before) = &self.before else { return Ok(()) };
        let mut now = self.memory.snapshot();
        let size = size_of::<T>();
        for layout in views {
            for index in indices(layout.extents) {
                let bytes = position(layout, index) * size;
                now[bytes..bytes + size].copy_from_slice(&before[bytes..bytes + size]);
            }
        }
        if now == *before { Ok(()) } else { Err(self.first_change(name, before, views)) }
    }

    fn first_change(&self, name: &str, before: &[u8], views: &[Layout<3>]) -> String {
        let now = self.memory.snapshot();
        let size = size_of::<T>();
        let inside =
            |element: usize| views.iter().any(|view| indices(view.extents).any(|i| position(view, i) == element));
        let mut changed = (0..self.len()).filter(|&i| now[i * size..][..size] != before[i * size..][..size]);
        match changed.find(|&element| !inside(element)) {
            Some(i) => format!(
                "{name}: element {i} of {} was {:02x?} and is {:02x?}, which no call may write ({:?})",
                self.len(),
                &before[i * size..][..size],
                &now[i * size..][..size],
                self.layout
            ),
            None => format!("{name}: changed outside its views"),
        }
    }
}
