//! The program on its own data and on small files: what it prints, and its exit status.

mod common;

use std::collections::BTreeSet;

use common::{check, file, numbers, program, safetensors};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

#[test]
fn every_operation_type_and_queue_passes_on_real_weights() {
    let run = program(&["check", "--json", "--counters"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let rows = run.rows();
    let mut seen = BTreeSet::new();
    for row in &rows {
        assert_eq!(row["passed"], true, "{row}");
        assert_eq!(row["seed"], 1, "{row}");
        let (error, bound) = (row["error"].as_f64().expect("a number"), row["bound"].as_f64().expect("a number"));
        assert!(error <= bound && row["seconds"].as_f64().expect("a number") > 0.0, "{row}");
        let text = |key: &str| row[key].as_str().unwrap_or_else(|| panic!("{key} of {row}")).to_owned();
        assert!(text("shape").starts_with('['), "{row}");
        // With a residual, the original bits.
        if text("op") == "lora.unmerge" && text("dtype") != "f32" && !text("shape").contains(" of ") {
            assert_eq!((error, bound), (0.0, 0.0), "{row}");
        }
        if text("queue") == "emulator" {
            counters_are_those_of_the_formulas(row);
        }
        seen.insert([text("op"), text("kernel"), text("queue"), text("dtype")]);
    }
    for element_type in ["f32", "f16", "bf16", "f16+f32", "bf16+f32"] {
        for (op, kernels) in [
            ("lora.forward", &["simt", "mma_large", "mma_small", "mma_decode"][..]),
            ("lora.backward", &["simt", "mma_large", "mma_small"]),
            ("lora.double_backward", &["simt", "mma_large", "mma_small"]),
            ("lora.merge", &["simt", "mma"]),
            ("lora.unmerge", &["simt", "mma"]),
            ("lora.weight_norm", &["mma"]),
            ("lora.sample_norms", &["simt"]),
        ] {
            let stem = op.replace('.', "_").replace("unmerge", "merge").replace("double_", "");
            let stem = stem.replace("backward", "input_gradient");
            let kernels = kernels.iter().map(|kernel| ("emulator", format!("{stem}_{kernel}")));
            for (queue, kernel) in kernels.chain([("cpu", "reference".into())]) {
                let row = [op, &kernel, queue, element_type].map(String::from);
                assert!(seen.contains(&row), "{row:?} in {seen:?}");
            }
        }
    }
    for element_type in ["f32", "f16", "bf16", "f16+f32", "bf16+f32"] {
        for (op, kernel) in [
            ("haar.wara_forward", "haar_wara_expand_simt"),
            ("haar.wara_backward", "haar_wara_gradient_simt"),
            ("haar.wara_merge", "haar_wara_merge_tile"),
        ] {
            for (queue, kernel) in [("cpu", "reference"), ("emulator", kernel)] {
                let row = [op, kernel, queue, element_type].map(String::from);
                assert!(seen.contains(&row), "{op} {queue} {element_type}");
            }
        }
    }
    for element_type in ["f32", "f16", "bf16"] {
        for (op, kernel) in [
            ("haar.forward_1d", "haar_forward_tile"),
            ("haar.inverse_1d", "haar_inverse_tile"),
            ("haar.forward_2d", "haar_forward_tile"),
            ("haar.inverse_2d", "haar_inverse_tile"),
            ("haar.hadamard", "haar_hadamard_tile"),
            ("lora.quantize", "lora_quantize"),
            ("lora.dequantize", "lora_dequantize"),
            ("lora.add_noise", "lora_add_noise"),
            ("lora.magnitude_gradient", "lora_magnitude_gradient_simt"),
        ] {
            for (queue, kernel) in [("cpu", "reference"), ("emulator", kernel)] {
                let row = [op, kernel, queue, element_type].map(String::from);
                assert!(seen.contains(&row), "{op} {queue} {element_type}");
            }
        }
    }
    for (queue, kernel) in [("cpu", "reference"), ("emulator", "lora_clip_weights")] {
        assert!(seen.contains(&["lora.clip_weights", kernel, queue, "f32"].map(String::from)), "{queue}");
    }
    let shapes: BTreeSet<_> = rows.iter().map(|row| row["shape"].as_str().unwrap_or_default()).collect();
    for variant in ["W transposed", "2 targets", "base in y", "by row", "row scale"] {
        assert!(shapes.iter().any(|shape| shape.contains(variant)), "{variant} in {shapes:?}");
    }
    assert!(run.stderr.starts_with(&format!("{} passed, 0 failed", rows.len())), "{}", run.stderr);
    assert!(run.stderr.contains("not run: cuda:0 ("), "{}", run.stderr);
}

/// What the kernels read and write.
fn counters_are_those_of_the_formulas(row: &serde_json::Value) {
    let counters = row["counters"].as_array().unwrap_or_else(|| panic!("counters of {row}"));
    let with_formula: Vec<_> = counters.iter().filter(|count| !count["formula"].is_null()).collect();
    assert!(with_formula.len() >= 2, "{row}");
    let kernel = row["kernel"].as_str().expect("a name");
    assert!(with_formula.iter().any(|count| count["kernel"] == kernel), "{row}");
    with_formula.iter().for_each(|count| assert_eq!(count["bytes"], count["formula"], "{count} of {row}"));
}

#[test]
fn the_table_is_aligned_and_ends_with_a_summary() {
    let run = program(&["check", "--queue", "cpu", "--family", "lora"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "", "no progress bar where nobody looks at it");
    let mut lines = run.stdout.lines();
    let heading = lines.next().expect("a heading");
    let column = |name: &str| heading.find(name).unwrap_or_else(|| panic!("{name} in {heading}"));
    let (kernel, queue, shape) = (column("kernel"), column("queue"), column("shape"));
    let rows: Vec<_> = lines.clone().filter(|line| line.starts_with("lora.")).collect();
    for row in &rows {
        assert!(row[kernel..].starts_with("reference ") && row[queue..].starts_with("cpu "), "{row}");
        assert!(row[shape..].starts_with('[') && row[shape - 1..].starts_with(' '), "{row}");
        assert!(row.contains("GFLOP/s") || row.contains("GB/s"), "{row}");
    }
    assert_eq!(run.stdout.lines().last(), Some(format!("{} passed, 0 failed", rows.len()).as_str()));
    // Forward of one layer and of several, backward and its own, merge, unmerge, norms of rows and of samples of five pairs of types; codes both ways, noise and magnitudes' gradients of three types;
    // clipping weights.
    assert_eq!(rows.len(), 4 * (5 * 8 + 3 * 4 + 1));
}

#[test]
fn the_seed_changes_the_adapters_and_nothing_else() {
    let errors = |seed: &str| {
        let rows = program(&["check", "--json", "--queue", "cpu", "--seed", seed]).rows();
        rows.iter().map(|row| row["error"].as_f64().expect("a number").to_bits()).collect::<Vec<_>>()
    };
    let first = errors("7");
    assert_eq!(first, errors("7"));
    assert_ne!(first, errors("8"));
}

#[test]
fn a_checkpoint_is_checked_as_it_is_stored() {
    let data = numbers(3000);
    let half: Vec<u8> =
        (0..1000).flat_map(|i| half::f16::from_f32((i % 17) as f32 / 16.0 - 0.5).to_le_bytes()).collect();
    let brain: Vec<u8> =
        (0..1000).flat_map(|i| half::bf16::from_f32((i % 13) as f32 / 8.0 - 0.75).to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).expect("sizes agree");
    let bytes = safetensors::serialize(
        [
            ("single.weight", view(Dtype::F32, &[30, 20], &data[..2400])),
            ("single.bias", view(Dtype::F32, &[30], &data[..120])),
            ("half.weight", view(Dtype::F16, &[33, 20], &half[..1320])),
            ("brain.weight", view(Dtype::BF16, &[20, 35], &brain[..1400])),
            ("other.weight", view(Dtype::BF16, &[1, 1], &brain[..2])),
            ("double.weight", view(Dtype::F64, &[5, 5], &data[..200])),
            ("vector", view(Dtype::F32, &[30], &data[..120])),
            ("cube", view(Dtype::F16, &[5, 5, 5], &half[..250])),
            ("identifiers", view(Dtype::I64, &[5, 5], &data[..200])),
            ("hidden_states", view(Dtype::F16, &[9, 20], &half[..360])),
        ],
        None,
    )
    .expect("serializes");
    let run = check(&file("mixed.safetensors", &bytes), &["--json"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let rows = run.rows();
    let seen: BTreeSet<_> = rows
        .iter()
        .map(|row| {
            assert_eq!(row["passed"], true, "{row}");
            let name = row["layer"].as_str().and_then(|layer| layer.split('.').next()).unwrap_or_default();
            format!("{name} {}", row["dtype"].as_str().unwrap_or_default())
        })
        .collect();
    // What clipping weighs is f32 whatever the weight's type.
    let expected = [
        ("brain", ["bf16", "bf16+f32", "f32"].as_slice()),
        ("half", &["f16", "f16+f32", "f32"]),
        ("other", &["bf16", "bf16+f32", "f32"]),
        ("single", &["f32"]),
    ];
    let expected = expected.iter().flat_map(|(name, types)| types.iter().map(move |dtype| format!("{name} {dtype}")));
    assert!(seen.iter().cloned().eq(expected), "{seen:?}");
    let shape = |layer: &str| {
        let row = rows.iter().find(|row| row["layer"].as_str().is_some_and(|name| name.starts_with(layer)));
        row.and_then(|row| row["shape"].as_str()).unwrap_or_default().to_owned()
    };
    // The file's activations where they fit, 64 random rows where they do not.
    assert!(shape("half").starts_with("[9, 33] x 20"), "{}", shape("half"));
    assert!(shape("brain").starts_with("[64, 20] x 35"), "{}", shape("brain"));
    assert!(run.stderr.contains("double.weight (stored as F64)"), "{}", run.stderr);
}

#[test]
fn the_emulator_takes_a_slab_of_a_large_matrix() {
    let (n, k) = (40_000, 128);
    let header = format!(r#"{{"w":{{"dtype":"F32","shape":[{n},{k}],"data_offsets":[0,{}]}}}}"#, n * k * 4);
    let path = file("large.safetensors", &safetensors(&header, &vec![0x3c; n * k * 4]));
    let run = check(&path, &["--queue", "emulator"]);
    std::fs::remove_file(path).expect("the file is there");
    assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(&format!("[64, 32768] of [64, {n}] x {k}, rank 16")), "{}", run.stdout);
    assert!(run.stdout.contains(&format!(", {k}] of [{n}, {k}], ranks 16 + 8")), "{}", run.stdout);
}

#[test]
fn tensors_may_lie_at_any_address() {
    let header = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[4,6],"data_offsets":[1,97]}}"#;
    let run = check(&file("odd.safetensors", &safetensors(header, &[vec![0], numbers(24)].concat())), &[]);
    assert_eq!(run.status, Some(0), "{}{}", run.stdout, run.stderr);
}

#[test]
fn unknown_names_are_usage_errors() {
    for arguments in [["--family", "nonsense"], ["--queue", "gpu"], ["--seed", "-1"], ["--seed", "x"]] {
        let run = program(&[&["check"], &arguments[..]].concat());
        assert_eq!((run.status, run.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(run.stderr.contains(arguments[1]), "{}", run.stderr);
    }
    assert!(program(&["check", "--family", "nonsense"]).stderr.contains("lora"), "names what there is");
    assert_eq!(program(&["nonsense"]).status, Some(2));
}

#[test]
fn a_queue_that_was_asked_for_and_is_not_there_is_a_failure() {
    let run = program(&["check", "--queue", "cuda:0"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(run.stdout.starts_with("0 passed, 0 failed; not run: cuda:0 ("), "{}", run.stdout);
}

#[test]
fn info_says_what_is_there_and_what_to_do() {
    let run = program(&["info"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    for name in ["version", "ABI", "features", "cores", "emulator", "CUDA devices", "C++ compiler", "nvcc"] {
        assert!(run.stdout.contains(name), "{name} in:\n{}", run.stdout);
    }
    // Each thing that is not there is followed by what to do about it.
    let lines: Vec<_> = run.stdout.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if line.contains("not found") || line.contains("not looked for") || line.contains("none") {
            assert!(lines.get(i + 1).is_some_and(|next| next.contains("-> ")), "{line}");
        }
    }
}
