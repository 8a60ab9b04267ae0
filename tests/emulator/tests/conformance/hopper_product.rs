//! A matrix product that is written as kernels of Hopper are, and what its planted faults are reported as.

use std::ffi::{CStr, c_char};

use emulator_tests::{ERROR_EMULATOR, Queue, Random, outcome};
use half::bf16;

use crate::{Chips, Trials, conforms, measures, on_emulator};

emulator_tests::kernels! {
    fn hopper_product(
        fault: i32,
        a_is_mn_major: i32,
        b_is_mn_major: i32,
        a: *const u16,
        b: *const u16,
        c: *mut u16,
        m: u64,
        n: u64,
        k: u64,
    );
}

unsafe extern "C" {
    fn emulator_test_misuse_name(fault: u32) -> *const c_char;
    fn emulator_test_misuse(queue: &Queue, fault: u32, line: *const u32, results: *mut f32) -> i32;
}

const SOURCE: &str = include_str!("../../kernels/hopper_product.cu");

/// bf16 numbers, aligned as a tensor map wants it.
struct Matrix {
    memory: Vec<u128>,
    count: usize,
}

impl Matrix {
    fn new(count: usize, value: impl FnMut(usize) -> bf16) -> Self {
        let mut matrix = Self { memory: vec![0; count.div_ceil(8)], count };
        let values: Vec<bf16> = (0..count).map(value).collect();
        for (i, value) in values.into_iter().enumerate() {
            // SAFETY: within the memory
            unsafe { matrix.memory.as_mut_ptr().cast::<u16>().add(i).write(value.to_bits()) };
        }
        matrix
    }

    fn get(&self, i: usize) -> f32 {
        assert!(i < self.count);
        // SAFETY: within the memory
        bf16::from_bits(unsafe { self.memory.as_ptr().cast::<u16>().add(i).read() }).to_f32()
    }
}

struct Problem {
    mn_major: [bool; 2],
    shape: [usize; 3],
    a: Matrix,
    b: Matrix,
}

impl Problem {
    /// Small integers: every order of summation gives the same.
    fn new(mn_major: [bool; 2], shape: [usize; 3], seed: u64) -> Self {
        let mut random = Random(seed);
        let [m, n, k] = shape;
        let mut matrix = |rows: usize| Matrix::new(rows * k, |_| bf16::from_f32(random.below(5) as f32 - 2.0));
        Self { mn_major, shape, a: matrix(m), b: matrix(n) }
    }

    fn expected(&self) -> Vec<f32> {
        let [m, n, k] = self.shape;
        let place = |major: bool, rows: usize, row: usize, depth: usize| {
            if major { depth * rows + row } else { row * k + depth }
        };
        let unpack = |matrix: &Matrix, major: bool, rows: usize| -> Vec<f32> {
            (0..rows * k).map(|i| matrix.get(place(major, rows, i / k, i % k))).collect()
        };
        let (a, b) = (unpack(&self.a, self.mn_major[0], m), unpack(&self.b, self.mn_major[1], n));
        let dot = |i: usize| (0..k).map(|depth| a[i / n * k + depth] * b[i % n * k + depth]).sum::<f32>();
        (0..m * n).map(|i| bf16::from_f32(dot(i)).to_f32()).collect()
    }

    fn run(&self, fault: i32, seed: u64) -> Result<Vec<f32>, (i32, String)> {
        let [m, n, k] = self.shape;
        let c = Matrix::new(m * n, |_| bf16::NAN);
        // SAFETY: all matrices have the extents given
        outcome(unsafe {
            kernels::hopper_product(
                &Queue::new(seed),
                fault,
                self.mn_major[0].into(),
                self.mn_major[1].into(),
                self.a.memory.as_ptr().cast(),
                self.b.memory.as_ptr().cast(),
                c.memory.as_ptr().cast_mut().cast(),
                m as u64,
                n as u64,
                k as u64,
            )
        })?;
        Ok((0..m * n).map(|i| c.get(i)).collect())
    }
}

