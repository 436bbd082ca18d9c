"""Every mixture of two images against a transcription of its formula, pixel by pixel."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from synpos_lib import mixing
from synpos_lib.core.errors import Problem
from synpos_lib.mixing import pairs
from synpos_lib.train import classify, encoders

MIXES = [pairs.mixup, pairs.cutmix, pairs.saliencymix, pairs.guided_sr]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch():
    """Smooth random images, so that saliency has something to find, and one-hot labels."""
    x = F.interpolate(torch.rand(6, 3, 5, 5, generator=generator(1)), 16, mode="bilinear")
    return (x + 0.1 * torch.rand(6, 3, 16, 16, generator=generator(2))).clamp(0, 1), torch.eye(6)


def seed_with(mix, batch, changed: bool):
    """A seed with which this mix does (or does not) change the batch."""
    return next(s for s in range(50) if torch.equal(mix(*batch, generator(s))[0], batch[0]) != changed)


@pytest.mark.parametrize("mix", MIXES)
def test_labels_stay_a_distribution_and_the_inputs_as_they_were(mix, batch):
    x, y = (part.clone() for part in batch)
    for seed in range(6):
        mixed, labels = mix(x, y, generator(seed))
        assert mixed.shape == x.shape and mixed.min() >= 0 and mixed.max() <= 1
        assert torch.allclose(labels.sum(1), torch.ones(6), atol=1e-6) and (labels >= 0).all()
    assert torch.equal(x, batch[0]) and torch.equal(y, batch[1])


@pytest.mark.parametrize("mix", MIXES)
def test_a_mix_depends_on_its_generator_and_on_nothing_else(mix, batch):
    state = torch.random.get_rng_state()
    seed = seed_with(mix, batch, True)
    first, again = mix(*batch, generator(seed)), mix(*batch, generator(seed))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("mix", MIXES[1:])
def test_half_of_the_batches_stay_as_they_are(mix, batch):
    changed = [not torch.equal(mix(*batch, generator(seed))[0], batch[0]) for seed in range(60)]
    assert 15 < sum(changed) < 45


@pytest.mark.parametrize(("mix", "peer"), [(pairs.mixup, v2.MixUp(alpha=1.0)), (pairs.cutmix, v2.CutMix(alpha=1.0))])
def test_mixup_and_cutmix_are_torchvisions(mix, peer, batch):
    draw = generator(seed_with(mix, batch, True))
    mixed = mix(*batch, draw)
    draw = generator(seed_with(mix, batch, True))
    if mix is pairs.cutmix:
        torch.rand((), generator=draw)
    torch.manual_seed(int(torch.randint(2**62, (), generator=draw)))
    assert all(torch.equal(a, b) for a, b in zip(mixed, peer(*batch), strict=True))


def test_mixup_is_its_formula(batch):
    x, y = batch
    mixed, labels = pairs.mixup(x, y, generator(3))
    for i in range(6):
        share = labels[i, i]
        other = (labels[i] * (1 - y[i])).argmax()
        assert torch.allclose(mixed[i], share * x[i] + (1 - share) * x[other], atol=1e-6)


# --------------------------------------------------------------------------------------- Manifold Mixup


def test_manifold_mixup_mixes_the_chosen_layer_once(batch):
    x, y = batch
    torch.manual_seed(0)
    encoder, _ = encoders.small_encoder((4, 4, 4))
    encoder.eval()
    plain = encoder(x)
    layers = set()
    for seed in range(12):
        draw = generator(seed)
        share = torch.rand(3, generator=draw).sort().values[1].item()
        other = torch.randperm(6, generator=draw)
        layer = int(torch.randint(3, (), generator=draw))
        layers.add(layer)
        given, labels = pairs.manifold_mixup(x, y, generator(seed), encoder)
        made = encoder(given)
        assert torch.allclose(labels, share * y + (1 - share) * y[other], atol=1e-6)
        h = x
        cut = {0: 0, 1: 5, 2: 6}[layer]  # children before the mix: none, up to the first block, up to the second
        for module in list(encoder)[:cut]:
            h = module(h)
        h = share * h + (1 - share) * h[other]
        for module in list(encoder)[cut:]:
            h = module(h)
        assert torch.allclose(made, h, atol=1e-5)
        assert torch.equal(encoder(x), plain), "the hook must be gone after one pass"
    assert layers == {0, 1, 2}


# ----------------------------------------------------------------------------------- saliency and its users


def naive_saliency(image):
    """Hou and Zhang's five lines, in NumPy."""
    gray = image.numpy().transpose(1, 2, 0) @ np.array([0.2989, 0.587, 0.114])
    spectrum = np.fft.fft2(gray)
    level, phase = np.log(np.abs(spectrum)), np.angle(spectrum)
    padded = np.pad(level, 1, mode="edge")
    mean = sum(padded[i : i + 16, j : j + 16] for i in range(3) for j in range(3)) / 9
    found = np.abs(np.fft.ifft2(np.exp(level - mean + 1j * phase)))
    weights = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 3.0**2))
    weights /= weights.sum()
    wide = np.pad(found, 3, mode="reflect")
    rows = sum(w * wide[i : i + 16] for i, w in enumerate(weights))
    return sum(w * rows[:, i : i + 16] for i, w in enumerate(weights))


