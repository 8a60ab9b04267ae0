//! What lanes combine, copies that are waited for, random bits, and blocks that wait for each other, against their definitions.

use emulator_tests::{Queue, Random, outcome};

use crate::{Chips, Trials, conforms};

const THREADS: usize = 96;

emulator_tests::kernels! {
    fn combine_lanes(values: *const u64, masks: *const u32, results: *mut u32);
    fn copy_in_groups(
        bytes: i32,
        source: *const u32,
        source_bytes: u64,
        valid: *const u32,
        results: *mut u32,
    );
    fn draw_bits(counters_and_keys: *const u32, results: *mut u32, count: u32);
    fn pass_along(blocks: u32, flags: *mut u32, results: *mut u64);
    fn last_adds_up(blocks: u32, counter: *mut u32, parts: *mut u64, sum: *mut u64);
    fn rotate_blocks(blocks: u32, arrived: *mut u32, values: *mut u64, rounds: u32);
}

// ---- lanes that combine ----

fn lanes_combine_as_redux_and_match_do() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let values: Vec<u64> = (0..THREADS)
            .map(|_| match seed % 3 {
                0 => random.bits(),
                1 => u64::from(random.below(4)) << 31 | u64::from(random.below(3)),
                _ => u64::from(random.below(6)).wrapping_sub(3),
            })
            .collect();
        let masks: [u32; 3] = std::array::from_fn(|_| if seed % 2 == 0 { u32::MAX } else { random.bits32() | 1 });
        let mut results = vec![77; THREADS * 8];
        // SAFETY: the arrays have the extents that the kernel has
        outcome(unsafe {
            kernels::combine_lanes(&Queue::new(seed), values.as_ptr(), masks.as_ptr(), results.as_mut_ptr())
        })
        .unwrap();
        for thread in 0..THREADS {
            let mask = masks[thread / 32];
            let part =
                || (0..32).filter(|lane| mask >> lane & 1 != 0).map(|lane| (lane, values[thread / 32 * 32 + lane]));
            let low = || part().map(|(_, value)| value as u32);
            let same = |matches: &dyn Fn(u64) -> bool| {
                part().filter(|&(_, value)| matches(value)).fold(0u32, |lanes, (lane, _)| lanes | 1 << lane)
            };
            let own = values[thread];
            let sum = low().fold(0u32, u32::wrapping_add);
            let expected = [
                sum,
                low().max().unwrap(),
                low().min().unwrap(),
                sum,
                low().map(|value| value as i32).max().unwrap() as u32,
                low().map(|value| value as i32).min().unwrap() as u32,
                same(&|value| value as u32 == own as u32),
                same(&|value| value == own),
            ];
            let expected = if mask >> (thread % 32) & 1 != 0 { expected } else { [77; 8] };
            assert_eq!(results[thread * 8..][..8], expected, "thread {thread}, seed {seed}");
        }
    }
}

// ---- copies ----

fn copies_fill_with_zeros_what_they_do_not_read() {
    #[repr(align(16))]
    struct Source([u32; THREADS * 16]);
    for seed in 0..40 {
        for bytes in [4u32, 8, 16] {
            let mut random = Random(seed);
            let mut source = Source([0; THREADS * 16]);
            source.0.fill_with(|| random.bits32());
            let mut valid: Vec<u32> = (0..THREADS * 4).map(|_| random.below(bytes + 1)).collect();
            // The last one reads less than there could be: the operand ends there.
            valid[THREADS * 4 - 1] = random.below(bytes);
            let source_bytes = (THREADS * 4 - 1) * 16 + valid[THREADS * 4 - 1] as usize;
            let mut results = vec![0; THREADS * 16];
            // SAFETY: the arrays have the extents that the kernel has
            outcome(unsafe {
                kernels::copy_in_groups(
                    &Queue::new(seed),
                    bytes as i32,
                    source.0.as_ptr(),
                    source_bytes as u64,
                    valid.as_ptr(),
                    results.as_mut_ptr(),
                )
            })
            .unwrap();
            for (copy, words) in results.chunks(4).enumerate() {
                let mut expected: Vec<u8> = [7u32; 4].iter().flat_map(|word| word.to_le_bytes()).collect();
                let from: Vec<u8> = source.0[copy * 4..][..4].iter().flat_map(|word| word.to_le_bytes()).collect();
                expected[..bytes as usize].fill(0);
                expected[..valid[copy] as usize].copy_from_slice(&from[..valid[copy] as usize]);
                let found: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(found, expected, "copy {copy} of {bytes} bytes, seed {seed}");
            }
        }
    }
}

// ---- random bits ----

fn philox_gives_the_published_bits() {
    // Known answers of philox4x32 with 10 rounds, as published with Random123.
    let counters_and_keys: [[u32; 6]; 3] =
        [[0; 6], [u32::MAX; 6], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344, 0xa409_3822, 0x299f_31d0]];
    let expected: [[u32; 4]; 3] = [
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
    ];
    let mut results = [[0u32; 4]; 3];
    // SAFETY: three of each
    outcome(unsafe {
        kernels::draw_bits(&Queue::new(0), counters_and_keys.as_ptr().cast(), results.as_mut_ptr().cast(), 3)
    })
    .unwrap();
    assert_eq!(results, expected);
}

// ---- blocks that wait for each other ----

fn blocks_pass_on_what_they_have_written() {
    for seed in 0..30 {
        for blocks in [1, 2, 7, 40] {
            let mut flags = [0u32; 2];
            let mut results = vec![0u64; blocks];
            // SAFETY: a result per block
            let status = unsafe {
                kernels::pass_along(&Queue::new(seed), blocks as u32, flags.as_mut_ptr(), results.as_mut_ptr())
            };
            outcome(status).unwrap();
            let expected: Vec<u64> = (0..blocks as u64).map(|block| block * (block + 1) / 2).collect();
            assert_eq!(results, expected, "seed {seed}");

            let (mut counter, mut sum) = (0u32, 0u64);
            // SAFETY: a part per block
            let status = unsafe {
                kernels::last_adds_up(&Queue::new(seed), blocks as u32, &mut counter, results.as_mut_ptr(), &mut sum)
            };
            outcome(status).unwrap();
            assert_eq!(sum, (0..blocks as u64).map(|block| block * block).sum(), "seed {seed}");

            let (mut arrived, rounds) = (0u32, 5);
            let mut values: Vec<u64> = (0..2 * blocks as u64).map(|block| 100 * block).collect();
            // SAFETY: two values per block
            let status = unsafe {
                kernels::rotate_blocks(&Queue::new(seed), blocks as u32, &mut arrived, values.as_mut_ptr(), rounds)
            };
            outcome(status).unwrap();
            let last = &values[rounds as usize % 2 * blocks..][..blocks];
            for (block, &value) in last.iter().enumerate() {
                let source = (block as u64 + u64::from(rounds)) % blocks as u64;
                assert_eq!(value, 100 * source + u64::from(rounds), "block {block}, seed {seed}");
            }
        }
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(
        trials,
        Chips::All,
        lanes_combine_as_redux_and_match_do,
        copies_fill_with_zeros_what_they_do_not_read,
        philox_gives_the_published_bits,
        blocks_pass_on_what_they_have_written
    );
}
