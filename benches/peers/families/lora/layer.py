"""lora.forward and lora.merge: a layer of any number of targets and adapters, and an adapter added to its weights."""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import adapter, matrix
from problem import Call, Problem, sample

SCALE = 0.5


def extents(entry):
    e = entry.extents
    return e.get("m", 0), e["n"], e["k"], e.get("rank", 0), e.get("adapters", 1)


def factor_bytes(entry):
    """Of all adapters' A and B."""
    _, n, k, rank, adapters = extents(entry)
    return adapters * rank * (len(n) * k + sum(n)) * SIZES[entry.element_types[1]]


class LoraProblem(Problem):
    def __init__(self, entry, *arguments):
        self.m, self.n, self.k, self.rank, self.adapters = extents(entry)
        super().__init__(entry, *arguments)

    def factors(self, width):
        """A and B of one adapter."""
        kind = self.types[1]
        return self.backend.random((self.rank, self.k), kind, self.k**-0.5), self.backend.random((width, self.rank), kind, 0.1)

    def weights(self, width):
        return self.backend.random((width, self.k), self.types[0], self.k**-0.5)


class Forward(LoraProblem):
    """y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ. Targets have W in one matrix, one after the other, as frameworks store q, k and v."""

    @classmethod
    def work(cls, entry):
        m, n, k, rank, adapters = extents(entry)
        columns, targets = sum(n), len(n)
        rows = 4 * m if adapters > 1 else 0
        nbytes = SIZES[entry.element_types[0]] * (m * k + columns * k + m * columns) + factor_bytes(entry) + rows
        return nbytes, 2 * m * columns * k + 2 * m * rank * (targets * k + columns)

    def __init__(self, entry, *arguments):
        super().__init__(entry, *arguments)
        # Neighbouring rows have different adapters.
        self.rows = [row % self.adapters for row in range(self.m)]
        self.row_adapter = self.backend.integers(self.rows)

    def copy(self):
        backend, kind = self.backend, self.types[0]
        copy = SimpleNamespace(x=backend.random((self.m, self.k), kind, 1.0), all_w=self.weights(sum(self.n)))
        starts = [sum(self.n[:i]) for i in range(len(self.n))]
        copy.w = [backend.matrix(copy.all_w.data[start : start + width], kind) for start, width in zip(starts, self.n)]
        pairs = [[self.factors(width) for _ in range(self.adapters)] for width in self.n]
        # Of each target, of each adapter.
        copy.a, copy.b = ([[pair[i] for pair in target] for target in pairs] for i in range(2))
        copy.y = [backend.empty((self.m, width), kind) for width in self.n]
        return copy

    def exact(self):
        rows, copy = sample(self.m), self.copies[0]
        x, outputs = copy.x.f64(rows), []
        for w, a, b in zip(copy.w, copy.a, copy.b):
            y = x @ w.f64().T
            for index in range(self.adapters):
                mine = [i for i, row in enumerate(rows) if self.rows[row] == index]
                y[mine] += SCALE * (x[mine] @ a[index].f64().T) @ b[index].f64().T
            outputs.append((rows, y))
        return outputs

    def call(self, copy):
        factor_type = matrix(copy.a[0][0]).element_type
        targets, kept = (abi.pk_lora_target * len(self.n))(), []
        for target, w, y, a, b in zip(targets, copy.w, copy.y, copy.a, copy.b):
            target.base, target.adapter_element_type = abi.PK_LORA_BASE_DENSE, factor_type
            target.w, target.y = matrix(w), matrix(y)
            if self.adapters == 1:
                target.a, target.b, target.scale = matrix(a[0]), matrix(b[0]), SCALE
            else:
                table = (abi.pk_lora_adapter * self.adapters)(*(adapter(*factors, SCALE) for factors in zip(a, b)))
                table = self.backend.bytes(bytes(table), 8)
                target.adapters = ctypes.cast(self.backend.address(table), ctypes.POINTER(abi.pk_lora_adapter))
                target.adapter_count, target.max_rank = self.adapters, self.rank
                kept.append(table)
        descriptor = abi.pk_lora_forward_descriptor(size=ctypes.sizeof(abi.pk_lora_forward_descriptor))
        descriptor.target_size, descriptor.target_count = ctypes.sizeof(abi.pk_lora_target), len(targets)
        descriptor.x, descriptor.targets = matrix(copy.x), targets
        if self.adapters > 1:
            descriptor.row_adapter = self.backend.address(self.row_adapter)
        workspace = self.workspace("pk_lora_forward", descriptor)
        return Call("pk_lora_forward", descriptor, copy.y, [targets, workspace, *kept])


class Merge(LoraProblem):
    """W + s·B·A."""

    @classmethod
    def work(cls, entry):
        _, (n,), k, rank, adapters = extents(entry)
        return 2 * SIZES[entry.element_types[0]] * n * k + factor_bytes(entry), 2 * n * k * rank * adapters

    def copy(self):
        (n,) = self.n
        a, b = self.factors(n)
        return SimpleNamespace(w=self.weights(n), a=a, b=b, y=self.backend.empty((n, self.k), self.types[0]))

    def exact(self):
        rows, copy = sample(self.n[0]), self.copies[0]
        return [(rows, copy.w.f64(rows) + SCALE * copy.b.f64(rows) @ copy.a.f64())]

    def call(self, copy):
        adapters = (abi.pk_lora_adapter * 1)(adapter(copy.a, copy.b, SCALE))
        descriptor = abi.pk_lora_merge_descriptor(size=ctypes.sizeof(abi.pk_lora_merge_descriptor))
        descriptor.source, descriptor.destination = matrix(copy.w), matrix(copy.y)
        descriptor.adapters, descriptor.adapter_count = adapters, 1
        descriptor.adapter_element_type = matrix(copy.a).element_type
        return Call("pk_lora_merge", descriptor, [copy.y], [adapters])
