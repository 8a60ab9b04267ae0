"""Haar transforms by sums and differences, on arrays of numpy and on tensors: what is exact in f64, and what torch.compile is given.

Coefficients are in PyWavelets' order: approximations first, then from the coarsest level to the finest details; along both axes as its coeffs_to_array puts them.
"""

import sys

HALF_SQRT = 0.5**0.5


def joined(parts, axis):
    library = sys.modules[type(parts[0]).__module__.partition(".")[0]]
    return library.concatenate(parts, axis)


def interleaved(even, odd, axis):
    """Elements of two arrays in turn, along axis 0 or 1."""
    library = sys.modules[type(even).__module__.partition(".")[0]]
    shape = list(even.shape)
    shape[axis] *= 2
    return library.stack((even, odd), axis + 1).reshape(shape)


def forward_rows(x, levels):
    """Each row is a signal."""
    even, odd = x[:, 0::2], x[:, 1::2]
    low, high = (even + odd) * HALF_SQRT, (even - odd) * HALF_SQRT
    return joined([low if levels == 1 else forward_rows(low, levels - 1), high], 1)


def inverse_rows(c, levels):
    half = c.shape[1] // 2
    low, high = c[:, :half], c[:, half:]
    if levels > 1:
        low = inverse_rows(low, levels - 1)
    return interleaved((low + high) * HALF_SQRT, (low - high) * HALF_SQRT, 1)


def bands(x):
    """One level along both axes: approximations, details along rows (below one another), along columns, along both."""
    a, b, c, d = x[0::2, 0::2], x[0::2, 1::2], x[1::2, 0::2], x[1::2, 1::2]
    return (a + b + c + d) * 0.5, (a + b - c - d) * 0.5, (a - b + c - d) * 0.5, (a - b - c + d) * 0.5


def unbands(low, below, beside, both):
    a, b = (low + below + beside + both) * 0.5, (low + below - beside - both) * 0.5
    c, d = (low - below + beside - both) * 0.5, (low - below - beside + both) * 0.5
    return interleaved(interleaved(a, b, 1), interleaved(c, d, 1), 0)


def forward_both(x, levels):
    low, below, beside, both = bands(x)
    low = low if levels == 1 else forward_both(low, levels - 1)
    return joined([joined([low, beside], 1), joined([below, both], 1)], 0)


def inverse_both(c, levels):
    rows, columns = c.shape[0] // 2, c.shape[1] // 2
    low = c[:rows, :columns]
    low = low if levels == 1 else inverse_both(low, levels - 1)
    return unbands(low, c[rows:, :columns], c[:rows, columns:], c[rows:, columns:])


FUNCTIONS = {"haar.forward_1d": forward_rows, "haar.inverse_1d": inverse_rows, "haar.forward_2d": forward_both, "haar.inverse_2d": inverse_both}


def hadamard(x):
    """H·x of each row, Sylvester's order, orthonormal."""
    rows, n = x.shape
    width = 1
    while width < n:
        x = x.reshape(rows, n // (2 * width), 2, width)
        even, odd = x[:, :, 0], x[:, :, 1]
        x = joined([(even + odd)[:, :, None], (even - odd)[:, :, None]], 2)
        width *= 2
    return x.reshape(rows, n) * n**-0.5
