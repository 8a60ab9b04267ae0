//! Matrix fragments and their products, against the definitions in the PTX manual, written down here once more.

use emulator_tests::{Queue, Random, outcome};
use half::{bf16, f16};

use crate::{Chips, Trials, conforms};

const THREADS: usize = 96;
const ROWS: usize = 40;

emulator_tests::kernels! {
    fn move_matrices(
        stores: i32,
        count: i32,
        transposed: i32,
        values: *mut u16,
        row_of: *const u32,
        fragments: *mut u32,
    );
    fn multiply_fragments(kind: i32, a: *const u8, b: *const u8, sums: *mut u8);
    fn round_to_tf32(values: *const f32, results: *mut u32, count: i64);
}

// ---- ldmatrix and stmatrix ----

/// Row and column, in matrix `number` of a warp, of half `i` of that register of a lane: row lane / 4, columns 2 (lane % 4) + i, or the other way round.
fn place_in_matrix(lane: usize, i: usize, transposed: bool) -> (usize, usize) {
    let (row, column) = (lane / 4, 2 * (lane % 4) + i);
    if transposed { (column, row) } else { (row, column) }
}

/// Rows that no two lanes of a warp share.
fn random_rows(random: &mut Random) -> Vec<u32> {
    let mut rows = Vec::new();
    for _ in 0..3 {
        let mut order: Vec<u32> = (0..ROWS as u32).collect();
        for i in (1..ROWS).rev() {
            order.swap(i, random.below(i as u32 + 1) as usize);
        }
        rows.extend_from_slice(&order[..32]);
    }
    rows
}

fn matrices_move_as_ldmatrix_and_stmatrix_do() {
    for seed in 0..24 {
        let mut random = Random(seed);
        for (count, transposed) in [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)] {
            let values: Vec<u16> = (0..3 * ROWS * 8).map(|_| random.bits() as u16).collect();
            let rows = random_rows(&mut random);
            // The element of `values` that half i of register `matrix` of a thread is.
            let element = |thread: usize, matrix: usize, i: usize| {
                let (warp, lane) = (thread / 32, thread % 32);
                let (row, column) = place_in_matrix(lane, i, transposed);
                (warp * ROWS + rows[warp * 32 + matrix * 8 + row] as usize) * 8 + column
            };

            let mut loaded = vec![0u32; THREADS * count];
            let mut source = values.clone();
            let queue = Queue::new(seed);
            // SAFETY: the arrays have the extents that the kernels have
            outcome(unsafe {
                kernels::move_matrices(
                    &queue,
                    0,
                    count as i32,
                    transposed.into(),
                    source.as_mut_ptr(),
                    rows.as_ptr(),
                    loaded.as_mut_ptr(),
                )
            })
            .unwrap();
            for thread in 0..THREADS {
                for matrix in 0..count {
                    let halves = [0, 1].map(|i| u32::from(values[element(thread, matrix, i)]));
                    assert_eq!(loaded[thread * count + matrix], halves[0] | halves[1] << 16, "thread {thread}");
                }
            }

            let mut fragments: Vec<u32> = (0..THREADS * count).map(|_| random.bits32()).collect();
            let mut stored = values.clone();
            let mut expected = values.clone();
            // SAFETY: as above
            outcome(unsafe {
                kernels::move_matrices(
                    &queue,
                    1,
                    count as i32,
                    transposed.into(),
                    stored.as_mut_ptr(),
                    rows.as_ptr(),
                    fragments.as_mut_ptr(),
                )
            })
            .unwrap();
            for thread in 0..THREADS {
                for matrix in 0..count {
                    for i in 0..2 {
                        expected[element(thread, matrix, i)] = (fragments[thread * count + matrix] >> (16 * i)) as u16;
                    }
                }
            }
            assert_eq!(stored, expected, "count {count}, transposed {transposed}, seed {seed}");
        }
    }
}

// ---- mma ----

/// How a shape of `mma` spreads its matrices over the registers of a warp: (row, column) of element `i` of a lane, as the PTX manual says it, with group = lane / 4 and member = lane % 4.
struct Layout {
    rows: usize,
    depth: usize,
    a: fn(usize, usize, usize) -> (usize, usize),
    a_count: usize,
    b: fn(usize, usize, usize) -> (usize, usize),
    b_count: usize,
    c: fn(usize, usize, usize) -> (usize, usize),
    c_count: usize,
}

