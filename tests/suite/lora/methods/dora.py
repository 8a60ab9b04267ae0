#!/usr/bin/env python3
"""Writes dora.txt: outputs and gradients of Hugging Face's peft with DoRA in f64, of inputs that are few bits long. Needs peft (0.21.2 made the committed file) and torch (2.15.0).

A line is: m, k, n, rank; scale; W; bias; A; B; magnitude; x; dY; then what peft makes: y; dx; dA; dB; dbias; dmagnitude; the merged weight.
"""
import sys

import torch
from peft import LoraConfig, get_peft_model

SHAPES = [(3, 5, 4, 2), (17, 24, 19, 8), (2, 70, 6, 1)]


def exact(*shape):
    return torch.randint(-64, 65, shape).double() / 32


def layer(m, k, n, rank):
    model = torch.nn.Sequential(torch.nn.Linear(k, n)).double()
    w, bias = exact(n, k) / 4, exact(n)
    model[0].weight.data, model[0].bias.data = w.clone(), bias.clone()
    lora = get_peft_model(model, LoraConfig(r=rank, lora_alpha=6, use_dora=True, target_modules=["0"])).double().base_model.model[0]
    a, b, magnitude = lora.lora_A["default"].weight, lora.lora_B["default"].weight, lora.lora_magnitude_vector["default"].weight
    a.data, b.data, magnitude.data = exact(rank, k) / 4, exact(n, rank) / 4, 0.5 + exact(n).abs()
    lora.base_layer.bias.requires_grad_()
    x, dy = exact(m, k).requires_grad_(), exact(m, n)
    y = lora(x)
    (y * dy).sum().backward()
    gradients = [tensor.grad.clone() for tensor in (x, a, b, lora.base_layer.bias, magnitude)]
    given = [tensor.detach().clone() for tensor in (w, bias, a, b, magnitude, x)]
    lora.merge()
    return lora.scaling["default"], [*given, dy, y, *gradients, lora.base_layer.weight]


def main():
    torch.manual_seed(2)
    with open(sys.argv[1], "w") as file:
        for shape in SHAPES:
            scale, tensors = layer(*shape)
            fields = [" ".join(format(value, ".17g") for value in tensor.detach().flatten().tolist()) for tensor in tensors]
            file.write("; ".join([" ".join(map(str, shape)), format(scale, ".17g"), *fields]) + "\n")


main()
