"""Hugging Face's peft, as its users call it."""

from family import TorchArm


class HfPeft(TorchArm):
    name = "HF peft"
    module = "peft"

    def unsuited(self, problem):
        if problem.adapters > 1:
            return "a batch of several adapters is a list of names on the host there"
        return None

    def layer(self, w, a, b):
        """A linear layer with an adapter, with these numbers in it."""
        import peft
        import torch

        from families.lora import SCALE

        base = torch.nn.Linear(w.shape[1], w.shape[0], bias=False, device=w.device, dtype=w.dtype)
        base.weight.data = w
        rank = a.shape[0]
        config = peft.LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=["linear"], lora_dropout=0.0)
        model = peft.get_peft_model(torch.nn.ModuleDict({"linear": base}), config, autocast_adapter_dtype=False)
        layer = model.base_model.model["linear"]
        layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = a, b
        return layer.eval()

    def prepare(self, problem):
        layers = [
            [self.layer(w.data, a[0].data, b[0].data) for w, a, b in zip(copy.w, copy.a, copy.b)] for copy in problem.copies
        ]

        def run(copy):
            if problem.is_merge:
                # What its merge does, without changing the weights for the next call.
                layer = layers[copy][0]
                return [layer.get_base_layer().weight.data + layer.get_delta_weight("default")]
            return [layer(problem.copies[copy].x.data) for layer in layers[copy]]

        return run


ARMS = [HfPeft()]
