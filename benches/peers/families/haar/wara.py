"""WaRA: haar.wara_merge, and haar.wara_forward and wara_backward of a layer with its weights.

Where a shape has a grid the adapter is one of activations, with factors for each band of tokens; without, it is one of weights, with one pair.
"""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import matrix
from problem import Call, Problem, sample

from .lifting import bands, forward_both, inverse_both, unbands

SCALE = 0.5


class Wara(Problem):
    """W [n, k]; x [m, k] in forward and backward."""

    def __init__(self, entry, *arguments):
        e = entry.extents
        self.n, self.k, self.levels, self.rank = e["rows"], e["columns"], e["levels"], e["rank"]
        self.m, self.grid = e.get("m", 0), e.get("grid")
        self.pairs = 3 * self.levels + 1 if self.grid else 1
        super().__init__(entry, *arguments)

    @classmethod
    def extents(cls, entry):
        """m, n, k, the rank, and the bytes of all factors: where there are tokens, of each band's."""
        e = entry.extents
        pairs = 3 * e["levels"] + 1 if e.get("grid") else 1
        return e.get("m", 0), e["rows"], e["columns"], e["rank"], pairs * e["rank"] * (e["rows"] + e["columns"]) * SIZES[entry.element_types[1]]

    @classmethod
    def work(cls, entry):
        """Bands share the rows of x out among themselves."""
        m, n, k, rank, factors = cls.extents(entry)
        size, layer, branch = SIZES[entry.element_types[0]], 2 * m * n * k, 2 * m * rank * (n + k)
        if entry.operation == "haar.wara_merge":
            return 2 * size * n * k + factors, 2 * n * k * rank
        if entry.operation == "haar.wara_forward":
            return size * (m * k + n * k + m * n) + factors, layer + branch
        return size * (2 * m * k + n * k + m * n) + 2 * factors, layer + 3 * branch

    def factors(self):
        backend, kind = self.backend, self.types[1]
        pairs = [(backend.random((self.rank, self.k), kind, self.k**-0.5), backend.random((self.n, self.rank), kind, 0.1)) for _ in range(self.pairs)]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def weights(self):
        return self.backend.random((self.n, self.k), self.types[0], self.k**-0.5)

    def delta(self, a, b):
        """s·D⁻¹(B·A)"""
        return SCALE * inverse_both(b @ a, self.levels)

    def adapter(self, copy):
        """As the C side has it, and what that points to."""
        lists = [(abi.pk_matrix * self.pairs)(*map(matrix, factors)) for factors in (copy.a, copy.b)]
        adapter = abi.pk_haar_wara_adapter(a=lists[0], b=lists[1], factor_count=self.pairs, levels=self.levels, scale=SCALE)
        adapter.boundary = abi.PK_HAAR_BOUNDARY_NONE
        if self.grid:
            adapter.mode, (adapter.grid_rows, adapter.grid_columns) = abi.PK_HAAR_WARA_ACTIVATION, self.grid
        return adapter, lists


