//! Clusters and overlapping launches against their definitions, with random data and schedules; and their planted faults, each found under every schedule.

use std::ffi::{CStr, c_char};

use emulator_tests::{ERROR_CUDA, ERROR_EMULATOR, Queue, Random, outcome};

use crate::{Chips, Trials, conforms, on_emulator};

emulator_tests::kernels! {
    fn cluster(kernel: u32, fault: u32, extents: *const u32, input: *const u32, results: *mut u32);
    fn overlap(
        fault: u32,
        blocks: u32,
        input: *mut u32,
        between: *mut u32,
        results: *mut u32,
        started: *mut u32,
        seen: *mut u32,
    );
}

unsafe extern "C" {
    fn emulator_test_cluster_fault_name(fault: u32) -> *const c_char;
    fn emulator_test_detect_races(on: i32);
}

const SOURCE: &str = include_str!("../../kernels/clusters.cu");
const WORDS: usize = 256;
const THREADS: usize = 64;
const ROUNDS: u32 = 5;

const EXCHANGE: u32 = 0;
const PASS_ON: u32 = 1;
const SHARE_TILE: u32 = 2;
const SEND_LINE: u32 = 3;

type Outcome<T> = Result<T, (i32, String)>;

fn fault_number(name: &str) -> u32 {
    (0..)
        .map_while(|fault| {
            // SAFETY: a zero-terminated text, or null
            let text = unsafe { emulator_test_cluster_fault_name(fault) };
            // SAFETY: as above
            (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_str().unwrap())
        })
        .position(|known| known == name)
        .expect("there is such a fault") as u32
}

/// Where in a grid of clusters a block is.
struct Shape {
    grid: [u32; 3],
    cluster: [u32; 3],
}

impl Shape {
    fn blocks(&self) -> usize {
        self.grid.iter().product::<u32>() as usize
    }

    fn size(&self) -> usize {
        self.cluster.iter().product::<u32>() as usize
    }

    /// The numbers of the blocks of the cluster that a block is in, by rank, and its own rank.
    fn cluster_of(&self, block: usize) -> (Vec<usize>, usize) {
        let [x, y, _] = self.grid;
        let at = [block as u32 % x, block as u32 / x % y, block as u32 / x / y];
        let first: [u32; 3] = std::array::from_fn(|axis| at[axis] / self.cluster[axis] * self.cluster[axis]);
        let mut all = Vec::new();
        for k in 0..self.cluster[2] {
            for j in 0..self.cluster[1] {
                for i in 0..self.cluster[0] {
                    all.push((((first[2] + k) * y + first[1] + j) * x + first[0] + i) as usize);
                }
            }
        }
        let rank = all.iter().position(|&other| other == block).unwrap();
        (all, rank)
    }
}

/// The input as bytes that are aligned for copies.
fn aligned(input: &[u32]) -> Vec<u128> {
    input.chunks(4).map(|row| (0..4).fold(0, |bits, i| bits | u128::from(row[i]) << (32 * i))).collect()
}

fn run(kernel: u32, fault: &str, shape: &Shape, seed: u64, input: &[u32]) -> Outcome<Vec<u32>> {
    let aligned = aligned(input);
    let count = shape.blocks() * WORDS * if kernel == SHARE_TILE { shape.size() } else { 1 };
    let mut results = vec![0; count];
    let extents = [shape.grid, shape.cluster];
    // SAFETY: the arrays have the extents of the shape
    outcome(unsafe {
        kernels::cluster(
            &Queue::new(seed),
            kernel,
            fault_number(fault),
            extents.as_ptr().cast(),
            aligned.as_ptr().cast(),
            results.as_mut_ptr(),
        )
    })?;
    Ok(results)
}

fn random_input(shape: &Shape, seed: u64) -> Vec<u32> {
    let mut random = Random(seed);
    (0..shape.blocks() * WORDS).map(|_| random.bits32()).collect()
}

