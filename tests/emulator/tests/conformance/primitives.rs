//! Each primitive against its definition, with random data and schedules.

use emulator_tests::{Queue, Random, outcome};
use half::{bf16, f16};

use crate::{Chips, Trials, conforms};

const THREADS: usize = 96;
const F32: i32 = 1;
const F16: i32 = 2;
const BF16: i32 = 3;

emulator_tests::kernels! {
    fn exchange(
        kind: i32,
        value_bytes: u64,
        values: *const u8,
        arguments: *const u32,
        masks: *const u32,
        results: *mut u8,
    );
    fn vote(predicates: *const u32, masks: *const u32, results: *mut u32);
    fn rotate(
        in_warp: i32,
        values: *const u32,
        distance: u32,
        rounds: u32,
        results: *mut u32,
    );
    fn convert(to: i32, from: i32, values: *const u8, results: *mut u8, count: i64);
    fn convert_pairs(to: i32, values: *const f32, results: *mut u16, words: i64);
    fn fuse(
        a: *const f32,
        b: *const f32,
        c: *const f32,
        results: *mut f32,
        count: i64,
    );
    fn keep_largest(
        values: *const u64,
        slots: *mut u64,
        slot_count: u32,
        befores: *mut u64,
        count: i64,
    );
    fn shared_bytes(bytes: *mut u64);
    fn reverse(values: *const u16, results: *mut u16);
}

// ---- collectives of a warp ----

#[derive(Clone, Copy, Debug, PartialEq)]
enum Exchange {
    Indexed,
    Xor,
    Up,
    Down,
}

fn source_lane(kind: Exchange, lane: u32, argument: u32) -> u32 {
    match kind {
        Exchange::Indexed => argument,
        Exchange::Xor => lane ^ argument,
        Exchange::Up => lane.checked_sub(argument).unwrap_or(lane),
        Exchange::Down => Some(lane + argument).filter(|&source| source < 32).unwrap_or(lane),
    }
}

/// Masks of three warps, none of them empty.
fn random_masks(random: &mut Random, seed: u64) -> [u32; 3] {
    std::array::from_fn(|_| if seed.is_multiple_of(2) { u32::MAX } else { random.bits32() | 1 << random.below(32) })
}

fn check_exchange<T: Copy + PartialEq + std::fmt::Debug>(kind: Exchange, seed: u64, make: impl Fn(u64) -> T) {
    let mut random = Random(seed);
    let values: Vec<T> = (0..THREADS).map(|_| make(random.bits())).collect();
    // With a partial mask, only lanes that take part are read; an index can promise that.
    let masks = random_masks(&mut random, if kind == Exchange::Indexed { seed } else { 0 });
    let arguments: Vec<u32> = (0..THREADS)
        .map(|thread| {
            loop {
                let argument = random.below(32);
                if kind != Exchange::Indexed || masks[thread / 32] >> argument & 1 != 0 {
                    return argument;
                }
            }
        })
        .collect();
    let mut results = values.clone();
    // SAFETY: all arrays have the extents that the kernel has
    outcome(unsafe {
        kernels::exchange(
            &Queue::new(seed),
            kind as i32,
            size_of::<T>() as u64,
            values.as_ptr().cast(),
            arguments.as_ptr(),
            masks.as_ptr(),
            results.as_mut_ptr().cast(),
        )
    })
    .unwrap();
    for thread in 0..THREADS {
        let takes_part = masks[thread / 32] >> (thread % 32) & 1 != 0;
        let source = source_lane(kind, thread as u32 % 32, arguments[thread]) as usize;
        let expected = if takes_part { values[thread / 32 * 32 + source] } else { values[thread] };
        assert_eq!(results[thread], expected, "{kind:?}, thread {thread}, seed {seed}");
    }
}

