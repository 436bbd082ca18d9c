"""Ten common corruptions in five severities, for batches of small images.

The definitions and severities are those of CIFAR-10-C (Hendrycks & Dietterich, 2019, and its released
generator), whose parameters were chosen for 32 pixels. Differs from it in: fog is a sum of random octaves
instead of a diamond-square fractal; motion blur is this file's kernel instead of ImageMagick's; blurred
colours are rounded, not truncated. So its error rates can't be compared digit for digit with published ones.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.arrays import empty
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runtime import generator
from synpos_lib.data.pixels import quantize, unit

CHUNK = 512  # images at once: bounds memory for large images


def corrupt(images: Tensor, name: str, severity: int, seed: int = 0) -> Tensor:
    """Corrupted copies of uint8 images (N, 3, H, W); the same seed gives the same noise."""
    damage, level = find(name, severity)
    rng = generator(seed, "corruption", name, severity)
    out = empty(images.shape)
    for part, into in zip(images.split(CHUNK), out.split(CHUNK), strict=True):
        into[:] = quantize(damage(unit(part), level, rng))
    return out


def find(name: str, severity: int) -> tuple[Callable[..., Tensor], Any]:
    """The function of a corruption, and its parameter at this severity."""
    if name not in CORRUPTIONS:
        raise Problem(f"unknown corruption '{name}': {suggest(name, CORRUPTIONS)}")
    if severity not in range(1, 6):
        raise Problem(f"severity of '{name}' is {severity!r}: use 1, 2, 3, 4 or 5")
    damage, levels = CORRUPTIONS[name]
    return damage, levels[severity - 1]


def gaussian_noise(x: Tensor, sigma: float, rng: torch.Generator) -> Tensor:
    """x + σ ε"""
    return x + sigma * torch.randn(x.shape, generator=rng)


def shot_noise(x: Tensor, photons: float, rng: torch.Generator) -> Tensor:
    """Poisson(photons · x) / photons"""
    return torch.poisson(x * photons, generator=rng) / photons


def impulse_noise(x: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """A share of all values, each on its own, becomes 0 or 1 ("salt and pepper")."""
    hit, salt = torch.rand((2, *x.shape), generator=rng)
    return torch.where(hit < share, (salt < 0.5).float(), x)


def defocus_blur(x: Tensor, level: tuple[float, float], rng: torch.Generator) -> Tensor:
    """A disc of some radius, itself smoothed by a 3 × 3 Gaussian, as blur kernel."""
    radius, sigma = level
    r = torch.arange(-3.0, 4.0)
    disc = ((r**2 + r[:, None] ** 2) <= radius**2).float()
    g = torch.exp(-(torch.arange(-1.0, 2.0) ** 2) / (2 * sigma**2))
    smooth = F.conv2d(disc[None, None], torch.outer(g, g)[None, None], padding=1)
    return _blur(x, (smooth / smooth.sum()).expand(len(x), 1, -1, -1))


def motion_blur(x: Tensor, level: tuple[int, float], rng: torch.Generator) -> Tensor:
    """A fading streak of some length, at an angle of at most 45° drawn per image."""
    length, sigma = level
    angle = (torch.rand(len(x), generator=rng) - 0.5) * math.pi / 2
    step = torch.arange(length + 1.0)
    weight = torch.exp(-(step**2) / (2 * sigma**2))
    offset = torch.arange(-length, length + 1.0)
    along_x = (1 - (offset - step[:, None] * angle.cos()[:, None, None]).abs()).clamp(min=0)  # (N, steps, k)
    along_y = (1 - (offset - step[:, None] * angle.sin()[:, None, None]).abs()).clamp(min=0)
    kernel = torch.einsum("s,nsy,nsx->nyx", weight, along_y, along_x)
    return _blur(x, (kernel / kernel.sum((1, 2), keepdim=True))[:, None])


def contrast(x: Tensor, factor: float, rng: torch.Generator) -> Tensor:
    """Every channel drawn towards its mean."""
    mean = x.mean((2, 3), keepdim=True)
    return mean + factor * (x - mean)


def brightness(x: Tensor, amount: float, rng: torch.Generator) -> Tensor:
    """The value of HSV raised by a constant; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + amount).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp(min=1e-6), raised)


def pixelate(x: Tensor, factor: float, rng: torch.Generator) -> Tensor:
    """Shrunk with a box filter, then back."""
    height, width = x.shape[2:]
    rows, columns = (_box(side, int(side * factor)) for side in (height, width))
    return rows @ x @ columns.T


def jpeg(x: Tensor, quality: int, rng: torch.Generator) -> Tensor:
    """Stored as JPEG and read back."""
    from io import BytesIO

    from PIL import Image

    out = []
    for pixels in quantize(x).permute(0, 2, 3, 1).numpy():
        stored = BytesIO()
        Image.fromarray(pixels).save(stored, "JPEG", quality=quality)
        out.append(np.array(Image.open(stored)))
    return unit(torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2))


def fog(x: Tensor, level: tuple[float, float], rng: torch.Generator) -> Tensor:
    """(x + thickness · fractal noise) · max x / (max x + thickness); finer octaves weaken by `decay`."""
    thickness, decay = level
    brightest = x.amax((1, 2, 3), keepdim=True)
    plasma = torch.zeros(len(x), 1, *x.shape[2:])
    for octave in range(1, 6):
        noise = torch.rand(len(x), 1, 2**octave, 2**octave, generator=rng)
        plasma += decay**-octave * F.interpolate(noise, x.shape[2:], mode="bilinear", align_corners=True)
    low, high = plasma.amin((2, 3), keepdim=True), plasma.amax((2, 3), keepdim=True)
    return (x + thickness * (plasma - low) / (high - low)) * brightest / (brightest + thickness)


def _blur(x: Tensor, kernels: Tensor) -> Tensor:
    """Each image correlated with its own kernel (N, 1, k, k), mirrored at the border."""
    n, channels, height, width = x.shape
    padded = F.pad(x, [kernels.shape[-1] // 2] * 4, mode="reflect").transpose(0, 1)  # (3, N, H + k, W + k)
    return F.conv2d(padded, kernels, groups=n).transpose(0, 1)


def _box(size: int, small: int) -> Tensor:
    """The matrix (size, size) that takes a row of pixels to `small` box averages and back."""

    def resize(start: int, end: int) -> Tensor:
        centre = (torch.arange(end) + 0.5) * start / end
        offset = (torch.arange(start) + 0.5 - centre[:, None]) / max(start / end, 1)
        inside = ((offset > -0.5) & (offset <= 0.5)).float()
        return inside / inside.sum(1, keepdim=True)

    return resize(small, size) @ resize(size, small)


CORRUPTIONS: dict[str, tuple[Callable[..., Tensor], tuple]] = {  # name: (function, its parameter at severities 1 to 5)
    "gaussian_noise": (gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": (shot_noise, (500, 250, 100, 75, 50)),
    "impulse_noise": (impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": (defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
    "motion_blur": (motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))),
    "contrast": (contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
    "brightness": (brightness, (0.05, 0.10, 0.15, 0.20, 0.30)),
    "pixelate": (pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": (jpeg, (80, 65, 58, 50, 40)),
    "fog": (fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
}
