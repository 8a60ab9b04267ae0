"""bitsandbytes' NF4: its kernels, without the tables that its functions copy to the device at every call. A layer on an NF4 base does not exist here yet, and so it has no peer."""

from families.lora.quantize import BLOCK
from family import TorchArm


class Quantize(TorchArm):
    name, operations, module = "bitsandbytes", ("lora.quantize",), "bitsandbytes"

    def prepare(self, problem):
        torch = problem.backend.torch
        quantize = torch.ops.bitsandbytes.quantize_4bit.default
        return lambda copy: quantize(problem.copies[copy].w.data, BLOCK, "nf4", torch.uint8)


class Dequantize(TorchArm):
    name, operations, module = "bitsandbytes", ("lora.dequantize",), "bitsandbytes"

    def prepare(self, problem):
        dequantize = problem.backend.torch.ops.bitsandbytes.dequantize_4bit.default
        # Codes lie in one column there.
        lists = [(copy.codes.data.view(-1, 1), copy.absmax.data) for copy in problem.copies]
        shape, kind = problem.copies[0].w.shape, problem.backend.types[problem.types[0]]
        return lambda copy: [dequantize(*lists[copy], BLOCK, "nf4", shape, kind)]


ARMS = [Quantize(), Dequantize()]