/// What the kernels compute.
fn expected(kernel: u32, shape: &Shape, input: &[u32]) -> Vec<u32> {
    let of = |block: usize| &input[block * WORDS..][..WORDS];
    let mut results = Vec::new();
    for block in 0..shape.blocks() {
        let (all, rank) = shape.cluster_of(block);
        let size = all.len();
        match kernel {
            EXCHANGE => {
                // The next block stored into this one what it read from the block after it, in groups of four from the end.
                let from = of(all[(rank + 2) % size]);
                results.extend((0..WORDS).map(|i| from[WORDS - 4 - i / 4 * 4 + i % 4]));
            }
            PASS_ON => {
                let mut values: Vec<Vec<u32>> = all.iter().map(|&other| of(other)[..THREADS].to_vec()).collect();
                for round in 0..ROUNDS {
                    let before = values.clone();
                    for (other, value) in values.iter_mut().enumerate() {
                        let from = &before[(other + size - 1) % size];
                        for (i, value) in value.iter_mut().enumerate() {
                            *value = value.wrapping_mul(3).wrapping_add(from[THREADS - 1 - i].wrapping_add(round));
                        }
                    }
                }
                results.extend(values[rank].iter().chain(&vec![0; WORDS - THREADS]));
            }
            SHARE_TILE => all.iter().for_each(|&other| results.extend(of(other))),
            _ => {
                let before = (rank + size - 1) % size;
                results.extend(of(all[before]).iter().map(|value| value ^ before as u32));
            }
        }
    }
    results
}

fn agree_with_their_definition(kernels: &[u32]) {
    let shapes = [
        ([6, 1, 1], [1, 1, 1]),
        ([6, 1, 1], [2, 1, 1]),
        ([8, 3, 1], [4, 1, 1]),
        ([4, 6, 1], [2, 3, 1]),
        ([2, 4, 4], [1, 2, 4]),
        ([16, 1, 1], [8, 1, 1]),
    ];
    for &kernel in kernels {
        for (number, &(grid, cluster)) in shapes.iter().enumerate() {
            let shape = Shape { grid, cluster };
            let input = random_input(&shape, number as u64);
            let expected = expected(kernel, &shape, &input);
            for seed in 0..if number < 3 { 50 } else { 8 } {
                let found = run(kernel, "none", &shape, seed, &input);
                assert!(found.as_ref() == Ok(&expected), "kernel {kernel} {grid:?} seed {seed}: {:?}", found.err());
            }
        }
    }
}

fn blocks_reach_each_other() {
    agree_with_their_definition(&[EXCHANGE, PASS_ON, SEND_LINE]);
}

fn multicasts_reach_all_blocks() {
    agree_with_their_definition(&[SHARE_TILE]);
}

fn what_a_chip_cannot_launch_is_refused() {
    let run_on = |device: i32, grid: [u32; 3], cluster: [u32; 3]| {
        let shape = Shape { grid, cluster };
        let mut results = vec![0; shape.blocks() * WORDS];
        let input = aligned(&vec![0; shape.blocks() * WORDS]);
        let extents = [shape.grid, shape.cluster];
        // SAFETY: as in run()
        outcome(unsafe {
            kernels::cluster(
                &Queue::of_chip(device, 1),
                SEND_LINE,
                0,
                extents.as_ptr().cast(),
                input.as_ptr().cast(),
                results.as_mut_ptr(),
            )
        })
    };
    assert_eq!(run_on(90, [8, 2, 1], [8, 1, 1]), Ok(()));
    for (device, grid, cluster, text) in [
        (90, [18, 1, 1], [9, 1, 1], "extent of a cluster 9"),
        (90, [8, 2, 1], [8, 2, 1], "blocks of a cluster 16"),
        (90, [7, 1, 1], [2, 1, 1], "blocks past the last whole cluster 1"),
        (80, [8, 1, 1], [2, 1, 1], "blocks of a cluster 2, this chip has 1 to 1"),
    ] {
        let (status, report) = run_on(device, grid, cluster).unwrap_err();
        assert!(status == ERROR_CUDA && report.contains(text), "{text:?} not in: {report}");
    }
}

fn planted(name: &str) -> Vec<String> {
    let marker = format!("// planted: {name}");
    let lines: Vec<_> = (1..)
        .zip(SOURCE.lines())
        .filter(|(_, line)| line.ends_with(&marker))
        .map(|(number, _)| format!("clusters.cu:{number}"))
        .collect();
    assert!(!lines.is_empty(), "the lines of {name} are marked");
    lines
}

