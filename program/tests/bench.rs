//! `peft-kernels bench` and `report`: results that fit their schema, and figures made from results.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Run, program};
use serde_json::{Value, json};

fn bench(name: &str, arguments: &[&str]) -> (Run, Value) {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let run = program(&[&["bench", "--rounds", "3", "--output", path.to_str().expect("UTF-8")], arguments].concat());
    let text = fs::read_to_string(&path).expect("results");
    (run, serde_json::from_str(&text).expect("JSON"))
}

fn names(value: &Value) -> Vec<&String> {
    let mut names: Vec<_> = value.as_object().expect("an object").keys().collect();
    names.sort();
    names
}

/// The keys of what is written are those that the schema requires, and the schema knows no others.
fn fits(value: &Value, schema: &Value) {
    assert_eq!(names(value), names(&schema["properties"]), "{value}");
    let mut required: Vec<_> =
        schema["required"].as_array().expect("a list").iter().map(|name| name.as_str().expect("a name")).collect();
    required.sort_unstable();
    assert_eq!(names(value), required);
}

#[test]
fn results_fit_the_schema_and_tell_the_errors_of_every_case() {
    let (run, results) = bench("results.json", &["--queue", "cpu", "--queue", "emulator", "--accuracy"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let schema: Value = serde_json::from_str(include_str!("../../benches/results.schema.json")).expect("JSON");
    fits(&results, &schema);
    let rows = results["rows"].as_array().expect("rows");
    for row in rows {
        let row_schema = &schema["properties"]["rows"]["items"];
        fits(row, row_schema);
        assert!(row["median_ns"].as_f64() > Some(0.0) && row["rounds"] == 3 && row["floor"].is_null(), "{row}");
        if row["arm"] == "ours" {
            fits(&row["error"], &row_schema["properties"]["error"]);
            // One rounding to 16 bits is at most 2^-8 of the largest value.
            let limit = if row["types"] == "f32" { 1e-5 } else { 4e-3 };
            let error = row["error"]["relative"].as_f64().expect("finite");
            // Codes are those of the reference.
            let exact = row["operation"] == "lora.quantize";
            assert!((error > 0.0) != exact && error <= limit, "{row}");
        }
    }
    for (queue, kernel) in [("cpu", "reference"), ("emulator", "lora_forward_mma_small")] {
        assert!(rows.iter().any(|row| row["queue"] == queue && row["kernel"] == kernel), "{queue}");
    }
    assert_eq!(rows.iter().filter(|row| row["arm"] == "copy").count() * 2, rows.len());
}

#[test]
fn what_no_time_is_left_for_is_named() {
    let (run, results) = bench("no-time.json", &["--queue", "emulator", "--shapes", "all", "--budget", "0.01"]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let skipped = results["skipped"].as_array().expect("a list");
    let prefill = skipped.iter().find(|left| left["what"] == "prefill 4096x4096 r16 bf16 on emulator");
    assert_eq!(prefill.expect("not run in a hundredth of a second")["reason"], "no time left of 0.01 s");
}

#[test]
fn a_queue_that_is_not_there_is_a_failure() {
    let (run, results) = bench("no-device.json", &["--queue", "cuda:0"]);
    if results["device"].is_null() {
        assert_eq!(run.status, Some(1));
        assert!(results["skipped"][0]["what"].as_str().expect("a name").starts_with("cuda:0 ("), "{results}");
    } else {
        assert_eq!(run.status, Some(0), "{}", run.stderr);
    }
    assert_eq!(program(&["bench", "--budget", "0"]).status, Some(2));
    assert_eq!(program(&["bench", "--rounds", "2"]).status, Some(2));
}

/// A repository with a README and nothing else.
fn repository(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("benches/results")).expect("a folder");
    let readme =
        "before\n<!-- figures: made by `cargo run --release -- report` -->\nold\n<!-- end of figures -->\nafter\n";
    fs::write(root.join("README.md"), readme).expect("a file");
    root
}

fn report(root: &Path, more: &[&str]) -> Run {
    program(&[&["report", "--root", root.to_str().expect("UTF-8")], more].concat())
}

/// Of a device that does not exist: nobody may take these for figures.
fn made_up(date: &str, peer: Option<f64>) -> Value {
    let row = |arm: &str, kernel: &str, median: f64, flops: u64| {
        let floor = 100_000.0;
        json!({
            "family": "lora", "operation": "lora.forward", "shape": "prefill 4096x4096 r16", "arm": arm, "kernel": kernel, "types": "bf16",
            "extents": {"m": 4096, "n": [4096], "k": 4096, "rank": 16}, "queue": "cuda:0", "cache": "cold", "clock": "device",
            "median_ns": median, "lowest_ns": median, "highest_ns": median, "rounds": 3, "eager_ns": null, "bytes": 100_000_000u64, "flops": flops,
            "floor": {"ns": floor, "bound": "bf16"}, "percent_of_floor": 100.0 * floor / median,
            "error": {"largest": 0.01, "relative": 0.002, "rows": 16}
        })
    };
    let mut rows = vec![row("ours", "made_up_kernel", 200_000.0, 138_000_000_000), row("copy", "", 50_000.0, 0)];
    rows.extend(peer.map(|median| row("a peer", "", median, 138_000_000_000)));
    rows.extend(peer.map(|_| row("matmul", "", 160_000.0, 137_000_000_000)));
    json!({
        "schema": 1, "program": "peft-kernels bench", "date": date, "commit": "0123456789abcdef", "library": "0", "host": "made up",
        "device": {"name": "Made Up 1", "label": "H100 SXM", "driver": "13.0", "compute_capability": 90, "multiprocessors": 132, "memory_bytes": 1, "l2_bytes": 1},
        "software": {}, "seed": 1, "budget_s": 1.0, "copies": [], "rows": rows, "skipped": [], "absent": []
    })
}

fn put(root: &Path, name: &str, results: &Value) {
    fs::write(root.join("benches/results").join(name), results.to_string()).expect("a file");
}

#[test]
fn without_results_the_readme_says_so() {
    let root = repository("report-empty");
    assert_eq!(report(&root, &["--check"]).status, Some(1));
    assert_eq!(report(&root, &[]).status, Some(0));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    assert!(readme.starts_with("before\n") && readme.ends_with("after\n"), "{readme}");
    assert!(readme.contains("-->\nNo GPU figures were taken yet.\n<!--"), "{readme}");
    assert_eq!(report(&root, &["--check"]).status, Some(0));
}

#[test]
fn figures_are_those_of_the_newest_run_that_has_peers() {
    let root = repository("report-peers");
    put(&root, "a.json", &made_up("2030-01-01T00:00:00Z", None));
    put(&root, "b.json", &made_up("2030-01-02T00:00:00Z", Some(100_000.0)));
    put(&root, "c.json", &made_up("2030-01-03T00:00:00Z", None));
    assert_eq!(report(&root, &[]).status, Some(0));
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    let row = "| lora.forward | prefill 4096x4096 r16 | bf16 | `made_up_kernel` | 200 µs | 50 | 25 | 1.25 × | a peer, **0.50 ×: we lose** | 2.00e-3 |";
    assert!(readme.contains(row), "{readme}");
    assert!(readme.contains("Made Up 1, driver for CUDA 13.0, measured 2030-01-02 at 0123456789ab"), "{readme}");
    for picture in ["roofline-made-up-1-lora.svg", "peers-made-up-1-lora.svg"] {
        let text = fs::read_to_string(root.join("docs/figures").join(picture)).expect("a picture");
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n") && readme.contains(picture), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }
    assert_eq!(report(&root, &["--check"]).status, Some(0));

    // Without results the pictures go, and until then they are found.
    for name in ["a.json", "b.json", "c.json"] {
        fs::remove_file(root.join("benches/results").join(name)).expect("there");
    }
    let run = report(&root, &["--check"]);
    assert!(run.status == Some(1) && run.stderr.contains("roofline-made-up-1-lora.svg"), "{}", run.stderr);
    assert_eq!(report(&root, &[]).status, Some(0));
    assert!(!root.join("docs/figures/roofline-made-up-1-lora.svg").exists());
}

#[test]
fn results_that_cannot_be_right_are_refused() {
    let root = repository("report-wrong");
    for (change, expected) in [
        (json!({"rounds": 2}), "at least 3 rounds"),
        (json!({"median_ns": 3e5}), "ordered times"),
        (json!({"percent_of_floor": 80.0}), "% of a floor"),
        (json!({"surprise": 1}), "surprise"),
    ] {
        let mut results = made_up("2030-01-01T00:00:00Z", None);
        let row = results["rows"][0].as_object_mut().expect("a row");
        row.extend(change.as_object().expect("an object").clone());
        put(&root, "a.json", &results);
        let run = report(&root, &[]);
        assert!(run.status == Some(2) && run.stderr.contains(expected), "{}", run.stderr);
    }
}

#[test]
fn every_operation_of_every_family_has_a_row_and_its_family_has_pictures() {
    let root = repository("report-families");
    let list: Value = serde_json::from_str(include_str!("../../benches/shapes.json")).expect("JSON");
    let mut results = made_up("2030-01-01T00:00:00Z", Some(300_000.0));
    let four = results["rows"].as_array().expect("rows").clone();
    let mut rows = Vec::new();
    for (family, shapes) in list["families"].as_object().expect("families") {
        for shape in shapes.as_array().expect("shapes") {
            for row in &four {
                let mut row = row.clone();
                row["family"] = json!(family);
                for (of_row, of_shape) in [("operation", "operation"), ("shape", "name"), ("extents", "extents")] {
                    row[of_row] = shape[of_shape].clone();
                }
                row["types"] = shape["types"][0].clone();
                // What has no product has no operations to speak of, and no product with W alone.
                let product = ["forward", "backward"].iter().any(|end| shape["operation"] == format!("lora.{end}"));
                if product || row["arm"] != "matmul" {
                    rows.push(row);
                }
            }
        }
    }
    results["rows"] = json!(rows);
    put(&root, "a.json", &results);
    let run = report(&root, &[]);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let readme = fs::read_to_string(root.join("README.md")).expect("a README");
    for (family, shapes) in list["families"].as_object().expect("families") {
        let pictures = ["roofline", "peers"].map(|kind| format!("{kind}-made-up-1-{family}.svg"));
        let pictures = pictures.map(|name| {
            assert!(readme.contains(&name), "{readme}");
            fs::read_to_string(root.join("docs/figures").join(name)).expect("a picture")
        });
        for shape in shapes.as_array().expect("shapes") {
            let [operation, name, types] =
                [&shape["operation"], &shape["name"], &shape["types"][0]].map(|text| text.as_str().expect("text"));
            let row = format!("| {operation} | {name} | {types} | `made_up_kernel` | 200 µs |");
            assert_eq!(readme.matches(&row).count(), 1, "{row}");
            assert!(pictures.iter().all(|picture| picture.contains(&format!("{name} {types}"))), "{name}");
        }
        assert!(pictures.iter().all(|picture| !picture.contains("NaN") && !picture.contains("inf")), "{family}");
    }
    assert_eq!(report(&root, &["--check"]).status, Some(0));
}
