"""Linear evaluation: a linear layer on frozen features, which are computed once; the number of images decides how.

From 10,000 images on, the released protocol:

    W <- W - lr grad CE(W z + b, y),   lr 1.0, x 0.1 after 60 and 80 of 100 epochs, batch 256, no momentum, no decay

Its only augmentation is the horizontal flip, so every image has just two feature vectors, plain and flipped. Each
epoch picks one of them at random, as if the image had been encoded again: the same training, in a fraction of the
time. The accuracy is that of the last epoch.

With 1,500 images an epoch has six steps, and after 600 of them the layer is far from fitted: on an untrained network
it is then worse than kNN. On fewer than 10,000 images the layer is therefore the minimum itself,

    min over W, b of   mean CE(W z + b, y) + lambda / 2 |W|²,   by L-BFGS, plain and mirrored features together
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from scipy import optimize
from threadpoolctl import threadpool_limits
from torch import Tensor

from synpos_lib.core import runtime

ENOUGH = 10_000  # images for the released protocol, which then has at least 4,000 steps
LAMBDA = 1e-4  # of the minimum, chosen in notebook 06b on validation images


def protocol(n: int) -> str:
    """How the layer is fitted on n images, in words."""
    return "released: SGD, 100 epochs" if n >= ENOUGH else f"converged: L-BFGS, lambda {LAMBDA:g}"


def fit(
    plain: Tensor, flipped: Tensor, labels: Tensor, *, learning_rate: float = 1.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Fit the layer by the protocol for so many images: features (N, D), plain and flipped -> weight (C, D), bias (C,).

    Only the released protocol has a learning rate and a seed.
    """
    if len(plain) >= ENOUGH:
        return sgd(plain, flipped, labels, learning_rate=learning_rate, seed=seed)
    return lbfgs(plain, flipped, labels)


def sgd(
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
    """Train the layer by SGD: features (N, D) of the images and of their mirror images -> weight (C, D), bias (C,)."""
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


def lbfgs(
    plain: Tensor, flipped: Tensor, labels: Tensor, *, lambda_: float = LAMBDA, tolerance: float = 1e-4
) -> tuple[Tensor, Tensor]:
    """The minimum above: features (N, D) of the images, plain and flipped -> weight (C, D), bias (C,)."""
    z, labels = torch.cat([plain, flipped]).double(), torch.cat([labels, labels])
    mean, size = scale(z)
    start = z.new_zeros(int(labels.max()) + 1, 1 + z.shape[1])
    layer = minimum((z - mean) / size, labels.to(z.device), lambda_, start, tolerance=tolerance)
    weight = layer[:, :-1] / size
    return weight.to(plain), (layer[:, -1] - weight @ mean).to(plain)


def scale(z: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of features (D,) and their size around it, one number: to scale them, so that lambda means the same."""
    mean = z.mean(0)
    return mean, (z - mean).square().mean().sqrt().clamp_min(1e-12)


def minimum(z: Tensor, labels: Tensor, lambda_: float, start: Tensor, *, tolerance: float = 1e-4) -> Tensor:
    """The minimum for one lambda, from `start`: weights (C, D) with the bias as one more column, (C, D + 1).

    L-BFGS moves in the features' principal axes, each in units of its curvature at W = 0, since features of an
    encoder differ so much in spread that it takes ten times as many steps without. The tolerance is of the slope.
    """
    spread, axes = torch.linalg.eigh(z.T @ z / len(z))
    curvature = spread.clamp_min(0) / len(start) + lambda_  # (D,)
    axes = axes * curvature.rsqrt()  # (D, D): W = V axes.T has the logits V (axes.T z)
    z, pull = z @ axes, lambda_ / curvature
    truth = torch.eye(len(start), dtype=z.dtype, device=z.device)[:, labels]  # (C, N)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        layer = torch.from_numpy(flat).to(z).view_as(start)
        weight, bias = layer[:, :-1], layer[:, -1:]
        log_p = torch.addmm(bias, weight, z.T).log_softmax(0)  # (C, N)
        value = (pull * weight.square()).sum() / 2 - (truth * log_p).sum() / len(z)
        error = (log_p.exp() - truth) / len(z)
        slope = torch.cat([error @ z + pull * weight, error.sum(1, keepdim=True)], 1)
        return value.item(), slope.flatten().cpu().numpy()

    begin = torch.cat([start[:, :-1] @ (axes * curvature), start[:, -1:]], 1)  # axes times its own transpose inverts
    settings = {"gtol": tolerance, "ftol": 0.0, "maxiter": 1000}
    with _one_thread():
        end = optimize.minimize(objective, begin.flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=settings)
    if not end.success:
        words = f"a linear layer is not at its minimum for lambda {lambda_:g} ({end.message}): raise lambda"
        warnings.warn(words, stacklevel=2)
    layer = torch.from_numpy(end.x).to(z).view_as(start)
    return torch.cat([layer[:, :-1] @ axes.T, layer[:, -1:]], 1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """These matrices are so small that two threads wait for each other: ten times slower than one, on two cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):  # of scipy
            yield
    finally:
        torch.set_num_threads(threads)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy of logits or probabilities (N, C)."""
    return (logits.argmax(1) == labels).double().mean().item()
