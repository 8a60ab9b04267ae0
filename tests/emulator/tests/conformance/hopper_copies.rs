//! Bulk copies, tensor maps, mbarriers and named barriers against their definitions, with random data and schedules.

use emulator_tests::{Queue, Random, outcome};

use crate::{Chips, Trials, conforms, on_emulator};

emulator_tests::kernels! {
    fn move_box(
        element_bytes: u32,
        axes: u32,
        shape: *const [u64; 4],
        strides: *const u64,
        swizzle: u32,
        at: *const [i32; 4],
        from: *const u8,
        to: *mut u8,
        tensor_bytes: u64,
        image: *mut u32,
        image_bytes: u64,
    );
    fn add_to_line(from: *const u32, to: *mut u32, rounds: u32);
    fn pass_through_ring(
        named: i32,
        values: *const u32,
        results: *mut u32,
        rounds: u32,
    );
}

/// Bytes aligned as copies want them.
struct Bytes(Vec<u128>);

impl Bytes {
    fn new(count: usize, mut byte: impl FnMut(usize) -> u8) -> Self {
        let word = |i: usize| u128::from_le_bytes(std::array::from_fn(|j| byte(i * 16 + j)));
        Self((0..count.div_ceil(16)).map(word).collect())
    }

    fn pointer(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }

    fn get(&self, i: usize) -> u8 {
        self.0[i / 16].to_le_bytes()[i % 16]
    }
}

// ---- tensor maps ----

#[derive(Debug)]
struct Tensor {
    element: usize,
    axes: usize,
    extents: [u64; 4],
    boxes: [u64; 4],
    strides: [u64; 3],
    swizzle: u32,
    from: [i32; 4],
    to: [i32; 4],
}

impl Tensor {
    fn random(random: &mut Random) -> Self {
        let element = 1 << random.below(3);
        let axes = 1 + random.below(4) as usize;
        let swizzle = random.below(4);
        let row = if swizzle > 0 { 16 << swizzle } else { 16 * (1 + random.below(8)) };
        let mut tensor = Self {
            element,
            axes,
            extents: std::array::from_fn(|axis| {
                if axis < axes { 1 + u64::from(random.below([200, 20, 6, 4][axis])) } else { 1 }
            }),
            boxes: [(row as usize / element).min(256) as u64, 1, 1, 1],
            strides: [0; 3],
            swizzle,
            from: [0; 4],
            to: [0; 4],
        };
        if (row as usize / element) > 256 {
            tensor.swizzle = 0;
        }
        for axis in 1..axes {
            tensor.boxes[axis] = 1 + u64::from(random.below([12, 4, 3][axis - 1]));
        }
        let mut stride = tensor.extents[0] * element as u64;
        for axis in 1..axes {
            stride = stride.next_multiple_of(16) + 16 * u64::from(random.below(3));
            tensor.strides[axis - 1] = stride;
            stride *= tensor.extents[axis];
        }
        for at in [&mut tensor.from, &mut tensor.to] {
            for (axis, index) in at.iter_mut().enumerate().take(axes) {
                let reach = tensor.boxes[axis] as i32 + 1;
                *index = random.below((tensor.extents[axis] as i32 + 2 * reach) as u32) as i32 - reach;
            }
        }
        tensor
    }

    fn bytes(&self) -> usize {
        let last = |axis: usize| {
            (self.extents[axis] - 1) * if axis == 0 { self.element as u64 } else { self.strides[axis - 1] }
        };
        (0..self.axes).map(last).sum::<u64>() as usize + self.element
    }

    fn box_elements(&self) -> u64 {
        self.boxes.iter().product()
    }

    /// Where in the tensor element `i` of the box is, in bytes; none outside.
    fn offset(&self, mut i: u64, at: &[i32; 4]) -> Option<usize> {
        let mut offset = 0;
        for (axis, &first) in at.iter().enumerate().take(self.axes) {
            let index = i64::from(first) + (i % self.boxes[axis]) as i64;
            i /= self.boxes[axis];
            if index < 0 || index >= self.extents[axis] as i64 {
                return None;
            }
            offset += index as usize * if axis == 0 { self.element } else { self.strides[axis - 1] as usize };
        }
        Some(offset)
    }
}

fn move_box(
    tensor: &Tensor,
    seed: u64,
    from: &mut Bytes,
    to: &mut Bytes,
    image: &mut [u32],
) -> Result<(), (i32, String)> {
    // SAFETY: all memory is as large as is said
    outcome(unsafe {
        kernels::move_box(
            &Queue::new(seed),
            tensor.element as u32,
            tensor.axes as u32,
            [tensor.extents, tensor.boxes].as_ptr(),
            tensor.strides.as_ptr(),
            tensor.swizzle,
            [tensor.from, tensor.to].as_ptr(),
            from.pointer(),
            to.pointer(),
            tensor.bytes() as u64,
            image.as_mut_ptr(),
            image.len() as u64 * 4,
        )
    })
}

fn boxes_move_as_their_tensor_maps_say() {
    for seed in 0..1500 {
        let mut random = Random(seed);
        let tensor = Tensor::random(&mut random);
        let bytes = tensor.bytes();
        let mut from = Bytes::new(bytes, |_| random.bits() as u8);
        let mut to = Bytes::new(bytes, |_| 0xee);
        let box_bytes = tensor.box_elements() as usize * tensor.element;
        let mut image = vec![0xffff_ffffu32; box_bytes / 4];
        move_box(&tensor, seed, &mut from, &mut to, &mut image).unwrap_or_else(|error| panic!("{error:?}: {tensor:?}"));

        let mut expected = vec![0xee; bytes];
        for i in 0..tensor.box_elements() {
            let source = tensor.offset(i, &tensor.from);
            let packed = i as usize * tensor.element;
            let swizzled = packed ^ ((packed >> 7) & ((1 << tensor.swizzle) - 1)) << 4;
            for byte in 0..tensor.element {
                let value = source.map_or(0, |offset| from.get(offset + byte));
                let at = swizzled + byte;
                assert_eq!(
                    image[at / 4].to_le_bytes()[at % 4],
                    value,
                    "element {i} in shared memory, seed {seed}: {tensor:?}"
                );
                if let Some(offset) = tensor.offset(i, &tensor.to) {
                    expected[offset + byte] = value;
                }
            }
        }
        for (i, &value) in expected.iter().enumerate() {
            assert_eq!(to.get(i), value, "byte {i} of the target, seed {seed}: {tensor:?}");
        }
    }
}

