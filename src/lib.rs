//! Hand-written CUDA kernels for parameter-efficient fine-tuning, each checked against a CPU reference.
//!
//! The library works on memory, streams and devices that the caller owns: no call allocates device memory, synchronises, or reads device memory on the host. One function per operation,
//! the same on every queue:
//!
//! | queue | needs | what for |
//! |---|---|---|
//! | [`Cpu`] | nothing | the reference: plain Rust, f64 inside (Haar transforms and WaRA's merges of f16 and bf16: f32) |
//! | [`Emulator`] | feature `emulator`: a C++17 compiler to build | the shipped kernels and launchers, on this processor |
//! | [`RawStream`], `cudarc` and `cust` streams | feature `cuda`: nvcc to build, a driver to run | production |
//!
//! Operands are views by value: [`Mat`], [`MatMut`], [`Tensor`], [`TensorMut`], made of the queue's storage (see [`storage`]). Operations live in a module per family: [`lora`], [`haar`].

mod check;
mod element;
mod error;
mod ffi;
mod layout;
mod library;
mod queue;
mod tensor;
mod workspace;

#[cfg(feature = "emulator")]
#[doc(hidden)]
pub mod counters;
pub mod haar;
pub mod lora;
pub mod reference;
pub mod storage;

pub use element::{Element, ElementType};
pub use error::{Error, Result};
pub use ffi::Kernel;
pub use layout::Layout;
pub use library::{ABI_VERSION, HAS_CUDA, HAS_EMULATOR, device_count, prepare};
pub use queue::{Cpu, Emulator, HostQueue, Place, Queue, RawStream};
pub use tensor::{Mat, MatMut, Tensor, TensorMut, Vector, VectorMut};
pub use workspace::{Status, StatusRecord, Workspace};

/// The README's example is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
