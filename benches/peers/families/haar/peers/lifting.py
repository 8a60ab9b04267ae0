"""Sums and differences in PyTorch: one kernel or more a step, and as torch.compile makes them."""

from arms import AutogradFormula, BaseAlone, CompiledAutograd, CompiledFormula, TorchFormula
from families.haar.lifting import FUNCTIONS, forward_rows, hadamard, inverse_both, inverse_rows
from families.haar.wara import SCALE, Tokens


def transform(problem):
    return lambda source: [FUNCTIONS[problem.operation](source, problem.levels)]


def butterflies(_problem):
    return lambda source: [hadamard(source)]


def merge(problem):
    return lambda w, a, b: [w + SCALE * inverse_both(b @ a, problem.levels)]


def layer(problem):
    """Weights with the update in them, or tokens transformed and back."""
    if problem.grid is None:
        return lambda x, w, a, b: [x @ (w + SCALE * inverse_both(b @ a, problem.levels)).T]
    tokens = Tokens(problem.grid)

    def of_tokens(x, w, *factors):
        branch = [(band @ a.T) @ b.T for band, a, b in zip(tokens.bands(x), factors[: problem.pairs], factors[problem.pairs :])]
        return [x @ w.T + SCALE * tokens.unbands(branch)]

    return of_tokens


def by_factors(_problem):
    """Of weights, one level: x is transformed in place of B·A, and its product back, so that nothing has the size of W."""
    return lambda x, w, a, b: [x @ w.T + SCALE * inverse_rows((forward_rows(x, 1) @ a.T) @ b.T, 1)]


def for_one_level(problem):
    return None if problem.grid is None and problem.levels == 1 else "weights and one level alone"


def source(copy):
    return [copy.source]


def weights(copy):
    return copy.w, *copy.a, *copy.b


def operands(copy):
    return copy.x, *weights(copy)


def with_gradient(copy):
    return copy.dy, *operands(copy)


def x_and_factors(problem):
    return [0, *range(2, 2 + 2 * problem.pairs)]


TRANSFORMS = tuple(FUNCTIONS)
ARMS = [
    BaseAlone("haar.wara_forward", lambda copy: (copy.x, copy.w), transposed=True),
    BaseAlone("haar.wara_backward", lambda copy: (copy.dy, copy.w), transposed=False),
    TorchFormula(TRANSFORMS, transform, source, "torch, lifting"),
    CompiledFormula(TRANSFORMS, transform, source, "torch.compile, lifting"),
    TorchFormula("haar.hadamard", butterflies, source, "torch, butterflies"),
    CompiledFormula("haar.hadamard", butterflies, source, "torch.compile, butterflies"),
    TorchFormula("haar.wara_merge", merge, weights),
    CompiledFormula("haar.wara_merge", merge, weights),
    TorchFormula("haar.wara_forward", layer, operands),
    CompiledFormula("haar.wara_forward", layer, operands),
    TorchFormula("haar.wara_forward", by_factors, operands, "torch, x transformed", for_one_level),
    CompiledFormula("haar.wara_forward", by_factors, operands, "torch.compile, x transformed", for_one_level),
    AutogradFormula("haar.wara_backward", layer, with_gradient, x_and_factors),
    CompiledAutograd("haar.wara_backward", layer, with_gradient, x_and_factors),
    AutogradFormula("haar.wara_backward", by_factors, with_gradient, x_and_factors, name="torch autograd, x transformed", unsuited=for_one_level),
    CompiledAutograd("haar.wara_backward", by_factors, with_gradient, x_and_factors, name="torch.compile, x transformed", unsuited=for_one_level),
]
