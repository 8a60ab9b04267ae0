"""lora.sample_norms: of sixteen samples, the square of the norm of each one's gradients of A and B; H was saved by forward."""

import ctypes
from types import SimpleNamespace

import abi
import numpy
from backends import SIZES
from library import matrix
from problem import Call

from .layer import SCALE, LoraProblem, extents, factor_bytes

SAMPLES = 16


class SampleNorms(LoraProblem):
    @classmethod
    def work(cls, entry):
        m, (n,), k, rank, _ = extents(entry)
        nbytes = SIZES[entry.element_types[0]] * (m * k + m * n + m * rank) + factor_bytes(entry) + 4 * SAMPLES
        return nbytes, 2 * m * rank * (k + 2 * n)

    @classmethod
    def tolerance(cls, entry):
        """Squares are f32, whatever x is."""
        return 2.0**-14

    def copy(self):
        backend, kind, (n,) = self.backend, self.types[0], self.n
        x, dy = backend.random((self.m, self.k), kind, 1.0), backend.random((self.m, n), kind, 0.01)
        a, b = self.factors(n)
        h = backend.rounded(x.f64() @ a.f64().T, kind)
        return SimpleNamespace(x=x, dy=dy, a=a, b=b, h=h, squares=backend.empty((SAMPLES,), "f32"))

    def exact(self):
        copy, rows, squares = self.copies[0], self.m // SAMPLES, []
        for sample in range(SAMPLES):
            mine = slice(sample * rows, (sample + 1) * rows)
            x, dy, h = (operand.f64(mine) for operand in (copy.x, copy.dy, copy.h))
            da, db = SCALE * (dy @ copy.b.f64()).T @ x, SCALE * dy.T @ h
            squares.append(float((da**2).sum() + (db**2).sum()))
        return [(list(range(SAMPLES)), self.backend.from_numpy(numpy.array(squares)))]

    def call(self, copy):
        targets = (abi.pk_lora_sample_norm_target * 1)()
        target = targets[0]
        target.adapter_element_type, target.scale = matrix(copy.a).element_type, SCALE
        target.dy, target.a, target.b, target.h = (matrix(operand) for operand in (copy.dy, copy.a, copy.b, copy.h))
        target.a_counts = target.b_counts = target.h_saved = 1
        descriptor = abi.pk_lora_sample_norms_descriptor(size=ctypes.sizeof(abi.pk_lora_sample_norms_descriptor))
        descriptor.target_size, descriptor.target_count = ctypes.sizeof(abi.pk_lora_sample_norm_target), 1
        descriptor.targets, descriptor.x, descriptor.mode = targets, matrix(copy.x), abi.PK_GRADIENT_OVERWRITE
        descriptor.samples.count, descriptor.squares = SAMPLES, copy.squares.address
        workspace = self.workspace("pk_lora_sample_norms", descriptor)
        return Call("pk_lora_sample_norms", descriptor, [copy.squares], [targets, workspace])
