"""Packages of wavelets: PyWavelets on the host, ptwt and pytorch_wavelets on tensors. What they return is a list of bands, which nobody puts together while it is timed."""

from families.haar.lifting import joined
from family import Arm, TorchArm

FORWARD, INVERSE = ("haar.forward_1d", "haar.forward_2d"), ("haar.inverse_1d", "haar.inverse_2d")


def split(shape, levels, both, coefficients):
    """A matrix of coefficients as PyWavelets lists them: the approximations, then of each level from the coarsest details, along both axes three of them."""
    rows, columns = shape
    if not both:
        parts = [coefficients[:, : columns >> levels]]
        return parts + [coefficients[:, columns >> level : columns >> level - 1] for level in range(levels, 0, -1)]
    parts = [coefficients[: rows >> levels, : columns >> levels]]
    for level in range(levels, 0, -1):
        r, c = rows >> level, columns >> level
        parts.append((coefficients[r : 2 * r, :c], coefficients[:r, c : 2 * c], coefficients[r : 2 * r, c : 2 * c]))
    return parts


def together(problem, parts):
    """The matrix that `split` was given."""
    low, *details = parts
    if not problem.both:
        return joined([low, *details], 1)
    for below, beside, both in details:
        low = joined([joined([low, beside], 1), joined([below, both], 1)], 0)
    return low


class Bands(Arm):
    """What a package's arms have in common: `transform(problem)` is a function of what `convert` makes of a copy's source, which is a list of bands for an inverse."""

    operations = FORWARD + INVERSE

    def prepare(self, problem):
        function, sources = self.transform(problem), [self.convert(problem, copy.source) for copy in problem.copies]
        return lambda copy: function(sources[copy])

    def outputs(self, problem, made):
        return [made if problem.inverse else together(problem, made)]


class PyWavelets(Bands):
    name = "PyWavelets"

    def absent(self, backend):
        if backend.name != "numpy":
            return "takes part only without PyTorch"
        try:
            import pywt  # noqa: F401
        except ImportError as error:
            return str(error)
        return None

    def convert(self, problem, source):
        source = source.f64()
        return split(problem.shape, problem.levels, problem.both, source) if problem.inverse else source

    def transform(self, problem):
        import pywt

        if problem.inverse:
            inverse = pywt.waverec2 if problem.both else pywt.waverec
            return lambda bands: inverse(bands, "haar", mode="zero")
        forward = pywt.wavedec2 if problem.both else pywt.wavedec
        return lambda source: forward(source, "haar", mode="zero", level=problem.levels)


class Ptwt(Bands, TorchArm):
    name, module = "ptwt", "ptwt"

    def unsuited(self, problem):
        return None if problem.types[0] == "f32" else "f32 and f64 alone"

    def convert(self, problem, source):
        # A tensor of its own for each band, as its forward transform returns them.
        copies = lambda part: tuple(map(copies, part)) if isinstance(part, tuple) else part.contiguous()  # noqa: E731
        return [copies(part) for part in split(problem.shape, problem.levels, problem.both, source.data)] if problem.inverse else source.data

    def transform(self, problem):
        import ptwt
        import pywt

        # Filters as tensors: of a name it would copy them from the host at every call.
        place = problem.backend.place
        haar = tuple(problem.backend.torch.tensor(taps, device=place) for taps in pywt.Wavelet("haar").filter_bank)
        if problem.inverse:
            inverse = ptwt.waverec2 if problem.both else ptwt.waverec
            return lambda bands: inverse(bands, haar)
        forward = ptwt.wavedec2 if problem.both else ptwt.wavedec
        return lambda source: forward(source, haar, mode="zero", level=problem.levels)


class PytorchWavelets(Bands, TorchArm):
    """A matrix is one image, or its rows are channels of one signal each."""

    name, module = "pytorch_wavelets", "pytorch_wavelets"

    def convert(self, problem, source):
        if not problem.inverse:
            return source.data[None, None] if problem.both else source.data[:, None]
        low, *details = split(problem.shape, problem.levels, problem.both, source.data)
        if problem.both:
            return low[None, None].contiguous(), [problem.backend.torch.stack(part)[None, None] for part in reversed(details)]
        return low[:, None].contiguous(), [part[:, None].contiguous() for part in reversed(details)]

    def transform(self, problem):
        import pytorch_wavelets

        kinds = pytorch_wavelets.DWTForward, pytorch_wavelets.DWTInverse, pytorch_wavelets.DWT1DForward, pytorch_wavelets.DWT1DInverse
        kind = kinds[(0 if problem.both else 2) + problem.inverse]
        layer = kind(wave="haar", mode="zero") if problem.inverse else kind(J=problem.levels, wave="haar", mode="zero")
        return layer.to(problem.backend.place, problem.backend.types[problem.types[0]])

    def outputs(self, problem, made):
        if problem.inverse:
            return [made[0, 0] if problem.both else made[:, 0]]
        low, highs = made
        if problem.both:
            return [together(problem, [low[0, 0], *(tuple(high[0, 0]) for high in reversed(highs))])]
        return [together(problem, [low[:, 0], *(high[:, 0] for high in reversed(highs))])]


ARMS = [PyWavelets(), Ptwt(), PytorchWavelets()]