/// Reported under every schedule: with all the lines that are marked so, and one of the texts.
fn check_report(found: Outcome<Vec<u32>>, seed: u64, line: &str, texts: &[&str]) {
    let (status, report) = found.expect_err("a report");
    assert_eq!(status, ERROR_EMULATOR);
    assert!(report.contains(&format!("seed {seed}")), "{report}");
    for place in if line.is_empty() { vec![] } else { planted(line) } {
        assert!(report.contains(&place), "{place:?} not in: {report}");
    }
    assert!(texts.iter().any(|text| report.contains(text)), "{texts:?} not in: {report}");
}

fn check(kernel: u32, fault: &str, line: &str, texts: &[&str]) {
    let shape = Shape { grid: [8, 1, 1], cluster: [4, 1, 1] };
    let input = random_input(&shape, 3);
    for seed in 0..8 {
        check_report(run(kernel, fault, &shape, seed, &input), seed, line, texts);
    }
}

fn misuse_of_the_barrier_of_the_cluster() {
    check(EXCHANGE, "no_first_barrier", "remote_access", &["no cluster_wait() says that this one has started"]);
    check(EXCHANGE, "relaxed_arrival", "relaxed_arrival", &["a race, for nothing orders the two"]);
    check(EXCHANGE, "arrives_twice", "arrives_twice", &["arrives at the barrier of the cluster again"]);
    check(EXCHANGE, "waits_without_arrival", "waits_without_arrival", &["and did not arrive at it"]);
    check(EXCHANGE, "no_last_barrier", "remote_access", &["a race", "may still access", "which has exited"]);
    check(EXCHANGE, "one_thread_missing", "cluster_barrier", &["deadlock, none of 256 threads can go on"]);
    check(EXCHANGE, "one_thread_missing", "one_thread_missing", &["1 of block (1,0,0)", "1 of block (5,0,0)"]);
}

fn misuse_of_another_blocks_memory() {
    check(EXCHANGE, "no_such_block", "no_such_block", &["of a cluster of 4"]);
    check(EXCHANGE, "past_end", "remote_access", &["at index 256 of a shared array of 256"]);
    check(
        EXCHANGE,
        "exits_early",
        "exits_early",
        &["may still access the shared memory of its block", "which has exited"],
    );
}

fn misuse_of_barriers_between_blocks() {
    check(PASS_ON, "overrun_stage", "", &["a race, for nothing orders the two", "deadlock"]);
    check(PASS_ON, "waits_in_block_only", "waits_in_block_only", &["a race, for nothing orders the two"]);
    check(PASS_ON, "exits_before_arrivals", "exits_before_arrivals", &["may still access", "which has exited"]);
    check(PASS_ON, "barrier_not_initialised", "", &["a barrier that is not initialised"]);
}

fn misuse_of_multicasts() {
    check(SHARE_TILE, "rank_left_out", "full", &["deadlock"]);
    check(
        SHARE_TILE,
        "too_few_bytes",
        "",
        &["than were announced", "too few were announced", "which has exited", "may still access", "a race"],
    );
    check(SHARE_TILE, "too_many_bytes", "full", &["deadlock"]);
    check(SHARE_TILE, "tile_not_waited_for", "tile", &["a race"]);
    check(SHARE_TILE, "into_no_block", "multicast", &["into no block"]);
}

fn misuse_of_copies_between_blocks() {
    check(SEND_LINE, "source_overwritten", "source_overwritten", &["a race"]);
    check(SEND_LINE, "no_proxy_fence", "no_proxy_fence", &["no fence_proxy_async() of that thread"]);
    check(SEND_LINE, "barrier_elsewhere", "copy", &["the barrier is not in the block that is copied to"]);
    check(SEND_LINE, "source_exits", "copy", &["a copy may still access the shared memory of its block"]);
}

// ---- overlapping launches ----

const BLOCKS: usize = 10;

/// The results, what is left in the first one's input, and what the blocks of the second saw of the first.
fn overlap(fault: &str, seed: u64) -> Outcome<[Vec<u32>; 3]> {
    let count = BLOCKS * THREADS;
    let mut random = Random(11);
    let mut input: Vec<u32> = (0..count).map(|_| random.bits32()).collect();
    let (mut between, mut results, mut started, mut seen) = (vec![0; count], vec![0; count], 0, vec![0; BLOCKS]);
    // SAFETY: the arrays are as the kernels expect
    outcome(unsafe {
        kernels::overlap(
            &Queue::new(seed),
            fault_number(fault),
            BLOCKS as u32,
            input.as_mut_ptr(),
            between.as_mut_ptr(),
            results.as_mut_ptr(),
            &mut started,
            seen.as_mut_ptr(),
        )
    })?;
    Ok([results, input, seen])
}

