//! The counters against counts by hand, under many schedules; and what they say of kernels that do one thing otherwise.

use std::ffi::{CStr, c_char};

use emulator_tests::{Queue, outcome};

/// As `CounterRow` in cuda/emulator/counters.h.
#[repr(C)]
#[derive(Clone, Copy)]
struct Row {
    kernel: [u8; 64],
    operand: [u8; 32],
    kind: i32,
    reserved: u32,
    counts: [u64; 4],
}

unsafe extern "C" {
    fn emulator_test_counted_name(kernel: u32) -> *const c_char;
    fn emulator_test_counted(queue: &Queue, kernel: u32, planted: i32, input: *const f32, output: *mut f32) -> i32;
    fn pk_emulator_counters_begin();
    fn pk_emulator_counters_take(rows: *mut Row, capacity: u64) -> u64;
    fn pk_emulator_counters_end();
}

#[repr(align(128))]
struct Floats([f32; 4096]);

const KINDS: [&str; 8] = [
    "launches",
    "global read",
    "global write",
    "global atomic",
    "shared read",
    "shared write",
    "barriers",
    "instructions",
];

/// A kind, an operand, and: requests or instructions, bytes, sectors or wavefronts, and these at best.
type Count = (&'static str, String, [u64; 4]);

fn count(kernel: &str, planted: bool, seed: u64) -> Vec<Count> {
    // SAFETY: zero-terminated texts, or null
    let name = |number| unsafe { emulator_test_counted_name(number) };
    let number = (0..)
        .take_while(|&number| !name(number).is_null())
        // SAFETY: as above
        .find(|&number| unsafe { CStr::from_ptr(name(number)) }.to_str() == Ok(kernel))
        .expect("there is such a kernel");
    let (input, mut output) = (Box::new(Floats([1.0; 4096])), Box::new(Floats([0.0; 4096])));
    let empty = Row { kernel: [0; 64], operand: [0; 32], kind: 0, reserved: 0, counts: [0; 4] };
    let mut rows = [empty; 64];
    // SAFETY: input and output have as many elements as the kernels expect, and the rows as many as is said; the counters are this thread's
    let found = unsafe {
        pk_emulator_counters_begin();
        let status = outcome(emulator_test_counted(
            &Queue::new(seed),
            number,
            planted.into(),
            input.0.as_ptr(),
            output.0.as_mut_ptr(),
        ));
        let found = pk_emulator_counters_take(rows.as_mut_ptr(), rows.len() as u64);
        pk_emulator_counters_end();
        status.unwrap();
        found as usize
    };
    let text = |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).unwrap().to_str().unwrap().to_owned();
    let mut counts: Vec<Count> = rows[..found]
        .iter()
        .filter(|row| row.kind != 0)
        .inspect(|row| assert_eq!(text(&row.kernel), kernel))
        .map(|row| (KINDS[row.kind as usize], text(&row.operand), row.counts))
        .collect();
    counts.sort();
    counts
}

/// The counts of a kernel are these under every schedule, and those of the planted one are the same but for what `planted` lists.
fn check(kernel: &str, expected: &[(&'static str, &str, [u64; 4])], planted: &[(&'static str, &str, [u64; 4])]) {
    let sorted = |rows: &[(&'static str, &str, [u64; 4])]| {
        let mut rows: Vec<Count> =
            rows.iter().map(|&(kind, operand, counts)| (kind, operand.to_owned(), counts)).collect();
        rows.sort();
        rows
    };
    let others = expected.iter().filter(|row| !planted.iter().any(|other| (other.0, other.1) == (row.0, row.1)));
    let replaced: Vec<_> = others.chain(planted).filter(|row| row.2[0] > 0).copied().collect();
    for seed in 0..12 {
        assert_eq!(count(kernel, false, seed), sorted(expected), "seed {seed}");
        assert_eq!(count(kernel, true, seed), sorted(&replaced), "planted, seed {seed}");
    }
}

#[test]
fn copies_by_threads() {
    // Two warps. Of 16 bytes a lane: 512 in a row, 16 sectors, 4 times 128 bytes of banks; twice. Of 12 bytes: 8 and 4 in every 16, of which all sectors are touched.
    check(
        "copies_by_threads",
        &[
            ("global read", "input", [4 + 4, 2048 + 768, 64 + 64, 64 + 2 * (8 + 4)]),
            ("shared write", "shared 0", [6, 3072, 24, 24]),
        ],
        // 16 bytes of every 32: 32 sectors for what 16 could hold.
        &[("global read", "input", [8, 2816, 128 + 64, 88])],
    );
}

#[test]
fn fragments_of_matrices() {
    // One warp. Four matrices are 32 rows of 16 bytes, 8 at a time; two are 16; one is 8.
    check(
        "matrices",
        &[("shared write", "shared 1", [1, 512, 4, 4]), ("shared read", "shared 1", [3, 512 + 256 + 128, 7, 7])],
        // Rows of 128 bytes: all 8 of a matrix begin in the same bank.
        &[("shared write", "shared 1", [1, 512, 32, 4]), ("shared read", "shared 1", [3, 896, 56, 7])],
    );
}

#[test]
fn conflicts_of_banks() {
    // Two warps: a column without a conflict, 2 halves of 8 bytes a lane, 4 quarters of 16; one word for all lanes.
    check(
        "banks",
        &[
            ("shared write", "shared 0", [6, 256 + 512 + 1024, 2 + 4 + 8, 2 + 4 + 8]),
            ("shared read", "shared 0", [2, 256, 2, 2]),
            ("global write", "output", [2, 256, 8, 8]),
            ("barriers", "", [2, 0, 0, 0]),
        ],
        &[("shared write", "shared 0", [6, 1792, 64 + 4 + 8, 14])],
    );
}

#[test]
fn products_of_warps() {
    check(
        "products",
        &[
            ("instructions", "mma.m16n8k16.bf16", [6, 0, 0, 0]),
            ("instructions", "mma.m16n8k16.f16", [4, 0, 0, 0]),
            ("instructions", "mma.m16n8k8.tf32", [2, 0, 0, 0]),
            ("instructions", "mma.m8n8k4.f64", [2, 0, 0, 0]),
        ],
        &[("instructions", "mma.m16n8k16.bf16", [7, 0, 0, 0])],
    );
}

#[test]
fn products_of_warpgroups() {
    check(
        "warpgroup_products",
        &[("instructions", "wgmma.m64n64k16.bf16", [3, 0, 0, 0])],
        &[("instructions", "wgmma.m64n64k16.bf16", [0; 4]), ("instructions", "wgmma.m64n32k16.bf16", [3, 0, 0, 0])],
    );
}

#[test]
fn bulk_copies() {
    // 4 rows of 256 bytes, 2 of them, and a line of 512: 8 sectors for each row.
    check(
        "bulk_copies",
        &[
            ("global read", "input", [4 + 2 + 1, 1024 + 512 + 512, 32 + 16 + 16, 64]),
            ("global write", "output", [1, 256, 8, 8]),
            ("barriers", "", [1, 0, 0, 0]),
        ],
        // Half of each of the 4 rows is outside.
        &[("global read", "input", [7, 512 + 1024, 16 + 32, 48])],
    );
}

#[test]
fn multicasts_read_once() {
    // Two blocks, 4 rows of 256 bytes each, whoever they are for; planted: each block reads both.
    check(
        "multicasts",
        &[("global read", "input", [8, 2048, 64, 64])],
        &[("global read", "input", [16, 4096, 128, 128])],
    );
}
