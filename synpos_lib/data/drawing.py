"""What all drawn images are made of: signed distances to shapes, soft edges, bands, colours. Lengths are in pixels.

A distance is positive inside and exact near the edge only, which is where `cover` looks. Points are given by their
coordinates x, to the right, and y, down: tensors of any shape.
"""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

SIZE = 32  # pixels of an image's side
SPLITS = ("train", "val", "test")


def grid() -> tuple[Tensor, Tensor]:
    """x and y of every pixel, from the middle of the image: (32, 32) each."""
    y, x = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij")
    return x, y


def by_name(names: Sequence[str], index: Tensor, draw: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Call draw(name, its rows) once per name that occurs, and put the results back in order."""
    groups = [(index == i).nonzero().squeeze(1) for i in index.unique()]
    drawn = [draw(names[int(index[group[0]])], *(row[group] for row in rows)) for group in groups]
    return torch.cat(drawn)[torch.cat(groups).argsort()]


def cover(distance: Tensor) -> Tensor:
    """Soft coverage of a shape, from the signed distance to its edge."""
    return (distance + 0.5).clamp(0, 1)


def bands(wave: Tensor) -> Tensor:
    """A wave turned into bands with soft edges."""
    return (0.5 + 1.6 * wave).clamp(0, 1)


def hsv(h: Tensor, s: Tensor | float, v: Tensor | float) -> Tensor:
    """RGB (n, 3) of hue, saturation and value, (n,) or one for all; hue 1 is hue 0."""
    ramp = ((h[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0])) % 6 - 3).abs().sub(1).clamp(0, 1)
    s, v = (torch.as_tensor(c).expand(len(h))[:, None] for c in (s, v))
    return v * (1 - s + s * ramp)


# ------------------------------------------------------------------------------- distances


def union(*distances: Tensor) -> Tensor:
    """The distance to shapes put together."""
    return reduce(torch.maximum, distances)


def disc(x: Tensor, y: Tensor, cx: float, cy: float, radius: float) -> Tensor:
    """A disc around (cx, cy)."""
    return radius - ((x - cx) ** 2 + (y - cy) ** 2).sqrt()


def oval(x: Tensor, y: Tensor, cx: float, cy: float, a: float, b: float) -> Tensor:
    """An ellipse around (cx, cy) with half axes a and b."""
    x, y = (x - cx) / a, (y - cy) / b
    return (1 - x**2 - y**2) / (2 * ((x / a) ** 2 + (y / b) ** 2).sqrt() + 1e-3)


def limb(x: Tensor, y: Tensor, ax: float, ay: float, bx: float, by: float, thick: float, thin: float) -> Tensor:
    """A round stroke from (ax, ay), where its radius is `thick`, to (bx, by), where it is `thin`."""
    dx, dy = bx - ax, by - ay
    along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return thick + (thin - thick) * along - ((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2).sqrt()


def polygon(x: Tensor, y: Tensor, *corners: tuple[float, float]) -> Tensor:
    """A convex polygon; its corners run clockwise, as seen in the image."""
    sides = zip(corners, (*corners[1:], corners[0]), strict=True)
    inside = [
        ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / math.hypot(bx - ax, by - ay) for (ax, ay), (bx, by) in sides
    ]
    return reduce(torch.minimum, inside)
