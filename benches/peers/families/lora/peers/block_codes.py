"""NF4 as one writes it in numpy or PyTorch, and as torch.compile makes that."""

from arms import CompiledFormula, TorchFormula
from families.lora.quantize import BLOCK, BOUNDARIES, VALUES
from family import Arm


class NumpyCodes(Arm):
    name, operations = "numpy, f64", ("lora.quantize", "lora.dequantize")

    def absent(self, backend):
        return None if backend.name == "numpy" else "takes part only without PyTorch"

    def prepare(self, problem):
        import numpy

        book, boundaries = numpy.array(VALUES, numpy.float32).astype(float), numpy.array(BOUNDARIES)

        def quantize(copy):
            blocks = copy.w.f64().reshape(-1, BLOCK)
            absmax = abs(blocks).max(1)
            codes = numpy.searchsorted(boundaries, blocks / absmax[:, None]).astype(numpy.uint8).reshape(-1, 2)
            return [codes[:, 0] << 4 | codes[:, 1], absmax]

        def dequantize(copy):
            codes = copy.codes.data
            indices = numpy.stack([codes >> 4, codes & 15], -1).reshape(-1, BLOCK)
            return [(book[indices] * copy.absmax.data.astype(float)[:, None]).reshape(copy.w.shape)]

        function = quantize if problem.operation == "lora.quantize" else dequantize
        return lambda copy: function(problem.copies[copy])


def quantize(problem):
    boundaries = problem.backend.torch.tensor(BOUNDARIES, device=problem.backend.place)

    def codes_of(w):
        import torch

        blocks = w.view(-1, BLOCK).float()
        absmax = blocks.abs().amax(1)
        codes = torch.bucketize(blocks / absmax[:, None], boundaries, out_int32=True).to(torch.uint8).view(-1, 2)
        return codes[:, 0] << 4 | codes[:, 1], absmax

    return codes_of


def dequantize(problem):
    backend, shape = problem.backend, problem.copies[0].w.shape
    book, kind = backend.torch.tensor(VALUES, device=backend.place), backend.types[problem.types[0]]

    def weights(codes, absmax):
        import torch

        indices = torch.stack([codes >> 4, codes & 15], -1).view(-1, BLOCK).int()
        return [(book[indices] * absmax[:, None]).to(kind).view(shape)]

    return weights


def lists(copy):
    return copy.codes, copy.absmax


ARMS = [NumpyCodes()]
for kind in (TorchFormula, CompiledFormula):
    ARMS += [kind("lora.quantize", quantize, lambda copy: [copy.w]), kind("lora.dequantize", dequantize, lists)]
