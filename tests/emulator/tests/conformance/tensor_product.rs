//! A tiled product with copies that run ahead: sound under every schedule, and wrong or reported with any of its parts left out.

use emulator_tests::{ERROR_EMULATOR, Queue, Random, outcome};
use half::bf16;

use crate::{Chips, Trials, conforms, measures, on_emulator};

emulator_tests::kernels! {
    fn tensor_product(
        fault: i32,
        x: *const u16,
        w: *const u16,
        y: *mut u16,
        m: i64,
        n: i64,
        k: i64,
    );
}

unsafe extern "C" {
    fn emulator_test_detect_races(on: i32);
}

const SOURCE: &str = include_str!("../../kernels/tensor_product.cu");

#[derive(Clone, Copy, Debug)]
enum Fault {
    Sound,
    WaitOneShort,
    NoBarrierAfterWait,
    NoTrailingBarrier,
    RaggedEdge,
    WrongRow,
    SharedColumns,
}

/// Aligned to 16 bytes, as copies of so many need.
struct Matrix {
    memory: Vec<u128>,
    elements: usize,
}

impl Matrix {
    /// Small integers: sums are exact.
    fn random(seed: u64, elements: usize) -> Self {
        let mut matrix = Self { memory: vec![0; elements.div_ceil(8)], elements };
        let mut random = Random(seed);
        for element in matrix.values_mut() {
            *element = bf16::from_f32(random.below(9) as f32 - 4.0).to_bits();
        }
        matrix
    }

    fn values(&self) -> &[u16] {
        // SAFETY: the memory has that many elements of two bytes
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().cast(), self.elements) }
    }

    fn values_mut(&mut self) -> &mut [u16] {
        // SAFETY: as above
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_mut_ptr().cast(), self.elements) }
    }

    fn float(&self, index: usize) -> f32 {
        bf16::from_bits(self.values()[index]).to_f32()
    }
}

fn run(fault: Fault, seed: u64, m: usize, n: usize, k: usize) -> Result<Vec<u16>, (i32, String)> {
    let (x, w) = (Matrix::random(1, m * k), Matrix::random(2, n * k));
    let mut y = Matrix { memory: vec![u128::MAX; (m * n).div_ceil(8)], elements: m * n };
    // SAFETY: the arrays have these extents; a fault is found before it does harm
    outcome(unsafe {
        kernels::tensor_product(
            &Queue::new(seed),
            fault as i32,
            x.values().as_ptr(),
            w.values().as_ptr(),
            y.values_mut().as_mut_ptr(),
            m as i64,
            n as i64,
            k as i64,
        )
    })?;
    Ok(y.values().to_vec())
}

fn expected(m: usize, n: usize, k: usize) -> Vec<u16> {
    let (x, w) = (Matrix::random(1, m * k), Matrix::random(2, n * k));
    let (x, w): (Vec<f32>, Vec<f32>) =
        ((0..m * k).map(|i| x.float(i)).collect(), (0..n * k).map(|i| w.float(i)).collect());
    (0..m * n)
        .map(|i| {
            let (row, column) = (i / n * k, i % n * k);
            bf16::from_f32(x[row..][..k].iter().zip(&w[column..][..k]).map(|(x, w)| x * w).sum()).to_bits()
        })
        .collect()
}

fn a_tiled_product_is_right_at_every_shape_and_seed() {
    for (m, n, k) in [(1, 8, 8), (128, 128, 32), (130, 136, 72), (200, 264, 200), (64, 512, 96)] {
        let expected = expected(m, n, k);
        for seed in 0..8 {
            assert_eq!(run(Fault::Sound, seed, m, n, k).as_ref(), Ok(&expected), "{m} x {n} x {k}, seed {seed}");
        }
    }
    let expected = expected(130, 136, 72);
    for seed in 8..50 {
        assert_eq!(run(Fault::Sound, seed, 130, 136, 72).as_ref(), Ok(&expected), "seed {seed}");
    }
}

fn line(name: &str) -> String {
    let marker = format!("// planted: {name}");
    let line = SOURCE.lines().position(|line| line.ends_with(&marker)).expect("the line is marked");
    format!("tensor_product.cu:{}", line + 1)
}

fn check_report(fault: Fault, texts: &[&str]) {
    for seed in 0..8 {
        let (status, report) = run(fault, seed, 130, 256, 200).expect_err(&format!("{fault:?}, seed {seed}"));
        assert_eq!(status, ERROR_EMULATOR);
        for text in texts {
            assert!(report.contains(text), "{fault:?}: {text:?} not in: {report}");
        }
    }
}

fn each_fault_in_a_tiled_product_is_found_under_every_schedule() {
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(1) };
    check_report(Fault::WaitOneShort, &[&line("copy"), &line("read"), "a race, for nobody has waited for it"]);
    check_report(Fault::NoBarrierAfterWait, &[&line("copy"), "a race"]);
    check_report(Fault::NoTrailingBarrier, &[&line("copy"), "a race"]);
    check_report(Fault::RaggedEdge, &[&line("copy"), "past the end of x"]);
    check_report(Fault::SharedColumns, &[&line("store"), "a race, for nothing orders the two blocks"]);
    let sound = run(Fault::Sound, 0, 130, 256, 200).unwrap();
    for seed in 0..8 {
        assert_ne!(run(Fault::WrongRow, seed, 130, 256, 200).unwrap(), sound, "seed {seed}");
    }
}

fn schedules_alone_show_most_of_them_in_values() {
    // SAFETY: it sets a variable of this thread
    unsafe { emulator_test_detect_races(0) };
    let sound = run(Fault::Sound, 0, 130, 256, 200).unwrap();
    for fault in [Fault::WaitOneShort, Fault::NoBarrierAfterWait, Fault::NoTrailingBarrier, Fault::WrongRow] {
        let found = (0..8).filter(|&seed| run(fault, seed, 130, 256, 200).as_ref() != Ok(&sound)).count();
        println!("{fault:?}: {found} of 8");
        assert!(found >= 5, "{fault:?}: {found} of 8");
    }
}

fn speed() {
    for (size, seed) in [(512, 0), (512, 1), (1024, 0)] {
        let start = std::time::Instant::now();
        run(Fault::Sound, seed, size, size, size).unwrap();
        println!("seed {seed}: {size}^3 in {:.3} s", start.elapsed().as_secs_f64());
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(trials, Chips::All, a_tiled_product_is_right_at_every_shape_and_seed);
    on_emulator!(
        trials,
        each_fault_in_a_tiled_product_is_found_under_every_schedule,
        schedules_alone_show_most_of_them_in_values
    );
    measures!(trials, speed);
}
