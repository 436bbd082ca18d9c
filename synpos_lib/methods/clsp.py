"""CLSP: any method, plus the pull of a synthetic positive, which shows the same thing in other surroundings.

    L = L_base(z0, z1) + lambda 1/B sum_i |z0_i - z+_i|^2,   |z| = 1

z+ is the projection of a synthetic image made from the anchor; gradients flow through both. It is no
negative and enters no queue. With a third augmented view of the real image as z+ this is the control
SimCLR-aug or MoCoV2-aug; CLSP-noaug augments none of the three images. https://arxiv.org/abs/2408.16965

Differs from the reference in: the poster sums over the batch, its code and this take the mean. Around SimCLR, real
and synthetic images share their BatchNorm statistics, around MoCo they do not: both as in the released code on one
device. What CLSP-noaug leaves out is not published; leaving out everything is our reading.
"""

import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.methods.parts import Loss, Method, Wrapper, full_precision


@full_precision
def pull(z: Tensor, z_positive: Tensor) -> Tensor:
    """Mean squared distance of unit vectors, 2 - 2 cos."""
    return (F.normalize(z, dim=1) - F.normalize(z_positive, dim=1)).square().sum(1).mean()


class CLSP(Wrapper):
    def __init__(
        self,
        base: Method,
        *,
        pull_weight: float = 1.0,  # lambda: 1.0 for SimCLR, 0.5 (CIFAR-10) or 0.2 (CIFAR-100) for MoCo
    ):
        super().__init__(base)
        self.pull_weight = pull_weight

    def loss(self, views: list[Tensor], positive: Tensor | None = None) -> Loss:
        if self.pull_weight == 0:
            return self.base.loss(views)
        if positive is None:
            raise Problem("CLSP needs a positive for every anchor: pass positives, or set pull_weight to 0")
        z0, z1, z_positive = self.base.embed(*views, positive)
        total, parts = self.base.compare(z0, z1, views)
        distance = pull(z0, z_positive)
        return total + self.pull_weight * distance, {**parts, "pull": distance.detach()}
