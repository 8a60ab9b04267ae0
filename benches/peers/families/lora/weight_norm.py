"""lora.weight_norm: the norms of the rows of W + s·B·A, which DoRA divides by."""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import adapter, matrix
from problem import Call, sample

from .layer import SCALE, LoraProblem, extents, factor_bytes


class WeightNorm(LoraProblem):
    @classmethod
    def work(cls, entry):
        _, (n,), k, rank, _ = extents(entry)
        return SIZES[entry.element_types[0]] * n * k + factor_bytes(entry) + 4 * n, 2 * n * k * (rank + 1)

    @classmethod
    def tolerance(cls, entry):
        """Norms are f32, whatever the weights are."""
        return 2.0**-16

    def copy(self):
        (n,) = self.n
        a, b = self.factors(n)
        return SimpleNamespace(w=self.weights(n), a=a, b=b, norm=self.backend.empty((n,), "f32"))

    def exact(self):
        rows, copy = sample(self.n[0]), self.copies[0]
        merged = copy.w.f64(rows) + SCALE * copy.b.f64(rows) @ copy.a.f64()
        return [(rows, (merged**2).sum(1) ** 0.5)]

    def call(self, copy):
        adapters = (abi.pk_lora_adapter * 1)(adapter(copy.a, copy.b, SCALE))
        descriptor = abi.pk_lora_weight_norm_descriptor(size=ctypes.sizeof(abi.pk_lora_weight_norm_descriptor))
        descriptor.w, descriptor.norm, descriptor.norm_count = matrix(copy.w), copy.norm.address, self.n[0]
        descriptor.adapters, descriptor.adapter_count = adapters, 1
        descriptor.adapter_element_type = matrix(copy.a).element_type
        workspace = self.workspace("pk_lora_weight_norm", descriptor)
        return Call("pk_lora_weight_norm", descriptor, [copy.norm], [adapters, workspace])
