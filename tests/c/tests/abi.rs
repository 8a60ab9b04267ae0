//! The C interface, called from C, and its structs as both compilers see them.

use std::collections::BTreeMap;

/// `["Size of pk_queue"][… - 24usize]` and `["Offset of field: pk_queue::kind"][… - 8usize]`, which the Rust compiler has checked.
fn bindings() -> BTreeMap<String, u64> {
    let text = include_str!("../../../src/ffi/bindings.rs").split_whitespace().collect::<Vec<_>>().join(" ");
    let mut entries = BTreeMap::new();
    for part in text.split("[\"").skip(1) {
        let Some((what, rest)) = part.split_once("\"]") else { continue };
        let Some(name) = what.strip_prefix("Size of ").or(what.strip_prefix("Offset of field: ")) else { continue };
        let value = rest.split_once("- ").and_then(|(_, value)| value.split_once("usize"));
        entries.insert(name.to_owned(), value.expect("a value").0.parse().expect("a number"));
    }
    entries
}

#[test]
fn structs_have_the_layout_that_c_gives_them() {
    let of_c: BTreeMap<_, _> = c_tests::layout().into_iter().collect();
    assert!(of_c.len() >= 80, "{}", of_c.len());
    assert_eq!(of_c, bindings());
}

/// Explicit padding and 8-byte alignment: every byte of a struct belongs to a field.
#[test]
fn sizes_are_multiples_of_eight() {
    for (name, value) in c_tests::layout() {
        assert!(name.contains("::") || value % 8 == 0, "{name} has {value} bytes");
    }
}

fn check(result: Result<(), String>) {
    result.unwrap_or_else(|message| panic!("{message}"));
}

#[test]
fn forward_computes() {
    check(c_tests::forward());
}

#[test]
fn merge_and_unmerge() {
    check(c_tests::merge());
}

#[test]
fn descriptors_of_other_sizes() {
    check(c_tests::versions());
}

#[test]
fn last_error_is_cut_to_the_buffer() {
    check(c_tests::last_error());
}

#[test]
fn what_is_refused() {
    check(c_tests::refusals());
}

#[test]
fn the_library_itself() {
    check(c_tests::library());
}

#[test]
fn which_kernels_are_picked() {
    check(c_tests::pick());
}

#[test]
fn quantization() {
    check(c_tests::quantize());
}

#[test]
fn samples() {
    check(c_tests::samples());
}

#[test]
fn row_norms() {
    check(c_tests::weight_norm());
}

#[test]
fn magnitudes() {
    check(c_tests::magnitude_gradient());
}

#[test]
fn second_derivatives() {
    check(c_tests::double_backward());
}

#[test]
fn tables_of_adapters() {
    check(c_tests::tables());
}

#[test]
fn several_batches() {
    check(c_tests::batches());
}
