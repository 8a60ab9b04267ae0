#!/usr/bin/env python3
"""Writes quantize_fixtures.txt: what bitsandbytes makes of numbers that the tests make too, and its code books.

pip install bitsandbytes==0.50.2 torch scipy; the file was made with torch 2.15.0 on a CPU. The normal float books of LQ-LoRA are those of its formula, with scipy's quantiles.
"""

import pathlib

import bitsandbytes
import numpy
import torch
from bitsandbytes import functional
from scipy.stats import norm

TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def numbers(count):
    """Exact in f32: 24 bits of a hash, times a power of two that changes with every 64 numbers; each 64 times 5 are zeroes."""
    i = numpy.arange(count, dtype=numpy.uint64)
    x = (i + 1) * numpy.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> numpy.uint64(31))) * numpy.uint64(0xBF58476D1CE4E5B9)
    uniform = (x >> numpy.uint64(40)).astype(numpy.float64) / 2**24 - 0.5
    scale = 2.0 ** ((i // 64) % 7).astype(numpy.float64)
    return numpy.where(i // 64 % 64 == 5, 0.0, uniform * scale).astype(numpy.float32)


def hexadecimal(tensor):
    return tensor.contiguous().view(torch.uint8).numpy().tobytes().hex()


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return f"{value:016x}"


def normal_float(bits):
    offset, half = 0.9677083, 2 ** (bits - 1)
    quantiles = numpy.concatenate([numpy.linspace(1 - offset, 0.5, half)[:-1], numpy.linspace(0.5, offset, half + 1)])
    return torch.from_numpy((norm.ppf(quantiles) / norm.ppf(offset)).astype(numpy.float32))


lines = [f"# bitsandbytes {bitsandbytes.__version__}, torch {torch.__version__}; numbers in hexadecimal, lowest byte first"]
books = {
    "nf4": functional.get_4bit_type("nf4", device="cpu"),
    "fp4": functional.get_4bit_type("fp4", device="cpu"),
    "dynamic": functional.create_dynamic_map(),
    **{f"nf{bits}-formula": normal_float(bits) for bits in (2, 3, 4, 8)},
}
lines += [f"book {name} {hexadecimal(values)}" for name, values in books.items()]

# type of the codes, of the numbers, block, nested, how many numbers
for quantity in [
    ("nf4", "f32", 64, False, 704),
    ("nf4", "f32", 64, False, 209),
    ("nf4", "f16", 128, False, 1024),
    ("nf4", "bf16", 64, False, 1024),
    ("nf4", "f32", 4096, False, 8192),
    ("fp4", "f32", 64, False, 704),
    ("fp4", "bf16", 32, False, 512),
    ("nf4", "f32", 32, True, 9600),
    ("nf4", "bf16", 64, True, 6400),
]:
    kind, dtype, block, nested, count = quantity
    given = torch.from_numpy(numbers(count)).to(TYPES[dtype])
    codes, state = functional.quantize_4bit(given, blocksize=block, quant_type=kind, compress_statistics=nested)
    back = functional.dequantize_4bit(codes, state)
    lists = [codes, state.absmax] + ([state.state2.absmax, state.offset.reshape(1)] if nested else [])
    fields = [kind, dtype, block, int(nested), count, *map(hexadecimal, lists), fnv(bytes.fromhex(hexadecimal(back)))]
    lines.append("case " + " ".join(map(str, fields)))

pathlib.Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")
