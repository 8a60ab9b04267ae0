"""cuBLAS through PyTorch: the layer as one writes it down, the same compiled, W alone, and the bound that no fused kernel on the same GEMM can beat."""

from arms import BaseAlone, compiled
from families.lora.layer import SCALE
from family import ORACLE, DeviceArm, TorchArm


def factors(copy):
    """Of each target and adapter, in the type of x, which `addmm` asks for."""
    kind = copy.all_w.data.dtype
    return [[[m.data.to(kind) for m in target] for target in each] for each in (copy.a, copy.b)]


class ThreeCalls(TorchArm):
    """x·Wᵀ, then x·Aᵀ, then its product with Bᵀ added to y in place; adapters of a table one after the other."""

    name, operations = "cuBLAS, three calls", ("lora.forward",)

    def prepare(self, problem):
        import torch

        all_factors = [factors(copy) for copy in problem.copies]
        rows = [torch.arange(i, problem.m, problem.adapters, device=problem.backend.place) for i in range(problem.adapters)]

        def run(copy):
            operands, (all_a, all_b) = problem.copies[copy], all_factors[copy]
            x = operands.x.data
            y = x @ operands.all_w.data.T
            parts = y.split(problem.n, dim=1)
            for part, a, b in zip(parts, all_a, all_b):
                if problem.adapters == 1:
                    part.addmm_(x @ a[0].T, b[0].T, alpha=SCALE)
                else:
                    for index, mine in enumerate(rows):
                        part.index_add_(0, mine, (x[mine] @ a[index].T) @ b[index].T, alpha=SCALE)
            return parts

        return run


class Gathered(TorchArm):
    """Rows with adapters of their own: each row's A and B are looked up, and multiplied in a batch."""

    name, operations = "torch, gathered factors", ("lora.forward",)

    def unsuited(self, problem):
        return "it is for a table of adapters" if problem.adapters == 1 else None

    def layer(self):
        def layer(x, w, a, b, adapters):
            h = a[adapters] @ x[:, :, None]
            return x @ w.T + SCALE * (b[adapters] @ h)[:, :, 0]

        return layer

    def prepare(self, problem):
        import torch

        adapters, layer = problem.row_adapter.long(), self.layer()
        stacked = [[[torch.stack(target) for target in each] for each in factors(copy)] for copy in problem.copies]

        def run(copy):
            operands, (all_a, all_b) = problem.copies[copy], stacked[copy]
            return [layer(operands.x.data, w.data, a, b, adapters) for w, a, b in zip(operands.w, all_a, all_b)]

        return run


class CompiledGathered(Gathered, DeviceArm):
    name, slow = "torch.compile, gathered factors", True

    def layer(self):
        return compiled(super().layer())


class Compiled(DeviceArm):
    """The layer of one adapter, as torch.compile makes it."""

    name, operations, slow = "torch.compile", ("lora.forward",), True

    def unsuited(self, problem):
        return "it would compile a loop over adapters" if problem.adapters > 1 else None

    def prepare(self, problem):
        layer = compiled(lambda x, w, a, b: x @ w.T + SCALE * ((x @ a.T) @ b.T))
        all_factors = [factors(copy) for copy in problem.copies]

        def run(copy):
            operands = problem.copies[copy]
            return [layer(operands.x.data, w.data, a[0], b[0]) for w, a, b in zip(operands.w, *all_factors[copy])]

        return run


class KExtended(TorchArm):
    """One GEMM over [x, x·Aᵀ] and [W, s·B], row stride K + 64, with x·Aᵀ given: cuBLAS' own bound for a kernel that runs the rank at the end of the K loop."""

    name, operations = ORACLE, ("lora.forward",)
    PADDING = 64

    def unsuited(self, problem):
        return f"one adapter of rank at most {self.PADDING}" if problem.adapters > 1 or problem.rank > self.PADDING else None

    def prepare(self, problem):
        import torch

        extended = []
        for copy in problem.copies:
            x, pairs = copy.x.data, []
            for w, a, b in zip(copy.w, copy.a, copy.b):
                left = torch.zeros(problem.m, problem.k + self.PADDING, dtype=x.dtype, device=x.device)
                right = torch.zeros(w.shape[0], problem.k + self.PADDING, dtype=x.dtype, device=x.device)
                left[:, : problem.k], right[:, : problem.k] = x, w.data
                h = x.float() @ a[0].data.float().T
                left[:, problem.k : problem.k + problem.rank] = h.to(x.dtype)
                right[:, problem.k : problem.k + problem.rank] = (SCALE * b[0].data.float()).to(x.dtype)
                pairs.append((left, right))
            extended.append(pairs)
        return lambda copy: [left @ right.T for left, right in extended[copy]]


ALONE = [
    BaseAlone("lora.forward", lambda copy: (copy.x, copy.all_w), transposed=True),
    BaseAlone("lora.backward", lambda copy: (copy.dy, copy.w), transposed=False),
]
ARMS = [*ALONE, ThreeCalls(), Gathered(), CompiledGathered(), Compiled(), KExtended()]
