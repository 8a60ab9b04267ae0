//! What the C sources export to the tests.

use std::ffi::{CStr, c_char};

// For the archives that the C sources call into.
use peft_kernels as _;

/// A size or an offset, as the C compiler sees it.
#[repr(C)]
struct Entry {
    name: *const c_char,
    value: u64,
}

unsafe extern "C" {
    fn c_layout(count: *mut u64) -> *const Entry;
    fn c_forward() -> *const c_char;
    fn c_merge() -> *const c_char;
    fn c_versions() -> *const c_char;
    fn c_last_error() -> *const c_char;
    fn c_refusals() -> *const c_char;
    fn c_library() -> *const c_char;
    fn c_pick() -> *const c_char;
    fn c_quantize() -> *const c_char;
    fn c_samples() -> *const c_char;
    fn c_weight_norm() -> *const c_char;
    fn c_magnitude_gradient() -> *const c_char;
    fn c_double_backward() -> *const c_char;
    fn c_tables() -> *const c_char;
    fn c_batches() -> *const c_char;
}

/// `pk_queue` or `pk_queue::kind`, and its size or offset.
pub fn layout() -> Vec<(String, u64)> {
    let mut count = 0;
    // SAFETY: a table of `count` entries with names that end in a zero, which live as long as the program.
    let entries = unsafe { std::slice::from_raw_parts(c_layout(&mut count), count as usize) };
    // SAFETY: as above.
    let name = |entry: &Entry| unsafe { CStr::from_ptr(entry.name) }.to_string_lossy().into_owned();
    entries.iter().map(|entry| (name(entry), entry.value)).collect()
}

macro_rules! tests {
    ($($(#[$doc:meta])* $name:ident = $function:ident),*) => { $(
        $(#[$doc])*
        pub fn $name() -> Result<(), String> {
            // SAFETY: a text that ends in a zero and lives as long as the program, or null.
            let text = unsafe { $function() };
            // SAFETY: as above.
            if text.is_null() { Ok(()) } else { Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()) }
        }
    )* };
}
tests! {
    /// A forward call on the emulator.
    forward = c_forward,
    /// A merge and its way back.
    merge = c_merge,
    /// Descriptors of other sizes.
    versions = c_versions,
    /// The thread's last error, cut to a buffer.
    last_error = c_last_error,
    /// Calls that are refused.
    refusals = c_refusals,
    /// What the library says of itself.
    library = c_library,
    /// Which kernels are picked on chips that are described.
    pick = c_pick,
    /// Quantisation and its way back, and what they refuse.
    quantize = c_quantize,
    /// Norms and weights of samples, and noise, and what they refuse.
    samples = c_samples,
    /// Row norms, and what they refuse.
    weight_norm = c_weight_norm,
    /// The gradient of a magnitude, and what it refuses.
    magnitude_gradient = c_magnitude_gradient,
    /// Second derivatives, and what they refuse.
    double_backward = c_double_backward,
    /// Tables of adapters in backward, and lists of ranks that there are not, and what they refuse.
    tables = c_tables,
    /// Calls of several batches: what is not there, and outputs whose batches overlap.
    batches = c_batches
}
