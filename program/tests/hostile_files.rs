//! Files that lie: each is an error that names file and reason and exit status 2, never a panic, and never an allocation of the size that it claims.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Run, file, numbers, safetensors};

/// Runs the check in an address space of 2 GB, where the system has such a limit.
fn check(path: &Path) -> Run {
    let program = env!("CARGO_BIN_EXE_peft-kernels");
    let output = if cfg!(target_os = "linux") {
        let command = "ulimit -v 2000000; exec \"$0\" check --queue cpu --weights \"$1\"";
        Command::new("sh").args(["-c", command, program]).arg(path).output()
    } else {
        Command::new(program).args(["check", "--queue", "cpu", "--weights"]).arg(path).output()
    };
    Run::of(&output.expect("the program starts"))
}

fn assert_refused(path: &Path, reason: &str) {
    let run = check(path);
    let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
    assert_eq!(run.status, Some(2), "{name}: {}{}", run.stdout, run.stderr);
    assert_eq!(run.stdout, "", "{name}");
    assert!(run.stderr.contains(name) && run.stderr.contains(reason), "{name}: expected `{reason}` in: {}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{name}: {}", run.stderr);
    assert_eq!(run.stderr.lines().count(), 1, "{name}: {}", run.stderr);
}

fn refused(name: &str, bytes: &[u8], reason: &str) {
    assert_refused(&file(name, bytes), reason);
}

/// One tensor `w`.
fn one(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
}

#[test]
fn what_is_no_file() {
    assert_refused(Path::new("there-is-no.safetensors"), "cannot be opened");
    assert_refused(Path::new(env!("CARGO_TARGET_TMPDIR")), "is a directory");
    refused("empty.safetensors", b"", "is empty");
    if cfg!(unix) {
        assert_refused(Path::new("/dev/null"), "is not a file");
    }
}

#[test]
fn header_lengths() {
    refused("seven-bytes.safetensors", b"1234567", "it has 7 bytes");
    for (name, length) in [("2-63", 1u64 << 63), ("2-64", u64::MAX), ("100-mb", 100_000_001)] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        refused(&format!("header-of-{name}.safetensors"), &bytes, &format!("a header of {length} bytes"));
    }
    let bytes = [&99_999_999u64.to_le_bytes()[..], b"{}"].concat();
    refused("long-header.safetensors", &bytes, "truncated: the header has 99999999 bytes, but only 2 follow");
    refused("no-header.safetensors", &0u64.to_le_bytes(), "not safetensors JSON");
}

