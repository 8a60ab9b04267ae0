#!/usr/bin/env python3
"""Writes hf_peft.txt: outputs of Hugging Face's peft in f64, of inputs that are few bits long. Needs peft (0.10.0 made the committed file) and torch (2.11.0).

A line is: method; m, k, n, rank; scale; W; bias; A; B; magnitude or E, or nothing; x; y; for DoRA the row norms. Methods: lora, rslora, dora, adalora.
"""
import sys

import torch
from peft.tuners.adalora.layer import SVDLinear
from peft.tuners.lora.layer import Linear

SHAPES = [(3, 5, 4, 2), (17, 40, 33, 8), (2, 70, 6, 1)]


def exact(*shape):
    return torch.randint(-64, 65, shape).double() / 32


def base_layer(k, n):
    base = torch.nn.Linear(k, n).double()
    base.weight.data, base.bias.data = exact(n, k) / 4, exact(n)
    return base


def lora(method, m, k, n, rank):
    layer = Linear(base_layer(k, n), "default", r=rank, lora_alpha=6, use_rslora=method == "rslora", init_lora_weights=True, use_dora=method == "dora").double()
    layer.lora_A["default"].weight.data, layer.lora_B["default"].weight.data = exact(rank, k) / 4, exact(n, rank) / 4
    extra, scale = torch.empty(0), layer.scaling["default"]
    norms = torch.empty(0)
    if method == "dora":
        extra = exact(n)
        layer.lora_magnitude_vector["default"].data = extra
        norms = layer._get_weight_norm(layer.base_layer.weight, layer.lora_B["default"].weight @ layer.lora_A["default"].weight, scale)
    return layer, scale, layer.lora_A["default"].weight, layer.lora_B["default"].weight, extra, norms


def adalora(m, k, n, rank):
    layer = SVDLinear(base_layer(k, n), "default", r=rank, lora_alpha=6, init_lora_weights=True).double()
    layer.lora_A["default"].data, layer.lora_B["default"].data, layer.lora_E["default"].data = exact(rank, k) / 4, exact(n, rank) / 4, exact(rank, 1)
    # loralib's scale is alpha over the initial rank, which peft keeps in f32.
    scale = layer.scaling["default"] / (float(layer.ranknum["default"]) + 1e-5)
    return layer, scale, layer.lora_A["default"], layer.lora_B["default"], layer.lora_E["default"], torch.empty(0)


def main():
    torch.manual_seed(1)
    with open(sys.argv[1], "w") as file:
        for method in ("lora", "rslora", "dora", "adalora"):
            for m, k, n, rank in SHAPES:
                layer, scale, a, b, extra, norms = adalora(m, k, n, rank) if method == "adalora" else lora(method, m, k, n, rank)
                x = exact(m, k)
                layer.eval()
                y = layer(x)
                tensors = (layer.base_layer.weight, layer.base_layer.bias, a, b, extra, x, y, norms)
                fields = [" ".join(format(value, ".17g") for value in tensor.detach().double().flatten().tolist()) for tensor in tensors]
                file.write("; ".join([method, f"{m} {k} {n} {rank}", format(scale, ".17g"), *fields]) + "\n")


main()
