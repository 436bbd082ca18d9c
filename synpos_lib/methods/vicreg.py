"""VICReg: keep views alike (invariance), every feature varied (variance), and features unrelated (covariance).

    L = 25 mean |z0 - z1|^2 + 25 [v(z0) + v(z1)] + 1 [c(z0) + c(z1)]
    v(z) = mean_d max(0, 1 - sqrt(Var z_d + 1e-4)),   c(z) = 1/D sum_{i != j} Cov(z)_ij^2

https://arxiv.org/abs/2105.04906

Differs from the reference in: the variance terms are added, as in the paper, where its code halves them; a
head of 2048 instead of 8192 units.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Method, full_precision, mlp, off_diagonal


@full_precision
def invariance(z0: Tensor, z1: Tensor) -> Tensor:
    return F.mse_loss(z0, z1)


@full_precision
def variance(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


@full_precision
def covariance(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    cov = z.T @ z / (len(z) - 1)  # (D, D)
    return off_diagonal(cov) / z.shape[1]


class VICReg(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 2048,
        sim_weight: float = 25.0,
        var_weight: float = 25.0,
        cov_weight: float = 1.0,
    ):
        super().__init__(encoder, mlp(width, hidden, hidden, out))
        self.weights = (sim_weight, var_weight, cov_weight)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        terms = (invariance(z0, z1), variance(z0) + variance(z1), covariance(z0) + covariance(z1))
        first, second, third = (weight * term for weight, term in zip(self.weights, terms, strict=True))
        names = ("invariance", "variance", "covariance")
        return first + second + third, {name: term.detach() for name, term in zip(names, terms, strict=True)}
