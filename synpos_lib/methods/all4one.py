"""All4One: NNCLR, plus the centroid of several neighbours, plus decorrelated features.

    L = 1/2 L_nnclr + 1/2 L_centroid + 1/2 L_feature
    L_centroid = 1/2 [ CE(c0 s1^T / tau_c) + CE(c1 s0^T / tau_c) ],   c = Psi(nn_1..nn_5),   s = Psi(p', nn_1..nn_4)
    L_feature = 10 [ 1/2 sqrt(mean_i (C_ii - 1)^2) + 1/2 sqrt(mean_{i != j} C_ij^2) ]

Psi is the first output of a transformer over the neighbours; neighbours come from a queue of momentum
projections; C correlates the momentum features of one view with the features of the other.
https://arxiv.org/abs/2303.09417

Differs from the reference in: positions are encoded along the five neighbours (the released code encodes
along the features); neighbours without gradient; the transformer's learning rate is that of the rest
(released: 0.1).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.nnclr import neighbour_contrast
from synpos_lib.methods.parts import Loss, Momentum, Queue, full_precision, mlp, off_diagonal


@full_precision
def feature_redundancy(t0: Tensor, z0: Tensor, t1: Tensor, z1: Tensor) -> Tensor:
    """L_feature of momentum projections t and projections z."""
    pairs = [F.normalize(t, dim=0).T @ F.normalize(z, dim=0) for t, z in ((t0, z1), (t1, z0))]  # (D, D)
    on = torch.stack([(c.diagonal() - 1).square().mean() / 2 for c in pairs]).sum()
    off = torch.stack([off_diagonal(c) / (c.numel() - len(c)) / 2 for c in pairs]).sum()
    return 10 * (0.5 * (on + 1e-12).sqrt() + 0.5 * (off + 1e-12).sqrt())


def positions(count: int, width: int) -> Tensor:
    """Sinusoidal position codes: (count, width)."""
    angle = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class All4One(Momentum):
    positions: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        predictor_hidden: int = 4096,
        out: int = 256,
        temperature: float = 0.2,
        centroid_temperature: float = 0.1,
        neighbours: int = 5,
        queue_size: int = 98304,
        tau: tuple[float, float] = (0.99, 1.0),
    ):
        super().__init__(encoder, mlp(width, hidden, hidden, out, norm_last=True), tau=tau)
        self.predictor, self.centroid_predictor = (mlp(out, predictor_hidden, out) for _ in range(2))
        layer = nn.TransformerEncoderLayer(out, nhead=8, dim_feedforward=2 * out, dropout=0.1, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, num_layers=3)
        self.register_buffer("positions", positions(neighbours, out), persistent=False)
        self.temperature, self.centroid_temperature = temperature, centroid_temperature
        self.neighbours = neighbours
        self.queue = Queue(queue_size, out)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        t0, t1 = (F.normalize(t, dim=1) for t in self.embed_target(*views))
        nn0, nn1 = (self.queue.nearest(t, self.neighbours) for t in (t0, t1))  # (B, 5, D)
        self.queue.enqueue(t0)
        p0, p1 = self.predictor(z0), self.predictor(z1)
        c0, c1 = self.centroid(nn0), self.centroid(nn1)
        s0, s1 = (
            self.centroid(torch.cat([self.centroid_predictor(z)[:, None], near[:, :-1]], dim=1))
            for z, near in ((z0, nn0), (z1, nn1))
        )
        nnclr = self.symmetric(nn0[:, 0], p1, nn1[:, 0], p0, self.temperature)
        centroid = self.symmetric(c0, s1, c1, s0, self.centroid_temperature)
        feature = feature_redundancy(t0, z0, t1, z1)
        total = (nnclr + centroid + feature) / 2
        return total, {"nnclr": nnclr.detach(), "centroid": centroid.detach(), "feature": feature.detach()}

    def centroid(self, tokens: Tensor) -> Tensor:
        """Psi: the first output of the transformer, (B, 5, D) -> (B, D)."""
        return self.transformer(tokens + self.positions)[:, 0]

    @staticmethod
    def symmetric(a0: Tensor, b1: Tensor, a1: Tensor, b0: Tensor, temperature: float) -> Tensor:
        first = neighbour_contrast(a0, b1, temperature=temperature)
        return (first + neighbour_contrast(a1, b0, temperature=temperature)) / 2
