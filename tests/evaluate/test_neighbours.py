"""Neighbours against the obvious loop; partners that are what they are called."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog, positives
from synpos_lib.data.images import draw_images
from synpos_lib.diffusion.unet import UNet, UNetConfig
from synpos_lib.evaluate.neighbours import Retrieved, candidates, compare, nearest


def tiny() -> UNetConfig:
    return UNetConfig(channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4, dropout=0.0)


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


def test_neighbours_of_some_images_are_those_of_all():
    z = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([31, 2, 17])
    assert torch.equal(nearest(z, 3, rows), nearest(z, 3)[rows])
    with pytest.raises(Problem, match="40 images have no 40 others each: ask for 39 neighbours at most"):
        nearest(z, 40)


def test_retrieved_positives_are_the_nearest_others_in_the_bottleneck(full_precision):
    """Naively: noise every image to t, run the encoder, average the middle block over space, sort the cosines."""
    torch.manual_seed(0)
    unet = UNet(tiny()).eval().requires_grad_(False)
    images = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    maker = Retrieved(unet, images, t=50)
    noise = torch.randn(images.shape, generator=runtime.generator(0, "pooled", 50))
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)[50].float()
    x = alpha_bar.sqrt() * (images / 127.5 - 1) + (1 - alpha_bar).sqrt() * noise
    h = unet.encode(x, torch.full((30,), 50))[0].mean((2, 3))
    rows = [12, 0, 29]
    made = maker.generate(images[rows], 2, seed=9)
    assert made.shape == (3, 2, 3, 32, 32)
    for row, pair in zip(rows, made, strict=True):
        cosine = [torch.cosine_similarity(h[row], h[i], dim=0) if i != row else -2 for i in range(30)]
        best = sorted(range(30), key=lambda i: -cosine[i])[:2]
        assert torch.equal(pair, images[best])
    assert torch.equal(made, maker.generate(images[rows], 2, seed=1)), "no chance in it"
    with pytest.raises(Problem, match="not among the training images"):
        maker.generate(images[:1] // 2, 1, 0)


def test_a_store_of_retrieved_images_knows_the_model_and_the_images(tmp_path, capsys):
    train = catalog.load("scenes", "train", n=20)
    for seed in (0, 1):
        torch.manual_seed(seed)
        unet = UNet(tiny()).eval().requires_grad_(False)
        positives.make(tmp_path / "retrieved", train, Retrieved(unet, train.images), k=1)
    assert "not reused, since generator.weights was" in capsys.readouterr().out
    assert len(positives.read(tmp_path / "retrieved", train, unet)) == 20
    with pytest.raises(Problem, match="made by another model"):
        positives.read(tmp_path / "retrieved", train, torch.nn.Linear(1, 1))
    with pytest.raises(Problem, match="made from other images"):
        positives.read(tmp_path / "retrieved", draw_images(catalog.load("scenes", "train", n=40), 20, 1))


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
