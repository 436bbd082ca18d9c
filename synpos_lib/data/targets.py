"""Embedded transfer sets: digits, letters, shapes and textures, 32×32 RGB, drawn on the fly.

    image = (1 - alpha) * background + alpha * colour,   alpha = soft coverage of the glyph or shape

Digits are scikit-learn's handwritten ones, letters come from matplotlib's fonts; every split has its own
instances (digits of other writers, other fonts) and its own drawing seeds. Lengths are in pixels.
"""

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.data.drawing import SIZE, SPLITS, bands, by_name, cover, grid, hsv
from synpos_lib.data.pixels import quantize, unit

GLYPH = 40  # pixels of the masks that glyphs are stored as
SHAPES = ("disc", "ring", "square", "triangle", "pentagon", "star", "cross", "crescent", "heart", "half-disc")
TEXTURES = ("stripes", "dots", "bricks", "checks", "waves", "scales", "cells", "marble", "weave", "grain")
CLASSES = {
    "digits": tuple("0123456789"),
    "letters": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "shapes": SHAPES,
    "textures": TEXTURES,
}
FONTS = {  # families mix in every split, no font is in two
    "train": (
        *("DejaVuSans", "DejaVuSans-BoldOblique", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique"),
        *("DejaVuSerif", "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBolIta", "cmr10", "cmss10"),
    ),
    "val": ("DejaVuSans-Oblique", "DejaVuSansMono-BoldOblique", "DejaVuSerif-Bold", "STIXGeneralItalic", "cmtt10"),
    "test": ("DejaVuSans-Bold", "DejaVuSansMono", "DejaVuSerif-Italic", "STIXGeneralBol", "cmb10", "cmti10"),
}


def render(n: int, name: str, *, split: str = "train", seed: int = 0) -> tuple[Tensor, Tensor]:
    """n images of a set, (n, 3, 32, 32) uint8, and their classes, (n,), drawn uniformly: indices into CLASSES[name]."""
    rng = np.random.default_rng([seed, SPLITS.index(split), list(CLASSES).index(name)])
    what = torch.from_numpy(rng.integers(len(CLASSES[name]), size=n))
    images = torch.empty(n, 3, SIZE, SIZE, dtype=torch.uint8)
    for chunk in torch.arange(n).split(512):
        r = torch.from_numpy(rng.random((len(chunk), 64), dtype=np.float32))
        if name == "textures":
            drawn = _textures(what[chunk], r)
        else:
            covered = _shapes(what[chunk], r) if name == "shapes" else _glyphs(what[chunk], r, glyph_masks(name, split))
            drawn = _paint(covered, r[:, 16:])
        images[chunk] = quantize(drawn)
    return images, what


# ------------------------------------------------------------------------------------------- colour


def _two_colours(r: Tensor) -> tuple[Tensor, Tensor]:
    """A deep and a light colour (n, 3), of different hues."""
    deep = hsv(r[:, 0], 0.55 + 0.4 * r[:, 1], 0.18 + 0.32 * r[:, 2])
    light = hsv((r[:, 0] + 0.2 + 0.6 * r[:, 3]) % 1, 0.15 + 0.5 * r[:, 4], 0.85 + 0.15 * r[:, 5])
    return deep, light


def _paint(covered: Tensor, r: Tensor) -> Tensor:
    """Colour where `covered` (n, 32, 32) is 1, a soft two-tone background where it is 0."""
    deep, light = _two_colours(r)
    swap = (r[:, 6] < 0.5)[:, None]
    front, back = (c[:, :, None, None] for c in (torch.where(swap, deep, light), torch.where(swap, light, deep)))
    field = F.interpolate(r[:, 8:24].reshape(-1, 1, 4, 4), SIZE, mode="bicubic", align_corners=True)
    shade = torch.where(swap, -0.25, 0.25)[:, :, None, None] * hsv(r[:, 7], 0.6, 1.0)[:, :, None, None]
    background = back + shade * field
    return background + covered[:, None] * (front - background)


def _frame(r: Tensor, turn: float, shift: float, zoom: float) -> tuple[Tensor, Tensor]:
    """Coordinates (n, 32, 32) of every pixel in the object's own frame: turned, shifted, zoomed per image."""
    angle = (r[:, 0] - 0.5)[:, None, None] * 2 * turn
    scale = 1 + zoom * (2 * r[:, 1] - 1)[:, None, None]
    x, y = grid()
    x, y = (c - shift * (2 * r[:, i] - 1)[:, None, None] for c, i in ((x, 2), (y, 3)))
    return (x * angle.cos() + y * angle.sin()) / scale, (y * angle.cos() - x * angle.sin()) / scale


# ------------------------------------------------------------------------------- digits and letters


def _glyphs(what: Tensor, r: Tensor, masks: tuple[Tensor, ...]) -> Tensor:
    """An instance of each class, picked and posed at random: coverage (n, 32, 32)."""
    x, y = _frame(r, turn=math.radians(14), shift=3.0, zoom=0.15)
    x = x + 0.2 * (2 * r[:, 4, None, None] - 1) * y  # slant
    counts = torch.tensor([len(m) for m in masks])
    first = counts.cumsum(0) - counts
    index = first[what] + (r[:, 5] * counts[what]).long()
    grid = torch.stack([x, y], -1) * (2 / GLYPH)
    return F.grid_sample(torch.cat(masks)[index][:, None], grid, align_corners=False)[:, 0]


def glyph_masks(name: str, split: str) -> tuple[Tensor, ...]:
    """The split's instances of every digit or letter, (m, 40, 40) each."""
    return _digit_masks(split) if name == "digits" else _letter_masks(split)


@cache
def _digit_masks(split: str) -> tuple[Tensor, ...]:
    """The split's handwritten instances of each digit, (m, 40, 40); blocks, as they are ordered by writer."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    start, stop = {"train": (0.0, 0.6), "val": (0.6, 0.8), "test": (0.8, 1.0)}[split]
    block = slice(round(start * len(digits.target)), round(stop * len(digits.target)))
    strokes = torch.from_numpy(digits.images[block]).float()[:, None] / 16
    smooth = F.interpolate(strokes, size=26, mode="bicubic")
    masks = F.pad((1.8 * (smooth - 0.22)).clamp(0, 1), [(GLYPH - 26) // 2] * 4)[:, 0]
    label = torch.from_numpy(digits.target[block])
    return tuple(masks[label == digit] for digit in range(10))


@cache
def _letter_masks(split: str) -> tuple[Tensor, ...]:
    """Each capital letter in the split's fonts, centred, (fonts, 40, 40)."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"

    def mask(letter: str, font: ImageFont.FreeTypeFont) -> Tensor:
        canvas = Image.new("L", (GLYPH, GLYPH))
        left, top, right, bottom = font.getbbox(letter)
        corner = ((GLYPH - left - right) / 2, (GLYPH - top - bottom) / 2)
        ImageDraw.Draw(canvas).text(corner, letter, fill=255, font=font)
        return unit(torch.from_numpy(np.array(canvas)))

    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 29) for name in FONTS[split]]
    return tuple(torch.stack([mask(letter, font) for font in fonts]) for letter in CLASSES["letters"])


