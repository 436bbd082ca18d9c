"""The playground shows what the methods' papers say: what keeps a representation open, and what closes it."""

import pytest
import torch

from synpos_lib.lab import explore
from synpos_lib.lab.explore import panel, playground
from synpos_lib.lab.explore.playground import train_toy


@pytest.mark.parametrize("seed", [0, 1])
def test_only_the_same_collapses_and_contrast_does_not(seed):
    same = train_toy(base="none", lambda_=1.0, seed=seed)
    contrast = train_toy(base="contrast", seed=seed)
    assert same.health["spread"][-1] < 0.1 < 0.8 < contrast.health["spread"][-1]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_pull_of_a_positive_brings_what_together(seed):
    without, with_pull = (train_toy(lambda_=value, seed=seed).health for value in (0.0, 1.0))
    assert with_pull["what"][-1] > without["what"][-1] and with_pull["where"][-1] < without["where"][-1]


def test_without_the_stop_gradient_the_spread_is_smaller():
    kept, lost = (
        [train_toy(base="prediction", stop_gradient=stop, seed=seed).health["spread"][-1] for seed in range(3)]
        for stop in (True, False)
    )
    assert sum(lost) < sum(kept) / 2


def test_it_is_a_pure_function_of_its_settings():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = train_toy(steps=5, seed=3), train_toy(steps=5, seed=3)
    assert torch.equal(one.z, other.z) and torch.equal(torch.get_rng_state(), before)
    assert one.z.shape == (6, 48, 2) and torch.allclose(one.z.norm(dim=2), torch.ones(6, 48), atol=1e-5)


def test_steps_are_watched_without_training_again(monkeypatch):
    monkeypatch.setattr(panel.runtime, "in_batch", lambda: False)
    monkeypatch.setattr(panel, "_values", {})
    calls = []

    def spy(**settings):
        calls.append(settings)
        return train_toy(**settings)

    monkeypatch.setattr(playground, "train_toy", spy)
    controls, screen, _ = explore.loss_playground(steps=10).children
    step = controls.children[-1]
    last = screen.value
    step.value = 3
    assert len(calls) == 1 and "after 3 steps" in screen.value and screen.value != last
    by_name = {control.description: control for control in controls.children}
    by_name["base"].value = "none"
    assert len(calls) == 2 and calls[1]["base"] == "none"
