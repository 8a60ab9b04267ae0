"""Haar wavelets, Walsh–Hadamard, and WaRA. A module in peers/ takes part by its ARMS."""

from arms import MemoryCopy, Ours
from family import Family, arms_in, register

from . import peers
from .hadamard import Hadamard
from .transform import Transform
from .wara import WaraBackward, WaraForward, WaraMerge

PROBLEMS = {
    "haar.forward_1d": Transform,
    "haar.inverse_1d": Transform,
    "haar.forward_2d": Transform,
    "haar.inverse_2d": Transform,
    "haar.hadamard": Hadamard,
    "haar.wara_merge": WaraMerge,
    "haar.wara_forward": WaraForward,
    "haar.wara_backward": WaraBackward,
}

register(Family("haar", PROBLEMS, [Ours(PROBLEMS), MemoryCopy(PROBLEMS), *arms_in(peers)]))
