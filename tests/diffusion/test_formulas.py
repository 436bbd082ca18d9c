"""Training, sampling and features, each against a transcription of what its docstring says."""

import copy
import dataclasses
import itertools
from types import SimpleNamespace

import pytest
import tiny
import torch
from nearly import same_images

from synpos_lib.core import runtime
from synpos_lib.core.processes import processes
from synpos_lib.diffusion import features, generators, model, sampling, schedule, training
from synpos_lib.diffusion.sampling import sample
from synpos_lib.diffusion.unet import UNet

TINY = tiny.unet(image_size=16, patch=2, skips=(0,), prediction="v_prediction")


def network(config=TINY, seed=0):
    torch.manual_seed(seed)
    return UNet(config).eval().requires_grad_(False)


def test_candidates_follow_their_anchor():
    mixing = generators.BottleneckMixing(network(), steps=2)
    anchors = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changed = anchors.clone()
    changed[1] = 255 - changed[1]
    one, two = (mixing.generate(a, 4, 0) for a in (anchors, changed))
    same = [[same_images(*pair) for pair in zip(*rows, strict=True)] for rows in zip(one, two, strict=True)]
    assert same == [[True] * 4, [False] * 4, [True] * 4]


def test_candidates_of_one_anchor_share_its_pass_and_nothing_else(monkeypatch):
    """Several images for each anchor are what one would get from the anchor repeated, with the same noise."""
    anchors = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    real, passes = sampling.anchor_features, []

    def for_each(unet, images, t, blocks, rng):  # one pass for each image, with the noise of the shared one
        passes.append(len(images))
        times = 4 if len(images) == 12 else 1
        once = real(unet, images[::times], t, blocks, rng)
        return {name: h.repeat_interleave(times, 0) for name, h in once.items()}

    monkeypatch.setattr(sampling, "anchor_features", for_each)
    shared = sample(network(), 12, anchors=anchors, steps=5)
    repeated = sample(network(), anchors=anchors.repeat_interleave(4, 0), steps=5)
    assert passes == [3] * 5 + [12] * 5
    torch.testing.assert_close(shared, repeated, atol=0.02, rtol=0.02)
    assert (shared[0] - shared[1]).abs().max() > 0.1  # yet no two are the same
    pictures = torch.zeros(5, 3, 16, 16, dtype=torch.uint8)
    monkeypatch.setitem(generators.BATCH, "cpu", 9)  # two anchors of four candidates each
    assert generators.BottleneckMixing(network(), steps=2).generate(pictures, 4, 0).shape == (5, 4, 3, 16, 16)
    assert passes[10:] == [2, 2, 2, 2, 1, 1]


def test_batches_have_noise_of_their_own(monkeypatch):
    monkeypatch.setitem(generators.BATCH, "cpu", 2)
    free = generators.draw_freely(network(), 6, steps=2)
    same = torch.full((6, 3, 16, 16), 90, dtype=torch.uint8)
    mixed = generators.BottleneckMixing(network(), steps=2).generate(same, 1, 0)
    for made in (free, mixed):
        assert not any(same_images(*pair) for pair in itertools.combinations(made, 2))


def test_window(monkeypatch):
    seen, encode = [], UNet.encode
    monkeypatch.setattr(
        UNet, "encode", lambda self, x, t, labels=None: seen.append(int(t[0])) or encode(self, x, t, labels)
    )
    sample(network(), anchors=torch.zeros(1, 3, 16, 16), steps=10, window=(199, 599))
    assert [t for t in range(99, 1000, 100) if seen.count(t) == 2] == [199, 299, 399, 499]


def test_the_loss_is_the_error_of_v():
    unet, config = network(), training.TrainingConfig(unet=TINY, batch=64)
    b = training.draw(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), 3, config)
    a = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)[b.t][:, None, None, None]
    x_t, v = a.sqrt() * b.x0 + (1 - a).sqrt() * b.noise, a.sqrt() * b.noise - (1 - a).sqrt() * b.x0
    expected = torch.stack([(unet(x_t[i : i + 1], b.t[i : i + 1]) - v[i]).square().mean() for i in range(64)])
    torch.testing.assert_close(training.losses(unet, b), expected, rtol=1e-3, atol=1e-4)


def test_the_rate_follows_the_clock_where_there_is_one():
    c = training.TrainingConfig(unet=TINY, steps=7, warmup=10, decay=0.4, learning_rate=2.0)
    rates = [training.learning_rate(1000, c, progress) for progress in (0.0, 0.6, 0.8, 1.0)]
    assert rates == pytest.approx([2.0, 2.0, 1.0, 0.04])
    assert training.learning_rate(0, c, 0.5) == pytest.approx(0.2)  # a fresh optimiser warms up at any time


def test_diffusion_schedule_ema_clip():
    c = training.TrainingConfig(unet=TINY, steps=100, warmup=10, decay=0.4, learning_rate=2.0)
    rates = [training.learning_rate(s, c) for s in (0, 4, 9, 10, 59, 60, 80, 99)]
    assert rates == pytest.approx([0.2, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 0.05])
    unet = network()
    ema = copy.deepcopy(unet)
    w = next(iter(unet.parameters()))
    start = w.clone()
    w += 1
    training.update_ema(ema, unet, 0, dataclasses.replace(c, ema=0.999))
    torch.testing.assert_close(next(iter(ema.parameters())), start + 0.9)
    training.update_ema(ema, unet, 10, dataclasses.replace(c, ema=0.999))
    torch.testing.assert_close(next(iter(ema.parameters())), start + 1 - 0.1 * 11 / 20)
    unet = UNet(TINY)
    ema = copy.deepcopy(unet)
    batch = training.draw(torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), 0, dataclasses.replace(c, batch=8))
    training.train_step(
        unet, ema, torch.optim.SGD(unet.parameters(), 0.1), batch, 0, dataclasses.replace(c, clip=1e-3), processes()
    )
    norm = torch.cat([p.grad.flatten() for p in unet.parameters()]).norm().item()
    assert norm == pytest.approx(1e-3, rel=0.01)


def test_load_gives_the_average(tmp_path):
    images = SimpleNamespace(
        images=torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8), labels=None, fingerprint="f"
    )
    run = training.train(
        tmp_path / "runs" / "diffusion-x", images, training.TrainingConfig(unet=TINY, steps=3, batch=4, warmup=1)
    )
    state = model.load("x", tmp_path).state_dict()
    assert all(torch.equal(state[k], v) for k, v in run.final()["ema"].items())


def test_pooled_is_naive():
    unet, images = network(), torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    found = features.pooled(unet, images, 300, ["mid", "in"], seed=2, batch=7)
    noise = torch.randn(images.shape, generator=runtime.generator(2, "pooled", 300))
    t = torch.full((7,), 300)
    h, skips = unet.encode(schedule.q_sample(images / 127.5 - 1, t, noise), t)
    torch.testing.assert_close(found["mid"], h.mean((2, 3)), atol=0.02, rtol=0.02)
    torch.testing.assert_close(found["in"], skips[0].mean((2, 3)), atol=0.02, rtol=0.02)


def test_levels_have_the_size_they_are_called():
    unet = network(dataclasses.replace(TINY, channels=(8, 16, 16), layers=2, patch=1))
    names = features.levels(unet)
    with features.features(unet, [n for level in names.values() for n in level]) as seen:
        unet(torch.zeros(1, 3, 16, 16), torch.tensor([5]))
    for level, blocks in list(names.items())[1:]:
        assert {f"skips {seen[b].shape[2]}×{seen[b].shape[3]}" for b in blocks} == {level}
