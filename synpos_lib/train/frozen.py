"""Features of a frozen encoder, computed once and kept; nothing of the encoder changes, nor any random state."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.data import views


@dataclass(frozen=True)
class Frozen:
    """An encoder to be evaluated, with the normalisation that it was trained with."""

    network: nn.Module
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor, *, flip: bool = False, batch: int = 500) -> Tensor:
        """Features of images as they are, or mirrored: uint8 (N, 3, H, W) -> (N, D) float32 on the processor."""
        where = next(self.network.parameters()).device
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        try:
            with torch.no_grad(), runtime.autocast(where):
                parts = [self._encode(chunk, flip, where) for chunk in images.split(batch)]
        finally:
            for module, training in modes:
                module.training = training
        return torch.cat(parts)

    def _encode(self, images: Tensor, flip: bool, where: torch.device) -> Tensor:
        x = views.normalize(images.to(where), self.mean, self.std)
        return self.network(x.flip(3) if flip else x).float().cpu()
