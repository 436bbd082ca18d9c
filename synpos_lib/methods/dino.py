"""DINO: a student predicts which prototypes a momentum teacher sees in the other view.

    L = 1/2 [ H(P'_0, P_1) + H(P'_1, P_0) ],   P = softmax(s / tau_s),   P' = softmax((t - c) / tau_t)

The centre c follows the mean teacher output and, with the low tau_t, prevents collapse.
https://arxiv.org/abs/2104.14294

Differs from the reference in: two views and no small crops, 4096 prototypes, tau_t constant, as in
solo-learn's CIFAR settings; the projection that wrappers tie is the 256-dimensional one before the
prototypes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Momentum, Progress, cosine, full_precision, mlp


@full_precision
def distillation(student: Tensor, teacher: Tensor, center: Tensor, *, tau_s: float, tau_t: float) -> Tensor:
    p = ((teacher - center) / tau_t).softmax(1).detach()
    return -(p * (student / tau_s).log_softmax(1)).sum(1).mean()


class DINO(Momentum):
    target_prototypes: Tensor
    center: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 256,
        prototypes: int = 4096,
        tau_s: float = 0.1,
        tau_t: float = 0.07,
        center_momentum: float = 0.9,
        tau: tuple[float, float] = (0.9995, 1.0),
        frozen: float = 0.001,  # share of the training in which the prototypes stay as they are: 1 epoch of 1000
    ):
        projector = mlp(width, hidden, hidden, out, norm=False, activation=nn.GELU)
        super().__init__(encoder, projector, tau=tau)
        self.tau_s, self.tau_t, self.center_momentum, self.frozen = tau_s, tau_t, center_momentum, frozen
        self.prototypes = nn.Parameter(torch.randn(prototypes, out) * 0.02)
        self.register_buffer("target_prototypes", self.prototypes.detach().clone())
        self.register_buffer("center", torch.zeros(prototypes))
        self.progress = Progress()
        self.teacher_mean: Tensor | None = None  # of the batch, for the centre

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        prototypes = self.prototypes.detach() if self.progress.share < self.frozen else self.prototypes
        s0, s1 = (scores(z, prototypes) for z in (z0, z1))  # (B, prototypes)
        t0, t1 = (scores(z, self.target_prototypes) for z in self.embed_target(*views))
        self.teacher_mean = torch.cat([t0, t1]).mean(0)
        first = distillation(s0, t1, self.center, tau_s=self.tau_s, tau_t=self.tau_t)
        total = (first + distillation(s1, t0, self.center, tau_s=self.tau_s, tau_t=self.tau_t)) / 2
        return total, {"distillation": total.detach()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        super().after_step(progress)
        self.target_prototypes.lerp_(self.prototypes, 1 - cosine(*self.tau, progress))
        if self.teacher_mean is not None:
            self.center.lerp_(self.teacher_mean, 1 - self.center_momentum)
        self.teacher_mean = None


@full_precision
def scores(z: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine similarity of projections and prototypes: a linear layer with weight norm 1."""
    return F.normalize(z, dim=1) @ F.normalize(prototypes, dim=1).T
