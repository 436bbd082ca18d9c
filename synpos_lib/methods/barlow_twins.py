"""Barlow Twins: make the cross-correlation of the two views' features the identity matrix.

    L = scale [ sum_i (C_ii - 1)^2 + lambda sum_{i != j} C_ij^2 ],   C = normalise(z0)^T normalise(z1) / B

where each feature is normalised over the batch. https://arxiv.org/abs/2103.03230

Differs from the reference in: scale 0.1 (for LARS, as in solo-learn) and a head of 2048 instead of 8192
units.
"""

from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Method, full_precision, mlp, off_diagonal


@full_precision
def redundancy(z0: Tensor, z1: Tensor) -> tuple[Tensor, Tensor]:
    """The two sums of the loss: distance of the diagonal from 1, and of the rest from 0."""
    z0, z1 = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z0, z1))
    c = z0.T @ z1 / len(z0)  # (D, D)
    return (c.diagonal() - 1).square().sum(), off_diagonal(c)


class BarlowTwins(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 2048,
        lambda_: float = 0.0051,
        scale: float = 0.1,
    ):
        super().__init__(encoder, mlp(width, hidden, hidden, out))
        self.lambda_, self.scale = lambda_, scale

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        invariance, redundant = redundancy(z0, z1)
        total = self.scale * (invariance + self.lambda_ * redundant)
        return total, {"invariance": invariance.detach(), "redundancy": redundant.detach()}
