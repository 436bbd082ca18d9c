"""The embedded images: a sea creature (*what*) in front of some scene (*where*), drawn on the fly.

    image = (1 - alpha) * scene(where) + alpha * creature(what),   alpha = soft coverage of the creature

A species is an outline with its eyes, and nothing else; a scene is a fine texture, and nothing else. Every colour, pose
and size, and the pattern on a body, are drawn independently of both. Creature and scene come from separate random
streams, so the same seed with other `where` puts the very same creature, in the same colours, in front of another
texture. All lengths are in pixels.
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.data.creatures import NEW_SPECIES, SPECIES, eyes_of, outline
from synpos_lib.data.drawing import SIZE, SPLITS, bands, by_name, cover, grid, hsv
from synpos_lib.data.pixels import quantize, unit

SCENES = ("autumn", "snowy", "sunset", "rainbow", "aurora", "mosaic", "watercolor", "ukiyo-e", "crayon sketch")
HELD_OUT_SCENES = ("china", "flower", "desert", "jungle")
N_CREATURE, N_SCENE = 14, 12  # random numbers per image: one row for its creature, one for its scene
FIELD = 6  # a scene's smooth fields start from FIELD × FIELD random numbers


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
    streams = [np.random.default_rng([seed, SPLITS.index(split), stream]) for stream in range(6)]
    what = _indices(what, n, len(species), streams[0])
    where = _indices(where, n, len(scenes), streams[1])
    shapes = [(N_CREATURE,), (N_SCENE,), (2, FIELD, FIELD), (3, FIELD, FIELD)]
    numbers = [
        torch.from_numpy(rng.random((n, *shape), dtype=np.float32))
        for rng, shape in zip(streams[2:], shapes, strict=True)
    ]
    images = torch.empty(n, 3, SIZE, SIZE, dtype=torch.uint8)
    for chunk in torch.arange(n).split(512):  # small enough to stay in the processor's cache
        creature, scene, *fields = (each[chunk] for each in numbers)
        inner, outer = (F.interpolate(field, size=SIZE, mode="bicubic", align_corners=True) for field in fields)
        background = by_name(scenes, where[chunk], partial(_draw_scene, split), scene, outer)
        images[chunk] = quantize(_draw_creature(species, what[chunk], creature, scene, inner, background, sketch))
    return LabelledImages(images, what, where)


def _indices(index: Tensor | None, n: int, count: int, rng: np.random.Generator) -> Tensor:
    if index is None:
        return torch.from_numpy(rng.integers(count, size=n))
    index = torch.as_tensor(index, dtype=torch.int64)
    if index.shape != (n,) or (n and not 0 <= int(index.min()) <= int(index.max()) < count):
        raise Problem(f"the indices must be {n} numbers from 0 to {count - 1}, and these have {tuple(index.shape)}")
    return index


def _colour(r: Tensor, hue: Tensor, by_day: tuple[Tensor, Tensor], at_night: tuple[Tensor, Tensor]) -> Tensor:
    """One colour for each image, (n, 3, 1, 1): a hue, and saturation and value by day and at night.

    r (n, N_SCENE) are the numbers of the scenes: half of them are dark, with a light creature.
    """
    s, v = (torch.where(r[:, 0] < 0.5, night, day) for day, night in zip(by_day, at_night, strict=True))
    return hsv(hue, s, v)[:, :, None, None]


# ------------------------------------------------------------------------------------------ creatures


def _draw_creature(
    species: Sequence[str], what: Tensor, r: Tensor, scene: Tensor, field: Tensor, background: Tensor, sketch: bool
) -> Tensor:
    """r (n, N_CREATURE) and field (n, 2, 32, 32): colour, pose and the pattern of the body, which tells nothing."""
    hue = scene[:, 1] + 0.25 + 0.5 * r[:, 0]  # far from the hue of the scene
    by_day, at_night = (0.75 + 0.2 * r[:, 1], 0.42 + 0.2 * r[:, 2]), (0.35 + 0.35 * r[:, 1], 0.98 - 0.06 * r[:, 2])
    body = _colour(scene, hue, by_day, at_night)
    eye = torch.where(scene[:, 0] < 0.5, 0.05, 0.98)[:, None, None, None]
    kind = (r[:, 3] * len(SCENES)).long()
    r = r[:, 4:, None, None]
    scale, angle = 1 + 0.16 * (r[:, 0] - 0.5), (r[:, 1] - 0.5) * math.radians(24)
    facing = torch.where(r[:, 2] < 0.5, -1.0, 1.0)
    x, y = grid()
    x, y = x - 5 * (r[:, 3] - 0.5), y - 5 * (r[:, 4] - 0.5)
    u = facing * (x * angle.cos() + y * angle.sin()) / scale
    v = (y * angle.cos() - x * angle.sin()) / scale
    edge, eyes = (by_name(species, what, shape, u, v)[:, None] for shape in (outline, eyes_of))
    pattern = by_name(SCENES, kind, _texture, r[:, 5:], field)[:, None]
    rim, skin, image = 0.45 * body, body * (1 - 0.35 * pattern), background
    if sketch:  # pencil on paper: outlines, the scene as faint shading
        grey = background.mean(1, keepdim=True)
        image = (0.93 + 0.35 * (grey - F.avg_pool2d(grey, 7, 1, 3, count_include_pad=False))).expand(-1, 3, -1, -1)
        rim, skin, eye = (torch.full_like(image, shade) for shade in (0.15, 0.98, 0.1))
        skin = skin - 0.12 * pattern
    for coverage, colour in [(cover(edge + 0.3), rim), (cover(edge - 0.7), skin), (cover(eyes), eye)]:
        image = image + coverage * (colour - image)
    return image


# --------------------------------------------------------------------------------------------- scenes


def _draw_scene(split: str, name: str, r: Tensor, field: Tensor) -> Tensor:
    """One scene for each row of r (n, N_SCENE) and field (n, 3, 32, 32): two shades of neighbouring hues."""
    if name in ("china", "flower"):
        return _photo_crops(name, r[:, 2:], split)
    plain = (0.18 + 0.2 * r[:, 2], 0.96 - 0.06 * r[:, 3]), (0.65 + 0.2 * r[:, 2], 0.20 + 0.06 * r[:, 3])
    marked = (0.45 + 0.2 * r[:, 4], 0.80 - 0.1 * r[:, 5]), (0.5 + 0.2 * r[:, 4], 0.42 + 0.1 * r[:, 5])
    ground, marking = _colour(r, r[:, 1], *plain), _colour(r, r[:, 1] + 0.16 * (r[:, 6] - 0.5), *marked)
    texture = _texture(name, r[:, 7:, None, None], field)[:, None]
    return (ground + texture * (marking - ground)) * (1 + 0.16 * (field[:, 2:] - 0.5))


def _texture(name: str, r: Tensor, field: Tensor) -> Tensor:
    """Where a texture is marked, 0 to 1, (n, 32, 32): r (n, 5, 1, 1) uniform, field (n, 2 or 3, 32, 32) smooth."""
    x, y = (c + (SIZE - 1) / 2 for c in grid())
    k, p, q = 2 * math.pi / 4.6, 2 * math.pi * r[:, 0], 2 * math.pi * r[:, 1]  # a band is 2.3 pixels wide
    lean, across, down = 0.1 * (r[:, 2] - 0.5), x + 4 * r[:, 0], y + 4 * r[:, 1]
    match name:
        case "autumn":  # leaves
            leaves = torch.sin(0.72 * k * x + p) * torch.sin(0.72 * k * y + q)
            return bands(1.2 * (leaves - 0.15 + 0.5 * (field[:, 0] - 0.5)))
        case "snowy":  # flakes on a lattice
            return bands(1.5 * (torch.cos(k * (0.87 * x + 0.5 * y) + p) + torch.cos(k * y + q) - 1.2))
        case "sunset":  # level bands
            return bands(0.8 * torch.sin(k * (y + lean * x) + p))
        case "rainbow":  # arcs
            radius = ((x - 16 - 100 * lean) ** 2 + (y - 38 - 4 * r[:, 3]) ** 2).sqrt()
            return bands(0.8 * torch.sin(k * radius + p))
        case "aurora":  # curtains
            return bands(0.8 * torch.sin(k * (x + 1.2 * torch.sin(0.25 * y + q)) + p))
        case "mosaic":  # tiles of 4 × 4
            tile = ((across // 4 + down // 4) % 2 == 0).float()
            grout = torch.maximum(across % 4 < 1, down % 4 < 1).float()
            return 0.25 + 0.75 * tile - 0.225 * grout * (1 + 2 * tile)
        case "watercolor":  # blots
            return (0.5 + 1.8 * (field[:, 0] - 0.5)).clamp(0, 1)
        case "ukiyo-e":  # waves, row above row
            shifted = (across + 3 * (torch.floor(down / 3) % 2)) % 6 - 3
            return bands(0.9 * torch.sin(2.1 * (shifted**2 + (down % 3 - 3.2) ** 2).sqrt() + 0.6))
        case "crayon sketch":  # hatching
            return bands(0.7 * torch.sin(0.9 * k * ((0.75 + lean) * x + 0.66 * y) + p) + 0.8 * (field[:, 1] - 0.5))
        case "desert":  # dunes
            return bands(0.5 * torch.sin(0.5 * k * (y + 2.2 * torch.sin(0.35 * x + q)) + p))
        case _:  # jungle: leaves across each other
            return bands(torch.maximum(torch.sin(k * (x + 0.5 * y) + p), torch.sin(k * (x - 0.5 * y) + q)) - 0.6)


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
