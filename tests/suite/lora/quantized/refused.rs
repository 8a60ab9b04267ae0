//! What is refused of a quantised W, and in which words.

use peft_kernels::lora::{self, Backward, BackwardTarget, BlockFormat, CodeBook, Forward, Gradient, Quantized, Target};
use peft_kernels::{Cpu, Emulator, Layout, Mat, MatMut, Result, Vector, Workspace};

use crate::buffer::Buffer;
use crate::queues::{Runner, Trials};

/// Lists of W [4, 32], in a buffer of bytes: where they begin, and how long they are.
struct Parts {
    codes: [usize; 2],
    absmax: [usize; 2],
    nested: Option<[[usize; 2]; 2]>,
    block: usize,
    absmax_block: usize,
    absmax_bits: u32,
    bits: u32,
    short: bool,
}

const Y: usize = 2048;

impl Parts {
    fn new() -> Self {
        let (codes, absmax) = ([0, 64], [256, 2]);
        Self { codes, absmax, nested: None, block: 64, absmax_block: 256, absmax_bits: 8, bits: 4, short: false }
    }

    fn nested() -> Self {
        Self { absmax: [256, 1], nested: Some([[512, 2], [1024, 1]]), ..Self::new() }
    }

    /// The forward call, and the backward call.
    fn run<Q: Runner>(&self, queue: &Q) -> [Result<()>; 2] {
        let layout = Layout { offset: 0, extents: [1, 1, 4096], strides: [0, 0, 1] };
        let arena = Buffer::<u8>::new(layout, |_| 0);
        let at = |offset: usize| arena.address() + offset as u64;
        let nf = |bits| CodeBook::normal_float(bits).expect("so many bits");
        let (book, absmax_book) = (nf(self.bits), nf(self.absmax_bits));
        let format = BlockFormat::default().book(&book).block(self.block).absmax(&absmax_book, self.absmax_block);
        let format = if self.short { format.short_block() } else { format };
        let [codes, absmax] = [self.codes, self.absmax];
        let codes = Vector::whole(queue.source_at(at(codes[0]), codes[1]));
        let w = Quantized::new(codes, Vector::whole(queue.source_at(at(absmax[0]), absmax[1]))).format(format);
        let w = match self.nested {
            None => w,
            Some([codes, offset]) => {
                let codes = Vector::whole(queue.source_at(at(codes[0]), codes[1]));
                w.nested(codes, Vector::whole(queue.source_at(at(offset[0]), offset[1])))
            }
        };
        let (x, dy) = (Buffer::<f32>::list(&[1.0; 96]), Buffer::<f32>::list(&[1.0; 12]));
        let workspace = Buffer::<u8>::list(&[0; 8192]);
        let workspace = || Workspace::new(queue.sink(&workspace));
        let x = || Mat::new(queue.source(&x), 3, 32).expect("as long as it needs");
        let output = |rows, columns| {
            MatMut::<f32, Q>::new(queue.sink_at(at(Y), rows * columns), rows, columns).expect("as long as it needs")
        };
        let call = Forward::<f32, f32, Q>::new(x()).target(Target::quantized(&w, output(3, 4)));
        let forward = lora::forward(queue, call, workspace());
        let target = BackwardTarget::new(Mat::new(queue.source(&dy), 3, 4).expect("as long as it needs")).quantized(&w);
        let call = Backward::<f32, f32, Q>::new(x()).target(target).x_gradient(Gradient::overwrite(output(3, 32)));
        let backward = lora::backward(queue, call, workspace());
        if forward.is_err() {
            arena.check_untouched("a refused call").expect("nothing is written");
        }
        [forward, backward]
    }
}

type Case = (&'static str, fn() -> Parts, &'static str);

const CASES: &[Case] = &[
    ("a right call", Parts::new, ""),
    ("a right nested call", Parts::nested, ""),
    ("a code too few", || Parts { codes: [0, 63], ..Parts::new() }, "codes is [63], expected [64]"),
    ("codes of other bits", || Parts { bits: 8, ..Parts::new() }, "codes is [64], expected [128]"),
    ("a scale too few", || Parts { absmax: [256, 1], ..Parts::new() }, "absmax is [1], expected [2]"),
    ("nested: scales of blocks", || Parts { absmax: [256, 2], ..Parts::nested() }, "absmax is [2], expected [1]"),
    (
        "nested: a code too many",
        || Parts { nested: Some([[512, 3], [1024, 1]]), ..Parts::nested() },
        "absmax_codes is [3], expected [2]",
    ),
    (
        "nested: no offset",
        || Parts { nested: Some([[512, 2], [1024, 0]]), ..Parts::nested() },
        "absmax_offset is [0], expected [1]",
    ),
    ("no power of two", || Parts { block: 48, ..Parts::new() }, "block is 48, expected a power of two from 16 to 4096"),
    (
        "too long a block",
        || Parts { block: 8192, ..Parts::new() },
        "block is 8192, expected a power of two from 16 to 4096",
    ),
    (
        "a block that does not divide",
        || Parts { block: 256, absmax: [256, 1], ..Parts::new() },
        "block is 256, expected one that divides 128 elements, or short_block",
    ),
    ("a short block", || Parts { block: 256, absmax: [256, 1], short: true, ..Parts::new() }, ""),
    (
        "nested: no power of two",
        || Parts { absmax_block: 100, ..Parts::nested() },
        "absmax_block is 100, expected a power of two from 16 to 4096",
    ),
    (
        "nested: a book of few bits",
        || Parts { absmax_bits: 4, ..Parts::nested() },
        "absmax_book is of 4 bits, expected codes of 8 bits",
    ),
    (
        "scales between numbers",
        || Parts { absmax: [257, 2], ..Parts::new() },
        "absmax is at address 0x…, expected a multiple of 4",
    ),
    ("codes on the output", || Parts { codes: [Y, 64], ..Parts::new() }, "share the element at address 0x…"),
    ("scales on the output", || Parts { absmax: [Y + 40, 2], ..Parts::new() }, "share the element at address 0x…"),
    (
        "nested: an offset on the output",
        || Parts { nested: Some([[512, 2], [Y + 4, 1]]), ..Parts::nested() },
        "share the element at address 0x…",
    ),
];

fn check(what: &str, result: Result<()>, expected: &str) -> std::result::Result<(), String> {
    let text = result.err().map_or(String::new(), |error| error.to_string());
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    let hex = |c: char| c.is_ascii_hexdigit();
    let text = parts.fold(first, |text, part| text + "0x…" + part.trim_start_matches(hex));
    let right = if expected.is_empty() { text.is_empty() } else { text.contains(expected) };
    if right { Ok(()) } else { Err(format!("{what}: \"{text}\", expected \"{expected}\"")) }
}

fn texts() -> std::result::Result<(), String> {
    for (name, parts, expected) in CASES {
        let parts = parts();
        let results = [parts.run(&Cpu), parts.run(&Emulator::new(1))];
        for (queue, [forward, backward]) in ["cpu", "emulator"].into_iter().zip(results) {
            check(&format!("{name}, forward, {queue}"), forward, expected)?;
            check(&format!("{name}, backward, {queue}"), backward, expected)?;
        }
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::quantized::refused", texts);
}
