//! Faults of order, and of what is asynchronous: each is found under every schedule, and named by its lines. Without the fault there must be no report.

use std::ffi::{CStr, c_char};

use emulator_tests::{ERROR_EMULATOR, Queue, Random, outcome};

unsafe extern "C" {
    fn emulator_test_race_name(fault: u64) -> *const c_char;
    fn emulator_test_race(
        queue: &Queue,
        fault: u64,
        sound: i32,
        input: *const f32,
        results: *mut f32,
        flags: *mut u32,
    ) -> i32;
    fn emulator_test_detect_races(on: i32);
}

const SOURCE: &str = include_str!("../kernels/races.cu");
const RESULTS: usize = 24 * 256;

#[repr(align(16))]
struct Input([f32; 1024]);

fn names() -> Vec<String> {
    (0..)
        // SAFETY: a zero-terminated text, or null
        .map(|fault| unsafe { emulator_test_race_name(fault) })
        .take_while(|text| !text.is_null())
        // SAFETY: as above
        .map(|text| unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_owned())
        .collect()
}

fn run(name: &str, sound: bool, seed: u64) -> Result<Vec<u32>, (i32, String)> {
    let fault = names().iter().position(|known| known == name).expect("there is such a fault") as u64;
    let mut input = Input([0.0; 1024]);
    input.0.copy_from_slice(&Random(7).floats(1024));
    let mut results = vec![0f32; RESULTS];
    let mut flags = [0u32; 4];
    // SAFETY: the arrays are as the kernels expect; a fault is found before it does harm
    outcome(unsafe {
        emulator_test_race(
            &Queue::new(seed),
            fault,
            sound.into(),
            input.0.as_ptr(),
            results.as_mut_ptr(),
            flags.as_mut_ptr(),
        )
    })?;
    Ok(results.into_iter().map(f32::to_bits).collect())
}

/// The places that a report of this fault names.
fn planted(name: &str) -> Vec<String> {
    let marker = format!("// planted: {name}");
    let lines: Vec<_> = SOURCE
        .lines()
        .enumerate()
        .filter(|(_, line)| line.ends_with(&marker))
        .map(|(number, _)| format!("races.cu:{}", number + 1))
        .collect();
    assert!(!lines.is_empty(), "the lines of {name} are marked");
    lines
}

fn check(name: &str, texts: &[&str]) {
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(1) };
    let expected = run(name, true, 0).expect("nothing is wrong with the sound kernel");
    for seed in 0..50 {
        assert_eq!(run(name, true, seed).as_ref(), Ok(&expected), "the sound kernel, seed {seed}");
    }
    for seed in 0..8 {
        let (status, report) = run(name, false, seed).expect_err("a report");
        assert_eq!(status, ERROR_EMULATOR);
        assert!(report.starts_with(name) && report.contains(&format!("seed {seed}")), "{report}");
        for part in planted(name).iter().map(String::as_str).chain(texts.iter().copied()) {
            assert!(report.contains(part), "{part:?} not in: {report}");
        }
    }
}

const UNORDERED: &str = "a race, for nothing orders the two";
const UNDER_WAY: &str = "a race, for nobody has waited for it";

#[test]
fn a_read_of_what_another_thread_writes() {
    check("write_then_read", &[UNORDERED]);
}

#[test]
fn a_write_of_what_another_thread_reads() {
    check("read_then_write", &[UNORDERED]);
}

#[test]
fn two_threads_that_write_one_element() {
    check("both_write", &["writes 4 bytes at byte ", "of array 0 of the shared memory", UNORDERED]);
}

#[test]
fn a_shuffle_in_the_place_of_a_warp_barrier() {
    check("warp_transpose", &[UNORDERED]);
}

#[test]
fn matrices_of_rows_that_other_lanes_write() {
    check("rows_not_stored", &[UNORDERED, "of array 2"]);
    check("fragments_overwritten", &[UNORDERED, "of array 2"]);
}

#[test]
fn a_copy_that_nobody_waits_for() {
    check("missing_wait", &[UNDER_WAY]);
    check("own_bytes_under_way", &[UNDER_WAY]);
    check("ends_under_way", &["ends while this copy_async of it is under way"]);
}

#[test]
fn a_wait_that_is_one_group_short() {
    check("one_group_short", &[UNDER_WAY]);
}

#[test]
fn a_wait_without_a_barrier() {
    check("no_barrier_after_wait", &["a race"]);
}

#[test]
fn a_copy_to_a_stage_that_is_still_read() {
    check("stage_overwritten", &["a race"]);
    check("copied_twice", &[UNDER_WAY]);
}

#[test]
fn a_copy_that_reads_past_the_edge() {
    check("ragged_edge", &["reads 16 bytes that begin in input (4088 bytes) but run over the end of it"]);
}

#[test]
fn a_copy_from_an_odd_address() {
    check("misaligned_copy", &["4 bytes past a multiple of 8"]);
}

#[test]
fn a_matrix_instruction_of_part_of_a_warp() {
    check("lane_has_exited", &["of which lane 13 has exited"]);
}

#[test]
fn a_row_of_a_matrix_that_is_not_aligned() {
    check("row_misaligned", &["which is not aligned"]);
}

#[test]
fn threads_of_a_block_that_touch_the_same_bytes_of_global_memory() {
    check("global_write_then_read", &[UNORDERED, "4 bytes at byte ", "of results (24576 bytes), which thread "]);
    check("global_read_then_write", &[UNORDERED]);
    check("global_both_write", &[UNORDERED]);
    check("global_plain_and_atomic", &[UNORDERED, "of flags (16 bytes)"]);
}

#[test]
fn blocks_that_touch_the_same_bytes() {
    check("blocks_write_the_same", &["a race", "of results (24576 bytes), which block ("]);
    check("reads_what_another_writes", &["a race", "4 bytes at byte 3076 of results"]);
}

#[test]
fn blocks_that_signal_without_order() {
    check("missing_release", &["a race"]);
    check("missing_acquire", &["a race"]);
    check("flag_read_plainly", &["a race", "of flags"]);
}

#[test]
fn blocks_that_wait_for_what_may_never_come() {
    check("waits_unannounced", &["the launch does not say that blocks wait for each other"]);
    check("waits_for_later", &["deadlock", "in wait_global_at_least"]);
}

#[test]
fn without_the_detector_values_or_nothing_show_it() {
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(0) };
    let wrong = |name: &str| {
        let expected = run(name, true, 0).unwrap();
        let found = (0..8).filter(|&seed| run(name, false, seed).as_ref() != Ok(&expected)).count();
        println!("{name}: {found} of 8");
        found
    };
    // Values show what a thread reads too early, and random delays what it waits for too little, in most seeds.
    for name in ["write_then_read", "read_then_write", "one_group_short", "missing_wait"] {
        assert!(wrong(name) >= 6, "{name}: {} of 8", wrong(name));
    }
    // No schedule shows what two threads write alike, nor a shuffle where memory needs a barrier: here all lanes meet in it.
    assert_eq!((wrong("both_write"), wrong("warp_transpose")), (0, 0));
}
