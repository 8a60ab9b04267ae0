//! Grids: many blocks, several OS threads, limits, and what follows from a seed.

use std::process::Command;

use emulator_tests::{ERROR_CUDA, ERROR_EMULATOR, ERROR_NO_DEVICE, Queue, Random, outcome};

unsafe extern "C" {
    fn emulator_test_multiply(queue: &Queue, a: *const f32, b: *const f32, c: *mut f32, m: i64, n: i64, k: i64) -> i32;
    fn emulator_test_hash_schedule(
        queue: &Queue,
        blocks: u32,
        threads: u32,
        counters: *mut u32,
        hashes: *mut u64,
    ) -> i32;
    fn emulator_test_mark_blocks(
        queue: &Queue,
        x: u32,
        y: u32,
        z: u32,
        threads: u32,
        shared: u64,
        marks: *mut u8,
        mark_count: u64,
        first_faulty: u64,
    ) -> i32;
    fn emulator_test_switch_threads(queue: &Queue, threads: u32, rounds: u32) -> i32;
}

type Outcome = Result<(), (i32, String)>;

fn multiply(seed: u64, m: usize, n: usize, k: usize) -> Vec<f32> {
    let (a, b) = (Random(1).floats(m * k), Random(2).floats(k * n));
    let mut c = vec![f32::NAN; m * n];
    // SAFETY: the arrays have these extents
    let status = unsafe {
        emulator_test_multiply(&Queue::new(seed), a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), m as i64, n as i64, k as i64)
    };
    outcome(status).unwrap();
    c
}

fn schedule_hashes(seed: u64, blocks: u32, threads: u32) -> Vec<u64> {
    let mut counters = vec![0; blocks as usize];
    let mut hashes = vec![0; blocks as usize];
    // SAFETY: a counter and a hash per block
    outcome(unsafe {
        emulator_test_hash_schedule(&Queue::new(seed), blocks, threads, counters.as_mut_ptr(), hashes.as_mut_ptr())
    })
    .unwrap();
    hashes
}

/// Blocks from `first_faulty` on make a fault.
fn mark_blocks(queue: Queue, grid: [u32; 3], threads: u32, shared: u64, first_faulty: u64) -> (Vec<u8>, Outcome) {
    let count = grid.iter().map(|&extent| u64::from(extent)).product::<u64>().min(1 << 20);
    let mut marks = vec![0; count as usize];
    // SAFETY: a mark per block; grids of more blocks are refused
    let status = unsafe {
        emulator_test_mark_blocks(
            &queue,
            grid[0],
            grid[1],
            grid[2],
            threads,
            shared,
            marks.as_mut_ptr(),
            count,
            first_faulty,
        )
    };
    (marks, outcome(status))
}

const NO_FAULT: u64 = u64::MAX;

#[test]
fn a_matrix_product_has_the_same_bits_under_every_schedule() {
    let (m, n, k) = (70, 131, 45);
    let (a, b) = (Random(1).floats(m * k), Random(2).floats(k * n));
    let mut expected = vec![0f32; m * n];
    for (i, sum) in expected.iter_mut().enumerate() {
        *sum = (0..k).fold(0.0, |sum, j| a[i / n * k + j].mul_add(b[j * n + i % n], sum));
    }
    for seed in 0..16 {
        assert_eq!(multiply(seed, m, n, k), expected, "seed {seed}");
    }
}

#[test]
fn launches_of_several_threads_do_not_touch_each_other() {
    let products: Vec<_> = (0..4).map(|seed| multiply(seed, 130, 70, 33)).collect();
    let hashes: Vec<_> = (0..4).map(|seed| schedule_hashes(seed, 20, 96)).collect();
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (product, hash) = (&products[seed], &hashes[seed]);
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(&multiply(seed as u64, 130, 70, 33), product);
                    assert_eq!(&schedule_hashes(seed as u64, 20, 96), hash);
                    let (_, faulty) = mark_blocks(Queue::new(seed as u64), [9, 1, 1], 64, 0, seed as u64);
                    assert!(faulty.unwrap_err().1.starts_with("mark_blocks"));
                }
            });
        }
    });
}

#[test]
fn a_schedule_follows_from_the_seed() {
    for seed in [0, 1, 2, 6, 7] {
        let hashes = schedule_hashes(seed, 5, 128);
        let _ = mark_blocks(Queue::new(3), [4, 1, 1], 32, 0, 1);
        let _ = multiply(seed + 1, 65, 65, 17);
        assert_eq!(schedule_hashes(seed, 5, 128), hashes, "seed {seed}");
        if seed != 0 && seed != 6 {
            assert_ne!(schedule_hashes(seed + 8, 5, 128), hashes, "seeds {seed} and {}", seed + 8);
            assert_ne!(hashes[0], schedule_hashes(0, 5, 128)[0], "seed {seed} and the plain order");
        }
    }
}

/// What must not depend on the number of OS threads, as one text.
fn fingerprint() -> String {
    let mut text = String::new();
    for seed in 0..9 {
        text += &format!(
            "{:?} {:?} ",
            schedule_hashes(seed, 30, 96),
            multiply(seed, 100, 200, 20).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        );
        // Many blocks are faulty: the one that is reported is always the same.
        text += &mark_blocks(Queue::new(seed), [40, 3, 2], 64, 0, 17).1.unwrap_err().1;
    }
    text
}