class Tokens:
    """One level of the transform of tokens: x [m, k] as grids, and its four bands, [m / 4, k] each. On arrays and tensors."""

    def __init__(self, grid):
        self.rows, self.columns = grid

    def bands(self, x):
        width = x.shape[1]
        # Grids one below the other: with even extents no pair crosses from one to the next.
        image = x.reshape(-1, self.columns, width)
        return [band.reshape(-1, width) for band in bands(image)]

    def unbands(self, parts):
        width = parts[0].shape[1]
        return unbands(*(part.reshape(-1, self.columns // 2, width) for part in parts)).reshape(-1, width)


class WaraMerge(Wara):
    def copy(self):
        a, b = self.factors()
        return SimpleNamespace(w=self.weights(), a=a, b=b, y=self.backend.empty((self.n, self.k), self.types[0]))

    def exact(self):
        copy, rows = self.copies[0], sample(self.n)
        return [(rows, copy.w.f64(rows) + self.delta(copy.a[0].f64(), copy.b[0].f64())[rows])]

    def call(self, copy):
        descriptor = abi.pk_haar_wara_merge_descriptor(size=ctypes.sizeof(abi.pk_haar_wara_merge_descriptor))
        descriptor.adapter, kept = self.adapter(copy)
        descriptor.source, descriptor.destination = matrix(copy.w), matrix(copy.y)
        return Call("pk_haar_wara_merge", descriptor, [copy.y], kept)


class WaraForward(Wara):
    def copy(self):
        a, b = self.factors()
        x = self.backend.random((self.m, self.k), self.types[0], 1.0)
        return SimpleNamespace(x=x, w=self.weights(), a=a, b=b, y=self.backend.empty((self.m, self.n), self.types[0]))

    def exact(self):
        copy, rows = self.copies[0], sample(self.m)
        a, b = ([factor.f64() for factor in factors] for factors in (copy.a, copy.b))
        y = copy.x.f64(rows) @ copy.w.f64().T
        if self.grid:
            tokens = Tokens(self.grid)
            branch = [band @ a.T @ b.T for band, a, b in zip(tokens.bands(copy.x.f64()), a, b)]
            return [(rows, y + SCALE * tokens.unbands(branch)[rows])]
        return [(rows, y + copy.x.f64(rows) @ self.delta(a[0], b[0]).T)]

    def call(self, copy):
        descriptor = abi.pk_haar_wara_forward_descriptor(size=ctypes.sizeof(abi.pk_haar_wara_forward_descriptor))
        descriptor.adapter, kept = self.adapter(copy)
        descriptor.base = abi.PK_LORA_BASE_DENSE
        descriptor.x, descriptor.w, descriptor.y = matrix(copy.x), matrix(copy.w), matrix(copy.y)
        workspace = self.workspace("pk_haar_wara_forward", descriptor)
        return Call("pk_haar_wara_forward", descriptor, [copy.y], [kept, workspace])


class WaraBackward(Wara):
    """Gradients of x, of all A, and of all B, in this order."""

    def copy(self):
        a, b = self.factors()
        x = self.backend.random((self.m, self.k), self.types[0], 1.0)
        dy = self.backend.random((self.m, self.n), self.types[0], 1.0)
        gradients = [self.backend.empty(like.shape, like.type) for like in (x, *a, *b)]
        return SimpleNamespace(x=x, dy=dy, w=self.weights(), a=a, b=b, gradients=gradients)

    def exact(self):
        copy, rows, ranks, columns = self.copies[0], sample(self.m), sample(self.rank), sample(self.n)
        x, dy, w = copy.x.f64(), copy.dy.f64(), copy.w.f64()
        a, b = ([factor.f64() for factor in factors] for factors in (copy.a, copy.b))
        if self.grid:
            tokens = Tokens(self.grid)
            parts = list(zip(tokens.bands(x), tokens.bands(dy), a, b))
            dh = [SCALE * e @ b for _, e, _, b in parts]
            dx = dy[rows] @ w + tokens.unbands([d @ a for d, a in zip(dh, a)])[rows]
            da = [(ranks, d.T[ranks] @ c) for d, (c, _, _, _) in zip(dh, parts)]
            db = [(columns, SCALE * e.T[columns] @ (c @ a.T)) for c, e, a, _ in parts]
            return [(rows, dx), *da, *db]
        dx = dy[rows] @ (w + self.delta(a[0], b[0]))
        g = SCALE * forward_both(dy.T @ x, self.levels)
        return [(rows, dx), (ranks, b[0].T[ranks] @ g), (columns, g[columns] @ a[0].T)]

    def call(self, copy):
        descriptor = abi.pk_haar_wara_backward_descriptor(size=ctypes.sizeof(abi.pk_haar_wara_backward_descriptor))
        descriptor.adapter, kept = self.adapter(copy)
        descriptor.x, descriptor.dy, descriptor.w = matrix(copy.x), matrix(copy.dy), matrix(copy.w)
        dx, *factors = map(matrix, copy.gradients)
        lists = [(abi.pk_matrix * self.pairs)(*part) for part in (factors[: self.pairs], factors[self.pairs :])]
        descriptor.dx, descriptor.da, descriptor.db = dx, *lists
        workspace = self.workspace("pk_haar_wara_backward", descriptor)
        return Call("pk_haar_wara_backward", descriptor, copy.gradients, [kept, lists, workspace])
