"""The interpolation lab is a plain function first; its widgets answer to a slider; in batch it is a still picture."""

import matplotlib.pyplot as plt
import pytest
import torch

from synpos_lib.data import catalog
from synpos_lib.lab import explore
from synpos_lib.lab.explore import interpolation, panel
from synpos_lib.lab.explore.interpolation import interpolate


class Oracle:
    """A judge that calls everything species 0 in scene 0."""

    def labels(self, images):
        return {factor: torch.zeros(len(images), dtype=torch.long) for factor in ("what", "where")}


@pytest.fixture
def lab(small_unet):
    return small_unet, Oracle(), catalog.load("scenes", "val", n=6)


def test_the_plain_function_draws_and_reads(lab):
    unet, judge, real = lab
    images, labels = interpolate(unet, judge, real.images[2], steps=5, k=3)
    assert images.shape == (3, 3, 32, 32)
    assert labels["what"].tolist() == [0] * 3


def test_in_batch_it_is_a_still_picture(lab, monkeypatch, capsys):
    monkeypatch.setenv("SYNPOS_JOB", "test")
    assert explore.interpolation_lab(*lab) is None
    assert not plt.get_fignums()


def test_a_slider_draws_anew(lab, monkeypatch):
    monkeypatch.setattr(panel.runtime, "in_batch", lambda: False)
    calls = []

    def spy(*words, **settings):
        calls.append((settings["w"], settings["window"]))
        return interpolate(*words, **{**settings, "steps": 5})

    monkeypatch.setattr(interpolation, "interpolate", spy)
    controls, screen = explore.interpolation_lab(*lab).children
    before = screen.value
    by_name = {control.description: control for control in controls.children}
    by_name["w"].value = 0.3
    by_name["timesteps"].value = (0, 200)
    assert calls == [(0.1, (0, 1000)), (0.3, (0, 1000)), (0.3, (0, 200))]
    assert screen.value != before and 'alt="Anchor 0, ' in screen.value and "what kept <meter" in screen.value