fn shuffles_read_the_lane_they_name() {
    for seed in 0..40 {
        for kind in [Exchange::Indexed, Exchange::Xor, Exchange::Up, Exchange::Down] {
            check_exchange(kind, seed, |bits| (bits >> 40) as f32);
            check_exchange(kind, seed, |bits| bits as i64);
        }
    }
}

fn votes_count_the_lanes_of_the_mask() {
    for seed in 0..60 {
        let mut random = Random(seed);
        // mostly true, mostly false, and mixed
        let predicates: Vec<u32> = (0..THREADS)
            .map(|_| match seed % 3 {
                0 => u32::from(random.below(40) != 0),
                1 => u32::from(random.below(40) == 0),
                _ => random.below(2) * 7,
            })
            .collect();
        let masks = random_masks(&mut random, seed);
        let mut results = vec![99; 3 * THREADS];
        // SAFETY: all arrays have the extents that the kernel has
        outcome(unsafe { kernels::vote(&Queue::new(seed), predicates.as_ptr(), masks.as_ptr(), results.as_mut_ptr()) })
            .unwrap();
        for thread in 0..THREADS {
            let mask = masks[thread / 32];
            let votes = (0..32)
                .filter(|lane| predicates[thread / 32 * 32 + lane] != 0)
                .fold(0, |votes, lane| votes | 1 << lane)
                & mask;
            let expected = [votes, u32::from(votes != 0), u32::from(votes == mask)];
            let expected = if mask >> (thread % 32) & 1 != 0 { expected } else { [99; 3] };
            assert_eq!(results[3 * thread..][..3], expected, "thread {thread}, seed {seed}");
        }
    }
}

fn barriers_order_shared_memory() {
    let mut random = Random(1);
    let values: Vec<u32> = (0..THREADS).map(|_| random.bits32()).collect();
    for seed in 0..50 {
        for in_warp in [false, true] {
            let (distance, rounds) = (1 + random.below(31), 1 + random.below(9));
            let mut results = vec![0; THREADS];
            // SAFETY: both arrays have 96 elements
            outcome(unsafe {
                kernels::rotate(
                    &Queue::new(seed),
                    in_warp.into(),
                    values.as_ptr(),
                    distance,
                    rounds,
                    results.as_mut_ptr(),
                )
            })
            .unwrap();
            let group = if in_warp { 32 } else { THREADS };
            let moved = (distance * rounds) as usize;
            for (thread, &result) in results.iter().enumerate() {
                let source = thread / group * group + (thread % group + moved) % group;
                assert_eq!(result, values[source], "thread {thread}, in warp {in_warp}, seed {seed}");
            }
        }
    }
}

// ---- conversions ----

fn convert<From, To: Default + Clone>(to: i32, from: i32, values: &[From]) -> Vec<To> {
    let mut results = vec![To::default(); values.len()];
    // SAFETY: both arrays have that many elements, of the types that the numbers stand for
    outcome(unsafe {
        kernels::convert(
            &Queue::new(0),
            to,
            from,
            values.as_ptr().cast(),
            results.as_mut_ptr().cast(),
            values.len() as i64,
        )
    })
    .unwrap();
    results
}

