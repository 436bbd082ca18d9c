"""The images of a run: a drawing among all, other ones for every seed."""

import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.data.images import draw_images, row_finder


@pytest.fixture(scope="module")
def whole():
    return catalog.load("scenes", "train", n=200)


def test_a_drawing_is_a_part_of_the_whole_with_its_labels(whole):
    part = draw_images(whole, 50, seed=3)
    rows = row_finder(whole.images)(part.images)
    assert len(part) == len(rows.unique()) == 50
    assert torch.equal(part.labels, whole.labels[rows]) and torch.equal(part.where, whole.where[rows])
    assert torch.equal(rows, rows.sort().values), "their order is that of the whole"


def test_every_seed_has_a_drawing_of_its_own_and_always_the_same(whole):
    first, again, other = (draw_images(whole, 50, seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    both = set(row_finder(whole.images)(first.images).tolist()) & set(row_finder(whole.images)(other.images).tolist())
    assert len(both) < 30, "12 or 13 in common are to be expected"


def test_over_the_seeds_every_image_has_the_same_chance(whole):
    counts = sum(
        torch.bincount(row_finder(whole.images)(draw_images(whole, 20, s).images), minlength=200) for s in range(200)
    )
    assert counts.sum() == 4000 and abs(counts.double().std() - 18**0.5) < 1  # binomial: 200 times 1 in 10


def test_all_images_are_one_drawing_for_every_seed(whole):
    assert draw_images(whole, 200, 0).fingerprint == draw_images(whole, None, 1).fingerprint == whole.fingerprint


@pytest.mark.parametrize("n", [0, 201])
def test_more_than_there_are_cannot_be_drawn(whole, n):
    with pytest.raises(Problem, match=f"{n} images cannot be drawn from 200 of 'scenes': ask for 1 to 200"):
        draw_images(whole, n, 0)


def test_rows_of_images_that_are_not_there(whole):
    assert row_finder(whole.images)(whole.images[[7, 3, 7]]).tolist() == [7, 3, 7]
    with pytest.raises(Problem, match="not among the training images"):
        row_finder(whole.images[:7])(whole.images[7:8])
