"""Feature transformation (FT): harder positives by extrapolation, more negatives by interpolation, after the projector.

    q' = a q + (1 - a) k,   k' = a k + (1 - a) q,   a = 1 + Beta(2, 2)
    n' = b n + (1 - b) n_perm,                      b = Beta(1.6, 1.6)

then the base loss with q', k', n'; one a and one b per batch, no renormalisation.
https://arxiv.org/abs/2108.02982

Differs from the reference in: a and b are drawn for each direction of the symmetric loss; SimCLR-FT is ours
to define (the released code has only MoCo): its negatives are the batch's views, mixed with a permutation
of themselves, and a mixture that holds the anchor's own image is no negative.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.methods.moco_v2 import MoCoV2, info_nce
from synpos_lib.methods.parts import Loss, full_precision
from synpos_lib.methods.simclr import SimCLR

POSITIVE_ALPHA, NEGATIVE_ALPHA = 2.0, 1.6  # the released commands


def beta(alpha: float) -> float:
    return torch.distributions.Beta(alpha, alpha).sample().item()


def extrapolate(q: Tensor, k: Tensor, a: float) -> tuple[Tensor, Tensor]:
    """Move both away from each other, a >= 1."""
    return a * q + (1 - a) * k, a * k + (1 - a) * q


def interpolate(n: Tensor, order: Tensor, b: float) -> Tensor:
    """Mix every vector with another, 0 <= b <= 1."""
    return b * n + (1 - b) * n[order]


@full_precision
def transformed_nt_xent(z0: Tensor, z1: Tensor, order: Tensor, *, a: float, b: float, temperature: float) -> Tensor:
    z0, z1 = F.normalize(z0, dim=1), F.normalize(z1, dim=1)
    q, k = extrapolate(torch.cat([z0, z1]), torch.cat([z1, z0]), a)  # (2B, D)
    image = torch.arange(len(z0), device=z0.device).repeat(2)
    own = (image[:, None] == image) | (image[:, None] == image[order])
    negatives = (q @ interpolate(torch.cat([z0, z1]), order, b).T).masked_fill(own, -torch.inf)
    logits = torch.cat([(q * k).sum(1, keepdim=True), negatives], dim=1) / temperature  # (2B, 1 + 2B)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class SimCLRFT(SimCLR):
    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        order = torch.randperm(2 * len(z0), device=z0.device)
        a, b = 1 + beta(POSITIVE_ALPHA), beta(NEGATIVE_ALPHA)
        total = transformed_nt_xent(z0, z1, order, a=a, b=b, temperature=self.temperature)
        return total, {"nt_xent": total.detach()}


class MoCoV2FT(MoCoV2):
    def contrast(self, q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        q, k = extrapolate(q, k, 1 + beta(POSITIVE_ALPHA))
        queue = interpolate(queue, torch.randperm(len(queue), device=queue.device), beta(NEGATIVE_ALPHA))
        return info_nce(q, k, queue, temperature=self.temperature)
