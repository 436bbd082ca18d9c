"""How healthy features are: do they vary, in how many directions, are views close and images spread out?"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def feature_std(z: Tensor) -> float:
    """Mean standard deviation of unit features times sqrt(D): 1 when spread over the sphere, 0 when collapsed."""
    z = F.normalize(z.float(), dim=1)
    return (z.std(0).mean() * z.shape[1] ** 0.5).item()


def effective_rank(z: Tensor) -> float:
    """exp of the entropy of the normalised singular values of the centred features: how many directions are used."""
    s = torch.linalg.svdvals(z.float() - z.float().mean(0))
    p = s / s.sum().clamp_min(1e-12)
    return torch.special.entr(p).sum().exp().item()


def alignment(z0: Tensor, z1: Tensor) -> float:
    """Mean squared distance of the unit features of two views: 0 when they agree. https://arxiv.org/abs/2005.10242"""
    return (F.normalize(z0.float(), dim=1) - F.normalize(z1.float(), dim=1)).square().sum(1).mean().item()


def uniformity(z: Tensor) -> float:
    """log of the mean of exp(-2 |z_i - z_j|^2) over pairs: lower is more spread out, 0 is collapsed."""
    z = F.normalize(z.float(), dim=1)
    return torch.pdist(z).square().mul(-2).exp().mean().log().item()


def monitor(z0: Tensor, z1: Tensor) -> dict[str, float]:
    """All four, for the features of two views of the same images."""
    return {
        "std": feature_std(z0),
        "rank": effective_rank(z0),
        "alignment": alignment(z0, z1),
        "uniformity": uniformity(z0),
    }


def probe(z0: Tensor, z1: Tensor) -> dict[str, float | str]:
    """For a training's probe: all four and, when the features have collapsed, a "warning"."""
    health = monitor(z0, z1)
    words = verdict(health)
    warning = {"warning": f"{words}; a lower learning rate or a longer warm-up is the usual cure"} if words else {}
    return {**health, **warning}


def verdict(health: Mapping[str, float]) -> str:
    """A sentence when these numbers say that the features have collapsed, else nothing."""
    if any(math.isnan(health[name]) for name in ("std", "rank", "alignment", "uniformity")):
        return "diverged: the features are not numbers"
    if health["std"] < 0.02:
        return f"collapsed: all images have nearly the same features (std {health['std']:.3f} of 1)"
    if health["rank"] < 2:
        return f"collapsed: the features vary along one direction only (effective rank {health['rank']:.1f})"
    return ""
