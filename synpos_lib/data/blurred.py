"""Blurred: a positive that is the anchor itself, out of focus and noisy. Nothing in it is new.

It is the control for what a diffusion model adds by drawing badly: a positive may teach only because it is a poor copy.
"""

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.data.pixels import quantize, unit
from synpos_lib.data.views import blur


class Blurred:
    """A generator of positives: each anchor blurred, with noise."""

    def __init__(self, sigma: float = 1.0, noise: float = 0.1) -> None:  # pixels; share of the range of values
        self.sigma, self.noise = sigma, noise
        self.settings = {"generator": "blurred", "sigma": sigma, "noise": noise}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k candidates for each anchor, which differ in their noise: uint8 (B, 3, H, W) -> (B, k, 3, H, W)."""
        rng = runtime.generator(seed, "blurred")
        x = blur(unit(anchors), torch.full((len(anchors),), self.sigma))[:, None]
        x = x + self.noise * torch.randn(len(x), k, *x.shape[2:], generator=rng)
        return quantize(x)
