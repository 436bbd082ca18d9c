"""The embedded images: a fish of some species (*what*) in front of some scene (*where*), drawn on the fly.

    image = (1 - alpha) * scene(where) + alpha * fish(what),   alpha = soft coverage of the fish

Species is the pattern on the body, and nothing else: palette, pose, size and scene are drawn
independently of it. Fish and scene come from separate random streams, so the same seed with other
`where` puts the very same fish in front of another scene. All lengths are in pixels.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.data.pixels import quantize, unit

SIZE = 32
SPECIES = ("plain", "bars", "stripes", "diagonals", "spots", "checks", "rings", "chevrons", "eye-spot", "two-tone")
NEW_SPECIES = ("saddle", "net", "waves", "mask", "diamonds", "speckles", "cross")
SCENES = ("autumn", "snowy", "sunset", "rainbow", "aurora", "mosaic", "watercolor", "ukiyo-e", "crayon sketch")
HELD_OUT_SCENES = ("china", "flower", "desert", "jungle")
SPLITS = ("train", "val", "test")

PALETTES = torch.tensor(  # (palette, body or marking, RGB); a dark marking on a light body, so that every pattern reads
    [
        [[1.00, 0.84, 0.18], [0.10, 0.12, 0.34]],  # yellow, navy
        [[1.00, 0.60, 0.16], [0.30, 0.08, 0.02]],  # orange, brown
        [[1.00, 0.46, 0.42], [0.30, 0.02, 0.08]],  # coral, maroon
        [[0.24, 0.86, 0.82], [0.05, 0.14, 0.30]],  # turquoise, midnight
        [[0.98, 0.97, 0.94], [0.10, 0.10, 0.12]],  # white, black
        [[1.00, 0.66, 0.84], [0.38, 0.04, 0.30]],  # pink, plum
        [[0.68, 0.92, 0.28], [0.06, 0.24, 0.14]],  # lime, forest
        [[0.56, 0.78, 1.00], [0.08, 0.12, 0.46]],  # sky, blue
    ]
)
N_FISH, N_SCENE = 12, 16  # random numbers per image: one row for its fish, one for its scene
FIELD = 6  # a scene's smooth colour fields start from FIELD × FIELD random numbers


class LabelledImages(NamedTuple):
    images: Tensor  # (N, 3, 32, 32) uint8
    what: Tensor  # (N,) int64, index into `species`
    where: Tensor  # (N,) int64, index into `scenes`


def render(
    n: int,
    split: str = "train",
    seed: int = 0,
    species: Sequence[str] = SPECIES,
    scenes: Sequence[str] = SCENES,
    sketch: bool = False,
    what: Tensor | None = None,  # (n,) index into `species`; None, here and below: drawn uniformly
    where: Tensor | None = None,  # (n,) index into `scenes`
) -> LabelledImages:
    """Draw n images."""
    if split not in SPLITS:
        raise Problem(f"unknown split '{split}': {suggest(split, SPLITS)}")
    for names, known in [(species, (*SPECIES, *NEW_SPECIES)), (scenes, (*SCENES, *HELD_OUT_SCENES))]:
        for name in set(names).difference(known):
            raise Problem(f"unknown species or scene '{name}': {suggest(name, known)}")
    streams = [np.random.default_rng([seed, SPLITS.index(split), stream]) for stream in range(5)]
    what = _indices(what, n, len(species), streams[0])
    where = _indices(where, n, len(scenes), streams[1])
    fish, scene, field = (
        torch.from_numpy(rng.random((n, *shape), dtype=np.float32))
        for rng, shape in zip(streams[2:], [(N_FISH,), (N_SCENE,), (4, FIELD, FIELD)], strict=True)
    )
    images = torch.empty(n, 3, SIZE, SIZE, dtype=torch.uint8)
    for chunk in torch.arange(n).split(512):  # small enough to stay in the processor's cache
        background = by_name(scenes, where[chunk], partial(_draw_scene, split), scene[chunk], field[chunk])
        drawn = _draw_fish(species, what[chunk], fish[chunk], background, sketch)
        images[chunk] = quantize(drawn)
    return LabelledImages(images, what, where)


def _indices(index: Tensor | None, n: int, count: int, rng: np.random.Generator) -> Tensor:
    if index is None:
        return torch.from_numpy(rng.integers(count, size=n))
    index = torch.as_tensor(index, dtype=torch.int64)
    if index.shape != (n,) or (n and not 0 <= int(index.min()) <= int(index.max()) < count):
        raise Problem(f"the indices must be {n} numbers from 0 to {count - 1}, and these have {tuple(index.shape)}")
    return index


def by_name(names: Sequence[str], index: Tensor, draw: Callable[..., Tensor], *rows: Tensor) -> Tensor:
    """Call draw(name, its rows) once per name that occurs, and put the results back in order."""
    groups = [(index == i).nonzero().squeeze(1) for i in index.unique()]
    drawn = [draw(names[int(index[group[0]])], *(row[group] for row in rows)) for group in groups]
    return torch.cat(drawn)[torch.cat(groups).argsort()]


# ---------------------------------------------------------------------------------------------- fish


def _draw_fish(species: Sequence[str], what: Tensor, r: Tensor, background: Tensor, sketch: bool) -> Tensor:
    """r (n, N_FISH) uniform numbers: pose and colours, in the order in which they are used here."""
    r = r[:, :, None, None]
    scale = 1.22 + 0.16 * (r[:, 0] - 0.5)
    angle = (r[:, 1] - 0.5) * np.deg2rad(24)
    facing = torch.where(r[:, 2] < 0.5, -1.0, 1.0)
    y, x = torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2.0] * 2, indexing="ij")
    x, y = x - 3 * (r[:, 3] - 0.5), y - 5 * (r[:, 4] - 0.5)
    u = facing * (x * angle.cos() + y * angle.sin()) / scale - 1.8  # towards the head
    v = (y * angle.cos() - x * angle.sin()) / scale  # towards the belly
    a, b = 10.0, 6.6 + 1.4 * (r[:, 5] - 0.5)

    body = _ellipse(u / a, v / b, a, b)
    fin = _ellipse((u + 1) / 5.5, (v + b - 1.0) / 3.2, 5.5, 3.2)
    tail = torch.minimum(4.2 - 0.75 * (u + a) - v.abs(), u + a + 4.5 - 0.35 * v.abs()).minimum(-u - 6)
    eye, pupil = (cover(radius - ((u - 6.4) ** 2 + (v + 1.6) ** 2).sqrt()) for radius in (1.75, 0.95))
    phase = 0.8 * (r[:, 6:8] - 0.5)  # each species has its pattern in one place, up to a small shift
    marking = by_name(species, what, lambda name, *place: MARKINGS[name](*place), u, v, *phase.unbind(1))

    if sketch:  # pencil on paper: outlines, hatched markings, the scene as faint shading
        ink = 0.15 * torch.ones_like(u)[:, None]
        light = torch.full_like(ink, 0.97)
        hatch = 0.55 + 0.35 * torch.sin(2.2 * (x + y))
        dark = (light * hatch[:, None]).expand_as(light)
        grey = background.mean(1, keepdim=True)
        image = (0.93 + 0.35 * (grey - F.avg_pool2d(grey, 7, 1, 3, count_include_pad=False))).expand(-1, 3, -1, -1)
        light, dark, rim = light.expand_as(image), dark.expand_as(image), ink.expand_as(image)
    else:
        light, dark = PALETTES[(r[:, 8, 0, 0] * len(PALETTES)).long()].unbind(1)
        light, dark = (c[:, :, None, None] + 0.12 * (r[:, 9:12] - 0.5) for c in (light, dark))
        rim, image = 0.35 * torch.minimum(light, dark) + 0.02, background
    marking = marking[:, None]
    skin = light + marking * (dark - light)
    fins = light if sketch else 0.55 * light + 0.45 * dark
    for shape, colour in [(tail, fins), (fin, fins), (body, skin)]:
        image = image + cover(shape)[:, None] * (rim - image)
        image = image + cover(shape - 0.9)[:, None] * (colour - image)
    image = image + eye[:, None] * (0.98 - image)
    return image + pupil[:, None] * (0.03 - image)


def _ellipse(x: Tensor, y: Tensor, a: float, b: Tensor | float) -> Tensor:
    """Signed distance in pixels to the ellipse x² + y² = 1 (to first order), positive inside."""
    return (1 - x**2 - y**2) / (2 * ((x / a) ** 2 + (y / b) ** 2).sqrt() + 1e-3)


def cover(distance: Tensor) -> Tensor:
    """Soft coverage of a shape, from the signed distance in pixels to its edge (positive inside)."""
    return (distance + 0.5).clamp(0, 1)


def bands(wave: Tensor) -> Tensor:
    """A wave turned into bands with soft edges."""
    return (0.5 + 1.6 * wave).clamp(0, 1)


def _dotted(first: Tensor, second: Tensor) -> Tensor:
    return bands(0.7 * (first.cos() + second.cos() + (first - second).cos() - 0.4))


K = 2 * np.pi / 5.4  # bands 2.7 pixels wide
# where the body has the marking colour, 0 to 1, by its two axes and two phases
MARKINGS: dict[str, Callable[..., Tensor]] = {
    "plain": lambda u, v, p, q: torch.zeros_like(u),
    "bars": lambda u, v, p, q: bands(torch.sin(K * u + p)),
    "stripes": lambda u, v, p, q: bands(torch.sin(K * v + p)),
    "diagonals": lambda u, v, p, q: bands(torch.sin(K * (u + v) * 0.7071 + p)),
    "spots": lambda u, v, p, q: _dotted(K * u + p, K * (0.5 * u + 0.866 * v) + q),  # on a hexagonal lattice
    "checks": lambda u, v, p, q: bands(1.4 * torch.sin(0.55 * K * u + p) * torch.sin(0.55 * K * v + q)),
    "rings": lambda u, v, p, q: bands(torch.cos(K * (u**2 + v**2).sqrt() + 0.25 * (p - np.pi))),
    "chevrons": lambda u, v, p, q: bands(torch.sin(K * (0.8 * u + v.abs()) + p)),
    "eye-spot": lambda u, v, p, q: cover(2.7 - ((u + 4.4) ** 2 + v**2).sqrt()),
    "two-tone": lambda u, v, p, q: cover(-v + 0.5 * torch.sin(0.5 * u + p)),
    "saddle": lambda u, v, p, q: cover(3.4 - (u + 1).abs()),
    "net": lambda u, v, p, q: bands(
        torch.maximum(torch.cos(0.62 * K * (u + v) + p), torch.cos(0.62 * K * (u - v) + q)) - 0.55
    ),
    "waves": lambda u, v, p, q: bands(torch.sin(K * v + p + 1.6 * torch.sin(0.75 * u + q))),
    "mask": lambda u, v, p, q: cover(u - 2.6),
    "diamonds": lambda u, v, p, q: cover(2.9 - ((u + 1.5 - 7.4 * torch.round((u + 1.5) / 7.4)).abs() + 0.8 * v.abs())),
    "speckles": lambda u, v, p, q: bands(torch.sin(1.4 * u + p) * torch.sin(1.5 * v + q) * 1.6 - 0.4),
    "cross": lambda u, v, p, q: torch.maximum(cover(1.5 - (u + 1).abs()), cover(1.5 - v.abs())),
}


# -------------------------------------------------------------------------------------------- scenes


def _rgb(*hexes: str) -> Tensor:
    return torch.tensor([[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in hexes])


def _ramp(value: Tensor, *hexes: str) -> Tensor:
    """Colours along a ramp: value (n, 32, 32) in [0, 1] -> (n, 3, 32, 32)."""
    stops = _rgb(*hexes)
    place = value.clamp(0, 1) * (len(stops) - 1)
    colours = ((1 - (place - i).abs()).clamp(0, 1)[:, None] * c[:, None, None] for i, c in enumerate(stops))
    return sum(colours, torch.zeros(()))


def _dots(r: Tensor, radius: float, count: int) -> Tensor:
    """Coverage of `count` round dots whose centres are r (n, >= 2 * count)."""
    y, x = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float32)] * 2, indexing="ij")
    dots = torch.zeros(len(r), SIZE, SIZE)
    for i in range(count):
        cx, cy = (SIZE * r[:, 2 * i + j, None, None] for j in (0, 1))
        dots = torch.maximum(dots, cover(radius - ((x - cx) ** 2 + (y - cy) ** 2).sqrt()))
    return dots[:, None]


def _draw_scene(split: str, name: str, r: Tensor, field: Tensor) -> Tensor:
    """One scene for each row of r (n, N_SCENE) and field (n, 4, FIELD, FIELD) -> (n, 3, 32, 32)."""
    if name in ("china", "flower"):
        return _photo_crops(name, r, split)
    smooth = F.interpolate(field, size=SIZE, mode="bicubic", align_corners=True)  # (n, 4, 32, 32)
    f, g, h, e = smooth.unbind(1)
    y, x = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float32)] * 2, indexing="ij")
    s, c = y / (SIZE - 1), x / (SIZE - 1)
    p, q = r[:, 0, None, None], r[:, 1, None, None]
    match name:
        case "autumn":
            image = _ramp(0.15 + 0.7 * f, "7a2e0b", "c2560f", "e98a1c", "f6b93b")
            leaves = _dots(r[:, 2:], 1.7, 6)
            return image + leaves * (_ramp(g, "9b1b0c", "d9381e") - image)
        case "snowy":
            image = _ramp(s + 0.5 * (f - 0.5), "8fb4d9", "c4dbf0", "f4f8fc", "ffffff")
            return image + 0.9 * _dots(r[:, 2:], 1.0, 7) * (1 - image)
        case "sunset":
            image = _ramp(s + 0.25 * (f - 0.5), "3b1c5a", "a12a6b", "f0643c", "fdb94a")
            sun = cover(4.2 - ((x - 4 - 24 * p) ** 2 + (y - 21 - 6 * q) ** 2).sqrt())[:, None]
            return image + sun * (_rgb("fff2b0")[0, :, None, None] - image)
        case "rainbow":
            radius = ((x - 16 - 16 * (p - 0.5)) ** 2 + (y - 36 - 6 * q) ** 2).sqrt()
            hues = ("8a4fd8", "3f7be8", "35b85a", "f7e13c", "f79a2c", "e8362e")
            bow = _ramp((radius - 13) / 20 + 0.06 * (f - 0.5), *hues)
            sky = _ramp(0.6 * s + 0.4 * f, "7cc3f5", "d8f0ff")
            return sky + (cover(radius - 12) * cover(34 - radius))[:, None] * (bow - sky)
        case "aurora":
            curtain = torch.sin(2 * np.pi * (1.3 * c + 0.9 * (f - 0.5) + p)) * 0.5 + 0.5
            image = _ramp((0.15 + 0.3 * s).expand_as(f), "050b26", "0d1b45")
            glow = curtain**2 * (1.1 - s) * (0.5 + h)
            return image + glow.clamp(0, 1)[:, None] * (_ramp(g, "1fe39a", "4bd0c8", "8b5cf0") - image)
        case "mosaic":
            tile = F.interpolate(F.interpolate(smooth[:, :2], size=8, mode="nearest"), size=SIZE, mode="nearest")
            image = _ramp(0.5 + 1.6 * (tile[:, 0] - 0.5), "14505c", "2a9d8f", "e9c46a", "e76f51", "f4f1de")
            grout = ((x % 4 == 3) | (y % 4 == 3)).float()
            return image + 0.55 * grout * (0.25 - image)
        case "watercolor":
            image = _ramp(0.5 + 1.5 * (f - 0.5), "f7c6d9", "fdf6ec", "c9b6ea")
            return image + (1.3 * (g - 0.45)).clamp(0, 0.7)[:, None] * (_rgb("a8e6cf")[0, :, None, None] - image)
        case "ukiyo-e":
            wave = y + 2.5 * torch.sin(2 * np.pi * (c * 1.5 + p)) + 3 * (f - 0.5)
            band = (0.5 + 1.5 * torch.sin(2 * np.pi * wave / 8 + 6 * q)).clamp(0, 1)
            sea = _ramp(band, "1f3f77", "5d86b5")
            sky = _rgb("efe0bd")[0, :, None, None]
            image = sea + cover(11 - wave)[:, None] * (sky - sea)
            sun = (cover(3.6 - ((x - 5 - 22 * q) ** 2 + (y - 5) ** 2).sqrt()) * cover(11 - wave))[:, None]
            return image + sun * (_rgb("c8321f")[0, :, None, None] - image)
        case "crayon sketch":
            hatch = (0.5 + 0.9 * torch.sin(1.5 * (x * (0.5 + p) + y) + 8 * f)).clamp(0, 1) * (0.35 + 0.65 * g)
            colour = _ramp((h > 0.5).float() * 0.5 + 0.5 * e, "2f6fd0", "3fae49", "3fae49", "e2557a")
            return 0.98 - 0.75 * hatch[:, None] * (0.98 - colour)
        case "desert":
            dune = s + 0.12 * torch.sin(2 * np.pi * (c + p)) + 0.2 * (f - 0.5)
            return _ramp(dune, "8fd3e8", "d9eef0", "efc98a", "d99a4e", "b5722f")
        case _:  # jungle
            image = _ramp(0.1 + 0.8 * f, "06240f", "0f5a26", "3d9a35", "a6d44a")
            return image * (0.8 + 0.3 * torch.sin(2.1 * x * (p - 0.5) * 2 + 1.7 * y + 6 * g)[:, None])


@cache
def _photo(name: str) -> Tensor:
    """One of scikit-learn's two photographs (427 × 640), a third of its size: (3, 142, 213)."""
    from sklearn.datasets import load_sample_image

    pixels = unit(torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1))
    return F.interpolate(pixels[None], size=(142, 213), mode="area")[0]


def _photo_crops(name: str, r: Tensor, split: str) -> Tensor:
    """Random square crops; every split has its own third of the photograph."""
    photo = _photo(name)
    third = photo.shape[2] // len(SPLITS)
    photo = photo[:, :, third * SPLITS.index(split) :][:, :, :third]
    height, width = photo.shape[1:]
    side = 36 + (min(height, width) - 36) * r[:, 0]
    left, top = (width - side) * r[:, 1], (height - side) * r[:, 2]
    step = (torch.arange(SIZE) + 0.5) / SIZE
    gx = (left[:, None] + side[:, None] * step) / width * 2 - 1
    gy = (top[:, None] + side[:, None] * step) / height * 2 - 1
    grid = torch.stack([gx[:, None, :].expand(-1, SIZE, -1), gy[:, :, None].expand(-1, -1, SIZE)], -1)
    return F.grid_sample(
        photo.expand(len(r), -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
