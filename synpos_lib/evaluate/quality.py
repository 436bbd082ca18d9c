"""The quality, variety and novelty of generated images: distances between two sets in a feature space.

Every function takes features (N, D) of a named encoder; a number without its encoder means nothing.
"""

import torch
from torch import Tensor

CHUNK = 2**24  # distances in memory at a time, in `nearest_real`: 64 MB


def kid(real: Tensor, samples: Tensor, *, subsets: int = 50, size: int = 500, seed: int = 0) -> tuple[float, float]:
    """Kernel inception distance: unbiased MMD² with k(a, b) = (a·b / D + 1)³, mean and std over random subsets.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401
    """
    size = min(size, len(real), len(samples))
    draw = torch.Generator().manual_seed(seed)
    values = torch.empty(subsets, dtype=torch.double)

    def k(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    for i in range(subsets):
        x, y = (part[torch.randperm(len(part), generator=draw)[:size]].double() for part in (real, samples))
        xx, yy = ((k(a, a).sum() - k(a, a).trace()) / (size * (size - 1)) for a in (x, y))
        values[i] = xx + yy - 2 * k(x, y).mean()
    return values.mean().item(), values.std(correction=0).item()


def precision_recall(real: Tensor, samples: Tensor, *, k: int = 3) -> tuple[float, float]:
    """Share of samples inside the manifold of real images, and of real images inside the manifold of samples.

    A manifold is the union of balls that reach each point's k-th neighbour.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991
    """

    def inside(points: Tensor, manifold: Tensor) -> float:
        radius = torch.cdist(manifold, manifold).kthvalue(k + 1, dim=1).values  # (M,), itself is the first
        return (torch.cdist(points, manifold) <= radius).any(1).double().mean().item()

    return inside(samples, real), inside(real, samples)


def nearest_real(samples: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """For each sample, the distance to its nearest real image and the index of that image (is it copying?)."""
    real = real.float()
    parts = samples.float().split(max(1, CHUNK // len(real)))
    distance, index = zip(*(torch.cdist(part, real).min(1) for part in parts), strict=True)
    return torch.cat(distance), torch.cat(index)


def near_duplicates(samples: Tensor, real: Tensor, held_out: Tensor) -> float:
    """Share of samples closer to a training image than 99 % of held-out real images are: 1 % is chance."""
    limit = nearest_real(held_out, real)[0].quantile(0.01)
    return (nearest_real(samples, real)[0] < limit).double().mean().item()


def diversity(candidates: Tensor) -> Tensor:
    """Mean distance among the K candidates of each anchor: (N, K, D) -> (N,)."""
    n, k, _ = candidates.shape
    return torch.cdist(candidates.float(), candidates.float()).sum((1, 2)) / (k * (k - 1))
