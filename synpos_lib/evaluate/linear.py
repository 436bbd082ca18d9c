"""Linear evaluation: the official protocol, a linear layer on frozen features, from features computed once.

    W <- W - lr grad CE(W z + b, y),   lr 1.0, x 0.1 after 60 and 80 of 100 epochs, batch 256, no momentum, no decay

Its only augmentation is the horizontal flip, so every image has just two feature vectors, plain and flipped. Each
epoch takes one of them by a coin, as if the image had been encoded again: the same training, at a fraction of the
time. The accuracy is that of the last epoch.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.train.frozen import Frozen


class Linear(NamedTuple):
    """The result, and the layer it rests on."""

    top1: float
    top5: float
    weight: Tensor  # (classes, D)
    bias: Tensor  # (classes,)


def linear_evaluation(
    encoder: Frozen,
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    learning_rate: float = 1.0,  # the released runs; 10 for CLSP-MoCo on CIFAR-100
    seed: int = 0,
) -> Linear:
    """The official protocol, for images."""
    plain, flipped, test = encoder(train_images), encoder(train_images, flip=True), encoder(test_images)
    weight, bias = fit(plain, flipped, train_labels, learning_rate=learning_rate, seed=seed)
    top1, top5 = accuracy(test @ weight.T + bias, test_labels)
    return Linear(top1, top5, weight, bias)


def fit(
    plain: Tensor,
    flipped: Tensor,
    labels: Tensor,
    *,
    learning_rate: float = 1.0,
    epochs: int = 100,
    milestones: tuple[int, ...] = (60, 80),
    batch: int = 256,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Train the layer: features (N, D) of the images and of their mirror images -> weight (C, D), bias (C,)."""
    draw = runtime.generator(seed, "linear")
    n, width = plain.shape
    classes = int(labels.max()) + 1
    where = plain.device  # of the features; the labels are on the processor
    weight, bias = (part.to(where) for part in start(classes, width, draw))
    both, target = torch.stack([plain, flipped], dim=1), torch.eye(classes)[labels].to(where)  # (N, 2, D), (N, C)
    for epoch in range(epochs):
        lr = learning_rate * 0.1 ** sum(epoch >= m for m in milestones)
        order, coin = (part.to(where) for part in shuffle(n, draw))
        z, y = both[order, coin], target[order]
        for i in range(0, n, batch):
            x, t = z[i : i + batch], y[i : i + batch]
            error = (torch.addmm(bias, x, weight.T).softmax(1) - t).mul_(lr / len(x))  # lr times dCE/dlogits
            weight.sub_(error.T @ x)
            bias.sub_(error.sum(0))
    return weight, bias


def start(classes: int, width: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """torch's default for a linear layer: uniform within 1 / sqrt(width)."""
    weight, bias = torch.rand(classes, width, generator=draw), torch.rand(classes, generator=draw)
    return (2 * weight - 1) / width**0.5, (2 * bias - 1) / width**0.5


def shuffle(n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """One epoch: the order of the images, and for each whether it is flipped (0 or 1)."""
    return torch.randperm(n, generator=draw), torch.randint(2, (n,), generator=draw)


def accuracy(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Top-1 and top-5 accuracy."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return ranked[:, 0].double().mean().item(), ranked.any(1).double().mean().item()
