"""Changes of single images against PIL, against torchvision, and against the formulas of the papers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torchvision.transforms import v2

from synpos_lib.mixing import alone


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    x = F.interpolate(torch.rand(20, 3, 5, 5, generator=generator(1)), 32, mode="bilinear")
    return (x * 255).round() / 255, torch.eye(20)


def pil(image):
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def test_cutout_is_a_grey_square_of_half_the_side(batch):
    x, y = batch
    made, labels = alone.cutout(x, y, generator())
    assert torch.equal(labels, y)
    draw = generator()
    rows, columns = torch.randint(32, (20, 1), generator=draw), torch.randint(32, (20, 1), generator=draw)
    for i in range(20):
        expected, r, c = x[i].clone(), int(rows[i]), int(columns[i])
        expected[:, max(r - 8, 0) : r + 8, max(c - 8, 0) : c + 8] = 0.5
        assert torch.equal(made[i], expected)


@pytest.mark.parametrize(
    ("change", "peer"),
    [
        (alone.augmix, v2.AugMix(severity=3, all_ops=False)),
        (alone.randaugment, v2.RandAugment(num_ops=2, magnitude=9)),
    ],
)
def test_augmix_and_randaugment_are_torchvisions(change, peer, batch):
    made, labels = change(*batch, generator(4))
    again, _ = change(*batch, generator(4))
    assert torch.equal(made, again) and labels is batch[1]
    torch.manual_seed(int(torch.randint(2**62, (), generator=generator(4))))
    pixels = (batch[0] * 255).round().byte()
    expected = torch.cat([peer(part) for part in (pixels[:8], pixels[8:16], pixels[16:])])
    assert torch.equal((made * 255).round().byte(), expected) and not torch.equal(expected, pixels)


def moved(image, right, down):
    return image.transform((32, 32), Image.AFFINE, (1, 0, right, 0, 1, down))


# ---------------------------------------------------------------------------------------------- PixMix


LEVELS = torch.linspace(0.1, 3.0, 20)
SIGNS = torch.where(torch.arange(20) % 2 == 0, 1.0, -1.0)


@pytest.mark.parametrize(
    ("operation", "peer", "tolerance"),
    [
        (alone.autocontrast, lambda image, level, sign: ImageOps.autocontrast(image), 1.01),
        (alone.equalize, lambda image, level, sign: ImageOps.equalize(image), 0.01),
        (alone.posterize, lambda image, level, sign: ImageOps.posterize(image, 4 - int(0.4 * level)), 0.01),
        (alone.solarize, lambda image, level, sign: ImageOps.solarize(image, 256 - int(25.6 * level)), 0.01),
        (alone.rotate, lambda image, level, sign: image.rotate(sign * int(3 * level), Image.BILINEAR), 1.5),
        (
            alone.translate_x,
            lambda image, level, sign: image.transform(
                (32, 32), Image.AFFINE, (1, 0, sign * int(level * 32 / 30), 0, 1, 0)
            ),
            0.01,
        ),
        (
            alone.translate_y,
            lambda image, level, sign: image.transform(
                (32, 32), Image.AFFINE, (1, 0, 0, 0, 1, sign * int(level * 32 / 30))
            ),
            0.01,
        ),
    ],
)
def test_operations_are_pils(operation, peer, tolerance, batch):
    x, _ = batch
    made = operation(x, LEVELS, SIGNS)
    for i in range(20):
        expected = np.asarray(peer(pil(x[i]), LEVELS[i].item(), int(SIGNS[i]))).transpose(2, 0, 1)
        difference = np.abs((made[i] * 255).numpy() - expected)[:, 4:-4, 4:-4]
        assert difference.max() <= tolerance, i


@pytest.mark.parametrize("operation", [alone.shear_x, alone.shear_y])
def test_shear_moves_each_line_in_proportion(operation, batch):
    x = batch[0][:1]
    made = operation(x, torch.tensor([3.0]), torch.tensor([1.0]))
    axis = 2 if operation is alone.shear_x else 1
    for line in (8, 15, 16, 24):
        shift = 0.09 * (line - 15.5)
        row = x[0].select(3 - axis, line)
        place = torch.arange(4, 28) + shift
        low = place.floor().long()
        expected = row[:, low] + (place - low) * (row[:, low + 1] - row[:, low])
        assert torch.allclose(made[0].select(3 - axis, line)[:, 4:28], expected, atol=1e-4)


def test_add_and_multiply_are_the_papers():
    x, z = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    a, b = torch.tensor([0.7, 1.2])[:, None, None, None], torch.tensor([0.4, -0.1])[:, None, None, None]
    for i, j, k in [(0, 0, 0), (1, 2, 3)]:
        u, v = x[i, j, k, k].item(), z[i, j, k, k].item()
        plus = (a[i].item() * (2 * u - 1) + b[i].item() * (2 * v - 1) + 1) / 2
        times = (2 * u) ** a[i].item() * (2 * v) ** b[i].item() / 2
        assert alone.add(x, z, a, b)[i, j, k, k].item() == pytest.approx(plus, abs=1e-5)
        assert alone.multiply(x, z, a, b)[i, j, k, k].item() == pytest.approx(times, abs=1e-5)


def test_strengths_have_the_moments_of_their_beta_distributions():
    a, b = alone.strengths(40_000, 3.0, generator())
    weaken = a <= 1
    assert weaken.double().mean() == pytest.approx(0.5, abs=0.01) and torch.equal(weaken, b > 0)
    assert a[weaken].mean() == pytest.approx(3 / 4, abs=0.01)  # Beta(3, 1)
    assert b[weaken].mean() == pytest.approx(1 / 4, abs=0.01)  # Beta(1, 3)
    assert a[~weaken].mean() == pytest.approx(1 + 1 / 4, abs=0.01)
    assert b[~weaken].mean() == pytest.approx(-1 / 4, abs=0.01)


def test_pixmix_takes_up_to_four_rounds(batch):
    x, y = batch
    pictures = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=generator())
    made, labels = alone.pixmix(x, y, generator(), pictures)
    assert made.min() >= 0 and made.max() <= 1 and labels is y
    none = alone.pixmix(x, y, generator(), pictures, rounds=0)[0]
    draw = generator()
    torch.randint(5, (20,), generator=draw)
    torch.randint(1, (20,), generator=draw)
    coin = torch.rand(20, generator=draw) < 0.5
    unchanged = (none == x).flatten(1).all(1)
    assert unchanged[~coin].all() and not unchanged[coin].all()
    assert not torch.equal(made, none)


def test_pixmix_multiplies_as_often_as_drawn(monkeypatch):
    x, pictures = torch.rand(20, 3, 8, 8), torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    monkeypatch.setattr(
        alone, "_coin", lambda n, draw: torch.zeros(n, dtype=torch.bool)
    )  # multiply by a fractal, always
    monkeypatch.setattr(alone, "strengths", lambda n, beta, draw: (torch.full((n,), 0.8), torch.full((n,), 0.3)))
    made, _ = alone.pixmix(x, None, torch.Generator().manual_seed(0), pictures)
    draw = torch.Generator().manual_seed(0)
    which, count = torch.randint(5, (20,), generator=draw), torch.randint(5, (20,), generator=draw)
    for i in range(20):
        expected = x[i]
        for _ in range(count[i]):
            expected = ((2 * expected) ** 0.8 * (2 * pictures[which[i]].float() / 255) ** 0.3 / 2).clamp(0, 1)
        torch.testing.assert_close(made[i], expected, atol=1e-4, rtol=1e-4)
