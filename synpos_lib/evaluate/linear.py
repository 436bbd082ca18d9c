"""Linear evaluation: the official protocol, a linear layer on frozen features, from features computed once.

    W <- W - lr grad CE(W z + b, y),   lr 1.0, x 0.1 after 60 and 80 of 100 epochs, batch 256, no momentum, no decay

Its only augmentation is the horizontal flip, so every image has just two feature vectors, plain and flipped. Each
epoch picks one of them at random, as if the image had been encoded again: the same training, in a fraction of the
time. The accuracy is that of the last epoch.
"""

import torch
from torch import Tensor

from synpos_lib.core import runtime


def fit(
    plain: Tensor,
    flipped: Tensor,
    labels: Tensor,
    *,
    learning_rate: float = 1.0,  # the released runs; 10 for CLSP-MoCo on CIFAR-100
    epochs: int = 100,
    milestones: tuple[int, ...] = (60, 80),
    batch: int = 256,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Train the layer: features (N, D) of the images and of their mirror images -> weight (C, D), bias (C,)."""
    draw = runtime.generator(seed, "linear")
    n, width = plain.shape
    classes = int(labels.max()) + 1
    device = plain.device  # of the features; the labels are on the processor
    weight, bias = (part.to(device) for part in start(classes, width, draw))
    both, target = torch.stack([plain, flipped], dim=1), torch.eye(classes)[labels].to(device)  # (N, 2, D), (N, C)
    for epoch in range(epochs):
        lr = learning_rate * 0.1 ** sum(epoch >= m for m in milestones)
        order, coin = (part.to(device) for part in shuffle(n, draw))
        for x, t in zip(both[order, coin].split(batch), target[order].split(batch), strict=True):
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


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy of logits (N, C)."""
    return (logits.argmax(1) == labels).double().mean().item()
