"""BYOL: predict a momentum network's embedding of the other view; no negatives at all.

    L = (2 - 2 cos(p0, sg z'_1)) + (2 - 2 cos(p1, sg z'_0)),   p = predictor(z)

https://arxiv.org/abs/2006.07733

Differs from the reference in: sizes and momentum 0.99 to 1 as in solo-learn's CIFAR settings.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Momentum, full_precision, mlp


@full_precision
def prediction_error(p: Tensor, z: Tensor) -> Tensor:
    return 2 - 2 * F.cosine_similarity(p, z.detach(), dim=1).mean()


class BYOL(Momentum):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 4096,
        out: int = 256,
        tau: tuple[float, float] = (0.99, 1.0),
    ):
        super().__init__(encoder, mlp(width, hidden, out), tau=tau)
        self.predictor = mlp(out, hidden, out)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        t0, t1 = self.embed_target(*views)
        total = prediction_error(self.predictor(z0), t1) + prediction_error(self.predictor(z1), t0)
        return total, {"prediction_error": total.detach()}
