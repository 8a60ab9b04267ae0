#!/usr/bin/env python3
"""Writes autograd.txt: gradients of LoRA layers as PyTorch's autograd makes them, of small integers. Needs torch (1.13 made the committed file).

The layers are PEFT's (src/peft/tuners/lora/layer.py, Linear.forward): the base of x, plus scale * B(A(dropout(x))), with the dropped elements of x those of Philox4x32-10 as the header's pk_dropout
has them, by a generator of this file's own. A line is: m, k, probability, seed, offset, layers; x; then for each layer: n, rank, scale; W; A; B; bias; dY; y; dA; dB; dbias; at last dx.
"""
import sys

import torch

CASES = [(1, 1, 0.0, 0, 0, [(1, 1, 1.0)]), (3, 5, 0.0, 0, 0, [(4, 2, 0.5)]), (4, 9, 0.5, 7, 3, [(6, 3, 2.0)]), (5, 6, 0.75, 1 << 40, 1 << 35, [(3, 1, 1.0), (7, 4, -0.5)])]


def philox(counter, key):
    counter, key = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * counter[0], 0xCD9E8D57 * counter[2]
        counter = [(second >> 32) ^ counter[1] ^ key[0], second & 0xFFFFFFFF, (first >> 32) ^ counter[3] ^ key[1], first & 0xFFFFFFFF]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return counter


def mask(m, k, probability, seed, offset):
    low = 0xFFFFFFFF
    word = lambda row, column: philox([column // 4, row, offset & low, offset >> 32], [seed & low, seed >> 32])[column % 4]
    return torch.tensor([[float(word(row, column) >= probability * 2**32) for column in range(k)] for row in range(m)], dtype=torch.float64)


def main():
    torch.manual_seed(5)
    integers = lambda *shape: torch.randint(-4, 5, shape, dtype=torch.float64)
    text = lambda tensor: " ".join(repr(float(value)) for value in tensor.flatten())
    with open(sys.argv[1], "w") as file:
        for m, k, probability, seed, offset, layers in CASES:
            x = integers(m, k).requires_grad_()
            kept = mask(m, k, probability, seed, offset) / (1 - probability)
            fields, loss = [f"{m} {k} {probability} {seed} {offset} {len(layers)}", text(x.detach())], 0
            parameters = []
            for n, rank, scale in layers:
                w, a, b, bias, dy = integers(n, k), integers(rank, k), integers(n, rank), integers(n), integers(m, n)
                for parameter in (a, b, bias):
                    parameter.requires_grad_()
                y = torch.nn.functional.linear(x, w, bias) + scale * torch.nn.functional.linear(torch.nn.functional.linear(x * kept, a), b)
                loss = loss + (y * dy).sum()
                parameters.append((n, rank, scale, w, a, b, bias, dy, y))
            loss.backward()
            for n, rank, scale, w, a, b, bias, dy, y in parameters:
                fields.append(f"{n} {rank} {scale}")
                fields.extend(text(tensor.detach()) for tensor in (w, a, b, bias, dy, y, a.grad, b.grad, bias.grad))
            fields.append(text(x.grad))
            file.write("; ".join(fields) + "\n")


main()
