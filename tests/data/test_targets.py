"""Transfer sets: deterministic, disjoint between splits, and learnable by a plain classifier."""

import numpy as np
import pytest
import torch

from synpos_lib.data import targets

EVERY = pytest.mark.parametrize("name", targets.CLASSES)


@EVERY
def test_shape_type_and_classes(name):
    images, what = targets.render(700, name)
    assert images.shape == (700, 3, 32, 32) and images.dtype == torch.uint8 and what.dtype == torch.int64
    assert set(what.tolist()) == set(range(len(targets.CLASSES[name])))


@EVERY
def test_the_seed_decides_everything(name):
    first, again, other = (targets.render(40, name, seed=s) for s in (5, 5, 6))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@EVERY
def test_no_image_is_in_two_splits(name):
    seen = [{i.numpy().tobytes() for i in targets.render(300, name, split=s)[0]} for s in targets.SPLITS]
    assert all(len(s) == 300 for s in seen) and len(set.union(*seen)) == 900


def test_splits_share_no_font_and_every_font_exists():
    fonts = [set(targets.FONTS[split]) for split in targets.SPLITS]
    assert sum(map(len, fonts)) == len(set.union(*fonts))
    assert all(len(masks) == len(targets.FONTS["test"]) for masks in targets._letter_masks("test"))


def test_splits_use_all_digits_once():
    from sklearn.datasets import load_digits

    counts = [sum(map(len, targets._digit_masks(split))) for split in targets.SPLITS]
    assert sum(counts) == len(load_digits().target)
    flat = torch.cat([mask.flatten(1) for split in targets.SPLITS for mask in targets._digit_masks(split)])
    assert len(np.unique(flat.numpy(), axis=0)) == len(flat)  # no instance twice


@pytest.mark.parametrize("name", ["digits", "letters"])
def test_glyphs_of_one_class_differ_and_fit_the_frame(name):
    for split in targets.SPLITS:
        for masks in targets.glyph_masks(name, split):
            assert len(masks) >= 5 and masks.amax((1, 2)).min() > 0.9
            border = torch.cat([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1)
            assert border.max() == 0


@pytest.mark.parametrize("shape", targets.SHAPES)
def test_shapes_have_the_area_of_their_formula(shape):
    y, x = torch.meshgrid(*[torch.arange(-15.5, 16)] * 2, indexing="ij")
    area = targets.cover(targets._distance(shape, x[None], y[None])).sum().item()
    pi = torch.pi
    exact = {"disc": pi * 9.5**2, "square": 16.4**2, "ring": 2 * pi * 8 * 4.4, "cross": 19 * 6.2 * 2 - 6.2**2}
    exact |= {"triangle": 3 * 3**0.5 * 5.5**2, "pentagon": 5 * 8.3**2 * np.tan(pi / 5), "heart": 100 + 25 * pi}
    exact |= {"star": 5 * 11 * 4.8 * np.sin(pi / 5), "half-disc": pi / 2 * 10.5**2}
    far, near = (25 + 10**2 - 7.5**2) / 10, (25 + 7.5**2 - 10**2) / 10  # of the common chord from both centres
    lens = 10**2 * np.arccos(far / 10) - far * (10**2 - far**2) ** 0.5
    lens += 7.5**2 * np.arccos(near / 7.5) - near * (7.5**2 - near**2) ** 0.5
    exact |= {"crescent": pi * 10**2 - lens}
    assert area == pytest.approx(exact[shape], rel=0.06)


@pytest.mark.parametrize("name", targets.CLASSES)
def test_colour_does_not_tell_the_class_but_the_drawing_does(name):
    """A linear classifier on mean colours is near chance; one on edges in gray is far above it."""
    from sklearn.linear_model import RidgeClassifier

    (train, what), (test, truth) = (targets.render(n, name, split=s) for n, s in ((1500, "train"), (500, "test")))
    chance = 1 / len(targets.CLASSES[name])

    def accuracy(features):
        model = RidgeClassifier(alpha=1.0)
        return model.fit(features(train).numpy(), what).score(features(test).numpy(), truth)

    def edges(images):
        gray = images.float().mean(1, keepdim=True) / 255
        dx, dy = (gray[..., 1:, 1:] - gray[..., 1:, :-1]).abs(), (gray[..., 1:, 1:] - gray[..., :-1, 1:]).abs()
        cells = torch.cat([torch.nn.functional.adaptive_avg_pool2d(d, 7).flatten(1) for d in (dx, dy)], 1)
        spectrum = torch.fft.rfft2(gray[:, 0]).abs().log1p()[:, :12, :12].flatten(1)
        return torch.cat([10 * cells, spectrum], 1)

    assert accuracy(lambda i: i.float().mean((2, 3)) / 255) < 2.5 * chance
    assert accuracy(edges) > 2.5 * chance
