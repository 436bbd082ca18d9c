"""Neighbours against the obvious loop; partners that are what they are called."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.evaluate.neighbours import candidates, compare, nearest


def test_nearest_is_the_most_similar_other():
    z = torch.randn(1500, 8, generator=torch.Generator().manual_seed(0))  # more than one chunk
    neighbours = nearest(3 * z, 2)
    for i in (0, 999, 1000, 1499):
        cosines = torch.tensor([torch.dot(z[i], y) / z[i].norm() / y.norm() for y in z])
        cosines[i] = -2
        assert neighbours[i].tolist() == cosines.argsort(descending=True)[:2].tolist()


def test_twins_find_each_other_and_not_themselves():
    z = torch.eye(3).repeat_interleave(2, dim=0)
    assert nearest(z)[:, 0].tolist() == [1, 0, 3, 2, 5, 4]


def test_partners_are_what_they_are_called():
    train = catalog.load("scenes", "train", n=300)
    judge = SimpleNamespace(labels=lambda images: {"what": train.labels[:100], "where": (train.where[:100] + 1) % 9})
    partners = candidates(train, train.images[:100], judge)
    assert list(partners) == ["another view", "synthetic", "oracle", "stranger"]
    assert not (partners["stranger"].images == train.images[:100]).flatten(1).all(1).any()

    def encode(images):  # the mean colour, then pixels
        return torch.cat([images.float().mean((2, 3)), images.float().flatten(1)[:, ::50]], 1)

    rows = {row["partner"]: row for row in compare(encode, train, partners)}
    assert rows["another view"]["false"] == rows["oracle"]["false"] == rows["synthetic"]["false"] == 0
    assert rows["another view"]["same place"] == 1 and rows["synthetic"]["same place"] == 0
    assert rows["synthetic"]["cosine"] == pytest.approx(1, abs=1e-5), "these synthetic images are the anchors"
    assert rows["stranger"]["false"] > 0.7
    assert rows["nearest neighbour"]["cosine"] > rows["stranger"]["cosine"]


def test_images_without_places_have_no_oracle():
    train = catalog.load("shapes", "train", n=60)
    judge = SimpleNamespace(labels=lambda images: {"what": train.labels[:20]})
    partners = candidates(train, train.images[:20], judge)
    assert "oracle" not in partners
    assert all("same place" not in row for row in compare(lambda x: x.float().flatten(1), train, partners))


def test_unlabelled_images_are_refused_in_one_sentence():
    train = replace(catalog.load("shapes", "train", n=20), labels=None)
    with pytest.raises(Problem, match="'shapes' has no labels .*name another set"):
        candidates(train, train.images[:5], SimpleNamespace(labels=lambda images: {}))


def test_a_stranger_is_never_the_image_itself():
    train = catalog.load("scenes", "train", n=2)
    judge = SimpleNamespace(labels=lambda images: {"what": train.labels, "where": train.where})
    for seed in range(8):
        assert torch.equal(candidates(train, train.images, judge, seed=seed)["stranger"].images, train.images.flip(0))