fn every_16_bit_value_becomes_the_same_float_as_in_half() {
    let values: Vec<u16> = (0..=u16::MAX).collect();
    let from_f16: Vec<f32> = convert(F32, F16, &values);
    let from_bf16: Vec<f32> = convert(F32, BF16, &values);
    for &bits in &values {
        for (ours, theirs) in [
            (from_f16[bits as usize], f16::from_bits(bits).to_f32()),
            (from_bf16[bits as usize], bf16::from_bits(bits).to_f32()),
        ] {
            if theirs.is_nan() {
                assert!(ours.is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(ours.to_bits(), theirs.to_bits(), "{bits:#06x}");
            }
        }
    }
}

/// Every 16-bit value, its neighbours, the middles between two of them and their neighbours, all exponents, and random patterns.
fn interesting_floats() -> Vec<f32> {
    let mut bits = Vec::new();
    for short in 0..=u16::MAX {
        for float in [f16::from_bits(short).to_f32(), bf16::from_bits(short).to_f32()] {
            for half_step in [0, 0x1000, 0x8000] {
                for neighbour in [-1, 0, 1] {
                    bits.push(float.to_bits().wrapping_add(half_step).wrapping_add_signed(neighbour));
                }
            }
        }
    }
    // subnormal halves: their middles are elsewhere
    for step in 0..2049 {
        let middle = step as f32 * 2f32.powi(-25);
        bits.extend([-1, 0, 1].map(|neighbour| middle.to_bits().saturating_add_signed(neighbour)));
        bits.extend([-1, 0, 1].map(|neighbour| (-middle).to_bits().saturating_add_signed(neighbour)));
    }
    for exponent in 0..512_u32 {
        bits.extend([0, 1, 0x003f_ffff, 0x0040_0000, 0x007f_ffff].map(|mantissa| exponent << 23 | mantissa));
    }
    let mut random = Random(2);
    bits.extend((0..3_000_000).map(|_| random.bits32()));
    bits.into_iter().map(f32::from_bits).collect()
}

/// Two neighbours with one instruction.
fn convert_pairs(to: i32, values: &[f32]) -> Vec<u16> {
    let (mut results, words) = (vec![0u16; values.len()], values.len() as i64 / 2);
    // SAFETY: both arrays have twice as many elements as there are words
    outcome(unsafe { kernels::convert_pairs(&Queue::new(0), to, values.as_ptr(), results.as_mut_ptr(), words) })
        .unwrap();
    results
}

fn floats_round_to_the_same_16_bits_as_in_half() {
    let mut values = interesting_floats();
    values.truncate(values.len() / 2 * 2);
    let to_f16: Vec<u16> = convert(F16, F32, &values);
    let to_bf16: Vec<u16> = convert(BF16, F32, &values);
    assert!(convert_pairs(F16, &values) == to_f16, "pairs of f16");
    assert!(convert_pairs(BF16, &values) == to_bf16, "pairs of bf16");
    for (i, &value) in values.iter().enumerate() {
        if value.is_nan() {
            assert_eq!((to_f16[i], to_bf16[i]), (0x7fff, 0x7fff), "{:#010x}", value.to_bits());
        } else {
            assert_eq!(to_f16[i], f16::from_f32(value).to_bits(), "f16 of {:#010x}", value.to_bits());
            assert_eq!(to_bf16[i], bf16::from_f32(value).to_bits(), "bf16 of {:#010x}", value.to_bits());
        }
    }
}

fn fma_rounds_once() {
    let mut random = Random(3);
    let mut operands: [Vec<f32>; 3] = Default::default();
    for i in 0..1_500_000 {
        let [a, b] = std::array::from_fn(|_| f32::from_bits(random.bits32()));
        // A sum that nearly cancels, one in the middle between two floats, and anything, near and below the smallest normal number too.
        let c = match i % 4 {
            0 => -(a * b),
            1 => f32::from_bits((a * b).to_bits().wrapping_add(random.below(26) << 23)),
            2 => f32::from_bits((a * b).to_bits().wrapping_sub(random.below(26) << 23)),
            _ => f32::from_bits(random.bits32()),
        };
        let tiny = f32::from_bits(random.below(0x0180_0000));
        let triple = match i % 5 {
            0 => [f32::from_bits(a.to_bits() & 0xffff_f000), 1.0 + random.below(8) as f32 * f32::EPSILON, c],
            1 => [random.float() * 1e-19, random.float() * 1e-19, tiny],
            2 => {
                [f32::from_bits(0x3f00_0000 | random.below(64) << 17), f32::from_bits(random.below(0x0180_0000)), -tiny]
            }
            _ => [a, b, c],
        };
        operands.iter_mut().zip(triple).for_each(|(array, value)| array.push(value));
    }
    let [a, b, c] = &operands;
    let mut results = vec![0f32; a.len()];
    // SAFETY: all arrays have that many elements
    outcome(unsafe {
        kernels::fuse(&Queue::new(0), a.as_ptr(), b.as_ptr(), c.as_ptr(), results.as_mut_ptr(), a.len() as i64)
    })
    .unwrap();
    for i in 0..a.len() {
        let expected = a[i].mul_add(b[i], c[i]);
        let same = results[i].to_bits() == expected.to_bits() || results[i].is_nan() && expected.is_nan();
        assert!(same, "fma({:e}, {:e}, {:e}) = {:e}, not {:e}", a[i], b[i], c[i], results[i], expected);
    }
}

// ---- memory ----

fn atomic_max_keeps_the_largest() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let (count, slot_count) = (3000, 7);
        let values: Vec<u64> = (0..count).map(|_| random.bits() >> random.below(60)).collect();
        let mut slots: Vec<u64> = (0..slot_count).map(|_| random.bits() >> 50).collect();
        let initial = slots.clone();
        let mut befores = vec![0; count];
        // SAFETY: all arrays have the extents given
        outcome(unsafe {
            kernels::keep_largest(
                &Queue::new(seed),
                values.as_ptr(),
                slots.as_mut_ptr(),
                slot_count as u32,
                befores.as_mut_ptr(),
                count as i64,
            )
        })
        .unwrap();
        for slot in 0..slot_count {
            let of_slot = || (slot..count).step_by(slot_count);
            let largest = of_slot().map(|i| values[i]).max().unwrap().max(initial[slot]);
            assert_eq!(slots[slot], largest, "seed {seed}");
            // Some order explains what was returned: nothing is seen that was not there, and every rise but the last is seen by somebody.
            for i in of_slot() {
                let seen = befores[i];
                assert!(
                    seen == initial[slot] || of_slot().any(|j| values[j] == seen),
                    "seed {seed}: {seen} was never there"
                );
                assert!(seen <= largest, "seed {seed}");
            }
        }
    }
}