const M16N8K16: Layout = Layout {
    rows: 16,
    depth: 16,
    a: |group, member, i| {
        let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
        (row, member * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
    },
    a_count: 8,
    b: |group, member, i| (member * 2 + (i & 1) + if i < 2 { 0 } else { 8 }, group),
    b_count: 4,
    c: |group, member, i| (if i < 2 { group } else { group + 8 }, member * 2 + (i & 1)),
    c_count: 4,
};

const M16N8K8_TF32: Layout = Layout {
    rows: 16,
    depth: 8,
    a: |group, member, i| (if i == 0 || i == 2 { group } else { group + 8 }, if i < 2 { member } else { member + 4 }),
    a_count: 4,
    b: |group, member, i| (if i == 0 { member } else { member + 4 }, group),
    b_count: 2,
    c: M16N8K16.c,
    c_count: 4,
};

const M8N8K4: Layout = Layout {
    rows: 8,
    depth: 4,
    a: |group, member, _| (group, member),
    a_count: 1,
    b: |group, member, _| (member, group),
    b_count: 1,
    c: |group, member, i| (group, member * 2 + (i & 1)),
    c_count: 2,
};

/// The sums of all lanes; `step` adds a product to a sum.
fn multiply<T: Copy + Default, S: Copy + Default>(
    layout: &Layout,
    a: &[T],
    b: &[T],
    c: &[S],
    step: fn(T, T, S) -> S,
) -> Vec<S> {
    let mut full_a = vec![T::default(); layout.rows * layout.depth];
    let mut full_b = vec![T::default(); layout.depth * 8];
    let mut full_c = vec![S::default(); layout.rows * 8];
    for lane in 0..32 {
        for i in 0..layout.a_count {
            let (row, column) = (layout.a)(lane / 4, lane % 4, i);
            full_a[row * layout.depth + column] = a[lane * layout.a_count + i];
        }
        for i in 0..layout.b_count {
            let (row, column) = (layout.b)(lane / 4, lane % 4, i);
            full_b[row * 8 + column] = b[lane * layout.b_count + i];
        }
        for i in 0..layout.c_count {
            let (row, column) = (layout.c)(lane / 4, lane % 4, i);
            full_c[row * 8 + column] = c[lane * layout.c_count + i];
        }
    }
    for row in 0..layout.rows {
        for column in 0..8 {
            for k in 0..layout.depth {
                let sum = &mut full_c[row * 8 + column];
                *sum = step(full_a[row * layout.depth + k], full_b[k * 8 + column], *sum);
            }
        }
    }
    let place = |lane: usize, i| {
        let (row, column) = (layout.c)(lane / 4, lane % 4, i);
        row * 8 + column
    };
    (0..32)
        .flat_map(|lane| (0..layout.c_count).map(move |i| (lane, i)))
        .map(|(lane, i)| full_c[place(lane, i)])
        .collect()
}

/// Runs three warps and compares each with the definition. A tensor core adds up in an order, and drops bits, of its own: there results may be off by `tolerance`.
fn check_products<T: Copy + Default, S: Copy + Default + Into<f64> + std::fmt::Debug>(
    kind: i32,
    seed: u64,
    layout: &Layout,
    tolerance: f64,
    mut make: impl FnMut() -> T,
    mut make_sum: impl FnMut() -> S,
    step: fn(T, T, S) -> S,
) {
    let a: Vec<T> = (0..THREADS * layout.a_count).map(|_| make()).collect();
    let b: Vec<T> = (0..THREADS * layout.b_count).map(|_| make()).collect();
    let c: Vec<S> = (0..THREADS * layout.c_count).map(|_| make_sum()).collect();
    let mut results = c.clone();
    // SAFETY: the arrays have the extents that the kernel has
    outcome(unsafe {
        kernels::multiply_fragments(
            &Queue::new(seed),
            kind,
            a.as_ptr().cast(),
            b.as_ptr().cast(),
            results.as_mut_ptr().cast(),
        )
    })
    .unwrap();
    for warp in 0..3 {
        let of = |count: usize| warp * 32 * count..(warp + 1) * 32 * count;
        let expected = multiply(layout, &a[of(layout.a_count)], &b[of(layout.b_count)], &c[of(layout.c_count)], step);
        let tolerance = if Queue::new(seed).is_device() { tolerance } else { 0.0 };
        for (got, expected) in results[of(layout.c_count)].iter().zip(&expected) {
            let error = ((*got).into() - (*expected).into()).abs();
            assert!(error <= tolerance, "kind {kind}, warp {warp}, seed {seed}: {got:?}, expected {expected:?}");
        }
    }
}

/// What tf32 keeps of a float.
fn tf32(value: f32) -> f32 {
    f32::from_bits(value.to_bits() & !0x1fff)
}

// At most 17 terms below 1, and as many roundings.
const F32_TOLERANCE: f64 = 17.0 * 17.0 / (1u64 << 23) as f64;
const F64_TOLERANCE: f64 = 17.0 * 17.0 / (1u64 << 52) as f64;

fn products_of_fragments_are_those_of_mma() {
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut sums = Random(seed + 100);
        check_products(
            0,
            seed,
            &M16N8K16,
            F32_TOLERANCE,
            || f16::from_f32(random.float()),
            || sums.float(),
            |a, b, sum| sum + a.to_f32() * b.to_f32(),
        );
        check_products(
            1,
            seed,
            &M16N8K16,
            F32_TOLERANCE,
            || bf16::from_f32(random.float()),
            || sums.float(),
            |a, b, sum| sum + a.to_f32() * b.to_f32(),
        );
        check_products(
            2,
            seed,
            &M16N8K8_TF32,
            F32_TOLERANCE,
            || random.float(),
            || sums.float(),
            |a: f32, b, sum| sum + tf32(a) * tf32(b),
        );
        check_products(
            3,
            seed,
            &M8N8K4,
            F64_TOLERANCE,
            || f64::from(random.float()),
            || f64::from(sums.float()),
            |a, b, sum| a.mul_add(b, sum),
        );
    }
}

