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
    sizes = ((classes, width), (classes,))  # at first uniform within 1 / sqrt(width), torch's default
    weight, bias = (((2 * torch.rand(*size, generator=draw) - 1) / width**0.5).to(device) for size in sizes)
    target, labels = torch.eye(classes, device=device), labels.to(device)
    for epoch in range(epochs):
        lr = learning_rate * 0.1 ** sum(epoch >= m for m in milestones)
        order, mirror = torch.randperm(n, generator=draw).to(device), torch.randint(2, (n,), generator=draw).to(device)
        for rows, coin in zip(order.split(batch), mirror.split(batch), strict=True):
            x = torch.where(coin[:, None] == 1, flipped[rows], plain[rows])
            error = torch.addmm(bias, x, weight.T).softmax(1) - target[labels[rows]]
            error.mul_(lr / len(x))  # lr times dCE/dlogits
            weight.sub_(error.T @ x)
            bias.sub_(error.sum(0))
    return weight, bias


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy of logits or probabilities (N, C)."""
    return (logits.argmax(1) == labels).double().mean().item()