# ------------------------------------------------------------------------------------------- shapes


def _shapes(what: Tensor, r: Tensor) -> Tensor:
    """One shape for each row of r: coverage (n, 32, 32)."""
    x, y = _frame(r, turn=math.pi, shift=4.0, zoom=0.25)
    return cover(by_name(SHAPES, what, _distance, x, y))


def _distance(name: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (to first order, positive inside) to a shape of about 10 pixels radius."""
    rho = (x**2 + y**2).sqrt()
    match name:
        case "disc":
            return 9.5 - rho
        case "ring":
            return 2.2 - (rho - 8).abs()
        case "square":
            return 8.2 - torch.maximum(x.abs(), y.abs())
        case "triangle":
            return 5.5 - _farthest_side(x, y, 3)
        case "pentagon":
            return 8.3 - _farthest_side(x, y, 5)
        case "star":
            sector = math.pi / 5
            fold = ((torch.atan2(y, x) % (2 * sector)) - sector).abs()  # 0 at a tip, π/5 in a notch
            return 0.368 * (11 - rho * fold.cos()) - 0.93 * rho * fold.sin()
        case "cross":
            a, b = x.abs(), y.abs()
            return torch.maximum(torch.minimum(9.5 - a, 3.1 - b), torch.minimum(3.1 - a, 9.5 - b))
        case "crescent":
            return torch.minimum(10 - rho, ((x - 5) ** 2 + y**2).sqrt() - 7.5)
        case "heart":
            p, q = (x - y - 2) * 0.7071, (x + y + 2) * 0.7071
            lobes = 5 - torch.minimum((p**2 + (q + 5) ** 2).sqrt(), ((p - 5) ** 2 + q**2).sqrt())
            return torch.maximum(5 - torch.maximum(p.abs(), q.abs()), lobes)
        case _:  # half-disc
            return torch.minimum(10.5 - (x**2 + (y - 4) ** 2).sqrt(), 4 - y)


def _farthest_side(x: Tensor, y: Tensor, sides: int) -> Tensor:
    angles = [2 * math.pi * k / sides for k in range(sides)]
    return torch.stack([x * math.sin(a) + y * math.cos(a) for a in angles]).amax(0)


# ----------------------------------------------------------------------------------------- textures


def _textures(what: Tensor, r: Tensor) -> Tensor:
    """One texture for each row of r (n, 64), turned, zoomed and coloured at random."""
    x, y = _frame(r, turn=math.pi, shift=8.0, zoom=0.25)
    noise = F.interpolate(r[:, 28:].reshape(-1, 1, 6, 6), SIZE, mode="bicubic", align_corners=True)[:, 0] - 0.5
    value = by_name(TEXTURES, what, _texture, x, y, noise, r[:, 28:])
    deep, light = (c[:, :, None, None] for c in _two_colours(r[:, 16:]))
    tint = hsv(r[:, 22], 0.7, 0.25)[:, :, None, None] * noise[:, None]
    return deep + value[:, None] * (light - deep) + tint


def _texture(name: str, x: Tensor, y: Tensor, noise: Tensor, r: Tensor) -> Tensor:
    """How light each pixel is: 0 to 1, (n, 32, 32)."""
    k = 2 * math.pi / 7

    def to_middle(u: Tensor, period: float) -> Tensor:  # signed distance to the middle of its cell
        return (u % period) - period / 2

    match name:
        case "stripes":
            return bands(torch.sin(k * x))
        case "dots":
            return cover(2.4 - (to_middle(x, 7) ** 2 + to_middle(y, 7) ** 2).sqrt())
        case "bricks":
            row = torch.floor(y / 6)
            return cover(torch.minimum(2.3 - to_middle(y, 6).abs(), 4.8 - to_middle(x + 5.5 * (row % 2), 11).abs()))
        case "checks":
            return bands(1.5 * torch.sin(k * x / 1.4) * torch.sin(k * y / 1.4))
        case "waves":
            return bands(torch.sin(k * (y + 2.2 * torch.sin(k * x / 1.6))))
        case "scales":
            row = torch.floor(y / 4)
            distance = [
                (to_middle(x + 4 * ((row + j) % 2), 8) ** 2 + (y - 4 * (row + j) - 4) ** 2).sqrt() for j in (0, -1)
            ]
            inside = torch.where(distance[0] < 4.6, distance[0], distance[1])
            return ((inside - 0.5) / 4.5).clamp(0, 1) ** 2
        case "cells":
            spread = 40 * (r.reshape(len(r), 18, 2) - 0.5)
            far = ((x[:, None] - spread[:, :, :1, None]) ** 2 + (y[:, None] - spread[:, :, 1:, None]) ** 2).sqrt()
            near, second = far.topk(2, dim=1, largest=False).values.unbind(1)
            return cover(0.5 * (second - near) - 0.9)
        case "marble":
            return 0.5 + 0.5 * torch.sin(0.6 * k * x + 11 * noise)
        case "weave":
            across = (torch.floor(x / 5) + torch.floor(y / 5)) % 2
            thread = torch.where(across == 0, to_middle(x, 5), to_middle(y, 5)).abs()
            return (1.15 - 0.42 * thread) * (0.8 + 0.2 * across)
        case _:  # grain
            lattice = torch.sin(1.9 * x + 8 * noise) * torch.sin(1.7 * y - 7 * noise + 8 * r[:, :1, None])
            return (0.5 + 0.55 * lattice).clamp(0, 1)
