"""The four numbers in cases where their values are known."""

import math

import pytest
import torch
import torch.nn.functional as F

from synpos_lib.evaluate import collapse


def test_spread_over_the_sphere():
    z = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    assert collapse.feature_std(z) == pytest.approx(1, abs=0.02)
    assert collapse.effective_rank(z) == pytest.approx(16, abs=0.1)
    assert not collapse.verdict(collapse.monitor(z, z))


def test_collapsed_to_a_point():
    z = torch.ones(50, 16) + 1e-4 * torch.randn(50, 16, generator=torch.Generator().manual_seed(0))
    assert collapse.feature_std(z) < 1e-3 and collapse.uniformity(z) == pytest.approx(0, abs=1e-5)
    assert collapse.verdict(collapse.monitor(z, z)).startswith("collapsed: all images")


def test_collapsed_to_a_line():
    z = torch.linspace(-1, 1, 50)[:, None] * torch.ones(1, 16)
    assert collapse.effective_rank(z) == pytest.approx(1, abs=1e-3)
    assert "one direction" in collapse.verdict(collapse.monitor(z, z))


def test_diverged():
    health = dict.fromkeys(("std", "rank", "alignment", "uniformity"), float("nan"))
    assert collapse.verdict(health).startswith("diverged")


def test_alignment_and_uniformity_equal_their_formulas():
    draw = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(20, 5, generator=draw), torch.randn(20, 5, generator=draw)
    u0, u1 = F.normalize(z0, dim=1), F.normalize(z1, dim=1)
    expected = sum(float((a - b).square().sum()) for a, b in zip(u0, u1, strict=True)) / 20
    assert collapse.alignment(z0, z1) == pytest.approx(expected, rel=1e-5)
    pairs = [math.exp(-2 * float((u0[i] - u0[j]).square().sum())) for i in range(20) for j in range(i)]
    assert collapse.uniformity(z0) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-5)
