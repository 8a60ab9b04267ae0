//! `lora.quantize` and `lora.dequantize`: W to NF4 in blocks of 64, and back.

use peft_kernels::{Cpu, Mat, MatMut, Result, Vector, VectorMut, Workspace, lora};

use super::{Errors, Extents, Ready, RowError, Use, gather, numbers, sample};
use crate::bench::clock::Timed;
use crate::memory::{Memory, Owned};
use crate::values::{Random, Value};

/// Codes and scales of some rows.
struct Quantized {
    codes: Vec<u8>,
    absmax: Vec<f32>,
}

fn format() -> lora::BlockFormat<'static> {
    lora::BlockFormat::default().short_block()
}

impl Quantized {
    fn empty(elements: usize) -> Self {
        Self { codes: vec![0; format().code_bytes(elements)], absmax: vec![0.0; format().blocks(elements)] }
    }

    /// On the host.
    fn of<T: Value>(weights: &[T], k: usize) -> Result<Self> {
        let mut result = Self::empty(weights.len());
        let source = Mat::new(weights, weights.len() / k, k)?;
        let (codes, absmax) = (VectorMut::whole(&mut result.codes), VectorMut::whole(&mut result.absmax));
        lora::quantize(&Cpu, lora::Quantize::new(source, codes, absmax).format(format()), Workspace::none())?;
        Ok(result)
    }
}

type Lists<'h, M> = (<M as Memory>::Buffer<'h, u8>, <M as Memory>::Buffer<'h, f32>);

fn quantize_call<'a, T: Value, M: Memory>(
    weights: &'a M::Buffer<'_, T>,
    (codes, absmax): &'a mut (Owned<M, u8>, Owned<M, f32>),
    [n, k]: [usize; 2],
) -> Result<lora::Quantize<'a, T, M::Queue>> {
    let source = Mat::new(M::read(weights), n, k)?;
    let (codes, absmax) = (VectorMut::whole(M::write(&mut codes.0)), VectorMut::whole(M::write(&mut absmax.0)));
    Ok(lora::Quantize::new(source, codes, absmax).format(format()))
}

fn dequantize_call<'a, T: Value, M: Memory>(
    (codes, absmax): &'a Lists<'_, M>,
    back: &'a mut Owned<M, T>,
    [n, k]: [usize; 2],
) -> Result<lora::Dequantize<'a, T, M::Queue>> {
    let destination = MatMut::new(M::write(&mut back.0), n, k)?;
    let (codes, absmax) = (Vector::whole(M::read(codes)), Vector::whole(M::read(absmax)));
    Ok(lora::Dequantize::new(codes, absmax, destination).format(format()))
}

pub fn quantize<T: Value, M: Timed>(
    memory: &M,
    extents: &Extents,
    random: &mut Random,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let (n, k) = (extents.columns(), extents.k);
    let weights = numbers::<T>(random, n * k, 1.0 / (k as f64).sqrt());
    let placed = (0..copies).map(|_| memory.place((&weights).into())).collect::<Result<Vec<_>>>()?;
    let empty = || {
        let Quantized { codes, absmax } = Quantized::empty(n * k);
        Ok((Owned::<M, u8>::new(memory, codes)?, Owned::<M, f32>::new(memory, absmax)?))
    };
    let mut lists = (0..copies).map(|_| empty()).collect::<Result<Vec<_>>>()?;
    let kernel = lora::quantize_kernel(memory.queue(), &quantize_call(&placed[0], &mut lists[0], [n, k])?)?;
    {
        let mut enqueue = |copy: usize| {
            let call = quantize_call::<T, M>(&placed[copy], &mut lists[copy], [n, k])?;
            lora::quantize(memory.queue(), call, Workspace::none())
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    if !compare {
        return Ok(None);
    }
    // Codes are those of the host, or wrong.
    let (expected, mut errors) = (Quantized::of(&weights, k)?, Errors::default());
    let (codes, absmax) = (memory.fetch(&lists[0].0.0)?, memory.fetch(&lists[0].1.0)?);
    let as_numbers = |codes: &[u8]| codes.iter().map(|&code| f32::from(code)).collect::<Vec<_>>();
    errors.add(&as_numbers(&codes), as_numbers(&expected.codes).into_iter().map(f64::from));
    errors.add(&absmax, expected.absmax.into_iter().map(f64::from));
    Ok(Some(errors.of_rows(n)))
}

pub fn dequantize<T: Value, M: Timed>(
    memory: &M,
    extents: &Extents,
    random: &mut Random,
    copies: usize,
    compare: bool,
    with: Use,
) -> Result<Option<RowError>> {
    let (n, k) = (extents.columns(), extents.k);
    let weights = numbers::<T>(random, n * k, 1.0 / (k as f64).sqrt());
    let Quantized { codes, absmax } = Quantized::of(&weights, k)?;
    let place = || Ok((memory.place((&codes).into())?, memory.place((&absmax).into())?));
    let placed = (0..copies).map(|_| place()).collect::<Result<Vec<_>>>()?;
    let back = (0..copies).map(|_| Owned::new(memory, vec![T::NAN; n * k])).collect::<Result<Vec<_>>>();
    let mut back = back?;
    let kernel = lora::dequantize_kernel(memory.queue(), &dequantize_call(&placed[0], &mut back[0], [n, k])?)?;
    {
        let mut enqueue = |copy: usize| {
            lora::dequantize(memory.queue(), dequantize_call::<T, M>(&placed[copy], &mut back[copy], [n, k])?)
        };
        with(Ready { kernel, copies, runner: memory.runner(copies, &mut enqueue)? })?;
    }
    memory.wait()?;
    if !compare {
        return Ok(None);
    }
    let rows = sample(n);
    let got = gather(&memory.fetch(&back[0].0)?, k, &rows);
    let exact = |i: usize| {
        let (index, values) = (rows[i / k] * k + i % k, lora::CodeBook::nf4().values());
        let code = usize::from(codes[index / 2] >> (4 - index % 2 * 4) & 15);
        f64::from(values[code]) * f64::from(absmax[index / 64])
    };
    let mut errors = Errors::default();
    errors.add(&got, (0..got.len()).map(exact));
    Ok(Some(errors.of_rows(rows.len())))
}
