"""Distances between image sets against naive transcriptions and closed forms."""

import pytest
import torch
from scipy.linalg import sqrtm

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


def test_frechet_equals_the_matrix_square_root_form():
    x, y = torch.randn(200, 6) @ torch.randn(6, 6), torch.randn(200, 6)
    a, b = torch.cov(x.T.double()).numpy(), torch.cov(y.T.double()).numpy()
    expected = (x.double().mean(0) - y.double().mean(0)).square().sum() + (a + b - 2 * sqrtm(a @ b).real).trace()
    assert quality.frechet(x, y) == pytest.approx(float(expected), rel=1e-6)
    assert quality.frechet(x, x) == pytest.approx(0, abs=1e-6)


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
    assert quality.nearest(real[7:8], real)[1].item() == 7


def test_diversity_of_two_candidates_is_their_distance():
    pair = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    assert quality.diversity(pair).item() == pytest.approx(5)
