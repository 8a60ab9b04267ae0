//! What the cases of all families share: outputs between margins, and the heading of a layer.

use crate::subjects::Layer;
use crate::values::Value;

/// Elements on both sides of an output that nobody may write.
pub const MARGIN: usize = 64;

/// The heading of a layer's rows.
pub fn heading(layer: &Layer) -> String {
    format!("{} [{}, {}] {}", layer.name, layer.n, layer.k, layer.stored)
}

/// An output between margins, filled with what `contents` gives, or with NaN.
pub fn with_margins<T: Value>(contents: impl ExactSizeIterator<Item = T>) -> Vec<T> {
    let mut elements = vec![T::NAN; MARGIN];
    elements.reserve(contents.len() + MARGIN);
    elements.extend(contents);
    elements.extend([T::NAN; MARGIN]);
    elements
}

/// The output, and what is beside it.
pub fn without_margins<T: Value>(elements: &[T]) -> (&[T], [&[T]; 2]) {
    let (before, rest) = elements.split_at(MARGIN);
    let (contents, after) = rest.split_at(rest.len() - MARGIN);
    (contents, [before, after])
}
