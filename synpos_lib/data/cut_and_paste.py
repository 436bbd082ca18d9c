"""Cut-and-paste: a positive made by hand, the middle of an image amid another one of the same set.

    view = m x + (1 - m) y, flipped, zoomed and moved;   m: 1 within a soft ellipse in the middle, 0 outside

No model and no label, but one assumption: things are in the middle. It is the control for whatever a diffusion model
makes: positives that teach no more than these did not need one. The size of the ellipse was chosen on validation
images, so that a judge sees most of *what* for what it sees of *where*: `tests/benchmarks/cut_and_paste.py`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.images import images_fingerprint, row_finder
from synpos_lib.data.pixels import scale, truncate

SMALLEST, LARGEST = 0.7, 0.9  # half axes of the ellipse, in halves of the image


class CutAndPaste:
    """A generator of positives: the middle of each anchor amid another training image."""

    def __init__(self, images: Tensor) -> None:  # (N, 3, H, W) uint8: the training images, the anchors among them
        if len(images) < 2:
            raise Problem(f"cut-and-paste needs surroundings from another image, and there is {len(images)}: give more")
        self.images, self.rows = images, row_finder(images)
        self.settings = {"generator": "cut-and-paste", "pool": images_fingerprint(images)}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k candidates for each anchor, each in other surroundings: uint8 (B, 3, H, W) -> (B, k, 3, H, W)."""
        rng, n = runtime.generator(seed, "cut and paste"), len(self.images)
        rows = self.rows(anchors).repeat_interleave(k)
        others = (rows + torch.randint(1, n, rows.shape, generator=rng)) % n  # never the anchor itself
        views = cut_and_paste(scale(self.images[rows]), scale(self.images[others]), rng)
        return truncate(views).unflatten(0, (-1, k))


def cut_and_paste(
    x: Tensor, surroundings: Tensor, rng: torch.Generator, axes: tuple[float, float] = (SMALLEST, LARGEST)
) -> Tensor:
    """The middle of each image x amid the other one; flipped, zoomed ± 8 %, moved ± 10 %: (n, 3, H, W) in [-1, 1]."""
    n, _, height, width = x.shape
    here: dict[str, Any] = dict(generator=rng, device=x.device)
    cx, cy, a, b = torch.rand(4, n, 1, 1, **here)
    a, b = (axes[0] + (axes[1] - axes[0]) * c for c in (a, b))
    middle = ellipse(0.12 * (cx - 0.5), 0.12 * (cy - 0.5), a, b, height, width)
    x = surroundings + middle[:, None] * (x - surroundings)
    zoom, *move = torch.rand(3, n, **here) - 0.5
    zoom, none = 1 + 0.16 * zoom, torch.zeros(n, device=x.device)
    affine = torch.stack([zoom, none, 0.2 * move[0], none, zoom, 0.2 * move[1]], 1).view(n, 2, 3)
    x = torch.where(torch.rand(n, 1, 1, 1, **here) < 0.5, x.flip(3), x)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


def ellipse(cx: Tensor, cy: Tensor, a: Tensor, b: Tensor, height: int, width: int) -> Tensor:
    """1 within ((x - cx) / a)² + ((y - cy) / b)² < 1, for x and y from -1 to 1; 0 outside; soft between. (n, H, W)"""
    y, x = ((torch.arange(k, device=cx.device) + 0.5) / k * 2 - 1 for k in (height, width))
    y, x = y[:, None], x[None]
    inside = 1 - ((x - cx) / a) ** 2 - ((y - cy) / b) ** 2
    return (0.5 + inside * b * height / 4).clamp(0, 1)
