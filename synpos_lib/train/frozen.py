"""Features of a frozen encoder: its weights, its modes and the random state stay as they are."""

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
        device = next(self.network.parameters()).device
        modes = [(module, module.training) for module in self.network.modules()]
        self.network.eval()
        try:
            with torch.no_grad(), runtime.autocast(device):
                parts = [self._encode(chunk, flip, device) for chunk in images.split(batch)]
        finally:
            for module, training in modes:
                module.training = training
        return torch.cat(parts)

    def _encode(self, images: Tensor, flip: bool, device: torch.device) -> Tensor:
        x = views.normalize(images.to(device), self.mean, self.std)
        return self.network(x.flip(3) if flip else x).float().cpu()
