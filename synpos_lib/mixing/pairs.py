"""Mixing two images of a batch, and their labels with them.

    x, y = mixup(x, y, draw)        # x (B, 3, H, W) in [0, 1], y (B, C) shares of the classes, draw: a generator

Everything is drawn on the processor. MixUp and CutMix are torchvision's, with one lambda and one box per batch. CutMix,
SaliencyMix and Guided-SR leave half of the batches as they are, at random, as in the released codes for CIFAR.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from synpos_lib.train.encoders import stages


@contextmanager
def drawing_from(draw: torch.Generator, x: Tensor) -> Iterator[None]:
    """torchvision draws from the global random state: set it from our generator, and put it back afterwards."""
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
        yield


def _half_of_the_time(draw: torch.Generator) -> bool:
    return bool(torch.rand((), generator=draw) < 0.5)


def mixup(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """x <- lambda x_a + (1 - lambda) x_b, y likewise; lambda from Beta(1, 1).  https://arxiv.org/abs/1710.09412"""
    with drawing_from(draw, x):
        return v2.MixUp(alpha=1.0)(x, y)


def cutmix(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A box of x_b in x_a, y by area; 1 - area from Beta(1, 1).  https://arxiv.org/abs/1905.04899"""
    if _half_of_the_time(draw):
        return x, y
    with drawing_from(draw, x):
        return v2.CutMix(alpha=1.0)(x, y)


def manifold_mixup(x: Tensor, y: Tensor, draw: torch.Generator, encoder: nn.Module) -> tuple[Tensor, Tensor]:
    """h <- lambda h_a + (1 - lambda) h_b at the input or after the first or second stage of the encoder, at random.

    lambda from Beta(2, 2). Hidden features are mixed in the encoder's next forward pass, and only in that one.
    https://arxiv.org/abs/1806.05236
    """
    share = torch.rand(3, generator=draw).median().item()  # the middle of three uniform numbers is Beta(2, 2)
    other = torch.randperm(len(x), generator=draw).to(x.device)
    layer = int(torch.randint(3, (), generator=draw))

    def mixed(h: Tensor) -> Tensor:
        return share * h + (1 - share) * h[other]

    if layer == 0:
        return mixed(x), mixed(y)

    def mix_once(module: nn.Module, inputs: Any, h: Tensor) -> Tensor:
        handle.remove()
        return mixed(h)

    handle = stages(encoder)[layer - 1].register_forward_hook(mix_once)
    return x, mixed(y)


def saliencymix(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """CutMix whose box is centred on the most salient pixel of x_b.  https://arxiv.org/abs/2006.01791

    Differs from the released code in: saliency is the spectral residual (there: OpenCV's fine-grained one, which the
    paper found best), and every image has a box around the pixel of its own partner (there: one box for the batch).
    """
    if _half_of_the_time(draw):
        return x, y
    n, _, height, width = x.shape
    other = torch.randperm(n, generator=draw).to(x.device)
    side = float(torch.rand((), generator=draw)) ** 0.5  # area from Beta(1, 1), which is uniform
    top = saliency(x[other]).flatten(1).argmax(1)  # (B,)
    reach = int(height * side) // 2, int(width * side) // 2
    inside = boxes((top // width, top % width), reach, (height, width))
    share = 1 - inside.float().mean((1, 2, 3))[:, None]
    return torch.where(inside, x[other], x), share * y + (1 - share) * y[other]


def boxes(centre: tuple[Tensor, Tensor], reach: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Which pixels lie in [centre - reach, centre + reach), by row and column: (B,), (B,) -> (B, 1, H, W) bool."""
    distances = [torch.arange(n, device=c.device) - c[:, None] for c, n in zip(centre, size, strict=True)]
    rows, columns = ((d >= -r) & (d < r) for d, r in zip(distances, reach, strict=True))
    return (rows[:, :, None] & columns[:, None])[:, None]


def guided_sr(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Every pixel is mixed in proportion to its saliency s in two images, which are salient in different places.

        m = s_a / (s_a + s_b),   x <- m x_a + (1 - m) x_b,   y <- mean(m) y_a + (1 - mean(m)) y_b

    https://arxiv.org/abs/2306.16612, with the spectral residual ("SR") as saliency
    """
    if _half_of_the_time(draw):
        return x, y
    s = saliency(x)
    s = s / s.sum((1, 2), keepdim=True)
    other = distant_partners(torch.cdist(s.flatten(1), s.flatten(1))).to(x.device)
    m = (s / (s + s[other]).clamp_min(1e-12))[:, None]  # (B, 1, H, W)
    share = m.mean((1, 2, 3))[:, None]
    return m * x + (1 - m) * x[other], share * y + (1 - share) * y[other]


def saliency(x: Tensor) -> Tensor:
    """Spectral residual: |F⁻¹ exp(L - mean₃ₓ₃ L + i phase)|, L = log |F|, blurred (7 × 7, sigma 3): (B, H, W).

    What exceeds the spectrum's local mean is salient.  Hou & Zhang 2007, https://doi.org/10.1109/CVPR.2007.383267
    """
    spectrum = torch.fft.fft2(v2.functional.rgb_to_grayscale(x.float()))  # (B, 1, H, W)
    level = spectrum.abs().clamp_min(1e-5).log()
    residual = level - F.avg_pool2d(F.pad(level, [1] * 4, mode="replicate"), 3, 1)
    salience = torch.fft.ifft2(torch.polar(residual.exp(), spectrum.angle())).abs()
    return v2.functional.gaussian_blur(salience, [7, 7], [3.0, 3.0])[:, 0]


def distant_partners(distance: Tensor) -> Tensor:
    """Each image's partner: a round trip through all images that always goes to the farthest one left. (B,)"""
    far = distance.double().cpu().clone().fill_diagonal_(-1)
    other = torch.empty(len(far), dtype=torch.int64)
    start = here = int(far.argmax()) // len(far)
    for _ in range(len(far) - 1):
        far[:, here] = -1
        other[here] = far[here].argmax()
        here = int(other[here])
    other[here] = start
    return other
