//! wgmma against its definition: every type, number of columns, order and layout of its operands, with random data and schedules.

use emulator_tests::{Queue, Random, outcome};
use half::{bf16, f16};

use crate::{Chips, Trials, conforms};

emulator_tests::kernels! {
    fn wgmma(
        data_type: i32,
        n: i32,
        a_is_mn_major: i32,
        b_is_mn_major: i32,
        from_registers: i32,
        image: *const u32,
        registers: *const u32,
        places: *const [u32; 5],
        c: *const f32,
        d: *mut f32,
    );
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Type {
    Bf16,
    F16,
    Tf32,
}

impl Type {
    fn bytes(self) -> u32 {
        if self == Type::Tf32 { 4 } else { 2 }
    }

    /// A small integer; of tf32, the 13 bits that do not count are anything.
    fn word(self, value: i32, random: &mut Random) -> u32 {
        match self {
            Type::Bf16 => bf16::from_f32(value as f32).to_bits().into(),
            Type::F16 => f16::from_f32(value as f32).to_bits().into(),
            Type::Tf32 => (value as f32).to_bits() | random.bits32() & 0x1fff,
        }
    }
}

/// 64 x 32 bytes of k and more of them: two steps of `rows` lines, as the tables of canonical layouts of the PTX manual say.
struct Layout {
    mn_major: bool,
    at: u32,
    width: u32, // of the swizzle's line, in chunks of 16 bytes; 1: no swizzle
    leading: u32,
    stride: u32,
    step: u32,
}

impl Layout {
    fn new(mn_major: bool, swizzle: u32, rows: u32, at: u32, random: &mut Random) -> Self {
        let width = 1 << swizzle;
        let piece = 128 * width; // 8 lines
        let chunks = rows / 8; // of 8 rows
        let wide = chunks.div_ceil(width);
        // The pieces lie side by side along the rows or along k, with a gap between two or without.
        let gap = piece * (1 + random.below(2));
        let (leading, stride, step) = match (mn_major, width) {
            (false, 1) => {
                let (leading, stride) = if random.below(2) == 0 { (gap, 4 * gap) } else { (gap * chunks, gap) };
                (leading, stride, 2 * leading)
            }
            (false, 2) => (16, gap, gap * chunks),
            (false, _) => (16, gap, 32),
            (true, 1) => {
                let (leading, stride) = if random.below(2) == 0 { (gap, 4 * gap) } else { (gap * chunks, gap) };
                (leading, stride, 2 * leading)
            }
            (true, _) => {
                let (leading, stride) = if random.below(2) == 0 { (4 * gap, gap) } else { (gap, gap * wide) };
                (leading, stride, 2 * stride)
            }
        };
        Self { mn_major, at, width, leading, stride, step }
    }

    /// The byte at which element (row, k) is, k counting the elements of both steps.
    fn byte(&self, row: u32, k: u32, element_bytes: u32) -> u32 {
        let per_chunk = 16 / element_bytes;
        let chunk_bytes = if self.mn_major {
            let (chunk, line) = (row / 8, k % 16);
            let step = k / 16 * self.step;
            step + if self.width == 1 {
                chunk * self.stride + line % 8 * 16 + line / 8 * self.leading
            } else {
                (chunk % self.width + line % 8 * self.width) * 16
                    + chunk / self.width * self.leading
                    + line / 8 * self.stride
            }
        } else {
            let chunk = k / per_chunk % 2;
            let step = k / per_chunk / 2 * self.step;
            step + row % 8 * self.width * 16
                + row / 8 * self.stride
                + chunk * if self.width == 1 { self.leading } else { 16 }
        };
        // Swizzle<log2(width), 4, 3>: bits 7 and on of the address into bits 4 and on.
        let address = self.at + chunk_bytes;
        let swizzled = address ^ ((address >> 7) & (self.width - 1)) << 4;
        swizzled + if self.mn_major { row % 8 } else { k % per_chunk } * element_bytes
    }

    fn place(&self) -> [u32; 5] {
        [self.at, self.width.ilog2(), self.leading, self.stride, self.step]
    }

    fn end(&self, rows: u32, depth: u32, element_bytes: u32) -> u32 {
        let bytes = |row| (0..depth).map(move |k| self.byte(row, k, element_bytes));
        (0..rows).flat_map(bytes).max().unwrap() + element_bytes
    }
}

fn check_wgmma(data_type: Type, n: u32, majors: [bool; 2], from_registers: bool, swizzles: [u32; 2], seed: u64) {
    let mut random = Random(seed ^ u64::from(n) << 20);
    let element = data_type.bytes();
    let depth = 64 / element; // two steps
    let a_layout = Layout::new(majors[0], swizzles[0], 64, 0, &mut random);
    let b_at = a_layout.end(64, depth, element).next_multiple_of(1024);
    let b_layout = Layout::new(majors[1], swizzles[1], n, b_at, &mut random);
    let image_bytes = 24 * 1024 * 4;
    assert!(b_layout.end(n, depth, element) <= image_bytes);

    let mut image: Vec<u8> = (0..image_bytes).map(|_| random.bits() as u8).collect();
    let mut values = |rows: u32| -> Vec<i32> { (0..rows * depth).map(|_| random.below(9) as i32 - 4).collect() };
    let (a, b) = (values(64), values(n));
    let mut random = Random(seed);
    for (layout, operand) in [(&a_layout, &a), (&b_layout, &b)] {
        for (i, &value) in operand.iter().enumerate() {
            let at = layout.byte(i as u32 / depth, i as u32 % depth, element) as usize;
            let word = data_type.word(value, &mut random).to_le_bytes();
            image[at..at + element as usize].copy_from_slice(&word[..element as usize]);
        }
    }
    let image: Vec<u32> = image.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect();

    // The fragments of A: of thread t, register i of step s.
    let mut registers = vec![0u32; 2 * 128 * 4];
    for (index, register) in registers.iter_mut().enumerate() {
        let (step, thread, i) = (index / 512, index / 4 % 128, index % 4);
        let row = thread / 32 * 16 + thread % 32 / 4 + i % 2 * 8;
        let mut word = |k: usize| data_type.word(a[row * depth as usize + step * depth as usize / 2 + k], &mut random);
        *register = match data_type {
            Type::Tf32 => word(thread % 4 + i / 2 * 4),
            _ => word(thread % 4 * 2 + i / 2 * 8) | word(thread % 4 * 2 + i / 2 * 8 + 1) << 16,
        };
    }

    // The accumulators of thread t: rows and columns of its value i.
    let count = n as usize / 2;
    let place = |index: usize| {
        let (thread, i) = (index / count, index % count);
        (thread / 32 * 16 + thread % 32 / 4 + i % 4 / 2 * 8, i / 4 * 8 + thread % 4 * 2 + i % 2)
    };
    let c: Vec<f32> = (0..128 * count).map(|_| random.below(100) as f32 - 50.0).collect();
    let mut d = vec![f32::NAN; c.len()];
    // SAFETY: all arrays have the extents that the kernel has
    outcome(unsafe {
        kernels::wgmma(
            &Queue::new(seed),
            data_type as i32,
            n as i32,
            majors[0].into(),
            majors[1].into(),
            from_registers.into(),
            image.as_ptr(),
            registers.as_ptr(),
            [a_layout.place(), b_layout.place()].as_ptr(),
            c.as_ptr(),
            d.as_mut_ptr(),
        )
    })
    .unwrap();
    for (index, &value) in d.iter().enumerate() {
        let (row, column) = place(index);
        let dot = |k: usize| a[row * depth as usize + k] * b[column * depth as usize + k];
        let expected = c[index] + (0..depth as usize).map(dot).sum::<i32>() as f32;
        let what = format!("{data_type:?}, n {n}, {majors:?}, registers {from_registers}, {swizzles:?}, seed {seed}");
        assert_eq!(value, expected, "{what}: row {row}, column {column}");
    }
}

fn wgmma_of_every_number_of_columns() {
    for n in (8..=256).step_by(8) {
        for from_registers in [false, true] {
            check_wgmma(Type::Bf16, n, [false, false], from_registers, [3, 3], u64::from(n) / 8);
        }
    }
}

fn wgmma_of_every_layout_of_its_operands() {
    for (i, n) in [8, 24, 64, 136, 256].into_iter().enumerate() {
        for pair in 0..16 {
            let swizzles = [pair % 4, pair / 4];
            let seed = u64::from(pair) * 5 + i as u64;
            for data_type in [Type::Bf16, Type::F16] {
                for majors in [[false, false], [false, true], [true, false], [true, true]] {
                    check_wgmma(data_type, n, majors, false, swizzles, seed);
                }
                check_wgmma(data_type, n, [false, true], true, swizzles, seed);
                check_wgmma(data_type, n, [false, false], true, swizzles, seed);
            }
            check_wgmma(Type::Tf32, n, [false, false], false, swizzles, seed);
            check_wgmma(Type::Tf32, n, [false, false], true, swizzles, seed);
        }
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(trials, Chips::Hopper, wgmma_of_every_number_of_columns, wgmma_of_every_layout_of_its_operands);
}
