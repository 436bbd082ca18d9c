"""MoCo v3: predict the other view's key among all keys of the batch; no queue.

    L = 2 tau [ CE(q0 K1^T / tau) + CE(q1 K0^T / tau) ],   q = predictor(z), |q| = |k| = 1

Keys come from a momentum copy of the network. https://arxiv.org/abs/2104.02057

Differs from the reference in: sizes, momentum 0.99 to 1 and temperature as in solo-learn's CIFAR settings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Momentum, full_precision, mlp


@full_precision
def in_batch_info_nce(q: Tensor, k: Tensor, *, temperature: float) -> Tensor:
    logits = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature  # (B, B)
    return 2 * temperature * F.cross_entropy(logits, torch.arange(len(q), device=q.device))


class MoCoV3(Momentum):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 4096,
        out: int = 256,
        temperature: float = 0.2,
        tau: tuple[float, float] = (0.99, 1.0),
    ):
        projector = mlp(width, hidden, out, bias=False).append(nn.BatchNorm1d(out, affine=False))
        super().__init__(encoder, projector, tau=tau)
        self.predictor = mlp(out, hidden, out, bias=False)
        self.temperature = temperature

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        k0, k1 = self.embed_target(*views)
        q0, q1 = self.predictor(z0), self.predictor(z1)
        first = in_batch_info_nce(q0, k1, temperature=self.temperature)
        second = in_batch_info_nce(q1, k0, temperature=self.temperature)
        return first + second, {"info_nce": (first + second).detach()}
