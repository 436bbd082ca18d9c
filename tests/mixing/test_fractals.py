"""Fractals are seeded, colourful, quick, and drawn by the maps they claim."""

import pytest
import torch
from PIL import Image

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.mixing import fractals


def test_the_same_seed_gives_the_same_pictures_and_fewer_are_the_first_of_more():
    few, more, other = fractals.draw(5, 16), fractals.draw(80, 16), fractals.draw(5, 16, seed=1)
    assert few.shape == (5, 3, 16, 16) and few.dtype == torch.uint8
    assert torch.equal(few, more[:5]) and not torch.equal(few, other)
    assert len(torch.unique(more, dim=0)) == 80


def test_pictures_vary_within_and_among_themselves():
    made = fractals.draw(64, 32).float()
    assert (made.flatten(1).std(1) > 15).double().mean() > 0.9
    assert made.mean((2, 3)).std(0).min() > 25  # their mean colours differ


def test_the_maps_contract():
    matrix, _ = fractals._contractions(50, 4, runtime.generator(0))
    assert torch.linalg.matrix_norm(matrix, 2).max() < 1


def test_escape_times_are_those_of_a_plain_loop(monkeypatch):
    """Which points stay for all steps, against complex numbers of Python."""
    seen = {}
    monkeypatch.setattr(fractals, "_palette", lambda value, rng: seen.setdefault("value", value).expand(-1, 3, -1, -1))
    made = fractals.escape_times(2, 12, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    angle, zoom = 6.283185307 * torch.rand(2, generator=rng), 0.6 + 0.7 * torch.rand(2, generator=rng)
    u = torch.polar(1.0 + 0.05 * torch.rand(2, generator=rng), angle)
    turn = torch.polar(zoom, 6.283185307 * torch.rand(2, generator=rng))
    line = torch.linspace(-1.3, 1.3, 12)
    for k in range(2):
        c = complex(u[k]) / 2 - complex(u[k]) ** 2 / 4
        stays = torch.zeros(12, 12, dtype=torch.bool)
        for i in range(12):
            for j in range(12):
                z = complex(line[j], line[i]) * complex(turn[k])
                for _ in range(48):
                    if abs(z) <= 16:
                        z = z * z + c
                stays[i, j] = abs(z) <= 16
        inside = made[k, 0] < 0.31 * seen["value"][k, 0]
        assert (inside == stays).double().mean() > 0.95  # rounding decides on the border


def test_pictures_of_your_own(tmp_path):
    for i, size in enumerate([(40, 30), (20, 25)]):
        (tmp_path / "some").mkdir(exist_ok=True)
        Image.new("RGB", size, (50 * i, 100, 200)).save(tmp_path / "some" / f"{i}.png")
    made = fractals.load(str(tmp_path), 16)
    assert made.shape == (2, 3, 16, 16) and made[1, :, 3, 3].tolist() == [50, 100, 200]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(Problem, match="broken.png cannot be read"):
        fractals.load(str(tmp_path), 16)
    with pytest.raises(Problem, match="no fractal pictures in"):
        fractals.load(str(tmp_path / "nowhere"), 16)
