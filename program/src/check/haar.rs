//! The cases of the Haar family.

mod hadamard;
mod transform;
mod wara;

use super::Family;
use super::case::Case;
use crate::subjects::Subjects;

pub const FAMILY: Family = Family { name: "haar", cases };

fn cases(subjects: &Subjects) -> Vec<Box<dyn Case + '_>> {
    let mut cases: Vec<Box<dyn Case>> = Vec::new();
    // A level takes two elements of both axes.
    for layer in subjects.layers.iter().filter(|layer| layer.n > 1 && layer.k > 1) {
        for [element_type, _] in subjects.element_types(layer).into_iter().filter(|[x, other]| x == other) {
            cases.push(Box::new(transform::TransformCase { subjects, layer, element_type }));
            cases.push(Box::new(hadamard::HadamardCase { subjects, layer, element_type }));
        }
        for types in subjects.element_types(layer) {
            for mode in [wara::Mode::Weight, wara::Mode::Activation] {
                cases.push(Box::new(wara::WaraCase { subjects, layer, types, mode }));
            }
        }
    }
    cases
}
