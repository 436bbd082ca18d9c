"""Attacks on a classifier, inside a box of radius epsilon around each image: clean, FGSM, and PGD with restarts.

    fgsm:  x' = clip(x + eps sign(grad CE(f(x), y)))                         https://arxiv.org/abs/1412.6572
    pgd:   x' = clip_box(x' + step sign(grad CE(f(x'), y))), several times    https://arxiv.org/abs/1706.06083

FGSM alone flatters a classifier that hides its gradients; PGD from several random starts is the honest check. An image
counts as right under PGD only if no start fools the classifier. Images lie in [0, 1], epsilon is in their units.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.results.tables import share
from synpos_lib.train.classify import Classifier

Logits = Callable[[Tensor], Tensor]  # images in [0, 1] -> (B, classes)


def fgsm(f: Logits, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """One step of the whole radius, in the direction in which the loss grows."""
    return (x + epsilon * _uphill(f, x, y)).clamp(0, 1)


def pgd(f: Logits, x: Tensor, y: Tensor, epsilon: float, *, step: float, steps: int, start: Tensor) -> Tensor:
    """Small steps from `start`, put back into the box of radius epsilon after each."""
    low, high = (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1)
    attacked = start
    for _ in range(steps):
        attacked = (attacked + step * _uphill(f, attacked, y)).clamp(low, high)
    return attacked


def _uphill(f: Logits, x: Tensor, y: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(F.cross_entropy(f(x), y, reduction="sum"), x)[0].sign()


def robustness(
    model: Classifier,
    images: Tensor,  # (N, 3, H, W) uint8
    labels: Tensor,
    *,
    epsilons: Sequence[float] = (1 / 255, 2 / 255, 4 / 255, 8 / 255),
    steps: int = 20,  # of PGD, each of 2.5 epsilon / steps
    restarts: int = 3,
    factor: str = "what",
    seed: int = 0,
    batch: int = 250,
) -> list[dict]:
    """Accuracy with its interval, clean and under each attack at each epsilon, on the same images."""
    where = next(model.parameters()).device
    right: dict[tuple, list] = {}
    for i, rows in enumerate(torch.arange(len(images)).split(batch)):
        x, y = images[rows].to(where).float() / 255, labels[rows].to(where)
        draw = runtime.generator(seed, "attack", i)

        def logits(x: Tensor) -> Tensor:
            return model(x)[factor].float()

        def resists(attacked: Tensor, y: Tensor = y, logits: Logits = logits) -> Tensor:
            with torch.no_grad():
                return logits(attacked).argmax(1) == y

        clean = resists(x)
        right.setdefault(("clean", 0.0), []).append(clean)
        for epsilon in epsilons:
            right.setdefault(("FGSM", epsilon), []).append(resists(fgsm(logits, x, y, epsilon)))
            standing = clean.clone()
            for _ in range(restarts):
                noise = (2 * torch.rand(x.shape, generator=draw) - 1).to(where)
                start = (x + epsilon * noise).clamp(0, 1)
                how = dict(step=2.5 * epsilon / steps, steps=steps, start=start)
                standing &= resists(pgd(logits, x, y, epsilon, **how))
            right.setdefault(("PGD", epsilon), []).append(standing)
    return [
        {"attack": attack, "epsilon": epsilon, **share(torch.cat(found).cpu())._asdict()}
        for (attack, epsilon), found in right.items()
    ]
