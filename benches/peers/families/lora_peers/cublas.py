"""cuBLAS through PyTorch: the layer as one writes it down, the same compiled, and the bound that no fused kernel on the same GEMM can beat."""

from family import ORACLE, DeviceArm, TorchArm


def scale():
    from families.lora import SCALE

    return SCALE


class ThreeCalls(TorchArm):
    """x·Wᵀ, then x·Aᵀ, then its product with Bᵀ added to y in place; adapters of a table one after the other. A merge is one addmm."""

    name = "cuBLAS, three calls"

    def operands(self, problem, copy):
        """Factors in the type of x, which `addmm` asks for."""
        kind = copy.all_w.data.dtype
        return [[[m.data.to(kind) for m in factors] for factors in target] for target in (copy.a, copy.b)]

    def prepare(self, problem):
        import torch

        factors = [self.operands(problem, copy) for copy in problem.copies]
        rows = [torch.arange(i, problem.m, problem.adapters, device=problem.backend.place) for i in range(problem.adapters)]

        def run(copy):
            operands, (all_a, all_b) = problem.copies[copy], factors[copy]
            if problem.is_merge:
                return [torch.addmm(operands.w[0].data, all_b[0][0], all_a[0][0], alpha=scale())]
            x = operands.x.data
            y = x @ operands.all_w.data.T
            parts = y.split(problem.n, dim=1)
            for part, a, b in zip(parts, all_a, all_b):
                if problem.adapters == 1:
                    part.addmm_(x @ a[0].T, b[0].T, alpha=scale())
                else:
                    for index, mine in enumerate(rows):
                        part.index_add_(0, mine, (x[mine] @ a[index].T) @ b[index].T, alpha=scale())
            return parts

        return run


class Compiled(ThreeCalls, DeviceArm):
    """The same, as torch.compile makes it."""

    name = "torch.compile"
    slow = True

    def unsuited(self, problem):
        return "it would compile a loop over adapters" if problem.adapters > 1 else None

    def prepare(self, problem):
        import torch

        torch._dynamo.reset()
        factors = [self.operands(problem, copy) for copy in problem.copies]

        @torch.compile(mode="max-autotune-no-cudagraphs", dynamic=False, fullgraph=True)
        def layer(x, w, a, b):
            return x @ w.T + scale() * ((x @ a.T) @ b.T)

        @torch.compile(mode="max-autotune-no-cudagraphs", dynamic=False, fullgraph=True)
        def merge(w, a, b):
            return w + scale() * (b @ a)

        def run(copy):
            operands, (all_a, all_b) = problem.copies[copy], factors[copy]
            targets = zip(operands.w, all_a, all_b)
            if problem.is_merge:
                return [merge(w.data, a[0], b[0]) for w, a, b in targets]
            return [layer(operands.x.data, w.data, a[0], b[0]) for w, a, b in targets]

        return run


class KExtended(TorchArm):
    """One GEMM over [x, x·Aᵀ] and [W, s·B], row stride K + 64, with x·Aᵀ given: cuBLAS' own bound for a kernel that runs the rank at the end of the K loop."""

    name = ORACLE
    PADDING = 64

    def unsuited(self, problem):
        if problem.is_merge or problem.adapters > 1 or problem.rank > self.PADDING:
            return f"one adapter of rank at most {self.PADDING}, and no merge"
        return None

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
                right[:, problem.k : problem.k + problem.rank] = (scale() * b[0].data.float()).to(x.dtype)
                pairs.append((left, right))
            extended.append(pairs)
        return lambda copy: [left @ right.T for left, right in extended[copy]]


ARMS = [ThreeCalls(), Compiled(), KExtended()]
