"""SGLang's chunked SGMV: cuBLAS for the base of all targets, then its shrink and expand kernels, which add to the base. Any number of adapters."""

import importlib.util
import sys
import types
from pathlib import Path

from families.lora.layer import SCALE
from family import DeviceArm

KERNELS = "sglang.kernels.ops.lora.dense"


def folder():
    """Of the kernels, in whatever is installed or gathered: the package itself is not imported, it asks for half of a server."""
    for place in sys.path:
        candidate = Path(place) / "sglang" / "kernels" / "ops" / "lora" / "dense"
        if candidate.is_dir():
            return candidate
    return None


class Switch:
    """An environment variable of SGLang's, which is off."""

    def get(self):
        return False


def stand_ins(torch):
    """What the kernels' files import from the server: a decorator, a name and a type."""

    def module(name, **contents):
        made = types.ModuleType(name)
        made.__path__ = []
        made.__dict__.update(contents)
        return made

    switches = types.SimpleNamespace(SGLANG_ENABLE_LORA_CSGMV_SPLIT_K=Switch(), SGLANG_ENABLE_DETERMINISTIC_INFERENCE=Switch())
    parents = ["sglang", "sglang.kernels", "sglang.kernels.ops", "sglang.kernels.ops.lora", KERNELS, "sglang.srt", "sglang.srt.lora"]
    modules = [module(name) for name in parents]
    modules.append(module("sglang.srt.environ", envs=switches))
    modules.append(module("sglang.srt.lora.utils", LoRABatchInfo=types.SimpleNamespace))
    modules.append(
        module(
            "sglang.srt.utils",
            cached_triton_kernel=lambda _key=None: lambda kernel: kernel,
            get_device_name=lambda: torch.cuda.get_device_name(),
        )
    )
    return {made.__name__: made for made in modules}


def load(place, torch):
    """The two functions."""
    found = {}
    modules = stand_ins(torch)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        for name in ("lora_tuning_config", "chunked_sgmv_shrink", "chunked_sgmv_expand"):
            specification = importlib.util.spec_from_file_location(f"{KERNELS}.{name}", place / f"{name}.py")
            found[name] = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
            specification.loader.exec_module(found[name])
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
    return found["chunked_sgmv_shrink"].chunked_sgmv_lora_shrink_forward, found["chunked_sgmv_expand"].chunked_sgmv_lora_expand_forward


def chunk(rows):
    """Rows of a segment, as its backend chooses."""
    return 128 if rows >= 256 else 32 if rows >= 64 else 16


class SglangCsgmv(DeviceArm):
    name, operations, module = "SGLang csgmv and cuBLAS", ("lora.forward",), "triton"

    def absent(self, backend):
        reason = super().absent(backend)
        place = folder()
        if reason is not None or place is None:
            return reason or "sglang/kernels/ops/lora/dense is nowhere in the path: see gather.py"
        try:
            self.shrink, self.expand = load(place, backend.torch)
        except Exception as error:  # Whatever files of others raise when they are imported.
            return f"its kernels cannot be loaded: {error}"
        return None

    def unsuited(self, problem):
        return None if problem.entry.types in ("bf16", "f16") else "16 bits alone"

    def segments(self, problem):
        """Rows sorted by adapter, in chunks."""
        torch, place = problem.backend.torch, problem.backend.place
        size, order, starts, adapters = chunk(problem.m), [], [0], []
        for index in range(problem.adapters):
            mine = [row for row, adapter in enumerate(problem.rows) if adapter == index]
            for start in range(0, len(mine), size):
                order += mine[start : start + size]
                starts.append(len(order))
                adapters.append(index)

        def integers(values):
            return torch.tensor(values, dtype=torch.int32, device=place)

        return types.SimpleNamespace(
            use_cuda_graph=False,
            num_segments=len(adapters),
            max_len=size,
            seg_indptr=integers(starts),
            weight_indices=integers(adapters),
            lora_ranks=integers([problem.rank] * problem.adapters),
            scalings=torch.full((problem.adapters,), SCALE, device=place),
            permutation=integers(order),
        )

    def prepare(self, problem):
        torch, place = problem.backend.torch, problem.backend.place
        batch = self.segments(problem)
        offsets = [sum(problem.n[:i]) for i in range(len(problem.n) + 1)]
        on_host = torch.tensor(offsets, dtype=torch.int32)
        on_device = on_host.to(place)

        def stacked(factors):
            """[adapter, all targets, ...]"""
            adapters = range(problem.adapters)
            return torch.stack([torch.cat([target[i].data for target in factors]) for i in adapters]).contiguous()

        weights = [(stacked(copy.a), stacked(copy.b)) for copy in problem.copies]

        def run(copy):
            x, (a, b) = problem.copies[copy].x.data, weights[copy]
            y = x @ problem.copies[copy].all_w.data.T
            h = self.shrink(x, a, batch, len(problem.n))
            self.expand(h, b, batch, on_device, max(problem.n), y, slice_offsets_cpu=on_host)
            return y.split(problem.n, dim=1)

        return run


ARMS = [SglangCsgmv()]
