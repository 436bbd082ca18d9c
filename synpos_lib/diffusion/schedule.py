"""The forward process, which turns an image into noise in T steps, and what a network predicts of it.

x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise
target = noise (epsilon)   or   sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0 (v_prediction)
"""

from functools import cache

import torch
from torch import Tensor

T = 1000  # timesteps


@cache
def alpha_bar(device: torch.device | str = "cpu") -> Tensor:
    """The linear schedule: alpha_bar_t = prod_{s <= t} (1 - beta_s), beta from 1e-4 to 0.02. (T,)"""
    return (1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)).cumprod(0).float().to(device)


def q_sample(x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise."""
    signal, sigma = _weights(t)
    return signal * x0 + sigma * noise


def target(x0: Tensor, t: Tensor, noise: Tensor, prediction: str) -> Tensor:
    """What the network should predict: the noise, or v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0."""
    if prediction == "epsilon":
        return noise
    signal, sigma = _weights(t)
    return signal * noise - sigma * x0


def _weights(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): (B,) -> (B, 1, 1, 1) each."""
    a = alpha_bar(t.device)[t][:, None, None, None]
    return a.sqrt(), (1 - a).sqrt()
