"""lora.quantize and lora.dequantize: W to NF4 in blocks of 64, as bitsandbytes stores it, and back."""

import ctypes
from types import SimpleNamespace

import abi
import numpy
from backends import SIZES
from library import matrix
from problem import Call, sample

from .layer import LoraProblem, extents

BLOCK = 64
# With bitsandbytes' digits.
VALUES = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0]
VALUES += [0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
# Half-way between neighbours.
BOUNDARIES = [(low + high) / 2 for low, high in zip(VALUES, VALUES[1:])]


def code_book():
    """And the lists that it points to."""
    lists = [numpy.array(VALUES, numpy.float32), numpy.array(BOUNDARIES, numpy.float32), numpy.arange(16, dtype=numpy.uint8)]
    values, boundaries, codes = (numbers.ctypes.data for numbers in lists)
    return abi.pk_lora_code_book(values, boundaries, codes, 4, 0), lists


class BlockProblem(LoraProblem):
    @classmethod
    def work(cls, entry):
        _, (n,), k, _, _ = extents(entry)
        return SIZES[entry.element_types[0]] * n * k + (n * k + 1) // 2 + 4 * -(-n * k // BLOCK), n * k

    def copy(self):
        (n,), backend = self.n, self.backend
        elements = n * self.k
        copy = SimpleNamespace(w=self.weights(n), codes=backend.zeros((elements // 2,), "u8"), absmax=backend.empty((elements // BLOCK,), "f32"))
        copy.back = backend.empty((n, self.k), self.types[0])
        return copy

    def decoded(self, codes, absmax, rows):
        """Rows of the weights that codes and scales stand for, in f64."""
        per_row = self.k // BLOCK
        codes = self.backend.to_numpy(codes).reshape(-1, self.k // 2)[rows]
        absmax = self.backend.to_numpy(absmax).astype(numpy.float64).reshape(-1, per_row)[rows]
        indices = numpy.stack([codes >> 4, codes & 15], -1).reshape(len(rows), self.k)
        return numpy.array(VALUES, numpy.float32).astype(numpy.float64)[indices] * absmax.repeat(BLOCK, 1)

    def descriptor(self, copy, weights):
        descriptor = abi.pk_lora_quantize_descriptor(size=ctypes.sizeof(abi.pk_lora_quantize_descriptor))
        descriptor.matrix, descriptor.block = matrix(weights), BLOCK
        descriptor.codes, descriptor.code_bytes = copy.codes.address, copy.codes.shape[0]
        descriptor.absmax, descriptor.absmax_count = copy.absmax.address, copy.absmax.shape[0]
        descriptor.book, kept = code_book()
        return descriptor, kept


class Quantize(BlockProblem):
    def call(self, copy):
        descriptor, kept = self.descriptor(copy, copy.w)
        return Call("pk_lora_quantize", descriptor, [copy.codes.data, copy.absmax.data], kept, ("pk_lora_quantize_pick", 0))

    @classmethod
    def peers_tolerance(cls, entry):
        """A block's scale is rounded to x's type on the way, and that moves what is next to it."""
        return 2 * super().tolerance(entry)

    def error(self, outputs):
        """How much farther from W than the nearest values of the book the decoded ones are, and how far scales are from the largest magnitudes, over W's largest."""
        rows = sample(self.n[0])
        w = self.backend.to_numpy(self.copies[0].w.f64(rows))
        absmax = abs(w.reshape(len(rows), -1, BLOCK)).max(-1)
        book = numpy.array(VALUES, numpy.float32).astype(numpy.float64)
        nearest = abs(w[:, :, None] - book * absmax.repeat(BLOCK, 1)[:, :, None]).min(-1)
        codes, scales = outputs
        scale_error = abs(self.backend.to_numpy(scales).astype(numpy.float64).reshape(self.n[0], -1)[rows] - absmax).max()
        excess = (abs(w - self.decoded(codes, scales, rows)) - nearest).max()
        largest = max(float(excess), float(scale_error), 0.0)
        return {"largest": largest, "relative": largest / float(abs(w).max()), "rows": len(rows)}


class Dequantize(BlockProblem):
    def copy(self):
        """Codes and scales are those of random weights, which ours makes once."""
        copy = super().copy()
        descriptor, _kept = self.descriptor(copy, copy.w)
        self.library.call("pk_lora_quantize", ctypes.byref(self.backend.queue()), ctypes.byref(descriptor))
        return copy

    def exact(self):
        rows, copy = sample(self.n[0]), self.copies[0]
        return [(rows, self.backend.from_numpy(self.decoded(copy.codes.data, copy.absmax.data, rows)))]

    def call(self, copy):
        descriptor, kept = self.descriptor(copy, copy.back)
        return Call("pk_lora_dequantize", descriptor, [copy.back], kept, ("pk_lora_quantize_pick", 1))
