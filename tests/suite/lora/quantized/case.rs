//! A quantised W as a description, and its lists.

use peft_kernels::lora::{self, BlockFormat, CodeBook, Dequantize, Quantize, Quantized};
use peft_kernels::{Cpu, Element, Layout, Mat, MatMut, Vector, VectorMut, Workspace};

use crate::buffer::{Buffer, Cell};
use crate::queues::Runner;

#[derive(Clone, Debug)]
pub struct QuantizedSpec {
    pub book: CodeBook,
    pub block: usize,
    /// Blocks of absmax.
    pub nested: Option<usize>,
    /// Whether the codes begin at a multiple of 16 bytes, or wherever their end is at one.
    pub aligned: bool,
}

impl QuantizedSpec {
    /// One of all books, blocks and nestings.
    pub fn number(i: usize) -> Self {
        let nf = |bits| CodeBook::normal_float(bits).expect("so many bits");
        let book = match i % 6 {
            0 => CodeBook::nf4().clone(),
            1 => nf(3),
            2 => nf(8),
            3 => CodeBook::fp4().clone(),
            4 => nf(2),
            _ => CodeBook::dynamic().clone(),
        };
        let block = [64, 16, 256, 32][i / 2 % 4];
        let nested = [None, Some(16), None, Some(256)][(i + i / 6) % 4];
        Self { book, block, nested, aligned: i % 3 != 1 }
    }

    /// bitsandbytes' NF4.
    pub fn nf4(nested: bool) -> Self {
        Self { book: CodeBook::nf4().clone(), block: 64, nested: nested.then_some(256), aligned: true }
    }

    pub fn format(&self) -> BlockFormat<'_> {
        let format = BlockFormat::default().book(&self.book).block(self.block).short_block();
        format.absmax(CodeBook::dynamic(), self.nested.unwrap_or(256))
    }
}

pub struct QuantizedCase {
    spec: QuantizedSpec,
    pub codes: Buffer<u8>,
    code_bytes: usize,
    pub absmax: Buffer<f32>,
    pub absmax_codes: Buffer<u8>,
    pub offset: Buffer<f32>,
}

fn list<E: Cell>(length: usize) -> Buffer<E> {
    Buffer::new(Layout { offset: 0, extents: [1, 1, length], strides: [0, 0, 1] }, |_| E::POISON)
}

impl QuantizedCase {
    /// Of W, one for all batches, in which what comes back takes the place of what was there.
    pub fn new<T: Element + Cell>(spec: &QuantizedSpec, w: &mut Buffer<T>) -> Self {
        let Layout { offset, extents: [batches, n, k], strides: [_, row, column] } = w.layout;
        assert_eq!(batches, 1, "a quantised W is one for all batches");
        let layout = Layout { offset, extents: [n, k], strides: [row, column] };
        let format = spec.format();
        let code_bytes = format.code_bytes(n * k);
        let [absmax, absmax_codes] = match spec.nested {
            None => [format.blocks(n * k), 0],
            Some(_) => [format.absmax_blocks(n * k), format.blocks(n * k)],
        };
        let codes = list(if spec.aligned { code_bytes.next_multiple_of(16) } else { code_bytes });
        let offset = list(usize::from(spec.nested.is_some()));
        let (absmax, absmax_codes) = (list(absmax), list(absmax_codes));
        let mut case = Self { spec: spec.clone(), codes, code_bytes, absmax, absmax_codes, offset };

        let source = Mat::with_layout(Cpu.source(w), layout).expect("the buffer is as large as its layout");
        let codes = VectorMut::whole(Cpu.sink_at(case.codes.address(), code_bytes));
        let mut call = Quantize::new(source, codes, VectorMut::whole(Cpu.sink(&case.absmax))).format(format);
        if spec.nested.is_some() {
            let codes = VectorMut::whole(Cpu.sink(&case.absmax_codes));
            call = call.nested(codes, VectorMut::whole(Cpu.sink(&case.offset)));
        }
        lora::quantize(&Cpu, call, Workspace::none()).expect("a W that can be quantised");

        let destination = MatMut::with_layout(Cpu.sink(w), layout).expect("the buffer is as large as its layout");
        let codes = Vector::whole(Cpu.source_at(case.codes.address(), code_bytes));
        let mut call = Dequantize::new(codes, Vector::whole(Cpu.source(&case.absmax)), destination).format(format);
        if spec.nested.is_some() {
            let codes = Vector::whole(Cpu.source(&case.absmax_codes));
            call = call.nested(codes, Vector::whole(Cpu.source(&case.offset)));
        }
        lora::dequantize(&Cpu, call).expect("what was quantised comes back");
        w.remember();
        case.codes.remember();
        case.absmax.remember();
        case.absmax_codes.remember();
        case.offset.remember();
        case
    }

    /// What a target of a call is given.
    pub fn given<'a, Q: Runner>(&'a self, queue: &Q) -> Quantized<'a, Q> {
        let codes = Vector::whole(queue.source_at(self.codes.address(), self.code_bytes));
        let w = Quantized::new(codes, Vector::whole(queue.source(&self.absmax))).format(self.spec.format());
        match self.spec.nested {
            None => w,
            Some(_) => {
                let codes = Vector::whole(queue.source(&self.absmax_codes));
                w.nested(codes, Vector::whole(queue.source(&self.offset)))
            }
        }
    }

    pub fn check_untouched(&self) -> Result<(), String> {
        self.codes.check_untouched("codes")?;
        self.absmax.check_untouched("absmax")?;
        self.absmax_codes.check_untouched("codes of absmax")?;
        self.offset.check_untouched("offset of absmax")
    }
}

/// Those of a call's targets that have a W in memory, quantised one after the other.
pub fn quantized<'a, T: Element + Cell>(
    first: usize,
    ws: impl Iterator<Item = Option<&'a mut Buffer<T>>>,
) -> Vec<Option<QuantizedCase>> {
    let of =
        |(i, w): (usize, Option<&mut Buffer<T>>)| w.map(|w| QuantizedCase::new(&QuantizedSpec::number(first + i), w));
    ws.enumerate().map(of).collect()
}
