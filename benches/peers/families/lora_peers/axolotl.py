"""Axolotl's LoRA: cuBLAS, with the branch added to the output in place. It stands in for Unsloth, whose cut it has."""

import sys
import types

from family import TorchArm


def without_bitsandbytes():
    """Its module asks for bitsandbytes when it is imported, and for nothing of it where no weight is quantised."""
    try:
        import bitsandbytes  # noqa: F401
    except Exception:  # Missing, or without what this machine has.
        package, functional = types.ModuleType("bitsandbytes"), types.ModuleType("bitsandbytes.functional")
        kernels = ("fp32", "fp16_nf4", "bf16_nf4", "fp32_nf4")
        functional.lib = types.SimpleNamespace(**{f"cdequantize_blockwise_{kernel}": None for kernel in kernels})
        functional.QuantState, functional.get_ptr, package.functional = type("QuantState", (), {}), None, functional
        return {"bitsandbytes": package, "bitsandbytes.functional": functional}
    return {}


class Axolotl(TorchArm):
    name = "Axolotl"

    def absent(self, backend):
        reason = super().absent(backend)
        if reason is not None:
            return reason
        stand_in = without_bitsandbytes()
        sys.modules.update(stand_in)
        try:
            from axolotl.kernels.lora import matmul_lora

            self.matmul_lora = matmul_lora
        except Exception as error:  # Whatever a package of others raises when it is imported.
            return f"axolotl.kernels.lora cannot be imported: {error}"
        finally:
            for module in stand_in:
                del sys.modules[module]
        return None

    def unsuited(self, problem):
        return "it has one adapter, and no merge of its own" if problem.is_merge or problem.adapters > 1 else None

    def prepare(self, problem):
        from families.lora import SCALE

        def run(copy):
            operands = problem.copies[copy]
            targets = zip(operands.w, operands.a, operands.b)
            return [self.matmul_lora(operands.x.data, w.data, None, None, a[0].data, b[0].data, SCALE) for w, a, b in targets]

        return run


ARMS = [Axolotl()]
