"""LoRA: lora.forward and lora.merge. The peers are in families/lora_peers."""

import ctypes
import importlib
import pkgutil

import abi
from backends import SIZES, Matrix
from family import COPY, MATMUL, OURS, Arm, Family, register
from library import adapter, matrix

from . import lora_peers

SCALE = 0.5
# Rows of an output that are compared with f64, at most.
SAMPLE = 16


def extents(entry):
    e = entry.extents
    return e.get("m", 0), e["n"], e["k"], e["rank"], e.get("adapters", 1)


def work(entry):
    """Every operand once, and the operations of the formula."""
    m, n, k, rank, adapters = extents(entry)
    columns, targets = sum(n), len(n)
    x, p = (SIZES[name] for name in entry.element_types)
    factors = adapters * rank * (targets * k + columns) * p
    if entry.operation == "lora.merge":
        return 2 * x * columns * k + factors, 2 * columns * k * rank * adapters
    rows = 4 * m if adapters > 1 else 0
    nbytes = x * (m * k + columns * k + m * columns) + factors + rows
    return nbytes, 2 * m * columns * k + 2 * m * rank * (targets * k + columns)


def tolerance(entry):
    """Two roundings of the largest value; f32 has room for its sums."""
    return {"bf16": 2.0**-7, "f16": 2.0**-10, "f32": 2.0**-16}[entry.element_types[0]]


class Copy:
    """One copy of the operands: x, and for each target W, y and its adapters' factors. Targets have W, A and B in one matrix, one after the other, as frameworks store q, k and v."""

    def __init__(self, backend, entry):
        m, n, k, rank, adapters = extents(entry)
        element_type, factor_type = entry.element_types
        self.x = backend.random((m, k), element_type, 1.0) if m else None
        self.all_w = backend.random((sum(n), k), element_type, k**-0.5)
        self.a = [[backend.random((rank, k), factor_type, k**-0.5) for _ in range(adapters)] for _ in n]
        self.b = [[backend.random((width, rank), factor_type, 0.1) for _ in range(adapters)] for width in n]
        starts = [sum(n[:i]) for i in range(len(n))]
        self.w = [backend.matrix(self.all_w.data[start : start + width], element_type) for start, width in zip(starts, n)]
        self.y = [backend.empty((m if m else width, width if m else k), element_type) for width in n]


