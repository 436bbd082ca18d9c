"""Distances between image sets against naive transcriptions and closed forms."""

import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm

from synpos_lib.core.errors import Problem
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


def test_the_fid_network_pools_as_tensorflow_does():
    """Its blocks against torchvision's formula, with the border left out of the mean, or the largest taken."""
    net = quality.fid_network().eval()
    seen = {}
    for name in ("Mixed_5b", "Mixed_7b", "Mixed_7c"):
        block = getattr(net, name)
        block.branch_pool.conv.register_forward_pre_hook(lambda m, inputs, name=name: seen.update({name: inputs[0]}))
    x, deep, deeper = torch.rand(1, 192, 9, 9), torch.rand(1, 1280, 5, 5), torch.rand(1, 2048, 5, 5)
    with torch.inference_mode():
        for name, part in (("Mixed_5b", x), ("Mixed_7b", deep), ("Mixed_7c", deeper)):
            getattr(net, name)(part)
    mean = lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)  # noqa: E731 (one formula, twice)
    assert torch.allclose(seen["Mixed_5b"], mean(x), atol=1e-6)
    assert torch.allclose(seen["Mixed_7b"], mean(deep), atol=1e-6)
    assert torch.equal(seen["Mixed_7c"], F.max_pool2d(deeper, 3, 1, 1))


def test_fid_is_the_frechet_distance_of_the_networks_features(tmp_path, monkeypatch):
    class Few(torch.nn.Module):  # in place of Inception: mean colour of the image it is given
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(3, 1)

        def forward(self, x):
            assert x.shape[2:] == (299, 299)
            return self.fc(x.mean((2, 3)))

    monkeypatch.setattr(quality, "fid_network", Few)
    torch.save(Few().state_dict(), tmp_path / "weights.pth")
    real, made = torch.randint(0, 256, (2, 20, 3, 8, 8), dtype=torch.uint8)
    real = real // 2
    colour = lambda x: (x / 127.5 - 1).mean((2, 3))  # noqa: E731 (bilinear resizing by 299 / 8 moves it a little)
    found = quality.fid(real, made, tmp_path / "weights.pth", batch=7)
    assert found == pytest.approx(quality.frechet(colour(real), colour(made)), rel=0.02)


def test_fid_downloads_nothing_and_says_what_it_misses(tmp_path):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(Problem, match=r"weights in .*inception.pth, and there is no such file.*kid"):
        quality.fid(images, images, tmp_path / "inception.pth")
    (tmp_path / "other.pth").write_bytes(b"not weights")
    with pytest.raises(Problem, match="does not hold the weights of the FID network"):
        quality.fid(images, images, tmp_path / "other.pth")


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


def test_the_nearest_is_found_with_few_distances_at_once(monkeypatch):
    made, real = torch.randn(50, 4), torch.randn(70, 4)
    sizes, cdist = [], torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b: sizes.append(len(a) * len(b)) or cdist(a, b))
    for limit in (700, 10):  # ten rows at once; less than one, so one
        monkeypatch.setattr(quality, "CHUNK", limit)
        distance, index = quality.nearest(made, real)
        expected = [min(((a - b).norm().item(), i) for i, b in enumerate(real)) for a in made]
        assert index.tolist() == [i for _, i in expected]
        assert distance.tolist() == pytest.approx([d for d, _ in expected], rel=1e-3)
    assert sizes == [700] * 5 + [70] * 50


def test_diversity_of_two_candidates_is_their_distance():
    pair = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    assert quality.diversity(pair).item() == pytest.approx(5)


def test_precision_and_recall_are_naive():
    draw = torch.Generator().manual_seed(0)
    real, made = torch.randn(30, 3, generator=draw), torch.randn(25, 3, generator=draw) + 0.7

    def inside(points, manifold):
        radius = [sorted((a - b).norm().item() for b in manifold)[3] for a in manifold]
        near = [any((p - m).norm() <= r for m, r in zip(manifold, radius, strict=True)) for p in points]
        return sum(near) / len(near)

    assert quality.precision_recall(real, made) == pytest.approx((inside(made, real), inside(real, made)))
