"""How good, how varied and how new are generated images: distances between two sets in a feature space.

Every function takes features (N, D) of a named encoder; a number without its encoder means nothing.
"""

import torch


def kid(real: torch.Tensor, made: torch.Tensor, *, subsets: int = 50, size: int = 500, seed: int = 0):
    """Kernel inception distance: unbiased MMD² with k(a, b) = (a·b / D + 1)³, mean and std over random subsets.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401
    """
    size = min(size, len(real), len(made))
    draw = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        x = real[torch.randperm(len(real), generator=draw)[:size]].double()
        y = made[torch.randperm(len(made), generator=draw)[:size]].double()
        k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731 (the formula, named as in the paper)
        within = sum((k(a, a).sum() - k(a, a).trace()) / (size * (size - 1)) for a in (x, y))
        values.append(within - 2 * k(x, y).mean())
    values = torch.stack(values)
    return values.mean().item(), values.std().item()


def precision_recall(real: torch.Tensor, made: torch.Tensor, *, k: int = 3) -> tuple[float, float]:
    """Share of made images inside the real manifold, and of real ones inside the made manifold.

    A manifold is the union of balls that reach each point's k-th neighbour.
    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991
    """

    def inside(points: torch.Tensor, manifold: torch.Tensor) -> float:
        radius = torch.cdist(manifold, manifold).kthvalue(k + 1, dim=1).values  # (M,), itself is the first
        return (torch.cdist(points, manifold) <= radius).any(1).double().mean().item()

    return inside(made, real), inside(real, made)


def frechet(real: torch.Tensor, made: torch.Tensor) -> float:
    """Fréchet distance |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½): FID when the encoder is Inception."""
    x, y = real.double(), made.double()
    a, b = torch.cov(x.T), torch.cov(y.T)
    root = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()  # tr (Σ₁Σ₂)^½
    return ((x.mean(0) - y.mean(0)).square().sum() + a.trace() + b.trace() - 2 * root).item()


def nearest(made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each made image, the distance to its nearest real one and which one that is (is it copying?)."""
    distance, index = torch.cdist(made.float(), real.float()).min(1)
    return distance, index


def near_duplicates(made: torch.Tensor, real: torch.Tensor, held_out: torch.Tensor) -> float:
    """Share of made images closer to a training image than 99 % of held-out real images are: chance is 1 %."""
    usual = nearest(held_out, real)[0].quantile(0.01)
    return (nearest(made, real)[0] < usual).double().mean().item()


def diversity(candidates: torch.Tensor) -> torch.Tensor:
    """Mean distance among the K candidates of each anchor: (N, K, D) -> (N,)."""
    n, k, _ = candidates.shape
    return torch.cdist(candidates.float(), candidates.float()).sum((1, 2)) / (k * (k - 1))
