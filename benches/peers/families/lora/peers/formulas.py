"""The other operations of LoRA in PyTorch: as one writes them down, by autograd, and as torch.compile makes that."""

from arms import AutogradFormula, CompiledAutograd, CompiledFormula, TorchFormula
from families.lora.layer import SCALE
from families.lora.sample_norms import SAMPLES


def merge(_problem):
    def merged(w, a, b):
        return [w.addmm(b, a, alpha=SCALE)]

    return merged


def weights(copy):
    return copy.w, copy.a, copy.b


def backward(_problem):
    """One large product and five thin ones, bracketed as Unsloth and Axolotl do."""

    def gradients(dy, x, w, a, b, h):
        dh = dy @ b
        return [(dy @ w).addmm_(dh, a, alpha=SCALE), SCALE * (dh.T @ x), SCALE * (dy.T @ h)]

    return gradients


def layer(_problem):
    return lambda x, w, a, b: [x @ w.T + SCALE * ((x @ a.T) @ b.T)]


def with_gradient(copy):
    return copy.dy, copy.x, copy.w, copy.a, copy.b


def factors_and_x(_problem):
    return [0, 2, 3]


def weight_norm(_problem):
    def norms(w, a, b):
        import torch

        return [torch.linalg.vector_norm(w + SCALE * (b @ a), dim=1, dtype=torch.float32)]

    return norms


def by_sample(*matrices):
    return [matrix.view(SAMPLES, -1, matrix.shape[1]) for matrix in matrices]


def gradients_of_samples(_problem):
    """Each sample's gradients, and their squares."""

    def squares(x, dy, b, h):
        x, dy, dh, h = by_sample(x, dy, SCALE * (dy @ b), h)
        da, db = dh.mT @ x, SCALE * (dy.mT @ h)
        return [da.float().square().sum((1, 2)) + db.float().square().sum((1, 2))]

    return squares


def ghost_norms(_problem):
    """Gram matrices in place of gradients (arXiv 2205.10683, 2009.03106)."""

    def squares(x, dy, b, h):
        x, dy, dh, h = by_sample(x, dy, SCALE * (dy @ b), h)
        of_a = (x @ x.mT).float() * (dh @ dh.mT).float()
        of_b = (dy @ dy.mT).float() * (h @ h.mT).float()
        return [of_a.sum((1, 2)) + SCALE**2 * of_b.sum((1, 2))]

    return squares


def saved(copy):
    return copy.x, copy.dy, copy.b, copy.h


ARMS = [
    TorchFormula("lora.merge", merge, weights, "cuBLAS, one call"),
    CompiledFormula("lora.merge", merge, weights),
    TorchFormula("lora.backward", backward, lambda copy: (copy.dy, copy.x, copy.w, copy.a, copy.b, copy.h), "cuBLAS, formulas"),
    AutogradFormula("lora.backward", layer, with_gradient, factors_and_x),
    CompiledAutograd("lora.backward", layer, with_gradient, factors_and_x),
    TorchFormula("lora.weight_norm", weight_norm, weights),
    CompiledFormula("lora.weight_norm", weight_norm, weights),
    TorchFormula("lora.sample_norms", gradients_of_samples, saved, "torch, samples' gradients"),
    CompiledFormula("lora.sample_norms", gradients_of_samples, saved, "torch.compile, samples' gradients"),
    TorchFormula("lora.sample_norms", ghost_norms, saved, "torch, ghost norms"),
    CompiledFormula("lora.sample_norms", ghost_norms, saved, "torch.compile, ghost norms"),
]