def test_saliency_is_the_spectral_residual(batch):
    found = pairs.saliency(batch[0])
    for i in range(6):
        assert np.allclose(found[i].numpy(), naive_saliency(batch[0][i]), rtol=2e-3, atol=1e-5)


def test_saliencymix_pastes_a_box_around_the_most_salient_pixel(batch):
    x, y = batch
    seed = seed_with(pairs.saliencymix, batch, True)
    draw = generator(seed)
    torch.rand((), generator=draw)
    other, side = torch.randperm(6, generator=draw), math.sqrt(torch.rand((), generator=draw))
    mixed, labels = pairs.saliencymix(x, y, generator(seed))
    length = int(16 * side)
    for i in range(6):
        best = naive_saliency(x[other[i]]).argmax()
        r, c = best // 16, best % 16
        expected = x[i].clone()
        top, bottom = max(r - length // 2, 0), min(r + length // 2, 16)
        left, right = max(c - length // 2, 0), min(c + length // 2, 16)
        expected[:, top:bottom, left:right] = x[other[i]][:, top:bottom, left:right]
        assert torch.equal(mixed[i], expected)
        kept = 1 - (bottom - top) * (right - left) / 256
        assert torch.allclose(labels[i], kept * y[i] + (1 - kept) * y[other[i]], atol=1e-6)


def test_guided_sr_shares_each_pixel_by_saliency(batch):
    x, y = batch
    seed = seed_with(pairs.guided_sr, batch, True)
    mixed, labels = pairs.guided_sr(x, y, generator(seed))
    s = np.stack([naive_saliency(image) for image in x])
    s = torch.from_numpy(s / s.sum((1, 2), keepdims=True)).float()
    other = pairs.distant_partners(torch.cdist(s.flatten(1), s.flatten(1)))
    for i in range(6):
        j = other[i]
        m = s[i] / (s[i] + s[j])
        assert torch.allclose(mixed[i], m * x[i] + (1 - m) * x[j], atol=1e-2)
        assert torch.allclose(labels[i], m.mean() * y[i] + (1 - m.mean()) * y[j], atol=1e-3)


def test_pairs_are_one_round_trip_that_takes_the_farthest_left():
    distance = torch.tensor([[0.0, 1, 5, 2], [1, 0, 3, 9], [5, 3, 0, 4], [2, 9, 4, 0]])
    # from 1, in the largest entry, to 3; from 3 the farthest left is 2; from 2 it is 0; and back to 1
    assert pairs.distant_partners(distance).tolist() == [1, 3, 0, 2]
    drawn = torch.rand(30, 30, generator=generator())
    other, here, seen = pairs.distant_partners(drawn + drawn.T), 0, []
    for _ in range(30):
        seen.append(here)
        here = int(other[here])
    assert sorted(seen) == list(range(30)) and here == 0


# --------------------------------------------------------------------------------------------- by name


def test_every_name_trains_and_an_unknown_one_is_named(tmp_path):
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator())
    labels = torch.arange(16) % 3
    fractals = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=generator(1))
    edited = torch.randint(0, 256, (16, 2, 3, 32, 32), dtype=torch.uint8, generator=generator(2))
    losses = {}
    for name in mixing.NAMES:
        torch.manual_seed(0)
        encoder, width = encoders.small_encoder((8, 8, 8))  # of fewer, oneDNN spoils memory on AVX2 (strided 1 × 1)
        model = classify.Classifier(encoder, width, {"what": 3})
        source = mixing.DiffuseMix(images, edited, fractals)
        how = mixing.by_name(name, encoder=encoder, fractals=fractals, source=source)
        run = classify.train(
            tmp_path / name.replace(" ", "_"),
            model,
            images,
            {"what": labels},
            {"mixing": name},
            epochs=2,
            batch=8,
            **how,
        )
        losses[name] = run.results["loss"]
        assert ("code" in run.config) and run.done
    assert len(set(losses.values())) == len(losses), "two names that do the same"
    with pytest.raises(Problem, match="did you mean 'cutmix'"):
        mixing.by_name("cutmx", encoder=encoder, fractals=fractals, source=source)