fn vectors_keep_the_order_of_their_elements() {
    let mut random = Random(4);
    let values: Vec<u16> = (0..8 * THREADS).map(|_| random.bits() as u16).collect();
    // `Vector<f16, 8>` is aligned to 16 bytes.
    let mut memory = vec![0u128; 2 * THREADS];
    // SAFETY: 96 vectors of 16 bytes each, and then as many results
    let results = unsafe {
        let input = memory.as_mut_ptr().cast::<u16>();
        input.copy_from(values.as_ptr(), values.len());
        let results = input.add(values.len());
        outcome(kernels::reverse(&Queue::new(5), input, results)).unwrap();
        std::slice::from_raw_parts(results, values.len())
    };
    for (vector, result) in values.chunks(8).zip(results.chunks(8)) {
        let mut expected = vector.to_vec();
        for width in [8, 4, 2, 1] {
            expected.chunks_mut(width).for_each(<[u16]>::reverse);
        }
        assert_eq!(result, expected);
    }
}

fn shared_bytes_are_those_of_a_device() {
    // 3 bytes at 0, 20 at 128, 14 at 160: the next multiple of the largest alignment, 128, is what sizeof gives on a device
    let mut bytes = 0;
    // SAFETY: it writes one number
    outcome(unsafe { kernels::shared_bytes(&Queue::new(0), &mut bytes) }).unwrap();
    assert_eq!(bytes, 256);
}

pub fn trials(trials: &mut Trials) {
    conforms!(
        trials,
        Chips::All,
        shuffles_read_the_lane_they_name,
        votes_count_the_lanes_of_the_mask,
        barriers_order_shared_memory,
        every_16_bit_value_becomes_the_same_float_as_in_half,
        floats_round_to_the_same_16_bits_as_in_half,
        fma_rounds_once,
        atomic_max_keeps_the_largest,
        vectors_keep_the_order_of_their_elements,
        shared_bytes_are_those_of_a_device
    );
}
