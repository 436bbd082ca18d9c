"""Optimisers and the learning-rate schedule of the SSL recipes."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from synpos_lib.core.errors import Problem, suggest


class LARS(torch.optim.Optimizer):
    """SGD with momentum whose step for each weight matrix is scaled to the matrix's size.

    g <- (g + wd w) min(eta |w| / (|g| + wd |w|) / lr, 1);   vectors (biases, norms) take plain steps without decay

    https://arxiv.org/abs/1708.03888, in solo-learn's form (eta 0.02, clipped).
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, *, weight_decay: float, momentum: float = 0.9, eta: float = 0.02
    ):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, eta=eta))

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad if p.dim() == 1 else self._scaled(p, p.grad, group)
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"]
                p.sub_(momentum.mul_(group["momentum"]).add_(g), alpha=group["lr"])

    @staticmethod
    def _scaled(p: Tensor, g: Tensor, group: dict[str, Any]) -> Tensor:
        w_norm, g_norm, decay = p.norm(), g.norm(), group["weight_decay"]
        trust = group["eta"] * w_norm / (g_norm + decay * w_norm + 1e-8)
        clipped = (trust / max(group["lr"], 1e-12)).clamp(max=1.0)
        scale = torch.where((w_norm > 0) & (g_norm > 0), clipped, 1.0)
        return (g + decay * p) * scale


def make(
    name: str, module: nn.Module, *, learning_rate: float, weight_decay: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of that name for all trainable weights of the module."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    if name == "lars":
        return LARS(parameters, learning_rate, weight_decay=weight_decay)
    if name == "sgd":  # decay on all parameters, as in the released code
        return torch.optim.SGD(parameters, learning_rate, 0.9, weight_decay=weight_decay, nesterov=nesterov, fused=True)
    if name == "adamw":
        return torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay, fused=True)
    raise Problem(f"unknown optimizer '{name}' ({suggest(name, ('lars', 'sgd', 'adamw'))})")


def warmup_cosine(step: int, steps: int, warmup: int, *, start: float = 0.002) -> float:
    """Factor on the learning rate: linear from `start` during the warm-up, then half a cosine to 0."""
    if step < warmup:
        return start + (1 - start) * step / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2
