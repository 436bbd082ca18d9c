"""Attacks on a classifier, inside a box of radius epsilon around each image: clean, FGSM, and PGD with restarts.

    fgsm:  x' = clip(x + eps sign(grad CE(f(x), y)))                         https://arxiv.org/abs/1412.6572
    pgd:   x' = clip_box(x' + step sign(grad CE(f(x'), y))), several times    https://arxiv.org/abs/1706.06083

FGSM alone flatters a classifier that hides its gradients; PGD from several random starts is the stricter check. An
image counts as correct under PGD only if no start fools the classifier. Images lie in [0, 1], epsilon is in their
units.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.data.images import Images
from synpos_lib.data.pixels import unit
from synpos_lib.train.classify import Classifier

Logits = Callable[[Tensor], Tensor]  # images in [0, 1] -> (B, classes)


def fgsm(f: Logits, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """One step of length epsilon in the direction in which the loss grows."""
    return (x + epsilon * _uphill(f, x, y)).clamp(0, 1)


def pgd(f: Logits, x: Tensor, y: Tensor, epsilon: float, *, step: float, steps: int, start: Tensor) -> Tensor:
    """Small steps from `start`, each followed by clipping to the box of radius epsilon."""
    low, high = (x - epsilon).clamp_min(0), (x + epsilon).clamp_max(1)
    for _ in range(steps):
        start = (start + step * _uphill(f, start, y)).clamp(low, high)
    return start


def _uphill(f: Logits, x: Tensor, y: Tensor) -> Tensor:
    """The sign of the gradient of the loss with respect to the image."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(F.cross_entropy(f(x), y, reduction="sum"), x)[0].sign()


def attacks(
    model: Classifier,
    test: Images,
    *,
    n: int,  # images, the first of the test set
    epsilons: Sequence[float],
    steps: int,  # of PGD, each of 2.5 epsilon / steps
    restarts: int,
    seed: int = 0,
    batch: int = 250,
) -> list[dict]:
    """A row with the share of right answers on the same images, unchanged and under each attack at each epsilon.

    The metric is `clean`, or an attack with its radius in grey levels, such as `FGSM 2`.
    """
    device = next(model.parameters()).device
    hits: dict[str, list[Tensor]] = defaultdict(list)

    def logits(x: Tensor) -> Tensor:
        return model(x)["what"].float()

    @torch.no_grad()
    def correct(x: Tensor, y: Tensor) -> Tensor:
        return logits(x).argmax(1) == y

    for i, (pixels, labels) in enumerate(zip(test.images[:n].split(batch), test.truth[:n].split(batch), strict=True)):
        x, y = unit(pixels.to(device)), labels.to(device)
        draw = runtime.generator(seed, "attack", i)
        clean = correct(x, y)
        hits["clean"].append(clean)
        for epsilon in epsilons:
            hits[f"FGSM {255 * epsilon:g}"].append(correct(fgsm(logits, x, y, epsilon), y))
            standing, step = clean.clone(), 2.5 * epsilon / steps
            for _ in range(restarts):
                noise = (2 * torch.rand(x.shape, generator=draw) - 1).to(device)
                start = (x + epsilon * noise).clamp(0, 1)
                standing &= correct(pgd(logits, x, y, epsilon, step=step, steps=steps, start=start), y)
            hits[f"PGD {255 * epsilon:g}"].append(standing)
    common = {"target": test.name, "factor": "what", "n": len(test.images[:n])}
    shares = {metric: torch.cat(parts).double().mean().item() for metric, parts in hits.items()}
    return [{**common, "metric": metric, "value": value} for metric, value in shares.items()]
