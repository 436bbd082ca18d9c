"""The two halves of the U-Net, sampling and training, against naive transcriptions."""

import copy
import dataclasses
import hashlib
import os
import signal
import types

import children
import pytest
import tiny
import torch
from nearly import same_numbers

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.processes import processes
from synpos_lib.core.runs import open_run, read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import Images
from synpos_lib.diffusion import features, generators, model, schedule, training
from synpos_lib.diffusion.sampling import sample, scheduler
from synpos_lib.diffusion.unet import UNet

TINY = tiny.unet(image_size=16, patch=2)
WITH_ATTENTION = dataclasses.replace(TINY, attention=(1,), middle_attention=True, layers=2, patch=1)
FINEST = dataclasses.replace(TINY, skips=(0,), prediction="v_prediction")  # only the finest skips reach the decoder


def network(config=FINEST, seed=0) -> UNet:
    torch.manual_seed(seed)
    return UNet(config).eval().requires_grad_(False)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    return torch.randn(4, 3, 16, 16), torch.tensor([3, 250, 600, 999])


@pytest.mark.parametrize("config", [TINY, WITH_ATTENTION])
def test_decode_of_encode_is_diffusers_own_forward_pass_bit_for_bit(config, batch):
    unet, (x, t) = network(config), batch
    h, skips = unet.encode(x, t)
    own = torch.nn.functional.pixel_unshuffle(x, config.patch).contiguous()
    plain = torch.nn.functional.pixel_shuffle(unet.unet(own, t).sample, config.patch)
    assert torch.equal(unet.decode(h, skips, t), plain)
    assert torch.equal(unet(x, t), plain)


def test_only_the_chosen_skips_reach_the_decoder(batch):
    """The rest of the network is diffusers' own, with zeros in the place of the other skips."""
    unet, (x, t) = network(FINEST), batch
    h, skips = unet.encode(x, t)
    embedding, y = unet.unet.time_embedding(unet.unet.time_proj(t)), h
    for block, n in zip(unet.unet.up_blocks, (2, 2), strict=True):
        reaching = tuple(skip if skip.shape[-1] == 8 else 0 * skip for skip in skips[-n:])
        y, skips = block(y, reaching, embedding), skips[:-n]
    y = unet.unet.conv_out(unet.unet.conv_act(unet.unet.conv_norm_out(y)))
    assert same_numbers(unet(x, t), torch.nn.functional.pixel_shuffle(y, 2))
    assert not same_numbers(network(dataclasses.replace(FINEST, skips=None))(x, t), unet(x, t))


def test_features_are_read_and_replaced_and_the_hooks_are_gone_afterwards(batch):
    unet = network()
    plain = unet(*batch)
    with features.features(unet, ["mid"]) as seen:
        assert torch.equal(unet(*batch), plain)
    h, skips = unet.encode(*batch)
    assert torch.equal(seen["mid"], h)
    with pytest.raises(RuntimeError, match="on purpose"), features.features(unet, ["mid"], edit=features.zero):
        assert torch.equal(unet(*batch), unet.decode(torch.zeros_like(h), skips, batch[1]))
        raise RuntimeError("on purpose")
    assert torch.equal(unet(*batch), plain)


def test_levels_name_every_skip_once():
    unet = network(WITH_ATTENTION)
    names = [name for level in features.levels(unet).values() for name in level]
    skips = [name for name in features.blocks(unet) if name == "in" or name.startswith("down")]
    assert sorted(names) == sorted([*skips, "mid"])


