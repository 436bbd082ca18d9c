"""The latent map: every point knows its image, and the number beside it is a plain count."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from synpos_lib.data import catalog
from synpos_lib.diffusion.features import pooled
from synpos_lib.lab import explore
from synpos_lib.lab.explore import latent, panel
from synpos_lib.lab.explore.latent import map_features


@pytest.fixture(scope="module")
def real():
    return catalog.load("scenes", "val", n=40)


def test_the_map_states_what_it_is_and_counts_neighbours(small_unet, real):
    result = map_features(small_unet, real, t=150, perplexity=5, seed=3)
    assert result.text == "mid at t = 150: n = 40, perplexity 5, PCA start, seed 3"
    assert list(result.points) == ["x", "y", "what", "where"] and result.points[["x", "y"]].stack().between(0, 1).all()
    z = torch.nn.functional.normalize(pooled(small_unet, real.images, 150, ["mid"], seed=3)["mid"], dim=1)
    agree = []
    for i in range(40):  # the same count, written naively
        others = sorted((j for j in range(40) if j != i), key=lambda j: -(z[i] @ z[j]).item())[:10]
        agree += [(real.where[j] == real.where[i]).item() for j in others]
    assert result.agreement["where"] == pytest.approx(np.mean(agree), abs=0.01)  # ties


def test_every_point_carries_its_own_image(small_unet, real):
    result = map_features(small_unet, real, perplexity=5)
    page = latent.map_page(result, real, "where")
    spots = re.findall(r'<i tabindex="-1" role="img" aria-label="([^"]+)" style="[^"]*--at:-?(\d+)px -?(\d+)px"', page)
    assert len(spots) == 40
    sheet = base64.b64decode(re.search(r"--sheet:url\(data:image/jpeg;base64,([^)]+)\)", page)[1])
    pixels = np.asarray(Image.open(io.BytesIO(sheet))).astype(float)
    assert pixels.shape[1] == latent.COLUMNS * 32 and f"{latent.COLUMNS * latent.SIDE}px" in latent.STYLE
    for i, (name, left, top) in enumerate(spots):
        assert name == f"{real.classes[real.labels[i]]}, {real.scenes[real.where[i]]}"
        x, y = (int(place) * 32 // latent.SIDE for place in (left, top))
        cut = pixels[y : y + 32, x : x + 32]
        assert np.abs(cut - real.images[i].permute(1, 2, 0).numpy()).mean() < 12  # JPEG
    assert "<script" not in page


def test_images_without_a_where_have_a_map_too(small_unet, real):
    plain = replace(real, where=None, scenes=())
    result = map_features(small_unet, plain, perplexity=5)
    assert list(result.agreement) == ["what"] and "agree in what" in latent.map_page(result, plain)


def test_colours_are_immediate_and_maps_are_made_once(small_unet, real, monkeypatch):
    monkeypatch.setattr(panel.runtime, "in_batch", lambda: False)
    calls = []

    def spy(*words, **settings):
        calls.append((settings["block"], settings["t"]))
        return map_features(*words, **settings)

    monkeypatch.setattr(latent, "map_features", spy)
    controls, screen = explore.latent_map(small_unet, real, timesteps=[50, 300], perplexity=5).children
    block, t, colour = controls.children
    assert "agree in what" in screen.value
    colour.value = "where"
    assert "agree in where" in screen.value
    block.value = "in"
    t.value = 300
    t.value = 50
    block.value = "mid"
    assert calls == [("mid", 50), ("in", 50), ("in", 300)] and "mid at t = 50" in screen.value