fn tensor_maps_that_a_driver_refuses_are_refused() {
    let sound = || Tensor {
        element: 2,
        axes: 3,
        extents: [64, 40, 3, 1],
        boxes: [32, 8, 1, 1],
        strides: [128, 5120, 0],
        swizzle: 2,
        from: [0; 4],
        to: [0; 4],
    };
    let check = |tensor: Tensor, shift: usize, text: &str| {
        let mut memory = Bytes::new(128 * 1024, |_| 0);
        let mut target = Bytes::new(128 * 1024, |_| 0);
        let mut image = vec![0u32; 8192];
        // SAFETY: within the memory
        let from = unsafe { memory.pointer().add(shift) };
        // SAFETY: as above; the tensor is smaller than the memory
        let found = outcome(unsafe {
            kernels::move_box(
                &Queue::new(0),
                tensor.element as u32,
                tensor.axes as u32,
                [tensor.extents, tensor.boxes].as_ptr(),
                tensor.strides.as_ptr(),
                tensor.swizzle,
                [tensor.from, tensor.to].as_ptr(),
                from,
                target.pointer(),
                64 * 1024,
                image.as_mut_ptr(),
                image.len() as u64 * 4,
            )
        });
        match found {
            Ok(()) => assert_eq!(text, "", "{tensor:?}"),
            Err((_, report)) => assert!(!text.is_empty() && report.contains(text), "{text:?} not in: {report}"),
        }
    };
    check(sound(), 0, "");
    check(sound(), 8, "the data are not aligned to 16 bytes (8)");
    check(Tensor { axes: 0, ..sound() }, 0, "not 1 to 4 axes");
    check(Tensor { axes: 5, ..sound() }, 0, "not 1 to 4 axes");
    check(Tensor { extents: [64, 0, 3, 1], ..sound() }, 0, "an extent is not 1 to 2^32 (0)");
    check(Tensor { strides: [136, 5120, 0], ..sound() }, 0, "a stride is not a multiple of 16 bytes below 2^40 (136)");
    check(Tensor { strides: [128, 1 << 40, 0], ..sound() }, 0, "a stride is not a multiple of 16 bytes below 2^40");
    check(Tensor { boxes: [32, 257, 1, 1], ..sound() }, 0, "an extent of the box is not 1 to 256 (257)");
    check(Tensor { boxes: [32, 0, 1, 1], ..sound() }, 0, "an extent of the box is not 1 to 256 (0)");
    check(Tensor { boxes: [28, 8, 1, 1], ..sound() }, 0, "no multiple of 16 bytes (56)");
    check(Tensor { boxes: [64, 8, 1, 1], ..sound() }, 0, "longer than the lines of the swizzle, in bytes (128)");
    check(Tensor { boxes: [16, 8, 1, 1], ..sound() }, 0, "rows of 32 bytes in a swizzle of 64");
}

// ---- bulk copies of lines, barriers ----

fn lines_come_and_go() {
    for seed in 0..50 {
        let mut random = Random(seed);
        let rounds = 1 + random.below(5);
        let count = rounds as usize * 1024;
        let mut from = Bytes::new(count * 4, |_| random.bits() as u8);
        let mut to = Bytes::new(count * 4, |_| 0);
        // SAFETY: both are as long as that
        outcome(unsafe { kernels::add_to_line(&Queue::new(seed), from.pointer().cast(), to.pointer().cast(), rounds) })
            .unwrap();
        let word = |bytes: &Bytes, i: usize| u32::from_le_bytes(std::array::from_fn(|j| bytes.get(4 * i + j)));
        for i in 0..count {
            assert_eq!(word(&to, i), word(&from, i).wrapping_add(i as u32 % 1024), "word {i}, seed {seed}");
        }
    }
}

fn rings_of_mbarriers_and_of_named_barriers_hand_over_in_order() {
    for seed in 0..50 {
        for named in [0, 1] {
            let mut random = Random(seed);
            let rounds = 1 + random.below(9) as usize;
            let values: Vec<u32> = (0..rounds * 32).map(|_| random.bits32()).collect();
            let mut results = [0; 64];
            // SAFETY: as many values as rounds have
            outcome(unsafe {
                kernels::pass_through_ring(
                    &Queue::new(seed),
                    named,
                    values.as_ptr(),
                    results.as_mut_ptr(),
                    rounds as u32,
                )
            })
            .unwrap();
            for (thread, &result) in results.iter().enumerate() {
                let expected = values.chunks(32).fold(0u32, |sum, round| sum.wrapping_add(round[31 - thread % 32]));
                assert_eq!(result, expected, "named {named}, thread {thread}, seed {seed}");
            }
        }
    }
}

pub fn trials(trials: &mut Trials) {
    conforms!(
        trials,
        Chips::Hopper,
        boxes_move_as_their_tensor_maps_say,
        lines_come_and_go,
        rings_of_mbarriers_and_of_named_barriers_hand_over_in_order
    );
    on_emulator!(trials, tensor_maps_that_a_driver_refuses_are_refused);
}