def test_ddim_equals_its_formula():
    unet = network(dataclasses.replace(TINY, prediction="epsilon"))
    noise = runtime.generator(7, "sample")
    made = sample(unet, 2, steps=10, eta=0.5, seed=7)
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).float()
    times = torch.linspace(-1, 999, 11).int().flip(0).tolist()
    x = torch.randn(2, 3, 16, 16, generator=noise)
    for t, after in zip(times[:-1], times[1:], strict=True):
        a, b = alpha_bar[t], alpha_bar[after] if after >= 0 else torch.tensor(1.0)
        eps = unet(x, torch.full((2,), t))
        x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
        sigma = 0.5 * ((1 - a / b) * (1 - b) / (1 - a)).sqrt()
        x = b.sqrt() * x0 + (1 - b - sigma**2).sqrt() * eps + sigma * torch.randn(x.shape, generator=noise)
    assert torch.allclose(made, x.clamp(-1, 1), atol=1e-4) and x.abs().max() > 1


def test_w_one_equals_sampling_without_an_anchor_and_w_zero_does_not():
    unet = network()
    anchors = torch.rand(3, 3, 16, 16) * 2 - 1
    free = sample(unet, 3, steps=5, seed=2)
    assert torch.equal(sample(unet, anchors=anchors, w=1.0, steps=5, seed=2), free)
    assert not same_numbers(sample(unet, anchors=anchors, w=0.0, steps=5, seed=2), free)
    assert torch.equal(sample(unet, anchors=anchors, window=(0, 0), steps=5, seed=2), free)


def test_mixing_is_the_papers_formula():
    unet = network()
    anchors = torch.rand(2, 3, 16, 16) * 2 - 1
    made = sample(unet, anchors=anchors, w=0.3, steps=1, seed=4)
    x = torch.randn(2, 3, 16, 16, generator=runtime.generator(4, "sample"))
    t = torch.full((2,), 999)
    eps = torch.randn(2, 3, 16, 16, generator=runtime.generator(4, "anchor"))
    h, skips = unet.encode(x, t)
    h_anchor, _ = unet.encode(schedule.q_sample(anchors, t, eps), t)
    v = unet.decode(0.3 * h + 0.7 * h_anchor, skips, t)
    alpha_bar = schedule.alpha_bar()[999]
    assert torch.allclose(made, (alpha_bar.sqrt() * x - (1 - alpha_bar).sqrt() * v).clamp(-1, 1), atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("anchor_time", [0.0, 0.25, 0.5, 1.0])
def test_an_anchor_is_noised_to_its_share_of_t_whatever_the_sampler(sampler, anchor_time, monkeypatch):
    unet, seen, encode = network(), [], UNet.encode
    monkeypatch.setattr(
        UNet, "encode", lambda self, x, t, labels=None: seen.append((x, t)) or encode(self, x, t, labels)
    )
    anchors = torch.full((200, 3, 16, 16), 0.8)
    sample(unet, anchors=anchors, anchor_time=anchor_time, sampler=sampler, steps=4)
    of_anchors = seen[::2]  # before each pass of the sample
    assert [int(t[0]) for _, t in of_anchors] == [int(anchor_time * t) for t in (999, 749, 499, 249)]
    for x, t in of_anchors:
        kept = torch.prod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)[: int(t[0]) + 1]).item()
        assert x.mean().item() == pytest.approx(0.8 * kept**0.5, abs=0.01)
        assert x.std().item() == pytest.approx((1 - kept) ** 0.5, abs=0.01)


def test_the_same_seed_gives_the_same_candidates():
    mixing = generators.BottleneckMixing(network(), steps=2)
    anchors = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    made = mixing.generate(anchors, 4, seed=0)
    assert made.shape == (3, 4, 3, 16, 16) and made.dtype == torch.uint8
    assert torch.equal(made, mixing.generate(anchors, 4, seed=0))
    assert not torch.equal(made, mixing.generate(anchors, 4, seed=1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(w=1.5), "w must lie in"),
        (dict(blocks=("middle",)), "unknown block 'middle'.*mid"),
        (dict(steps=1001), "steps must divide"),
        (dict(sampler="dimm"), "did you mean 'ddim'"),
        (dict(anchors=torch.zeros(1, 3, 32, 32)), "anchors must have the shape"),
        (dict(n=3, anchors=torch.zeros(2, 3, 16, 16)), "3 images cannot be shared out evenly among 2 anchors"),
        (dict(n=3, anchors=torch.zeros(0, 3, 16, 16)), "3 images cannot be shared out evenly among 0 anchors"),
    ],
)
def test_bad_sampling_gets_one_clear_sentence(wrong, message):
    with pytest.raises(Problem, match=message):
        sample(network(), **{"anchors": torch.zeros(1, 3, 16, 16), "steps": 5, **wrong})


