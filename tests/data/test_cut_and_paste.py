"""Cut-and-paste against one image at a time: the middle of the anchor, the surroundings of another training image."""

import math

import pytest
import torch
import torch.nn.functional as F

from synpos_lib.core.errors import Problem
from synpos_lib.data.cut_and_paste import CutAndPaste, cut_and_paste, ellipse
from synpos_lib.data.images import images_fingerprint


def flat(n):
    """Images of one grey level each, so that every pixel tells which image it comes from."""
    return (torch.arange(n) * 10).to(torch.uint8)[:, None, None, None].expand(n, 3, 32, 32).contiguous()


def naive(x, y, seed):
    """One image x amid y, from the random numbers of its row: by loops over pixels, then by a grid from the formula."""
    rng = torch.Generator().manual_seed(seed)
    n = len(x)
    cx, cy, a, b = torch.rand(4, n, 1, 1, generator=rng).flatten(1)
    zoom, right, down = torch.rand(3, n, generator=rng) - 0.5
    flip = torch.rand(n, 1, 1, 1, generator=rng).flatten() < 0.5
    views = []
    for i in range(n):
        mixed = torch.empty(3, 32, 32)
        for row in range(32):
            for column in range(32):
                u, v = (column + 0.5) / 16 - 1, (row + 0.5) / 16 - 1
                left, top = u - 0.12 * (cx[i] - 0.5), v - 0.12 * (cy[i] - 0.5)
                wide, high = 0.7 + 0.2 * a[i], 0.7 + 0.2 * b[i]
                inside = 0.5 + (1 - (left / wide) ** 2 - (top / high) ** 2) * high * 8
                m = min(1.0, max(0.0, float(inside)))
                mixed[:, row, column] = m * x[i, :, row, column] + (1 - m) * y[i, :, row, column]
        mixed = mixed.flip(2) if flip[i] else mixed
        v, u = torch.meshgrid(*[(torch.arange(32) + 0.5) / 16 - 1] * 2, indexing="ij")
        scale = 1 + 0.16 * zoom[i]
        grid = torch.stack([scale * u + 0.2 * right[i], scale * v + 0.2 * down[i]], -1)
        views.append(F.grid_sample(mixed[None], grid[None], padding_mode="reflection", align_corners=False)[0])
    return torch.stack(views)


def test_the_view_is_its_formula():
    x, y = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert torch.allclose(cut_and_paste(x, y, torch.Generator().manual_seed(5)), naive(x, y, 5), atol=1e-5)


def test_the_middle_is_an_ellipse_of_its_area():
    one = torch.ones(1, 1, 1)
    area = ellipse(0 * one, 0 * one, 0.6 * one, 0.4 * one, 320, 320).mean() * 4
    assert float(area) == pytest.approx(math.pi * 0.6 * 0.4, rel=0.02)


def test_the_middle_is_the_anchors_and_the_corners_are_another_training_images():
    pool = flat(20)
    made = CutAndPaste(pool).generate(pool, 8, seed=0)
    assert made.shape == (20, 8, 3, 32, 32) and made.dtype == torch.uint8
    level = made.double() / 10
    own = torch.arange(20)[:, None, None].expand(20, 8, 3)
    assert (level[..., 16, 16] - own).abs().max() < 0.2, "truncation takes at most a grey level or two"
    corner = level[..., 0, 0].ceil()
    assert corner.min() >= 0 and corner.max() <= 19
    assert (corner != own).all(), "never the anchor itself"
    assert len(corner.unique()) == 20, "and not always the same"


def test_the_same_seed_makes_the_same_and_another_seed_does_not():
    pool = torch.randint(0, 256, (9, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    maker = CutAndPaste(pool)
    assert torch.equal(maker.generate(pool[:4], 2, 1), maker.generate(pool[:4], 2, 1))
    assert not torch.equal(maker.generate(pool[:4], 2, 1), maker.generate(pool[:4], 2, 2))
    assert maker.settings == {"generator": "cut-and-paste", "pool": images_fingerprint(pool)}


def test_surroundings_come_from_nowhere_else():
    pool = flat(5)
    with pytest.raises(Problem, match="an anchor is not among the training images"):
        CutAndPaste(pool).generate(pool[:2] + 1, 1, 0)
    with pytest.raises(Problem, match="needs surroundings from another image, and there is 1"):
        CutAndPaste(pool[:1])
