"""A Triton kernel of our own with LoRAFusion's cut (arXiv 2510.00206): S = x·Aᵀ by cuBLAS, then one GEMM whose sums start with s·S·Bᵀ. It stands in for LoRAFusion, which is not a package."""

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

    @triton.autotune(configs=configurations, key=["m", "n", "k"])
    @triton.jit
    def lora_gemm(x, w, s, b, y, m, n, k, scale, RANK: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
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
        b_tile = tl.load(b + columns[:, None] * RANK + ranks[None, :], mask=column, other=0.0)
        total = tl.dot(s_tile, tl.trans(b_tile)) * scale
        for start in range(0, k, BLOCK_K):
            depth = (start + inner)[None, :]
            x_tile = tl.load(x + rows[:, None].to(tl.int64) * k + depth, mask=row & (depth < k), other=0.0)
            w_tile = tl.load(w + columns[:, None].to(tl.int64) * k + depth, mask=column & (depth < k), other=0.0)
            total = tl.dot(x_tile, tl.trans(w_tile), total)
        place = y + rows[:, None].to(tl.int64) * n + columns[None, :]
        tl.store(place, total.to(y.dtype.element_ty), mask=row & (columns[None, :] < n))

    KERNEL = lora_gemm
    return KERNEL


class TritonFused(DeviceArm):
    name = "Triton, LoRAFusion's cut"
    module = "triton"
    slow = True

    def unsuited(self, problem):
        if problem.is_merge or problem.adapters > 1 or problem.entry.types not in ("bf16", "f16"):
            return "one adapter, 16 bits, and no merge"
        # tl.dot asks for 16 at least, and for a power of two.
        if problem.rank < 16 or problem.rank & problem.rank - 1:
            return "ranks 16, 32, 64"
        return "its cut is made for many rows" if problem.m < 128 else None

    def prepare(self, problem):
        import triton

        gemm = kernel()
        outputs = [[problem.backend.empty(y.shape, y.type).data for y in copy.y] for copy in problem.copies]

        def run(copy):
            operands = problem.copies[copy]
            x = operands.x.data
            for w, a, b, y in zip(operands.w, operands.a, operands.b, outputs[copy]):
                (m, k), n = x.shape, w.shape[0]

                def grid(meta, m=m, n=n):
                    return (triton.cdiv(m, meta["BLOCK_M"]) * triton.cdiv(n, meta["BLOCK_N"]),)

                gemm[grid](x, w.data, x @ a[0].data.T, b[0].data, y, m, n, k, SCALE, RANK=problem.rank)
            return outputs[copy]

        return run


ARMS = [TritonFused()]
