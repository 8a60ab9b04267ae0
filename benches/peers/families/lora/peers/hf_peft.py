"""Hugging Face's peft, as its users call it."""

from arms import gradients
from families.lora.layer import SCALE
from family import TorchArm


def linear(w, a, b):
    """A linear layer with an adapter, with these numbers in it."""
    import peft
    import torch

    base = torch.nn.Linear(w.shape[1], w.shape[0], bias=False, device=w.device, dtype=w.dtype)
    base.weight.data = w
    rank = a.shape[0]
    config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=["linear"], lora_dropout=0.0)
    model = peft.get_peft_model(torch.nn.ModuleDict({"linear": base}), config, autocast_adapter_dtype=False)
    layer = model.base_model.model["linear"]
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = a, b
    return layer


class Layer(TorchArm):
    name, operations, module = "HF peft", ("lora.forward",), "peft"

    def unsuited(self, problem):
        return "a batch of several adapters is a list of names on the host there" if problem.adapters > 1 else None

    def prepare(self, problem):
        layers = [[linear(w.data, a[0].data, b[0].data).eval() for w, a, b in zip(copy.w, copy.a, copy.b)] for copy in problem.copies]
        return lambda copy: [layer(problem.copies[copy].x.data) for layer in layers[copy]]


class Merge(TorchArm):
    """What its merge does, without changing the weights for the next call."""

    name, operations, module = "HF peft", ("lora.merge",), "peft"

    def prepare(self, problem):
        layers = [linear(copy.w.data, copy.a.data, copy.b.data) for copy in problem.copies]
        return lambda copy: [layers[copy].get_base_layer().weight.data + layers[copy].get_delta_weight("default")]


class Backward(TorchArm):
    """By autograd. Its forward pass is no part of the time."""

    name, operations, module = "HF peft", ("lora.backward",), "peft"

    def prepare(self, problem):
        import torch

        graphs = []
        for copy in problem.copies:
            layer, x = linear(copy.w.data, copy.a.data, copy.b.data), copy.x.data.detach().requires_grad_()
            with torch.enable_grad():
                wanted = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
                graphs.append((layer(x), wanted, copy.dy.data))
        return lambda copy: gradients(*graphs[copy])


class WeightNorm(TorchArm):
    """As its DoRA takes them: B·A as a product of the identity with both factors, and norms of the sum."""

    name, operations, module = "HF peft", ("lora.weight_norm",), "peft"

    def prepare(self, problem):
        from peft.tuners.lora.dora import DoraLinearLayer

        dora = DoraLinearLayer(fan_in_fan_out=False)
        layers = [linear(copy.w.data, copy.a.data, copy.b.data) for copy in problem.copies]

        def run(copy):
            layer, w = layers[copy], problem.copies[copy].w.data
            delta = dora.get_lora_weight(lora_A=layer.lora_A["default"], lora_B=layer.lora_B["default"])
            return [dora.get_weight_norm(w, delta.to(w.dtype), SCALE)]

        return run


ARMS = [Layer(), Merge(), Backward(), WeightNorm()]