fn products_of_all_orders_and_ragged_shapes() {
    for (shape, seeds) in [([200, 136, 328], 0..4), ([64, 8, 8], 4..8), ([136, 264, 64], 8..10)] {
        for seed in seeds {
            for mn_major in [[false, false], [false, true], [true, false], [true, true]] {
                let problem = Problem::new(mn_major, shape, seed);
                let same = problem.run(0, seed).unwrap() == problem.expected();
                assert!(same, "{shape:?}, {mn_major:?}, seed {seed}");
            }
        }
    }
}

fn the_sound_kernel_is_silent_under_many_schedules() {
    let problem = Problem::new([false, true], [128, 136, 64 * 7], 3);
    let expected = problem.expected();
    for seed in 0..50 {
        assert!(problem.run(0, seed).unwrap() == expected, "seed {seed}");
    }
}

/// What a report of a fault must say one of, and which of the marked lines it must name one of.
type Expectation<'a> = (i32, &'a str, &'a [&'a str], &'a [&'a str]);

const RACE: &str = "a race, for";
const EXPECTATIONS: &[Expectation] = &[
    (1, "no barrier after initialization", &["is not initialised", RACE], &["wait", "empty"]),
    (2, "no fence after initialization", &["no fence_barrier_initialization() of thread 0 followed"], &["load"]),
    (3, "empty ignored", &["the phase before was not waited for", RACE], &["expect", "load"]),
    (4, "full ignored", &[RACE, "deadlock, none of 1 threads"], &["wgmma", "load", "empty"]),
    (5, "too few bytes", &["copies 16384 bytes of which its barrier expects 0"], &["load"]),
    (
        6,
        "too many bytes",
        &["deadlock, none of 257 threads can go on: 256 (the first is 0) in SharedBarrier::wait"],
        &["wait"],
    ),
    (7, "released early", &[RACE], &["load", "wgmma"]),
    (8, "half a step", &["wgmma: A begins 16 bytes into a line"], &["wgmma"]),
    (9, "no proxy fence", &["and no fence_proxy_async() of that thread came after it"], &["store"]),
    (10, "no wgmma fence", &["no wgmma_fence() since lane 0 accessed its accumulators"], &["wgmma"]),
    (11, "read before wait", &["accesses an accumulator of the wgmma at", "not waited for"], &["read"]),
    (
        12,
        "wrong count",
        &["deadlock, none of 128 threads can go on: 128 (the first is 0) in named_barrier"],
        &["count"],
    ),
    (13, "exits early", &["exits without waiting until that has been read"], &["store"]),
    (14, "a row too many", &["load_tensor touches 16512 bytes at byte 0 of array 0"], &["load"]),
];

fn planted_line(source: &str, name: &str) -> usize {
    let marker = format!("// planted: {name}");
    1 + source.lines().position(|line| line.ends_with(&marker)).expect("the line is marked")
}

fn every_fault_is_reported_under_every_schedule() {
    let problem = Problem::new([false, false], [128, 128, 64 * 7], 1);
    for &(fault, name, texts, markers) in EXPECTATIONS {
        for seed in 0..8 {
            let (status, report) = problem.run(fault, seed).expect_err(&format!("{name}, seed {seed}"));
            assert_eq!(status, ERROR_EMULATOR);
            let named = |marker: &&str| report.contains(&format!("hopper_product.cu:{}", planted_line(SOURCE, marker)));
            assert!(report.starts_with("hopper_product") && report.contains(&format!("seed {seed}")), "{report}");
            assert!(texts.iter().any(|text| report.contains(text)), "{name}: none of {texts:?} in: {report}");
            assert!(markers.iter().any(named), "{name}: none of the lines {markers:?} in: {report}");
        }
    }
}

// ---- small misuses ----