fn the_second_grid_waits_for_the_first() {
    let mut random = Random(11);
    let between: Vec<u32> = (0..BLOCKS * THREADS).map(|_| random.bits32().wrapping_mul(3).wrapping_add(1)).collect();
    let results: Vec<u32> = between.iter().rev().map(|value| value.wrapping_add(5)).collect();
    for seed in 0..50 {
        let [found, input, _] = overlap("none", seed).unwrap();
        assert!(found == results && input == between, "seed {seed}");
    }
}

fn many_schedules_begin_the_second_grid_before_the_first_has_ended() {
    let overlapped = (0..50).filter(|&seed| {
        let [_, _, seen] = overlap("none", seed).unwrap();
        seen.iter().any(|&blocks| blocks < BLOCKS as u32)
    });
    assert!((20..50).contains(&overlapped.count()));
}

fn what_does_not_wait_for_the_first_grid_is_a_race() {
    for seed in 0..8 {
        for fault in ["no_wait_for_primary", "overwrites_before_wait"] {
            let found = overlap(fault, seed).map(|[results, ..]| results);
            check_report(found, seed, fault, &["which first_of_two block ("]);
        }
        let found = overlap("reads_before_wait", seed).map(|[results, ..]| results);
        check_report(found, seed, "reads_before_wait", &["writes at kernels/clusters.cu", "clusters.cu"]);
    }
}

fn without_the_detector_exits_are_seen_where_they_come_too_early() {
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(0) };
    let shape = Shape { grid: [8, 1, 1], cluster: [4, 1, 1] };
    let input = random_input(&shape, 3);
    let reports = (0..16).filter(|&seed| match run(EXCHANGE, "exits_early", &shape, seed, &input) {
        Ok(_) => false,
        Err((_, report)) => {
            assert!(report.contains("which has exited"), "{report}");
            true
        }
    });
    assert!(reports.count() >= 8);
}

/// Results and reports of all kernels, as one text.
fn fingerprint() -> String {
    let shape = Shape { grid: [24, 1, 1], cluster: [4, 1, 1] };
    let input = random_input(&shape, 5);
    let faults = ["none", "no_last_barrier", "overrun_stage", "rank_left_out", "source_overwritten"];
    let runs =
        faults.iter().flat_map(|fault| (0..4).flat_map(move |kernel| (0..6).map(move |seed| (fault, kernel, seed))));
    runs.map(|(fault, kernel, seed)| format!("{:?} ", run(kernel, fault, &shape, seed, &input))).collect()
}

fn nothing_depends_on_the_number_of_os_threads() {
    if std::env::var_os("EMULATOR_TESTS_PRINT").is_some() {
        println!("fingerprint: {}", fingerprint());
        return;
    }
    let of = |threads: &str| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "clusters::nothing_depends_on_the_number_of_os_threads/emulator", "--nocapture"])
            .envs([("EMULATOR_TESTS_PRINT", "1"), ("PEFT_KERNELS_EMULATOR_THREADS", threads)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.split_once("fingerprint: ")).expect("it is printed").1.to_owned();
        assert!(line.contains("a race") && line.contains("Ok("));
        line
    };
    let alone = of("1");
    assert!(of("4") == alone && of("3") == alone);
}

pub fn trials(trials: &mut Trials) {
    conforms!(trials, Chips::Clusters, blocks_reach_each_other, the_second_grid_waits_for_the_first);
    conforms!(trials, Chips::Hopper, multicasts_reach_all_blocks);
    on_emulator!(
        trials,
        what_a_chip_cannot_launch_is_refused,
        misuse_of_the_barrier_of_the_cluster,
        misuse_of_another_blocks_memory,
        misuse_of_barriers_between_blocks,
        misuse_of_multicasts,
        misuse_of_copies_between_blocks,
        many_schedules_begin_the_second_grid_before_the_first_has_ended,
        what_does_not_wait_for_the_first_grid_is_a_race,
        without_the_detector_exits_are_seen_where_they_come_too_early,
        nothing_depends_on_the_number_of_os_threads
    );
}
