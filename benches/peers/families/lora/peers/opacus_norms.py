"""Opacus' norms of samples' gradients, by the Gram matrices of its ghost clipping: of a layer A and a layer B, whose norms it takes one by one."""

from families.lora.layer import SCALE
from families.lora.sample_norms import SAMPLES
from family import TorchArm


class Opacus(TorchArm):
    name, operations, module = "Opacus", ("lora.sample_norms",), "opacus.grad_sample.linear"

    def prepare(self, problem):
        import torch
        from opacus.grad_sample.linear import compute_linear_norm_sample

        def layer(weight):
            made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device, dtype=weight.dtype)
            made.weight.data = weight
            return made

        def operands(copy):
            kind = copy.x.data.dtype
            a, b = copy.a.data.to(kind), copy.b.data.to(kind)
            x, dy, h = (matrix.data.view(SAMPLES, -1, matrix.shape[1]) for matrix in (copy.x, copy.dy, copy.h))
            return layer(a), layer(b), x, dy, h

        all_operands = [operands(copy) for copy in problem.copies]

        def run(copy):
            a, b, x, dy, h = all_operands[copy]
            dy = SCALE * dy
            of_a = compute_linear_norm_sample(a, [x], dy @ b.weight)[a.weight]
            of_b = compute_linear_norm_sample(b, [h], dy)[b.weight]
            return [of_a.float().square() + of_b.float().square()]

        return run


ARMS = [Opacus()]
