"""LoRA. A module in peers/ takes part by its ARMS."""

from arms import MemoryCopy, Ours
from family import Family, arms_in, register

from . import peers
from .backward import Backward
from .layer import Forward, Merge
from .quantize import Dequantize, Quantize
from .sample_norms import SampleNorms
from .weight_norm import WeightNorm

PROBLEMS = {
    "lora.forward": Forward,
    "lora.backward": Backward,
    "lora.merge": Merge,
    "lora.weight_norm": WeightNorm,
    "lora.sample_norms": SampleNorms,
    "lora.quantize": Quantize,
    "lora.dequantize": Dequantize,
}

register(Family("lora", PROBLEMS, [Ours(PROBLEMS), MemoryCopy(PROBLEMS), *arms_in(peers)]))