def test_the_average_of_weights_has_its_closed_form():
    unet, config = network(), training.TrainingConfig(ema=0.9, ema_warmup=False)
    ema = copy.deepcopy(unet)
    weight = next(iter(unet.parameters()))
    values = [weight.clone()]
    for step in range(5):
        weight += step + 1.0
        values.append(weight.clone())
        training.update_ema(ema, unet, step, config)
    expected = 0.9**5 * values[0] + sum(0.1 * 0.9 ** (4 - i) * values[i + 1] for i in range(5))
    assert torch.allclose(next(iter(ema.parameters())), expected, atol=1e-5)


def test_a_batch_in_parts_teaches_what_the_whole_does(monkeypatch, full_precision):
    config = training.TrainingConfig(unet=FINEST, batch=12)
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    batch = training.draw(images, 0, config)
    found = []
    for part in (128, 5):
        monkeypatch.setattr(training, "PART", part)
        torch.manual_seed(0)
        unet = UNet(config.unet)
        ema, optimizer = copy.deepcopy(unet).requires_grad_(False), torch.optim.SGD(unet.parameters(), 1.0)
        error = training.train_step(unet, ema, optimizer, batch, 0, config, processes())
        found.append((error, torch.cat([weight.grad.flatten() for weight in unet.parameters()])))
    (error, gradient), (error_in_parts, gradient_in_parts) = found
    assert error.shape == (12,)
    assert same_numbers(error, error_in_parts) and same_numbers(gradient, gradient_in_parts)


def test_a_shortened_recipe_does_not_average_its_random_start():
    assert not model.recipe("paper").ema_warmup and model.recipe("paper", steps=5000).ema_warmup


def trained(folder, die_at):
    """Nine steps; after one that is saved, this process may die."""
    unet = tiny.unet(image_size=16, patch=2, dropout=0.1, skips=(0,), prediction="v_prediction")
    config = training.TrainingConfig(unet=unet, steps=9, batch=8, warmup=2)
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def maybe_die(step, ema):
        if step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    images = types.SimpleNamespace(images=images, fingerprint="f")
    training.train(folder, images, config, save_every=2, on_save=maybe_die)