#[test]
fn nothing_depends_on_the_number_of_os_threads() {
    if std::env::var_os("EMULATOR_TESTS_PRINT").is_some() {
        println!("fingerprint: {}", fingerprint());
        return;
    }
    let of = |threads: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "nothing_depends_on_the_number_of_os_threads", "--nocapture"])
            .envs([("EMULATOR_TESTS_PRINT", "1"), ("PEFT_KERNELS_EMULATOR_THREADS", threads)])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.contains("fingerprint: ")).expect("the fingerprint").to_owned()
    };
    let alone = of("1");
    assert!(alone.contains("mark_blocks at "));
    for threads in ["2", "3", "7"] {
        assert!(of(threads) == alone, "{threads} OS threads");
    }
}

#[test]
fn the_first_block_in_plain_order_is_the_one_reported() {
    for _ in 0..20 {
        let (_, faulty) = mark_blocks(Queue::new(0), [100, 1, 1], 64, 0, 23);
        let (status, report) = faulty.unwrap_err();
        assert_eq!(status, ERROR_EMULATOR);
        assert!(
            report.contains(
                "block (23,0,0) thread (0,0,0) seed 0 writes 1 byte, 24 bytes before the beginning of marks (100 bytes)"
            ),
            "{report}"
        );
    }
}

#[test]
fn a_launch_after_a_fault_works() {
    for seed in 0..8 {
        for first_faulty in [0, 3] {
            assert!(mark_blocks(Queue::new(seed), [12, 1, 1], 256, 0, first_faulty).1.is_err());
            let (marks, sound) = mark_blocks(Queue::new(seed), [12, 1, 1], 256, 0, NO_FAULT);
            assert_eq!(sound, Ok(()));
            assert!(marks.iter().all(|&mark| mark == 1));
        }
    }
}

#[test]
fn every_block_of_a_grid_runs_once() {
    for (seed, grid) in
        [(0, [70_000, 1, 1]), (1, [70_000, 1, 1]), (2, [7, 11, 13]), (3, [1, 1, 500]), (4, [1, 1, 1]), (7, [2, 300, 1])]
    {
        let (marks, result) = mark_blocks(Queue::new(seed), grid, 32, 0, NO_FAULT);
        assert_eq!(result, Ok(()));
        assert!(marks.iter().all(|&mark| mark == 1), "{grid:?}");
    }
}

#[test]
fn blocks_may_end_in_part_of_a_warp() {
    for threads in [1, 31, 33, 100, 1024] {
        assert_eq!(mark_blocks(Queue::new(1), [3, 1, 1], threads, 0, NO_FAULT).1, Ok(()), "{threads} threads");
        assert_eq!(schedule_hashes(1, 2, threads), schedule_hashes(1, 2, threads));
    }
}

#[test]
fn what_a_chip_has_not_is_refused() {
    let refused = |device, grid, threads, shared| {
        let (_, result) = mark_blocks(Queue::of_chip(device, 0), grid, threads, shared, NO_FAULT);
        result.unwrap_err()
    };
    let invalid = |text: &str| (ERROR_CUDA, format!("mark_blocks: invalid configuration argument: {text}"));
    assert_eq!(refused(0, [1, 1, 1], 1025, 0), invalid("threads per block 1025, this chip has 1 to 1024"));
    assert_eq!(refused(0, [1, 1, 1], 0, 0), invalid("threads per block 0, this chip has 1 to 1024"));
    assert_eq!(refused(0, [0, 1, 1], 32, 0), invalid("grid extent x 0, this chip has 1 to 2147483647"));
    assert_eq!(refused(0, [1 << 31, 1, 1], 32, 0), invalid("grid extent x 2147483648, this chip has 1 to 2147483647"));
    assert_eq!(refused(0, [1, 65_536, 1], 32, 0), invalid("grid extent y 65536, this chip has 1 to 65535"));
    assert_eq!(refused(0, [1, 1, 65_536], 32, 0), invalid("grid extent z 65536, this chip has 1 to 65535"));
    for (device, kibibytes) in [(80, 163), (86, 99), (89, 99), (0, 227), (90, 227), (100, 227), (120, 99)] {
        let limit = kibibytes * 1024;
        let (_, largest) = mark_blocks(Queue::of_chip(device, 0), [1, 1, 1], 32, limit, NO_FAULT);
        assert_eq!(largest, Ok(()));
        let text = format!("bytes of shared memory {}, this chip has 0 to {limit}", limit + 1);
        assert_eq!(refused(device, [1, 1, 1], 32, limit + 1), invalid(&text));
    }
    assert_eq!(refused(75, [1, 1, 1], 32, 0).0, ERROR_NO_DEVICE);
}

/// `cargo test --release -- --ignored --nocapture --test-threads 1`, with PEFT_KERNELS_EMULATOR_THREADS=1 for one core.
#[test]
#[ignore = "a measurement, which no bound judges: the line above runs it"]
fn speed() {
    for seed in [0, 1] {
        let start = std::time::Instant::now();
        let _ = multiply(seed, 512, 512, 512);
        println!("seed {seed}: {:.0} M fma/s", 512f64.powi(3) / start.elapsed().as_secs_f64() / 1e6);
        for threads in [32, 256, 1024] {
            let start = std::time::Instant::now();
            let rounds = 2_000_000 / threads;
            // SAFETY: it touches no memory
            outcome(unsafe { emulator_test_switch_threads(&Queue::new(seed), threads, rounds) }).unwrap();
            let switches = f64::from(rounds) * f64::from(threads);
            println!(
                "seed {seed}: {:.1} ns per thread and barrier, {threads} threads",
                start.elapsed().as_secs_f64() / switches * 1e9
            );
        }
    }
}
