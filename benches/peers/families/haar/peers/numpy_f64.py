"""WaRA in numpy's f64, with the matrices of the definition in place of sums and differences; PyWavelets for the merge."""

import numpy

from arms import NumpyFormula
from families.haar.peers.wavelets import split
from families.haar.wara import SCALE
from family import Arm


def step(n):
    """One level of the transform of n elements."""
    even, odd = numpy.eye(n)[0::2], numpy.eye(n)[1::2]
    return numpy.concatenate([even + odd, even - odd]) / 2**0.5


class PyWaveletsMerge(Arm):
    name, operations = "PyWavelets", ("haar.wara_merge",)

    def absent(self, backend):
        if backend.name != "numpy":
            return "takes part only without PyTorch"
        try:
            import pywt  # noqa: F401
        except ImportError as error:
            return str(error)
        return None

    def prepare(self, problem):
        import pywt

        operands = [(copy.w.f64(), copy.a[0].f64(), copy.b[0].f64()) for copy in problem.copies]

        def run(copy):
            w, a, b = operands[copy]
            return [w + SCALE * pywt.waverec2(split((problem.n, problem.k), problem.levels, True, b @ a), "haar", mode="zero")]

        return run


def bands_of_rows(problem):
    """Matrices of x and of y whose products with rows are the operands of a band, one for each band. One level."""
    if problem.grid is None:
        return None
    rows, columns = problem.grid
    whole = numpy.kron(step(rows), step(columns)).reshape(2, rows // 2, 2, columns // 2, rows * columns)
    return [whole[i, :, j].reshape(-1, rows * columns) for i, j in ((0, 0), (1, 0), (0, 1), (1, 1))]


def forward(problem):
    tokens = bands_of_rows(problem)

    def layer(x, w, *factors):
        if tokens is None:
            a, b = factors
            return [x @ w.T + SCALE * (x @ step(problem.k).T) @ a.T @ b.T @ step(problem.n)]
        grids, branch = x.reshape(-1, tokens[0].shape[1], problem.k), 0
        for band, a, b in zip(tokens, factors[: problem.pairs], factors[problem.pairs :]):
            branch = branch + band.T @ (band @ grids @ a.T @ b.T)
        return [x @ w.T + SCALE * branch.reshape(problem.m, problem.n)]

    return layer


def backward(problem):
    tokens = bands_of_rows(problem)

    def gradients(dy, x, w, *factors):
        if tokens is None:
            a, b = factors
            of_x, of_y = x @ step(problem.k).T, dy @ step(problem.n).T
            dh = SCALE * of_y @ b
            return [dy @ w + dh @ a @ step(problem.k), dh.T @ of_x, SCALE * of_y.T @ (of_x @ a.T)]
        x, of_dy = (matrix.reshape(-1, tokens[0].shape[1], matrix.shape[1]) for matrix in (x, dy))
        dx, all_da, all_db = 0, [], []
        for band, a, b in zip(tokens, factors[: problem.pairs], factors[problem.pairs :]):
            c, e = band @ x, band @ of_dy
            dh = SCALE * e @ b
            dx = dx + band.T @ (dh @ a)
            all_da.append(numpy.einsum("gtr,gtk->rk", dh, c))
            all_db.append(SCALE * numpy.einsum("gtn,gtr->nr", e, c @ a.T))
        return [dy @ w + dx.reshape(problem.m, problem.k), *all_da, *all_db]

    return gradients


def one_level(problem):
    return None if problem.levels == 1 else "one level alone"


ARMS = [
    PyWaveletsMerge(),
    NumpyFormula("haar.wara_forward", forward, lambda copy: (copy.x, copy.w, *copy.a, *copy.b), unsuited=one_level),
    NumpyFormula("haar.wara_backward", backward, lambda copy: (copy.dy, copy.x, copy.w, *copy.a, *copy.b), unsuited=one_level),
]
