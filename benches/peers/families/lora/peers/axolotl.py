"""Axolotl's LoRA: cuBLAS, with the branch added to the output in place. It stands in for Unsloth, whose cut it has. Its DoRA has a Triton kernel for the norms."""

import importlib
import sys
import types

from arms import gradients
from families.lora.layer import SCALE
from family import DeviceArm, TorchArm


def without_bitsandbytes():
    """Its modules ask for bitsandbytes when they are imported, and for nothing of it where no weight is quantised."""
    try:
        import bitsandbytes  # noqa: F401
    except Exception:  # Missing, or without what this machine has.
        package, functional = types.ModuleType("bitsandbytes"), types.ModuleType("bitsandbytes.functional")
        kernels = ("fp32", "fp16_nf4", "bf16_nf4", "fp32_nf4")
        functional.lib = types.SimpleNamespace(**{f"cdequantize_blockwise_{kernel}": None for kernel in kernels})
        functional.QuantState, functional.get_ptr, package.functional = type("QuantState", (), {}), None, functional
        return {"bitsandbytes": package, "bitsandbytes.functional": functional}
    return {}


def imported(name):
    """A module of Axolotl's kernels, or why it cannot be imported."""
    stand_in = without_bitsandbytes()
    sys.modules.update(stand_in)
    try:
        return importlib.import_module(f"axolotl.kernels.{name}"), None
    except Exception as error:  # Whatever a package of others raises when it is imported.
        return None, f"axolotl.kernels.{name} cannot be imported: {error}"
    finally:
        for module in stand_in:
            del sys.modules[module]


class Layer(TorchArm):
    name, operations = "Axolotl", ("lora.forward",)

    def absent(self, backend):
        reason = super().absent(backend)
        if reason is None:
            self.kernels, reason = imported("lora")
        return reason

    def unsuited(self, problem):
        return "it has one adapter" if problem.adapters > 1 else None

    def prepare(self, problem):
        multiply = self.kernels.matmul_lora

        def run(copy):
            operands = problem.copies[copy]
            targets = zip(operands.w, operands.a, operands.b)
            return [multiply(operands.x.data, w.data, None, None, a[0].data, b[0].data, SCALE) for w, a, b in targets]

        return run


class Backward(Layer):
    """The gradients of its layer of one projection, which it writes out by hand. Its forward pass is no part of the time."""

    operations = ("lora.backward",)

    def unsuited(self, problem):
        return None

    def prepare(self, problem):
        graphs = []
        for copy in problem.copies:
            x, a, b = (matrix.data.detach().requires_grad_() for matrix in (copy.x, copy.a, copy.b))
            with problem.backend.torch.enable_grad():
                # x is [batch, sequence, features] there; no dropout, bias, quantised weights, bias of the adapter, or magnitude.
                y = self.kernels.LoRA_O.apply(x[None], None, copy.w.data, None, None, a, b, SCALE, None, None)
            graphs.append((y, [x, a, b], copy.dy.data[None]))
        return lambda copy: gradients(*graphs[copy])


class WeightNorm(DeviceArm):
    """Its kernel makes magnitude / norm; magnitudes are ones."""

    name, operations, module = "Axolotl", ("lora.weight_norm",), "triton"

    def absent(self, backend):
        reason = super().absent(backend)
        if reason is None:
            self.kernels, reason = imported("dora")
        return reason

    def prepare(self, problem):
        kind, place = problem.backend.types[problem.types[0]], problem.backend.place
        ones = problem.backend.torch.ones(problem.n[0], dtype=kind, device=place)

        def run(copy):
            operands = problem.copies[copy]
            return [self.kernels.triton_dora_scale(operands.w.data, None, operands.a.data, operands.b.data, SCALE, ones, kind)]

        return run

    def outputs(self, problem, made):
        return [1 / made[0].double()]


ARMS = [Layer(), Backward(), WeightNorm()]
