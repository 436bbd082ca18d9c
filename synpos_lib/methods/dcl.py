"""DCL: SimCLR with the positive pair taken out of the denominator, so that small batches learn as well.

    L = 1/2B sum_i ( -z_i . z_j(i) / tau + log sum_{k of other images} exp(z_i . z_k / tau) ),   |z| = 1

https://arxiv.org/abs/2110.06848

Differs from the reference in: the temperature is SimCLR's 0.2, so that only the denominator differs;
the weighted form (DCLW) is left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.methods.parts import Loss, full_precision
from synpos_lib.methods.simclr import SimCLR


@full_precision
def decoupled(z0: Tensor, z1: Tensor, *, temperature: float) -> Tensor:
    z = F.normalize(torch.cat([z0, z1]), dim=1)  # (2B, D)
    s = z @ z.T / temperature  # (2B, 2B)
    image = torch.arange(len(z0), device=z.device).repeat(2)
    negatives = s.masked_fill(image[:, None] == image, -torch.inf)
    positives = s.diagonal(len(z0)).repeat(2)
    return (negatives.logsumexp(1) - positives).mean()


class DCL(SimCLR):
    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        total = decoupled(z0, z1, temperature=self.temperature)
        return total, {"dcl": total.detach()}
