//! What can go wrong, with the numbers in it.

use crate::ElementType;

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation refused its arguments or failed.
///
/// Every variant but [`Error::Data`], [`Error::Cuda`] and [`Error::Emulator`] is found before anything is launched: nothing has been written then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operand has other extents than the operation's formula asks for.
    #[error("{operation}: {argument} is {got}, expected {expected}")]
    Shape {
        /// The operation, such as `lora::forward`.
        operation: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// What the other arguments ask for.
        expected: String,
        /// What was given.
        got: String,
    },

    /// Neither stride of a matrix is 1, so that no order of reading it is contiguous.
    #[error(
        "{operation}: {argument} has row stride {row_stride} and column stride {column_stride}, expected one of them to be 1"
    )]
    Stride {
        /// The operation.
        operation: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// Elements between two rows.
        row_stride: usize,
        /// Elements between two columns.
        column_stride: usize,
    },

    /// A view reaches beyond the end of its storage.
    #[error("{operation}: {view} needs {needed} elements, but the storage has {length}")]
    Bounds {
        /// The constructor.
        operation: &'static str,
        /// Offset, extents and strides of the view.
        view: String,
        /// Elements that the view needs, offset included.
        needed: u128,
        /// Elements that the storage has.
        length: usize,
    },

    /// A view that is to be written reaches one element by two indices.
    #[error("{operation}: {view} reaches one element by two indices and cannot be written")]
    SelfOverlap {
        /// The constructor.
        operation: &'static str,
        /// Offset, extents and strides of the view.
        view: String,
    },

    /// An output shares an element with another operand.
    #[error("{operation}: {output} and {other} share the element at address {address:#x}, expected disjoint memory")]
    Overlap {
        /// The operation.
        operation: &'static str,
        /// The operand that is written.
        output: String,
        /// The operand that it overlaps.
        other: String,
        /// The first address, in bytes, that both have.
        address: u64,
    },

    /// An operand is not aligned to its elements.
    #[error("{operation}: {argument} is at address {address:#x}, expected a multiple of {alignment}")]
    Alignment {
        /// The operation.
        operation: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// Where it is.
        address: u64,
        /// Bytes that the address must be a multiple of.
        alignment: u64,
    },

    /// An operation that does not exist for this element type, or this combination of types.
    #[error("{operation}: {argument} has element type {got}, expected {expected}")]
    ElementType {
        /// The operation.
        operation: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// The types that would do.
        expected: String,
        /// What was given.
        got: ElementType,
    },

    /// An option that is out of its range, or two that exclude each other.
    #[error("{operation}: {argument} is {got}, expected {expected}")]
    Argument {
        /// The operation.
        operation: &'static str,
        /// The argument that is wrong.
        argument: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        got: String,
    },

    /// The workspace is smaller than `*_workspace` of the same descriptor says.
    #[error("{operation}: the workspace has {got} bytes, expected {needed}")]
    Workspace {
        /// The operation.
        operation: &'static str,
        /// Bytes needed, alignment included.
        needed: usize,
        /// Bytes given.
        got: usize,
    },

    /// What depends on data in the queue's memory: the outputs were written, as the operation's documentation says.
    #[error("{operation}: {argument} at index {index} is {problem}")]
    Data {
        /// The operation.
        operation: &'static str,
        /// The operand that holds the bad value.
        argument: &'static str,
        /// Which of its elements; the first, if there are several.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },

    /// The library was compiled without what the queue needs.
    #[error("{operation}: built without the feature `{feature}`; {hint}")]
    NotBuilt {
        /// The operation.
        operation: &'static str,
        /// The feature of this crate that is missing.
        feature: &'static str,
        /// What to do.
        hint: &'static str,
    },

    /// There is no driver, no device, or no device of that ordinal.
    #[error("{operation}: no device: {message}")]
    NoDevice {
        /// The operation.
        operation: &'static str,
        /// What was looked for and found.
        message: String,
    },

    /// An operand lives on another device than the queue.
    #[error("{operation}: the storage is on device {got}, but the queue is on device {expected}")]
    Device {
        /// The operation.
        operation: &'static str,
        /// The queue's device.
        expected: usize,
        /// The operand's device.
        got: usize,
    },

    /// No kernel has this number, or the one that has it cannot run this descriptor.
    #[error("{operation}: {message}")]
    Algorithm {
        /// The operation.
        operation: &'static str,
        /// Which were asked for and which exist.
        message: String,
    },

    /// The Rust side and the C side of this library are not of one version.
    #[error("{operation}: {message}")]
    Version {
        /// The operation.
        operation: &'static str,
        /// The sizes.
        message: String,
    },

    /// The C side refused what the Rust side allowed: a bug of this library.
    #[error("{operation}: refused by the launcher: {message}")]
    Refused {
        /// The operation.
        operation: &'static str,
        /// Why.
        message: String,
    },

    /// CUDA refused, or an earlier kernel on the device failed.
    #[error("{operation}: {message}")]
    Cuda {
        /// The operation.
        operation: &'static str,
        /// The code, its name and its text.
        message: String,
    },

    /// The emulator found a fault in a kernel: a bug of this library.
    #[error("{operation}: {report}")]
    Emulator {
        /// The operation.
        operation: &'static str,
        /// The kernel, the line, the thread and the seed.
        report: String,
    },
}