def trained_by_two(folder):
    """The same as with `torchrun --nproc_per_node=2`, whose processes begin as copies of this one."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", start_method=children.METHOD)
    elastic_launch(config, trained)(folder, -1)


def train(folder, die_at=-1):
    return children.outcome(trained, folder, die_at)


def test_a_killed_training_continues_to_the_same_bits_and_ships(tmp_path):
    code, words = train(tmp_path / "whole")
    assert code == 0, words
    assert train(tmp_path / "killed", die_at=4)[0] == -signal.SIGKILL
    assert train(tmp_path / "killed")[0] == 0
    whole, killed = (read_run(tmp_path / name) for name in ("whole", "killed"))
    assert whole.metrics() == killed.metrics()
    for part in ("unet", "ema"):
        one, two = whole.final()[part], killed.final()[part]
        assert all(torch.equal(one[name], two[name]) for name in one)
    model.ship(whole, tmp_path / "weights.safetensors")
    shipped = model.read(tmp_path / "weights.safetensors").state_dict()
    assert all(torch.equal(shipped[name], value.half().float()) for name, value in whole.final()["ema"].items())
    assert model.about(tmp_path / "weights.safetensors")["results"]["images_seen"] == 72
    (tmp_path / "runs").mkdir()
    (tmp_path / "whole").rename(tmp_path / "runs" / model.run_name("folder:/my/fish"))
    loaded = model.load("folder:/my/fish", tmp_path)
    assert generators.draw_freely(loaded, 1, steps=2).shape == (1, 3, 16, 16)


@pytest.mark.slow
def test_two_processes_train_what_one_would(tmp_path):
    assert train(tmp_path / "one")[0] == 0
    said = tmp_path / "said"
    assert children.run(trained_by_two, tmp_path / "two", said=said) == 0, said.read_text()[-2000:]
    again = children.run(trained_by_two, tmp_path / "two", said=said)
    assert again == 0 and "reused" in said.read_text(), "a finished training is not waited for"
    one, two = (read_run(tmp_path / name).final()["unet"] for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=2e-2) for name in one)


@pytest.mark.parametrize("harm", ["truncated", "tampered", "other architecture", "not weights", "helped"])
def test_weights_that_cannot_be_used_get_one_clear_sentence(tmp_path, harm):
    path = tmp_path / "weights.safetensors"
    weights = {name: value.half() for name, value in network().state_dict().items()}
    config = dataclasses.asdict(FINEST)
    if harm == "other architecture":
        config["channels"] = (8, 32)
    recipe = {"unet": config} | ({"second_view": 0.8} if harm == "helped" else {})
    files.save_tensors(path, {"weights": weights, "recipe": recipe} if harm != "not weights" else {"x": 1})
    data = bytearray(path.read_bytes())
    if harm == "truncated":
        data = data[:-100]
    if harm == "tampered":
        data[-1] ^= 1
    path.write_bytes(data)
    expected = {"other architecture": "fit another architecture", "not weights": "holds no diffusion weights"}
    expected |= {"helped": r"settings that no model has here \(second_view\).*train one with notebook 01"}
    with pytest.raises(Problem, match=expected.get(harm, "is damaged")):
        model.read(path)


def test_an_unknown_model_names_the_known_ones(tmp_path):
    with open_run(tmp_path / "runs" / "diffusion-sceens", {}):
        pass  # begun, not finished
    with pytest.raises(Problem, match="there is no diffusion model of 'sceens'.*did you mean 'scenes'"):
        model.load("sceens", tmp_path)


def test_how_many_of_the_images_behind_some_weights_are_at_hand(tmp_path):
    def words(place, count: int) -> str:
        images = Images(torch.zeros(count), None, None, (), "scenes", "train", fingerprint="of these")
        return model.coverage(place, images)

    shipped = model.shipped("scenes")
    assert words(shipped, 1000) == "1,000 of the 5,000 images that the model learned from"
    assert words(shipped, 5_000) == words(shipped, 30_000) == "all 5,000 images that the model learned from"
    for images, expected in (("of these", "all 3 images that"), ("of others", "3 images, which are not exactly those")):
        with open_run(tmp_path / images, {"images": images}) as run:
            run.finish(loss=0.1)
        assert words(run.folder, 3).startswith(expected)


@pytest.mark.slow
def test_the_shipped_weights_learned_from_as_many_images_as_is_said():
    """Scenes of exactly so many images have the digest in a recipe; that of the pixels may differ from CPU to CPU."""
    where = catalog.load("scenes", "train", n=model.SHIPPED_IMAGES).where
    recipe = model.about(model.shipped("scenes-by-scene"))["recipe"]
    assert hashlib.sha256(where.numpy().tobytes()).hexdigest() == recipe["labels"]
    assert model.about(model.shipped("scenes"))["recipe"]["images"] == recipe["images"]


def test_steps_that_the_scheduler_takes_are_the_released_codes():
    expected = torch.linspace(-1, 999, 101).int().flip(0)[:-1].tolist()
    assert scheduler("ddim", 100, "epsilon").timesteps.tolist() == expected