class Problem:
    def __init__(self, entry, backend, library, copies):
        self.entry, self.backend, self.library = entry, backend, library
        self.m, self.n, self.k, self.rank, self.adapters = extents(entry)
        self.is_merge = entry.operation == "lora.merge"
        self.copies = [Copy(backend, entry) for _ in range(copies)]
        # Neighbouring rows have different adapters.
        self.rows = [row % self.adapters for row in range(self.m)]
        self.row_adapter = backend.integers(self.rows)

    def sampled(self):
        """Rows of the output to compare: all of few, else some spread over it, the first and the last among them."""
        count = self.n[0] if self.is_merge else self.m
        return list(range(count)) if count <= SAMPLE else [i * (count - 1) // (SAMPLE - 1) for i in range(SAMPLE)]

    def exact(self, rows):
        """The outputs' rows in f64, from the rounded inputs of the first copy."""
        copy = self.copies[0]
        if self.is_merge:
            delta = sum(b.f64(rows) @ a.f64() for a, b in zip(copy.a[0], copy.b[0]))
            return [copy.w[0].f64(rows) + SCALE * delta]
        x = copy.x.f64(rows)
        outputs = []
        for w, a, b in zip(copy.w, copy.a, copy.b):
            y = x @ w.f64().T
            for index in range(self.adapters):
                mine = [i for i, row in enumerate(rows) if self.rows[row] == index]
                y[mine] += SCALE * (x[mine] @ a[index].f64().T) @ b[index].f64().T
            outputs.append(y)
        return outputs

    def error(self, outputs):
        """The error of some rows of the first copy's outputs, as a row of the results has it."""
        rows = self.sampled()
        largest = scale = 0.0
        for output, exact in zip(outputs, self.exact(rows)):
            got = output.f64(rows) if isinstance(output, Matrix) else self.backend.f64(output[rows], None)
            difference = float(abs(got - exact).max())
            # max() would drop NaN.
            largest = difference if difference != difference else max(largest, difference)
            scale = max(scale, float(abs(exact).max()))
        finite = largest - largest == 0
        return {"largest": largest if finite else None, "relative": largest / scale if finite else None, "rows": len(rows)}


class Ours(Arm):
    """This library, through its C interface."""

    name = OURS

    def prepare(self, problem):
        calls = [self.descriptor(problem, copy) for copy in problem.copies]
        name = "pk_lora_merge" if problem.is_merge else "pk_lora_forward"
        self.kernel = problem.library.kernel(problem.backend.queue(), f"{name}_pick", calls[0][0])

        def run(copy):
            problem.library.call(name, ctypes.byref(problem.backend.queue()), ctypes.byref(calls[copy][0]))
            return problem.copies[copy].y

        return run

    def descriptor(self, problem, copy):
        """And what it points to, which must live as long."""
        factor_type = matrix(copy.a[0][0]).element_type
        if problem.is_merge:
            adapters = (abi.pk_lora_adapter * problem.adapters)(*(adapter(a, b, SCALE) for a, b in zip(copy.a[0], copy.b[0])))
            descriptor = abi.pk_lora_merge_descriptor(size=ctypes.sizeof(abi.pk_lora_merge_descriptor))
            descriptor.source, descriptor.destination = matrix(copy.w[0]), matrix(copy.y[0])
            descriptor.adapters, descriptor.adapter_count = adapters, problem.adapters
            descriptor.adapter_element_type = factor_type
            return descriptor, [adapters]

        targets, kept = (abi.pk_lora_target * len(problem.n))(), []
        for target, w, y, a, b in zip(targets, copy.w, copy.y, copy.a, copy.b):
            target.base, target.adapter_element_type = abi.PK_LORA_BASE_DENSE, factor_type
            target.w, target.y = matrix(w), matrix(y)
            if problem.adapters == 1:
                target.a, target.b, target.scale = matrix(a[0]), matrix(b[0]), SCALE
            else:
                table = (abi.pk_lora_adapter * problem.adapters)(*(adapter(*factors, SCALE) for factors in zip(a, b)))
                table = problem.backend.bytes(bytes(table), 8)
                target.adapters = ctypes.cast(problem.backend.address(table), ctypes.POINTER(abi.pk_lora_adapter))
                target.adapter_count, target.max_rank = problem.adapters, problem.rank
                kept.append(table)
        descriptor = abi.pk_lora_forward_descriptor(size=ctypes.sizeof(abi.pk_lora_forward_descriptor))
        descriptor.target_size, descriptor.target_count = ctypes.sizeof(abi.pk_lora_target), len(targets)
        descriptor.x, descriptor.targets = matrix(copy.x), targets
        if problem.adapters > 1:
            descriptor.row_adapter = problem.backend.address(problem.row_adapter)
        size = ctypes.c_uint64(0)
        problem.library.call("pk_lora_forward_workspace", ctypes.byref(descriptor), ctypes.byref(size))
        workspace = problem.backend.scratch(size.value, abi.PK_WORKSPACE_ALIGNMENT)
        descriptor.workspace, descriptor.workspace_bytes = problem.backend.address(workspace), size.value
        return descriptor, [targets, workspace, *kept]


class MemoryCopy(Arm):
    """A copy that reads and writes as many bytes."""

    name, whole = COPY, False

    def work(self, problem, whole):
        return whole[0], 0

    def prepare(self, problem):
        nbytes, _ = work(problem.entry)
        copiers = [problem.backend.copier(nbytes) for _ in problem.copies]
        return lambda copy: copiers[copy]()


class BaseAlone(Arm):
    """x times W alone, of all targets in one product."""

    name, whole = MATMUL, False

    def unsuited(self, problem):
        return "a merge has no product with x" if problem.is_merge else None

    def work(self, problem, whole):
        m, n, k, size = problem.m, sum(problem.n), problem.k, SIZES[problem.entry.element_types[0]]
        return size * (m * k + n * k + m * n), 2 * m * n * k

    def prepare(self, problem):
        if problem.backend.name == "torch":
            return lambda copy: problem.copies[copy].x.data @ problem.copies[copy].all_w.data.T
        # numpy multiplies f32 and f64 alone.
        operands = [(copy.x.f64().astype("float32"), copy.all_w.f64().astype("float32")) for copy in problem.copies]
        return lambda copy: operands[copy][0] @ operands[copy][1].T


def peers():
    for module in sorted(module.name for module in pkgutil.iter_modules(lora_peers.__path__, f"{lora_peers.__name__}.")):
        yield from importlib.import_module(module).ARMS


register(Family("lora", work, tolerance, Problem, [Ours(), MemoryCopy(), BaseAlone(), *peers()], ("lora.forward", "lora.merge")))
