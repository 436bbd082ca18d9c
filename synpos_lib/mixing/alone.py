"""Changing every image of a batch by itself; labels stay.

    x, y = cutout(x, y, draw)       # x (B, 3, H, W) in [0, 1]

AugMix and RandAugment are torchvision's, which draw one chain of operations for a whole batch; so a batch goes through
them in groups of eight.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from synpos_lib.data.pixels import unit
from synpos_lib.mixing.pairs import boxes, drawing_from

GROUP = 8


def cutout(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A grey square of half the image's side, centred anywhere, so part of it may fall outside.

    Grey is the zero of the released code's normalised images. Its square for CIFAR-10 has 16 pixels.
    https://arxiv.org/abs/1708.04552
    """
    height, width = x.shape[2:]
    row, column = (torch.randint(n, (len(x),), generator=draw) for n in (height, width))
    inside = boxes((row, column), (height // 4, width // 4), (height, width))
    return torch.where(inside.to(x.device), 0.5, x), y


def augmix(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random mixture of three chains of operations with the image.  https://arxiv.org/abs/1912.02781

    Severity 3, without the four operations that are also test corruptions, as in the paper; and without the paper's
    extra loss, which asks the predictions of three mixtures to agree.
    """
    return _in_groups(v2.AugMix(severity=3, all_ops=False), x, draw), y


def randaugment(x: Tensor, y: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two of fourteen operations at magnitude 9 of 30, torchvision's setting.  https://arxiv.org/abs/1909.13719"""
    return _in_groups(v2.RandAugment(num_ops=2, magnitude=9), x, draw), y


def _in_groups(transform: v2.Transform, x: Tensor, draw: torch.Generator) -> Tensor:
    pixels = (x * 255).round().to(torch.uint8)
    with drawing_from(draw, x):
        return unit(torch.cat([transform(part) for part in pixels.split(GROUP)]))


# ---------------------------------------------------------------------------------------------- PixMix


def pixmix(
    x: Tensor,
    y: Tensor,
    draw: torch.Generator,
    pictures: Tensor,  # (V, 3, H, W) uint8, the fractals
    *,
    rounds: int = 4,  # at most; the released code's k
    beta: float = 3.0,  # the released code's
) -> tuple[Tensor, Tensor]:
    """Up to four rounds of adding or multiplying a fractal, or the changed image itself.

        x <- clip(a (x) + b (z)) or clip(x^a z^b),   z a fractal or x changed,   (a, b) from `strengths`

    https://arxiv.org/abs/2112.05135; feature visualisations, the other half of the paper's pictures, are left out.
    """
    n = len(x)
    picture = unit(pictures[torch.randint(len(pictures), (n,), generator=draw)].to(x.device))
    count = torch.randint(rounds + 1, (n,), generator=draw)
    mixed = _choose(_coin(n, draw), change(x, draw), x)
    for i in range(rounds):
        other = _choose(_coin(n, draw), change(x, draw), picture)
        a, b = (part.to(x.device)[:, None, None, None] for part in strengths(n, beta, draw))
        both = _choose(_coin(n, draw), add(mixed, other, a, b), multiply(mixed, other, a, b))
        mixed = _choose(i < count, both.clamp(0, 1), mixed)
    return mixed, y


def add(x: Tensor, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a x + b z, with colours counted from grey: x, z in [-1, 1] meanwhile."""
    return (a * (2 * x - 1) + b * (2 * z - 1) + 1) / 2


def multiply(x: Tensor, z: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x^a z^b, with grey as one: x, z in [0, 2] meanwhile."""
    return (2 * x) ** a * (2 * z).clamp_min(1e-37) ** b / 2


def strengths(n: int, beta: float, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """(a, b): half of them from Beta(beta, 1) and Beta(1, beta), the others 1 + Beta(1, beta) and -Beta(1, beta)."""
    u, v, w = torch.rand(3, n, generator=draw).clamp(1e-6, 1 - 1e-6) ** (1 / beta)  # from Beta(beta, 1), each
    weaken = _coin(n, draw)
    return torch.where(weaken, u, 1 + (1 - w)), torch.where(weaken, 1 - v, v - 1)


def change(x: Tensor, draw: torch.Generator) -> Tensor:
    """One of nine operations for each image, with strength uniform in 0.1 to 3 of 10."""
    number = torch.randint(len(OPERATIONS), (len(x),), generator=draw)
    level = 0.1 + 2.9 * torch.rand(len(x), generator=draw)
    sign = torch.where(_coin(len(x), draw), -1.0, 1.0)
    out = x.clone()
    for i, operation in enumerate(OPERATIONS):
        rows = (number == i).nonzero()[:, 0]
        if len(rows):
            out[rows.to(x.device)] = operation(x[rows.to(x.device)], level[rows], sign[rows])
    return out


def autocontrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return v2.functional.autocontrast(x)


def equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return unit(v2.functional.equalize((x * 255).round().to(torch.uint8)))


def posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Keep the highest 4 - int(0.4 level) bits."""
    step = 2.0 ** (4 + (0.4 * level).int()).to(x.device)[:, None, None, None]
    return ((x * 255).round() / step).floor() * step / 255


def solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Invert what is at least 256 - int(25.6 level)."""
    limit = (256 - (25.6 * level).int()).to(x.device)[:, None, None, None]
    return torch.where((x * 255).round() >= limit, 1 - x, x)


def rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    angle = torch.deg2rad(sign * (3 * level).int())
    return _warp(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Each row moves in proportion to its place; from the middle (the released code: from the top)."""
    return _warp(x, 1.0, sign * 0.03 * level, 0.0, 1.0)


def shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _warp(x, 1.0, 0.0, sign * 0.03 * level, 1.0)


def translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _warp(x, 1.0, 0.0, 0.0, 1.0, right=_pixels(x.shape[3], level, sign))


def translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _warp(x, 1.0, 0.0, 0.0, 1.0, down=_pixels(x.shape[2], level, sign))


def _pixels(size: int, level: Tensor, sign: Tensor) -> Tensor:
    """A shift by whole pixels, as a share of half the image."""
    return 2 * sign * (level * size / 30).int() / size


def _warp(x: Tensor, *matrix: Tensor | float, right: Tensor | float = 0.0, down: Tensor | float = 0.0) -> Tensor:
    """Pixel (i, j) from where the 2 × 2 matrix sends it, counted from the middle; black comes in from outside."""
    a, b, c, d = matrix
    rows = [torch.as_tensor(v, dtype=torch.float32).expand(len(x)) for v in (a, b, right, c, d, down)]
    grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3).to(x.device), [*x.shape], align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


OPERATIONS = (autocontrast, equalize, posterize, rotate, solarize, shear_x, shear_y, translate_x, translate_y)


def _coin(n: int, draw: torch.Generator) -> Tensor:
    return torch.rand(n, generator=draw) < 0.5


def _choose(chosen: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(chosen.to(first.device)[:, None, None, None], first, second)
