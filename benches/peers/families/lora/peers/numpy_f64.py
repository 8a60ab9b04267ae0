"""The formulas in numpy's f64."""

from arms import NumpyFormula
from families.lora.layer import SCALE
from families.lora.sample_norms import SAMPLES


class NumpyLayer(NumpyFormula):
    """Any number of targets and adapters."""

    def __init__(self):
        super().__init__("lora.forward", None, None)

    def prepare(self, problem):
        def numbers(copy):
            factors = ([[matrix.f64() for matrix in target] for target in kind] for kind in (copy.a, copy.b))
            return copy.x.f64(), [w.f64() for w in copy.w], *factors

        operands = [numbers(copy) for copy in problem.copies]

        def run(copy):
            x, all_w, all_a, all_b = operands[copy]
            outputs = []
            for w, a, b in zip(all_w, all_a, all_b):
                y = x @ w.T
                for index in range(problem.adapters):
                    mine = slice(index, None, problem.adapters)
                    y[mine] += SCALE * (x[mine] @ a[index].T) @ b[index].T
                outputs.append(y)
            return outputs

        return run


def merge(_problem):
    return lambda w, a, b: [w + SCALE * b @ a]


def backward(_problem):
    def gradients(dy, x, w, a, b, h):
        dh = SCALE * dy @ b
        return [dy @ w + dh @ a, dh.T @ x, SCALE * dy.T @ h]

    return gradients


def weight_norm(_problem):
    """By the expanded square, which f64 can afford."""

    def norms(w, a, b):
        square = (w * w).sum(1) + 2 * SCALE * ((w @ a.T) * b).sum(1) + SCALE**2 * ((b @ (a @ a.T)) * b).sum(1)
        return [square**0.5]

    return norms


def sample_norms(_problem):
    """By Gram matrices of each sample."""

    def squares(x, dy, b, h):
        dh = SCALE * dy @ b
        x, dy, dh, h = (matrix.reshape(SAMPLES, -1, matrix.shape[1]) for matrix in (x, dy, dh, h))
        gram = lambda rows: rows @ rows.transpose(0, 2, 1)  # noqa: E731
        return [(gram(x) * gram(dh)).sum((1, 2)) + SCALE**2 * (gram(dy) * gram(h)).sum((1, 2))]

    return squares


ARMS = [
    NumpyLayer(),
    NumpyFormula("lora.merge", merge, lambda copy: (copy.w, copy.a, copy.b)),
    NumpyFormula("lora.backward", backward, lambda copy: (copy.dy, copy.x, copy.w, copy.a, copy.b, copy.h)),
    NumpyFormula("lora.weight_norm", weight_norm, lambda copy: (copy.w, copy.a, copy.b)),
    NumpyFormula("lora.sample_norms", sample_norms, lambda copy: (copy.x, copy.dy, copy.b, copy.h)),
]
