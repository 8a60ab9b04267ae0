//! What bitsandbytes makes of the same numbers, and its code books: quantize_fixtures.txt, which quantize_fixtures.py has written.

use half::{bf16, f16};
use peft_kernels::lora::CodeBook;
use peft_kernels::{Cpu, Element, Emulator};

use super::quantize::{Case, Spec};
use crate::buffer::Cell;
use crate::queues::{Runner, Trials};

const FIXTURES: &str = include_str!("quantize_fixtures.txt");

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&hexadecimal[i..i + 2], 16).expect("two digits");
    (0..hexadecimal.len()).step_by(2).map(byte).collect()
}

fn floats(hexadecimal: &str) -> Vec<f32> {
    bytes(hexadecimal).chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect()
}

/// The numbers of quantize_fixtures.py.
fn number(i: usize) -> f64 {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let uniform = (x >> 40) as f64 / (1 << 24) as f64 - 0.5;
    if i / 64 % 64 == 5 { 0.0 } else { uniform * f64::from(1 << (i / 64 % 7)) }
}

fn fnv(data: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    format!("{:016x}", data.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn books() -> Result<(), String> {
    let normal = |bits| CodeBook::normal_float(bits).expect("so many bits");
    for line in FIXTURES.lines().filter_map(|line| line.strip_prefix("book ")) {
        let (name, values) = line.split_once(' ').expect("a name and values");
        let expected = floats(values);
        let (book, allowed) = match name {
            "nf4" => (CodeBook::nf4().clone(), 0.0),
            "fp4" => (CodeBook::fp4().clone(), 0.0),
            "dynamic" => (CodeBook::dynamic().clone(), 0.0),
            // bitsandbytes has made its own of quantiles in f32.
            "nf4-formula" => (normal(4), 1e-6),
            _ => (normal(name.as_bytes()[2].wrapping_sub(b'0').into()), 6e-8),
        };
        for (i, (&got, &expected)) in book.values().iter().zip(&expected).enumerate() {
            let exact = allowed == 0.0 && got.to_bits() == expected.to_bits();
            if !exact && (allowed == 0.0 || (got - expected).abs() > allowed) {
                return Err(format!("value {i} of {name} is {got}, expected {expected}"));
            }
        }
        if book.values().len() != expected.len() {
            return Err(format!("{name} has {} values, expected {}", book.values().len(), expected.len()));
        }
    }
    Ok(())
}

struct Fixture {
    spec: Spec,
    codes: Vec<u8>,
    absmax: Vec<u8>,
    nested: Option<[Vec<u8>; 2]>,
    back: String,
}

impl Fixture {
    /// And the type of its numbers.
    fn of(line: &'static str) -> (&'static str, Self) {
        let words: Vec<_> = line.split(' ').collect();
        let [count, block] = [words[4], words[2]].map(|word| word.parse().expect("a number"));
        let nested = words[3] == "1";
        let spec = Spec::new([1, count]).with(|spec| {
            spec.book = if words[0] == "fp4" { CodeBook::fp4() } else { CodeBook::nf4() }.clone();
            (spec.block, spec.nested, spec.short_block) = (block, nested.then_some(256), true);
        });
        let (first, absmax) = (bytes(words[5]), bytes(words[6]));
        let nested = nested.then(|| [absmax.clone(), bytes(words[8])]);
        let back = words[words.len() - 1].into();
        let absmax = if nested.is_some() { bytes(words[7]) } else { absmax };
        (words[1], Self { spec, codes: first, absmax, nested, back })
    }

    fn check<T: Element + Cell>(&self, queue: &impl Runner) -> Result<(), String> {
        let case = Case::<T>::new(self.spec.clone(), number);
        let [codes, absmax, absmax_codes, offset] = case.quantized(queue)?;
        let fp4 = self.spec.book == *CodeBook::fp4();
        // FP4 has two zeroes, of which bitsandbytes takes another on a CPU than on a GPU.
        let one_zero = |code: u8| if fp4 && code == 8 { 0 } else { code };
        let pair = |byte: u8| [one_zero(byte >> 4), one_zero(byte & 15)];
        let differing = codes.iter().zip(&self.codes).position(|(&got, &expected)| pair(got) != pair(expected));
        if differing.is_some() || codes.len() != self.codes.len() {
            return Err(format!("byte {differing:?} of the codes differs"));
        }
        if let Some([expected_codes, expected_offset]) = &self.nested {
            // bitsandbytes adds up absmax in f32.
            let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("four bytes"));
            let (got, expected) = (value(&offset), value(expected_offset));
            if (got - expected).abs() > 4e-7 * expected {
                return Err(format!("the offset is {got}, expected {expected}"));
            }
            let differing = absmax_codes.iter().zip(expected_codes).position(|(got, expected)| got != expected);
            if differing.is_some() || absmax_codes.len() != expected_codes.len() {
                return Err(format!("code {differing:?} of absmax differs"));
            }
            case.fill_nested(&self.absmax, expected_offset);
        } else if absmax != self.absmax {
            return Err("absmax differs".into());
        }
        let back: Vec<u8> = case.dequantized_bytes(queue)?;
        if fnv(&back) == self.back { Ok(()) } else { Err("what comes back differs".into()) }
    }
}

fn cases() -> Result<(), String> {
    let lines: Vec<_> = FIXTURES.lines().filter_map(|line| line.strip_prefix("case ")).collect();
    assert_eq!(lines.len(), 9);
    for (i, line) in lines.into_iter().enumerate() {
        let (dtype, fixture) = Fixture::of(line);
        fn everywhere<T: Element + Cell>(fixture: &Fixture) -> Result<(), String> {
            fixture.check::<T>(&Cpu)?;
            fixture.check::<T>(&Emulator::new(2))
        }
        let checked = match dtype {
            "f16" => everywhere::<f16>(&fixture),
            "bf16" => everywhere::<bf16>(&fixture),
            _ => everywhere::<f32>(&fixture),
        };
        checked.map_err(|report| format!("case {i}: {report}"))?;
    }
    Ok(())
}

pub fn trials(trials: &mut Trials) {
    trials.add("lora::quantize::bitsandbytes_books", books);
    trials.add("lora::quantize::bitsandbytes", cases);
}
