//! Kernels with planted faults: each must be found under every schedule, and named by its line. Without the fault there must be no report.

use std::ffi::{CStr, c_char};

use emulator_tests::{ERROR_EMULATOR, Queue, Random, outcome};

unsafe extern "C" {
    fn emulator_test_fault_name(fault: u64) -> *const c_char;
    fn emulator_test_fault(queue: &Queue, fault: u64, sound: i32, input: *const f32, results: *mut f32) -> i32;
    fn emulator_test_has_address_sanitizer() -> i32;
    fn emulator_test_detect_races(on: i32);
}

const SOURCE: &str = include_str!("../kernels/faults.cu");
const SEEDS: std::ops::Range<u64> = 0..8;

/// What shows a fault.
enum Shows<'a> {
    /// A report that names the planted line and says this.
    Report(&'a str),
    /// A report of the whole block, which says this.
    BlockReport(&'a str),
    /// Wrong values, in these seeds at least.
    Values(&'a [u64]),
}

fn fault_number(name: &str) -> u64 {
    for fault in 0.. {
        // SAFETY: a zero-terminated text, or null
        let text = unsafe { emulator_test_fault_name(fault) };
        assert!(!text.is_null(), "there is no fault {name}");
        // SAFETY: as above
        if unsafe { CStr::from_ptr(text) }.to_str() == Ok(name) {
            return fault;
        }
    }
    unreachable!()
}

/// The results of a run, NaN where nothing was written.
fn run(name: &str, sound: bool, seed: u64) -> Result<Vec<u32>, (i32, String)> {
    // `Vector<float, 4>` is aligned to 16 bytes.
    let mut memory = [0u128; 64];
    let mut results = vec![f32::NAN; 256];
    let input = memory.as_mut_ptr().cast::<f32>();
    for (i, value) in Random(7).floats(256).into_iter().enumerate() {
        // SAFETY: the memory has 256 floats
        unsafe { input.add(i).write(value) };
    }
    // SAFETY: input and results are as the kernels expect; a fault is found before it does harm
    outcome(unsafe {
        emulator_test_fault(&Queue::new(seed), fault_number(name), sound.into(), input, results.as_mut_ptr())
    })?;
    Ok(results.into_iter().map(f32::to_bits).collect())
}

fn planted_line(name: &str) -> usize {
    let marker = format!("// planted: {name}");
    1 + SOURCE.lines().position(|line| line.ends_with(&marker)).expect("the line is marked")
}

fn check(name: &str, shows: Shows) {
    // Of the schedules alone; with the detector of races there is a report before wrong values.
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(i32::from(!matches!(shows, Shows::Values(_)))) };
    let expected = run(name, true, 0).expect("nothing is wrong with the sound kernel");
    for seed in 0..50 {
        assert_eq!(run(name, true, seed).as_ref(), Ok(&expected), "the sound kernel, seed {seed}");
    }
    for seed in SEEDS {
        let found = run(name, false, seed);
        match shows {
            Shows::Values(seeds) => {
                if seeds.contains(&seed) {
                    assert_ne!(found.expect("only values show it"), expected, "seed {seed}");
                }
            }
            Shows::Report(text) => {
                let (status, report) = found.expect_err("a report");
                assert_eq!(status, ERROR_EMULATOR);
                let place = format!("faults.cu:{}", planted_line(name));
                assert!(report.contains(&place) && report.contains(text), "{place} and {text:?} not in: {report}");
                assert!(report.starts_with(name) && report.contains(&format!("seed {seed}")), "{report}");
            }
            Shows::BlockReport(text) => {
                let (status, report) = found.expect_err("a report");
                assert_eq!(status, ERROR_EMULATOR);
                assert!(report.starts_with(name) && report.contains(text), "{text:?} not in: {report}");
            }
        }
    }
}

const ALL_SEEDS: &[u64] = &[0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn a_missing_barrier_shows_in_values() {
    check("missing_barrier", Shows::Values(ALL_SEEDS));
}

#[test]
fn a_warp_that_runs_ahead_shows_in_values() {
    check("missing_trailing_barrier", Shows::Values(ALL_SEEDS));
}

#[test]
fn uninitialised_shared_memory_is_nan() {
    check("uninitialised_shared", Shows::Values(ALL_SEEDS));
    for seed in SEEDS {
        let results = run("uninitialised_shared", false, seed).unwrap();
        assert!(
            f32::from_bits(results[155]).is_nan()
                && results.iter().filter(|&&bits| f32::from_bits(bits).is_nan()).count() == 1
        );
    }
}

#[test]
fn a_lost_update_shows_in_values() {
    // Not in the plain order (0) and its reverse (6), where no thread is interrupted between two barriers.
    check("lost_update", Shows::Values(&[1, 2, 3, 4, 5, 7]));
    // The detector of races sees it in all.
    check("lost_update", Shows::Report("a race, for nothing orders the two"));
}

#[test]
fn a_divergent_barrier_is_reported() {
    check("divergent_barrier", Shows::Report("barrier"));
}

#[test]
fn a_full_mask_in_a_branch_is_reported() {
    check("full_mask_in_branch", Shows::Report("lanes of one warp in different collectives"));
}

#[test]
fn reading_an_absent_lane_is_reported() {
    check("absent_lane", Shows::Report("reads lane 20, which takes no part"));
}

#[test]
fn a_lane_outside_its_own_mask_is_reported() {
    check("not_in_own_mask", Shows::Report("lane 16 is not in its own mask 0000ffff"));
}

#[test]
fn a_shared_index_past_the_end_is_reported() {
    check("shared_past_end", Shows::Report("thread (255,0,0)"));
    check("shared_past_end", Shows::Report("accesses 1 element at index 256 of a shared array of 256"));
}

#[test]
fn a_global_read_past_the_end_is_reported() {
    check("global_past_end", Shows::Report("reads 4 bytes past the end of input [4, 58]"));
}

#[test]
fn a_global_read_of_padding_is_reported() {
    check("global_padding", Shows::Report("reads 4 bytes in the padding of input [4, 58], at the end of row 1"));
}

#[test]
fn a_vector_that_runs_over_the_end_of_a_row_is_reported() {
    check(
        "global_run_over",
        Shows::Report("reads 16 bytes that begin in input [4, 58] but run over the end of it or of a row"),
    );
}

#[test]
fn a_misaligned_access_is_reported() {
    check("misaligned", Shows::Report("reads 8 bytes at an address that is 4 bytes past a multiple of 8"));
}

#[test]
fn a_write_to_an_input_is_reported() {
    check(
        "write_to_input",
        Shows::Report("writes 4 bytes of input [4, 58], which the launch declared only to be read"),
    );
    check("write_to_input", Shows::Report("thread (77,0,0)"));
}

#[test]
fn a_read_of_an_output_is_reported() {
    check(
        "read_of_output",
        Shows::Report("reads 4 bytes of results (1024 bytes), which the launch declared only to be written"),
    );
}

#[test]
fn a_deadlock_lists_who_waits_where() {
    let line = planted_line("deadlock");
    check("deadlock", Shows::BlockReport("deadlock, none of 256 threads can go on:"));
    check("deadlock", Shows::BlockReport(" in warp_barrier at "));
    check("deadlock", Shows::BlockReport(&format!("faults.cu:{line}")));
    check("deadlock", Shows::BlockReport(&format!("faults.cu:{}", line + 1)));
}

#[test]
fn a_launch_with_too_little_shared_memory_is_reported() {
    check("too_little_shared", Shows::Report("uses 2048 bytes of shared memory, the launch gave 1024"));
}

#[test]
fn an_overrun_past_the_checks_is_reported_when_the_block_ends() {
    // SAFETY: it takes nothing
    if unsafe { emulator_test_has_address_sanitizer() } != 0 {
        return; // which ends the process at the overrun itself
    }
    check(
        "guard_overwritten",
        Shows::BlockReport("array 0 of the shared memory (256 elements of 4 bytes) was overrun"),
    );
}
