"""Fractals to blend in: iterated function systems and escape-time sets, drawn as batches from a seed.

    images = fractals.draw(1000, 32, seed=0)        # uint8 (1000, 3, 32, 32), both kinds in turn
    images = fractals.load("~/art", 32)             # or a folder of pictures of your own

DiffuseMix takes fractal art from a collection that PixMix and IPMix distribute; these stand in for it.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, printable
from synpos_lib.data import pictures

SCALE = 2  # pictures are drawn this many times larger and averaged, against jagged edges
BATCH = 64  # drawn at once, so that they stay in the processor's cache


def draw(n: int, size: int, *, seed: int = 0) -> Tensor:
    """n fractals, iterated function systems and escape-time sets in turn: uint8 (n, 3, size, size)."""
    batches = []
    for i in range(0, n, BATCH):
        rng = runtime.generator(seed, "fractals", i)
        kinds = function_systems(BATCH // 2, SCALE * size, rng), escape_times(BATCH // 2, SCALE * size, rng)
        batches.append(F.avg_pool2d(torch.stack(kinds, 1).flatten(0, 1), SCALE)[: n - i])
    return torch.cat(batches).clamp(0, 1).mul(255).round().to(torch.uint8)


def load(folder: str, size: int, *, n: int = 1000) -> Tensor:
    """Every picture below a folder, resized and cropped to its centre; n drawn ones without a folder."""
    if not folder:
        return draw(n, size)
    place = Path(folder).expanduser()
    paths = pictures.below(place) if place.is_dir() else []
    if not paths:
        raise Problem(f"no fractal pictures in {folder}: give a folder with some, or leave it empty to draw them")
    images = []
    for path in paths:
        try:
            images.append(torch.tensor(pictures.read(path, size)))
        except ValueError as error:
            name, reason = printable(str(path)), printable(str(error))
            raise Problem(f"the fractal picture {name} cannot be read ({reason}): replace or remove it") from error
    return torch.stack(images)


# ---------------------------------------------------------------------------- iterated function systems


def function_systems(n: int, size: int, rng: torch.Generator, *, maps: int = 4, steps: int = 160) -> Tensor:
    """The attractors of random contractions x -> A_k x + b_k, coloured by the maps that led there: (n, 3, size, size).

    The chaos game: `size` points per picture jump by maps taken at random; the landings in each pixel are counted.
    Each map has its own place on the palette, and a point keeps half of its colour at every jump, so that similar paths
    look alike.
    """
    matrix, offset = _contractions(n, maps, rng)
    hue = torch.rand(n, maps, generator=rng)
    x, colour = torch.zeros(n, size, 2), torch.full((n, size), 0.5)
    count, tint = torch.zeros(2, n * size * size)
    row = torch.arange(n)[:, None]
    for step in range(steps):
        k = torch.randint(maps, (n, size), generator=rng)
        x = (matrix[row, k] @ x[..., None])[..., 0] + offset[row, k]
        colour = (colour + hue[row, k]) / 2
        if step == 15:  # on the attractor by now: look at it through a window that just holds it
            low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
            middle, reach = (low + high) / 2, 0.56 * (high - low).amax(2, keepdim=True)
        if step > 15:
            place = ((x - middle) / reach * 0.5 + 0.5) * size
            inside = ((place >= 0) & (place < size)).all(2)
            column, line = place.clamp(0, size - 1).long().unbind(2)
            cell = ((row * size + line) * size + column)[inside]
            count.index_add_(0, cell, torch.ones(len(cell)))
            tint.index_add_(0, cell, colour[inside])
    count, tint = (part.view(n, 1, size, size) for part in (count, tint / count.clamp_min(1)))
    light = (1 + count).log() / (1 + count.amax((2, 3), keepdim=True)).log()
    background = 0.45 * _palette(_waves(n, size, rng), rng)
    return torch.lerp(background, _palette(tint, rng), light.sqrt())


def _contractions(n: int, maps: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random maps, each a turn, two shrinkings and a second turn: (n, maps, 2, 2) and (n, maps, 2)."""
    turn = 2 * math.pi * torch.rand(2, n, maps, generator=rng)
    shrink = 0.35 + 0.45 * torch.rand(n, maps, 2, generator=rng)
    left, right = (torch.stack([t.cos(), -t.sin(), t.sin(), t.cos()], -1).unflatten(-1, (2, 2)) for t in turn)
    return left @ (shrink[..., None] * right), 2 * torch.rand(n, maps, 2, generator=rng) - 1


# ------------------------------------------------------------------------------------------ escape time


def escape_times(n: int, size: int, rng: torch.Generator, *, steps: int = 48) -> Tensor:
    """Julia sets of z -> z² + c, coloured by how soon a point escapes, as a smooth number: (n, 3, size, size).

    c lies just outside the main cardioid, c = u/2 - u²/4 with |u| slightly above 1: there the sets are richest.
    """
    angle, zoom = 2 * math.pi * torch.rand(n, generator=rng), 0.6 + 0.7 * torch.rand(n, generator=rng)
    u = torch.polar(1.0 + 0.05 * torch.rand(n, generator=rng), angle)
    turned = torch.polar(zoom, 2 * math.pi * torch.rand(n, generator=rng))
    line = torch.linspace(-1.3, 1.3, size)
    z = torch.complex(line[None, :], line[:, None]) * turned[:, None, None]
    c = (u / 2 - u**2 / 4)[:, None, None]
    time = torch.full(z.shape, float(steps))
    for step in range(steps):
        z = z * z + c
        far = z.abs()
        out = (far > 16) & (time == steps)
        time[out] = step + 1 - torch.log2(far[out].log() / math.log(16.0)).clamp(0, 1)
        z = torch.where(far > 16, 0, z)  # it has escaped: keep the numbers small
    value = (time / steps)[:, None].clamp(0, 1) ** 0.4
    inside = (time == steps)[:, None]
    return torch.where(inside, 0.3, 1.0) * _palette(1.7 * value, rng)


# ---------------------------------------------------------------------------------------------- colours


def _palette(value: Tensor, rng: torch.Generator) -> Tensor:
    """Colours of values (n, 1, H, W): 0.5 + 0.5 cos(2 pi (f value + p)), with f and p of each picture and channel."""
    n = len(value)
    frequency = 0.6 + 0.8 * torch.rand(n, 3, 1, 1, generator=rng)
    phase = torch.rand(n, 1, 1, 1, generator=rng) + 0.45 * torch.rand(n, 3, 1, 1, generator=rng)
    return 0.5 + 0.5 * torch.cos(2 * math.pi * (frequency * value + phase))


def _waves(n: int, size: int, rng: torch.Generator) -> Tensor:
    """A smooth random field for the background: (n, 1, size, size)."""
    return F.interpolate(torch.rand(n, 1, 3, 3, generator=rng), size, mode="bicubic", align_corners=True)
