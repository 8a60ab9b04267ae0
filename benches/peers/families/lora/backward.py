"""lora.backward: the gradients of x, A and B of one layer with its weights; H = x·Aᵀ was saved by forward."""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import matrix
from problem import Call, sample

from .layer import SCALE, LoraProblem, extents, factor_bytes


class Backward(LoraProblem):
    @classmethod
    def work(cls, entry):
        m, (n,), k, rank, _ = extents(entry)
        nbytes = SIZES[entry.element_types[0]] * (2 * m * k + n * k + m * n + m * rank) + 2 * factor_bytes(entry)
        return nbytes, 2 * m * n * k + 4 * m * rank * (k + n)

    def copy(self):
        backend, kind, (n,) = self.backend, self.types[0], self.n
        x, dy = backend.random((self.m, self.k), kind, 1.0), backend.random((self.m, n), kind, 1.0)
        a, b = self.factors(n)
        h = backend.rounded(x.f64() @ a.f64().T, kind)
        gradients = [backend.empty(like.shape, like.type) for like in (x, a, b)]
        return SimpleNamespace(x=x, dy=dy, w=self.weights(n), a=a, b=b, h=h, gradients=gradients)

    def exact(self):
        copy = self.copies[0]
        x, dy, a, b = (matrix.f64() for matrix in (copy.x, copy.dy, copy.a, copy.b))
        dh = SCALE * dy @ b
        rows, ranks, columns = sample(self.m), sample(self.rank), sample(self.n[0])
        dx = dy[rows] @ copy.w.f64() + dh[rows] @ a
        return [(rows, dx), (ranks, dh.T[ranks] @ x), (columns, SCALE * dy.T[columns] @ copy.h.f64())]

    def call(self, copy):
        targets = (abi.pk_lora_gradient_target * 1)()
        target = targets[0]
        target.base, target.adapter_element_type = abi.PK_LORA_BASE_DENSE, matrix(copy.a).element_type
        target.w, target.dy, target.a, target.b = (matrix(operand) for operand in (copy.w, copy.dy, copy.a, copy.b))
        target.scale, target.h_saved, target.h = SCALE, 1, matrix(copy.h)
        target.a_gradient = target.b_gradient = abi.PK_GRADIENT_OVERWRITE
        descriptor = abi.pk_lora_backward_descriptor(size=ctypes.sizeof(abi.pk_lora_backward_descriptor))
        descriptor.target_size, descriptor.target_count = ctypes.sizeof(abi.pk_lora_gradient_target), 1
        descriptor.targets, descriptor.x, descriptor.x_gradient = targets, matrix(copy.x), abi.PK_GRADIENT_OVERWRITE
        descriptor.dx, target.da, target.db = (matrix(gradient) for gradient in copy.gradients)
        workspace = self.workspace("pk_lora_backward", descriptor)
        return Call("pk_lora_backward", descriptor, copy.gradients, [targets, workspace])
