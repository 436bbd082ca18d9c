"""VIbCReg: VICReg with features whitened by iterative normalisation and a covariance that has no scale.

    L = 25 mean |z0 - z1|^2 + 25 [v(z0) + v(z1)] + 200 [b(z0) + b(z1)],   b(z) = mean_{i != j} Corr(z)_ij^2

    whitening: P_0 = I,  P_k = 3/2 P_{k-1} - 1/2 P_{k-1}^3 S / tr S,  z <- P_5 z / sqrt(tr S),  S = Cov z

https://arxiv.org/abs/2109.00783 and, for the whitening, https://arxiv.org/abs/1904.03441

Differs from the reference in: the whitening has no learned scale and shift and keeps no running average,
since the head is never used after training; LARS limits its rates as for the other methods (solo-learn: not
for this one).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.core.errors import Problem
from synpos_lib.methods.parts import Loss, Method, full_precision, mlp, off_diagonal
from synpos_lib.methods.vicreg import invariance, variance


@full_precision
def iterative_norm(z: Tensor, *, group: int = 32, iterations: int = 5) -> Tensor:
    """Whiten each group of features by Newton's iteration for the inverse square root of its covariance."""
    x = (z - z.mean(0)).unflatten(1, (-1, group)).permute(1, 2, 0)  # (G, group, B)
    sigma = x @ x.mT / len(z) + 1e-5 * torch.eye(group, device=z.device)  # (G, group, group)
    trace = sigma.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    p = torch.eye(group, device=z.device).expand_as(sigma)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * p @ p @ p @ (sigma / trace)
    return (p @ x / trace.sqrt()).permute(2, 0, 1).flatten(1)


@full_precision
def correlation(z: Tensor) -> Tensor:
    """Mean squared correlation between different features (the mean counts the diagonal's zeros, as in solo-learn)."""
    z = F.normalize(z - z.mean(0), dim=0)
    corr = z.T @ z  # (D, D)
    return off_diagonal(corr) / corr.numel()


class VIbCReg(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 2048,
        group: int = 32,  # features whitened together: 64 groups of 2048
        sim_weight: float = 25.0,
        var_weight: float = 25.0,
        cov_weight: float = 200.0,
    ):
        if out % group:
            raise Problem(f"{out} features cannot be cut into groups of {group}: choose a divisor of {out}")
        super().__init__(encoder, mlp(width, hidden, hidden, out, activation=nn.GELU))
        self.group = group
        self.weights = (sim_weight, var_weight, cov_weight)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        z0, z1 = (iterative_norm(z, group=self.group) for z in (z0, z1))
        terms = (invariance(z0, z1), variance(z0) + variance(z1), correlation(z0) + correlation(z1))
        first, second, third = (weight * term for weight, term in zip(self.weights, terms, strict=True))
        names = ("invariance", "variance", "correlation")
        return first + second + third, {name: term.detach() for name, term in zip(names, terms, strict=True)}
