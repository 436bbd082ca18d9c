"""The source images: deterministic, both factors independent, nothing shared between splits."""

import numpy as np
import pytest
import torch

from synpos_lib.data import scenes

PHOTOS = ("china", "flower")


def test_the_seed_decides_everything():
    first, again, other = (scenes.render(100, seed=s) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert first.images.dtype == torch.uint8 and first.images.shape == (100, 3, 32, 32)


def test_the_global_random_states_are_left_alone():
    np.random.seed(0), torch.manual_seed(0)
    wanted = np.random.rand(), torch.rand(1).item()
    np.random.seed(0), torch.manual_seed(0)
    scenes.render(20)
    assert (np.random.rand(), torch.rand(1).item()) == wanted


def test_no_image_is_in_two_splits():
    seen = [{i.numpy().tobytes() for i in scenes.render(400, split=s).images} for s in scenes.SPLITS]
    assert all(len(s) == 400 for s in seen) and len(set.union(*seen)) == 1200


def test_what_and_where_are_independent_and_even():
    _, what, where = scenes.render(3000)
    table = np.histogram2d(what, where, bins=(len(scenes.SPECIES), len(scenes.SCENES)))[0]
    expected = len(what) / table.size
    chi2, freedom = ((table - expected) ** 2 / expected).sum(), table.size - 1
    assert abs(chi2 - freedom) < 4 * (2 * freedom) ** 0.5


def test_another_scene_leaves_the_creature_as_it_was():
    """The pixels that two scenes agree on are the opaque creature; they are the same in a third scene."""
    n = 60
    what = torch.arange(n) % len(scenes.SPECIES)
    a, b, c = (
        scenes.render(n, scenes=(name,), what=what).images.int()  # a photograph has no colours in common with a texture
        for name in ("watercolor", "china", "sunset")
    )
    creature = ((a - b).abs() <= 1).all(1)
    assert 0.1 < creature.float().mean() < 0.5
    same = ((a - c).abs() <= 1).all(1)
    assert same[creature].float().mean() > 0.97
    assert same[~creature].float().mean() < 0.25


def test_another_species_leaves_the_scene_as_it_was():
    n = 60
    where = torch.arange(n) % len(scenes.SCENES)
    a, b = (scenes.render(n, what=torch.full((n,), w), where=where).images.int() for w in (0, 1))
    corner = torch.cat([a[:, :, :2, :2].flatten(), a[:, :, -2:, -2:].flatten()])
    assert torch.equal(corner, torch.cat([b[:, :, :2, :2].flatten(), b[:, :, -2:, -2:].flatten()]))
    assert not torch.equal(a[:, :, 10:22, 10:22], b[:, :, 10:22, 10:22])


def test_colour_does_not_tell_the_species():
    from sklearn.linear_model import RidgeClassifier

    (train, what, _), (test, truth, _) = scenes.render(1500), scenes.render(500, split="test")
    colour = lambda images: images[:, :, 8:24, 8:24].float().mean((2, 3)).numpy() / 255  # noqa: E731
    assert RidgeClassifier().fit(colour(train), what).score(colour(test), truth) < 0.25


@pytest.mark.parametrize("photo", PHOTOS)
def test_every_split_has_its_own_region_of_the_photographs(photo, monkeypatch):
    """With a photograph whose red is its column, the columns that the splits show do not overlap."""
    width = scenes._photo(photo).shape[2]
    ramp = torch.linspace(0, 1, width).expand(3, 142, width).contiguous()
    monkeypatch.setattr(scenes, "_photo", lambda name: ramp)
    crops = [scenes._photo_crops(photo, torch.rand(200, scenes.N_SCENE), split) for split in scenes.SPLITS]
    ranges = sorted((crop.min().item(), crop.max().item()) for crop in crops)
    assert all(low[1] < high[0] for low, high in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize("where", [*scenes.SCENES, *scenes.HELD_OUT_SCENES])
def test_scenes_vary_within_and_are_not_blank(where):
    images = scenes.render(30, scenes=(where,)).images.float()
    assert images[:, :, :4].std(0).mean() > 3 and images.std((2, 3)).min() > 1


def test_held_out_things_are_not_in_the_source():
    assert not set(scenes.HELD_OUT_SCENES) & set(scenes.SCENES)
    assert not set(scenes.NEW_SPECIES) & set(scenes.SPECIES)


def test_sketches_are_nearly_colourless_and_keep_the_labels():
    drawn, sketch = scenes.render(80), scenes.render(80, sketch=True)
    assert torch.equal(drawn.what, sketch.what) and torch.equal(drawn.where, sketch.where)

    def chroma(images):
        return (images.float().amax(1) - images.float().amin(1)).mean()

    assert chroma(sketch.images) < 0.3 * chroma(drawn.images)


def test_unknown_names_are_refused():
    for wrong in ({"species": ("pike",)}, {"scenes": ("moon",)}, {"split": "training"}):
        with pytest.raises(ValueError, match="unknown"):
            scenes.render(1, **wrong)