fn misuse(name: &str, seed: u64) -> Result<Vec<f32>, (i32, String)> {
    let number = (0..).find(|&number| {
        // SAFETY: a zero-terminated text, or null
        let text = unsafe { emulator_test_misuse_name(number) };
        assert!(!text.is_null(), "there is no fault {name}");
        // SAFETY: as above
        unsafe { CStr::from_ptr(text) }.to_str() == Ok(name)
    });
    let line = [0u128; 8];
    let mut results = vec![0f32; 128 * 32];
    // SAFETY: both are as long as the kernel says
    outcome(unsafe {
        emulator_test_misuse(&Queue::new(seed), number.unwrap(), line.as_ptr().cast(), results.as_mut_ptr())
    })?;
    Ok(results)
}

/// Name, what the report says, and the marker of the line that it names if it is not the name.
const MISUSES: &[(&str, &str, &str)] = &[
    (
        "too_many_arrivals",
        "arrives at a barrier whose 1 arrivals have all come, and which still waits for 128 bytes",
        "",
    ),
    ("initialised_twice", "initialises a barrier again", ""),
    ("no_arrivals", "initialises a barrier for 0 arrivals", ""),
    ("too_many_bytes", "announces 1048448 bytes to a barrier that waits for 128, and can count 1048575", ""),
    ("not_initialised", "waits at a barrier that is not initialised", ""),
    ("parity_of_two", "waits for parity 2", ""),
    ("different_counts", "to named barrier 1 for", ""),
    ("left_at_named_barrier", "32 of 128 threads came to named barrier 2, the first at", ""),
    ("misaligned_line", "load_bulk: the address in shared memory is 8", "line"),
    ("line_past_end", "load_bulk touches 128 bytes at byte 8080 of array 0 of the shared memory", "line"),
    ("global_past_end", "reads 16 bytes past the end of line (128 bytes)", "line"),
    ("never_waited", "its accumulators end before a wgmma_wait", "registers_without_fence"),
    ("out_of_piece", "wgmma: B begins 128 bytes past a multiple of 1024", "wgmma"),
    ("past_array", "wgmma touches 16 bytes at byte 8192 of array 1", "wgmma"),
    ("registers_without_fence", "no wgmma_fence() in this group, and A is in registers", ""),
    ("different_wgmmas", "wgmma: its warps are in different ones", "wgmma"),
    ("missing_proxy_fence", "and no fence_proxy_async() of that thread came after it", "wgmma"),
    ("part_of_warpgroup", "in wgmma_wait at", ""),
    ("registers_of_one_warp", "the warps of warpgroup 0 changed their numbers of registers differently", "-"),
];

fn misuses_are_reported_under_every_schedule() {
    let source = include_str!("../../kernels/hopper_faults.cu");
    for seed in 0..50 {
        assert_eq!(misuse("none", seed), Ok(vec![16.0; 128 * 32]), "seed {seed}");
    }
    for &(name, text, marker) in MISUSES {
        for seed in 0..8 {
            let (status, report) = misuse(name, seed).expect_err(&format!("{name}, seed {seed}"));
            assert!(status == ERROR_EMULATOR && report.starts_with("misuse"), "{report}");
            assert!(report.contains(text), "{name}: {text:?} not in: {report}");
            if marker != "-" {
                let line = planted_line(source, if marker.is_empty() { name } else { marker });
                assert!(report.contains(&format!("hopper_faults.cu:{line}")), "{name}: line {line} not in: {report}");
            }
        }
    }
}

fn speed() {
    let problem = Problem::new([false, false], [512, 512, 512], 1);
    for seed in [0, 0, 0, 1, 1] {
        let start = std::time::Instant::now();
        problem.run(0, seed).unwrap();
        println!("seed {seed}: {:?}", start.elapsed());
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(trials, Chips::Hopper, products_of_all_orders_and_ragged_shapes);
    on_emulator!(
        trials,
        the_sound_kernel_is_silent_under_many_schedules,
        every_fault_is_reported_under_every_schedule,
        misuses_are_reported_under_every_schedule
    );
    measures!(trials, speed);
}
