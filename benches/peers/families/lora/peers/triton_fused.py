"""A Triton kernel of our own with LoRAFusion's cut (arXiv 2510.00206): S = x·Aᵀ by cuBLAS, then one GEMM whose sums start with s·S·Bᵀ; the same for dX. It stands in for LoRAFusion, which is not a package."""

from families.lora.layer import SCALE
from family import DeviceArm

KERNEL = None


def kernel():
    """Made when it is first asked for: Triton need not be there."""
    global KERNEL
    if KERNEL is not None:
        return KERNEL
    import triton
    import triton.language as tl

    configurations = [
        triton.Config({"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": 64}, num_warps=8, num_stages=stages)
        for block_m, block_n in ((128, 256), (256, 128), (128, 128))
        for stages in (3, 4)
    ]

    @triton.autotune(configs=configurations, key=["m", "n", "k", "w_row"])
    @triton.jit
    def lora_gemm(x, w, s, b, y, m, n, k, w_row, w_column, b_row, b_column, scale, RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
        # Groups of eight rows of tiles share their columns of W in L2.
        tiles_m, tiles_n = tl.cdiv(m, BLOCK_M), tl.cdiv(n, BLOCK_N)
        tile = tl.program_id(0)
        group = tile // (8 * tiles_n)
        first = group * 8
        height = min(tiles_m - first, 8)
        rows = (first + tile % (8 * tiles_n) % height) * BLOCK_M + tl.arange(0, BLOCK_M)
        columns = tile % (8 * tiles_n) // height * BLOCK_N + tl.arange(0, BLOCK_N)
        inner, ranks = tl.arange(0, BLOCK_K), tl.arange(0, RANK)
        row, column = rows[:, None] < m, columns[:, None] < n

        s_tile = tl.load(s + rows[:, None] * RANK + ranks[None, :], mask=row, other=0.0)
        b_tile = tl.load(b + columns[:, None] * b_row + ranks[None, :] * b_column, mask=column, other=0.0)
        total = tl.dot(s_tile, tl.trans(b_tile)) * scale
        for start in range(0, k, BLOCK_K):
            depth = (start + inner)[None, :]
            x_tile = tl.load(x + rows[:, None].to(tl.int64) * k + depth, mask=row & (depth < k), other=0.0)
            w_tile = tl.load(w + columns[:, None].to(tl.int64) * w_row + depth.to(tl.int64) * w_column, mask=column & (depth < k), other=0.0)
            total = tl.dot(x_tile, tl.trans(w_tile), total)
        place = y + rows[:, None].to(tl.int64) * n + columns[None, :]
        tl.store(place, total.to(y.dtype.element_ty), mask=row & (columns[None, :] < n))

    KERNEL = lora_gemm
    return KERNEL


def unsuited(problem):
    """Why the cut is not for this shape."""
    if problem.entry.types not in ("bf16", "f16"):
        return "16 bits alone"
    # tl.dot asks for 16 at least, and for a power of two.
    if problem.rank < 16 or problem.rank & problem.rank - 1:
        return "ranks 16, 32, 64"
    return "its cut is made for many rows" if problem.m < 128 else None


def multiply(x, w, s, b, y, scale):
    """y = x·wᵀ + scale·s·bᵀ, w and b with any strides."""
    import triton

    (m, k), n = x.shape, w.shape[0]

    def grid(meta):
        return (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)

    kernel()[grid](x, w, s, b, y, m, n, k, *w.stride(), *b.stride(), scale, RANK=s.shape[1])
    return y


class Layer(DeviceArm):
    name, operations, module, slow = "Triton, LoRAFusion's cut", ("lora.forward",), "triton", True

    def unsuited(self, problem):
        return "one adapter" if problem.adapters > 1 else unsuited(problem)

    def prepare(self, problem):
        outputs = [[problem.backend.empty(y.shape, y.type).data for y in copy.y] for copy in problem.copies]

        def run(copy):
            operands = problem.copies[copy]
            x, targets = operands.x.data, zip(operands.w, operands.a, operands.b, outputs[copy])
            return [multiply(x, w.data, x @ a[0].data.T, b[0].data, y, SCALE) for w, a, b, y in targets]

        return run


class Backward(DeviceArm):
    """dX by the same kernel, from dY, Wᵀ, dH and Aᵀ; the thin products by cuBLAS."""

    name, operations, module, slow = "Triton, LoRAFusion's cut", ("lora.backward",), "triton", True

    def unsuited(self, problem):
        return unsuited(problem)

    def prepare(self, problem):
        outputs = [problem.backend.empty(copy.x.shape, copy.x.type).data for copy in problem.copies]

        def run(copy):
            c = problem.copies[copy]
            dh = c.dy.data @ c.b.data
            dx = multiply(c.dy.data, c.w.data.T, dh, c.a.data.T, outputs[copy], SCALE)
            return [dx, SCALE * (dh.T @ c.x.data), SCALE * (c.dy.data.T @ c.h.data)]

        return run


ARMS = [Layer(), Backward()]