#[test]
fn headers_that_are_something_else() {
    for (name, header) in [
        ("text", "hello"),
        ("list", "[1, 2]"),
        ("number", "7"),
        ("half", r#"{"w":{"dtype":"F32","sha"#),
        ("no-shape", r#"{"w":{"dtype":"F32","data_offsets":[0,4]}}"#),
        ("negative", r#"{"w":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}"#),
        ("fraction", r#"{"w":{"dtype":"F32","shape":[1.5,2],"data_offsets":[0,12]}}"#),
        ("three-offsets", r#"{"w":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4,4]}}"#),
        ("too-large-a-number", r#"{"w":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}"#),
    ] {
        refused(&format!("header-{name}.safetensors"), &safetensors(header, &[0; 4]), "not safetensors JSON");
    }
    refused("header-deep.safetensors", &safetensors(&"[".repeat(1 << 20), &[]), "not safetensors JSON");
    let deep = format!(r#"{{"w":{}"#, r#"{"x":"#.repeat(1 << 18));
    refused("header-deep-entry.safetensors", &safetensors(&deep, &[]), "not safetensors JSON");
    let mut bytes = safetensors(&one("F32", "[1,1]", "[0,4]"), &[0; 4]);
    bytes[12] = 0xff;
    refused("header-not-utf8.safetensors", &bytes, "not safetensors JSON");
}

#[test]
fn offsets_and_shapes() {
    let data = numbers(4);
    let file = |header: &str| safetensors(header, &data);
    refused("beyond-the-end.safetensors", &file(&one("F32", "[2,4]", "[0,32]")), "but the file has only 16");
    refused("far-away.safetensors", &file(&one("F32", "[2,2]", "[18446744073709551599,18446744073709551615]")), "`w`");
    refused("backwards.safetensors", &file(&one("F32", "[2,2]", "[16,0]")), "begin at 16 and end at 0");
    refused("too-few-bytes.safetensors", &file(&one("F32", "[2,3]", "[0,16]")), "takes 24 bytes, but it has 16");
    refused("too-many-bytes.safetensors", &file(&one("F16", "[2,2]", "[0,16]")), "takes 8 bytes, but it has 16");
    for shape in ["[4294967296,4294967296]", "[9223372036854775808,2]", "[18446744073709551615,18446744073709551615]"] {
        refused("product.safetensors", &file(&one("F32", shape, "[0,16]")), "more elements than 64 bits");
    }
    let shape = "[4294967296,2147483648]";
    refused("product-in-bytes.safetensors", &file(&one("F32", shape, "[0,16]")), "takes more than 2^64 bytes");
    let large = one("F32", "[1000000,1000000]", "[0,4000000000000]");
    refused("4-terabytes.safetensors", &file(&large), "truncated?");
    let entry = |name, offsets| format!(r#""{name}":{{"dtype":"F32","shape":[1,2],"data_offsets":{offsets}}}"#);
    let overlapping = format!("{{{},{}}}", entry("first", "[0,8]"), entry("second", "[4,12]"));
    refused("overlapping.safetensors", &file(&overlapping), "`first` and `second` overlap");
    // Eight tensors of 2^61 bytes: the sum of all sizes is 2^64.
    let entry = |i: u64| {
        let size = 1u64 << 61;
        let (begin, end) = (i * size, (i + 1).saturating_mul(size));
        format!(r#""{i}":{{"dtype":"F64","shape":[{}],"data_offsets":[{begin},{end}]}}"#, size / 8)
    };
    let eight = (0..8).map(entry).collect::<Vec<_>>().join(",");
    refused("eight.safetensors", &file(&format!("{{{eight}}}")), "truncated?");
}

#[test]
fn nothing_to_check() {
    let data = numbers(8);
    let file = |header: &str| safetensors(header, &data);
    refused("no-tensor.safetensors", &safetensors("{}", &[]), "no layer");
    refused("vector.safetensors", &file(&one("F32", "[8]", "[0,32]")), "no layer");
    refused("cube.safetensors", &file(&one("F32", "[2,2,2]", "[0,32]")), "no layer");
    refused("integers.safetensors", &file(&one("I32", "[2,4]", "[0,32]")), "no layer");
    refused("f64.safetensors", &file(&one("F64", "[2,2]", "[0,32]")), "no layer");
    refused("unknown-type.safetensors", &file(&one("F4", "[2,32]", "[0,32]")), "no layer");
    // No bytes, and so any extents are right; activations of such a width would not fit anywhere.
    refused("no-rows.safetensors", &file(&one("F32", "[0,4611686018427387904]", "[0,0]")), "no layer");
    refused("no-columns.safetensors", &file(&one("F32", "[4611686018427387904,0]", "[0,0]")), "no layer");
    let mut not_finite = numbers(4);
    not_finite[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    refused("nan.safetensors", &safetensors(&one("F32", "[2,2]", "[0,16]"), &not_finite), "no layer");
}

#[test]
fn activations_that_do_not_fit_are_not_used() {
    for (i, (shape, bytes)) in
        [("[4611686018427387904,0]", 0), ("[8]", 32), ("[4,2]", 32), ("[2,2,2]", 32)].iter().enumerate()
    {
        let header = format!(
            r#"{{"w":{{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}},"hidden_states":{{"dtype":"F32","shape":{shape},"data_offsets":[32,{}]}}}}"#,
            32 + bytes
        );
        let run = check(&file(&format!("activations-{i}.safetensors"), &safetensors(&header, &numbers(16))));
        assert_eq!(run.status, Some(0), "{shape}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn truncated_anywhere() {
    let header = format!("{}   ", one("F32", "[2,4]", "[0,32]"));
    let bytes = safetensors(&header, &numbers(8));
    assert_eq!(check(&file("whole.safetensors", &bytes)).status, Some(0));
    for length in 0..bytes.len() {
        let path = file("truncated.safetensors", &bytes[..length]);
        assert_refused(&path, "truncated.safetensors");
    }
}

#[test]
fn any_byte_of_a_header_may_be_wrong() {
    let bytes = safetensors(&one("F32", "[2,4]", "[0,32]"), &numbers(8));
    for index in 0..bytes.len() - 32 {
        for byte in [b'0', b'9', b'}', 0xff] {
            let mut bytes = bytes.clone();
            bytes[index] = byte;
            let run = check(&file("one-byte.safetensors", &bytes));
            assert!(matches!(run.status, Some(0 | 2)), "byte {index} is {byte}: {:?} {}", run.status, run.stderr);
            assert!(!run.stderr.contains("panicked"), "byte {index} is {byte}: {}", run.stderr);
        }
    }
}
