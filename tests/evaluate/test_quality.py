"""Distances between image sets against naive transcriptions and closed forms."""

import pytest
import torch

from synpos_lib.evaluate import quality


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def test_kid_equals_the_double_loop():
    x, y = torch.randn(12, 5), torch.randn(12, 5) + 1

    def k(a, b):
        return (float(a.double() @ b.double()) / 5 + 1) ** 3

    xx = sum(k(x[i], x[j]) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    yy = sum(k(y[i], y[j]) for i in range(12) for j in range(12) if i != j) / (12 * 11)
    xy = sum(k(x[i], y[j]) for i in range(12) for j in range(12)) / 144
    assert quality.kid(x, y, subsets=1)[0] == pytest.approx(xx + yy - 2 * xy)


def test_kid_is_unbiased_around_zero_for_one_distribution_and_grows_with_a_shift():
    x, y = torch.randn(1000, 8), torch.randn(1000, 8)
    same, shifted = quality.kid(x, y), quality.kid(x, y + 0.5)
    assert abs(same[0]) < 0.02 and shifted[0] > 10 * abs(same[0])


def test_precision_and_recall_see_collapse_and_nonsense():
    real = torch.randn(300, 4)
    assert quality.precision_recall(real, torch.randn(300, 4)) > (0.8, 0.8)
    precision, recall = quality.precision_recall(real, torch.randn(300, 4) * 0.05)
    assert precision > 0.95 and recall < 0.3
    assert quality.precision_recall(real, torch.randn(300, 4) + 50) == (0, 0)


def test_copies_are_found():
    real, held_out = torch.randn(500, 16), torch.randn(500, 16)
    assert quality.near_duplicates(real[:100] + 1e-3, real, held_out) == 1
    assert quality.near_duplicates(torch.randn(500, 16), real, held_out) < 0.05
    assert quality.nearest_real(real[7:8], real)[1].item() == 7


def test_the_nearest_is_found_with_few_distances_at_once(monkeypatch):
    samples, real = torch.randn(50, 4), torch.randn(70, 4)
    sizes, cdist = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b: sizes.append(len(a) * len(b)) or cdist(a, b))
    for limit in (700, 10):  # ten rows at once; less than one, so one
        monkeypatch.setattr(quality, "CHUNK", limit)
        distance, index = quality.nearest_real(samples, real)
        expected = [min(((a - b).norm().item(), i) for i, b in enumerate(real)) for a in samples]
        assert index.tolist() == [i for _, i in expected]
        assert distance.tolist() == pytest.approx([d for d, _ in expected], rel=1e-3)
    assert sizes == [700] * 5 + [70] * 50


def test_diversity_of_two_candidates_is_their_distance():
    pair = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    assert quality.diversity(pair).item() == pytest.approx(5)


def test_precision_and_recall_are_naive():
    draw = torch.Generator().manual_seed(0)
    real, samples = torch.randn(30, 3, generator=draw), torch.randn(25, 3, generator=draw) + 0.7

    def inside(points, manifold):
        radius = [sorted((a - b).norm().item() for b in manifold)[3] for a in manifold]
        near = [any((p - m).norm() <= r for m, r in zip(manifold, radius, strict=True)) for p in points]
        return sum(near) / len(near)

    assert quality.precision_recall(real, samples) == pytest.approx((inside(samples, real), inside(real, samples)))