fn products_of_small_integers_are_exact() {
    for seed in 0..24 {
        let (mut random, mut sums) = (Random(seed), Random(seed + 100));
        let mut integer = || random.below(9) as f32 - 4.0;
        let mut sum = || sums.below(100) as f32 - 50.0;
        let add = |a: f32, b: f32, sum: f32| sum + a * b;
        check_products(
            0,
            seed,
            &M16N8K16,
            0.0,
            || f16::from_f32(integer()),
            &mut sum,
            |a, b, sum| sum + a.to_f32() * b.to_f32(),
        );
        check_products(
            1,
            seed,
            &M16N8K16,
            0.0,
            || bf16::from_f32(integer()),
            &mut sum,
            |a, b, sum| sum + a.to_f32() * b.to_f32(),
        );
        check_products(2, seed, &M16N8K8_TF32, 0.0, &mut integer, &mut sum, add);
        let add = |a: f64, b, sum| sum + a * b;
        check_products(3, seed, &M8N8K4, 0.0, || f64::from(integer()), || f64::from(sum()), add);
    }
}

fn floats_round_to_the_nearest_tf32() {
    let mut random = Random(5);
    let values: Vec<f32> = (0..100_000)
        .map(|i| f32::from_bits(if i % 4 == 0 { random.bits32() & !0xfff } else { random.bits32() }))
        .collect();
    let mut results = vec![0; values.len()];
    // SAFETY: as many results as values
    outcome(unsafe {
        kernels::round_to_tf32(&Queue::new(0), values.as_ptr(), results.as_mut_ptr(), values.len() as i64)
    })
    .unwrap();
    for (&value, &bits) in values.iter().zip(&results) {
        let result = f32::from_bits(bits);
        if value.is_nan() {
            assert!(result.is_nan());
            continue;
        }
        assert_eq!(bits & 0x1fff, 0);
        // The neighbours in tf32, exactly; the further one from zero wins a tie.
        let below = tf32(value);
        let above = f32::from_bits((value.to_bits() & !0x1fff).wrapping_add(0x2000));
        if value.is_infinite() {
            assert_eq!(result, value);
        } else if above.is_infinite() {
            let middle = f32::from_bits(below.to_bits() + 0x1000);
            assert_eq!(result, if value.abs() >= middle.abs() { above } else { below });
        } else {
            let [low, high, exact] = [below, above, value].map(f64::from);
            let expected = if (exact - low).abs() < (high - exact).abs() { below } else { above };
            assert_eq!(result, expected, "{value:e}");
        }
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(
        trials,
        Chips::All,
        matrices_move_as_ldmatrix_and_stmatrix_do,
        products_of_fragments_are_those_of_mma,
        products_of_small_integers_are_exact,
        floats_round_to_the_nearest_tf32
    );
}
