"""Every method trains, keeps its state in order, and sends gradients exactly where its paper does."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from nearly import same_numbers
from torch import nn

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.methods import short
from synpos_lib.methods.adainf import inflate
from synpos_lib.methods.barlow_twins import redundancy
from synpos_lib.methods.clsp import CLSP, pull
from synpos_lib.methods.mixdiff import MixDiff
from synpos_lib.methods.parts import Queue, cosine, ema_update
from synpos_lib.methods.simclr import nt_xent
from synpos_lib.methods.table import METHODS

SMALL = {"hidden": 16, "out": 16, "predictor_hidden": 16, "queue_size": 24, "prototypes": 6, "group": 4}
SMALL |= {"size": 8, "noise": 4, "channels": 4}
BASES = [name for name, recipe in METHODS.items() if recipe.role == "none"]


def small_encoder(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())


def small(name, seed=0, **hyperparameters):
    encoder = small_encoder(seed)
    known = methods.hyperparameters(name)
    settings = {key: value for key, value in SMALL.items() if key in known} | hyperparameters
    return methods.build(name, encoder, 32, **settings)


def images(seed=0, batch=8, count=3):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, 8, 8, generator=draw) for _ in range(count)]


def loss_of(method, name, seed=0):
    view0, view1, positive = images(seed)
    if methods.recipe(name).needs_labels:
        return method.loss([view0, view1], labels=torch.arange(8) // 2)
    if methods.recipe(name).role in ("pull", "third view", "second view"):
        return method.loss([view0, view1], positive)
    return method.loss([view0, view1])


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps(name):
    method = small(name)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
    before = copy.deepcopy(method.encoder.state_dict())
    for step in range(4):
        total, parts = loss_of(method, name, seed=step)
        assert total.dim() == 0 and total.isfinite()
        assert parts and all(p.dim() == 0 and not p.requires_grad for p in parts.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        method.after_step((step + 1) / 4)
    assert not torch.equal(before["0.weight"], method.encoder.state_dict()["0.weight"])


@pytest.mark.parametrize("name", BASES)
def test_state_is_complete(name):
    """A method restored from its state goes on exactly like the original."""
    original = small(name)
    loss_of(original, name, 1)
    original.after_step(0.3)
    restored = small(name, seed=5)
    restored.load_state_dict(original.state_dict())
    losses = []
    for method in (original, restored):
        torch.manual_seed(3)
        losses.append(loss_of(method, name, 2)[0])
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", [name for name in BASES if name not in ("supcon", "clgan")])
def test_lambda_zero_is_the_base_bit_for_bit(name):
    base = small(name)
    wrapped = CLSP(copy.deepcopy(base), pull_weight=0.0)
    results = []
    for method in (base, wrapped):
        torch.manual_seed(7)
        view0, view1, positive = images()
        total, _ = method.loss([view0, view1], *([positive] if method is wrapped else []))
        total.backward()
        method.after_step(0.5)
        results.append((total, method))
    assert torch.equal(results[0][0], results[1][0])
    for ours, theirs in zip(base.parameters(), wrapped.base.parameters(), strict=True):
        assert (ours.grad is None and theirs.grad is None) or torch.equal(ours.grad, theirs.grad)
    for key, value in base.state_dict().items():
        assert torch.equal(value, wrapped.base.state_dict()[key]), key


def test_clsp_is_the_base_plus_the_pull():
    method = small("clsp-simclr", pull_weight=0.7)
    view0, view1, positive = images()
    z0, z1, z2 = copy.deepcopy(method.base).embed(view0, view1, positive)
    total, parts = method.loss([view0, view1], positive)
    torch.testing.assert_close(total, nt_xent(z0, z1, temperature=0.2) + 0.7 * pull(z0, z2))
    assert set(parts) == {"nt_xent", "pull"}


def test_the_pull_moves_both_sides():
    z, z_positive = (torch.randn(4, 8, requires_grad=True) for _ in range(2))
    pull(z, z_positive).backward()
    assert z.grad.abs().sum() > 0 and z_positive.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "passes"), [("clsp-simclr", [24]), ("clsp-mocov2", [8, 8, 8])])
def test_positives_share_batchnorm_statistics_with_the_views_where_these_share_theirs(name, passes):
    method, sizes = small(name), []
    method.encoder.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    method.loss(images()[:2], images()[2])
    assert sizes == passes


def test_the_weight_of_the_pull_and_barlows_own_lambda_are_set_apart():
    method = small("clsp-barlow", pull_weight=0.3, lambda_=0.7)
    z0, z1, z2 = copy.deepcopy(method.base).embed(*images())
    total, _ = method.loss(images()[:2], images()[2])
    on, off = redundancy(z0, z1)
    torch.testing.assert_close(total, 0.1 * (on + 0.7 * off) + 0.3 * pull(z0, z2))


def test_mixdiff_replaces_the_second_view():
    base = small("simclr")
    view0, view1, positive = images()
    full = MixDiff(copy.deepcopy(base)).loss([view0, view1], positive)[0]
    assert torch.equal(full, copy.deepcopy(base).loss([view0, positive])[0])
    none = MixDiff(copy.deepcopy(base), ratio=0.0).loss([view0, view1], positive)[0]
    assert torch.equal(none, copy.deepcopy(base).loss([view0, view1])[0])
    half = MixDiff(copy.deepcopy(base), ratio=0.5).loss([view0, view1], positive)[0]
    assert torch.equal(half, copy.deepcopy(base).loss([view0, torch.cat([positive[:4], view1[4:]])])[0])


def test_adainf_draws_from_real_and_synthetic_images_in_proportion():
    rows, candidates = inflate(1000, 8, generator=torch.Generator().manual_seed(0))
    assert len(rows) == 1000 and rows.min() >= 0 and rows.max() < 1000
    assert candidates.min() == -1 and candidates.max() == 7
    assert (candidates == -1).float().mean().item() == pytest.approx(10 / 18, abs=0.05)
    made = [pair for pair in zip(rows.tolist(), candidates.tolist(), strict=True) if pair[1] >= 0]
    assert len(set(made)) == len(made)  # no synthetic image twice


@pytest.mark.parametrize("name", [name for name in BASES if small(name).target_encoder is not None])
def test_momentum_networks_follow_without_gradient(name):
    method = small(name, tau=(0.9, 0.9))
    assert not any(p.requires_grad for p in method.target_encoder.parameters())
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1.0)
    before = [p.clone() for p in method.target_encoder.parameters()]
    total, _ = loss_of(method, name)
    total.backward()
    method.after_step(0.0)
    for p, was, online in zip(method.target_encoder.parameters(), before, method.encoder.parameters(), strict=True):
        assert p.grad is None
        torch.testing.assert_close(p.data, 0.9 * was + 0.1 * online.data)


def test_ema_closed_form():
    online, target = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    start = target.weight.clone()
    for _ in range(10):
        ema_update(target, online, 0.8)
    torch.testing.assert_close(target.weight, 0.8**10 * start + (1 - 0.8**10) * online.weight.data)


def test_momentum_schedule():
    assert cosine(0.99, 0.999, 0.0) == pytest.approx(0.99) and cosine(0.99, 0.999, 1.0) == 0.999
    assert cosine(0.99, 1.0, 0.25) == pytest.approx(1 - 0.01 * (math.cos(math.pi / 4) + 1) / 2)


def test_queue_is_first_in_first_out_and_wraps():
    queue = Queue(5, 2)
    rows = [torch.full((3, 2), float(i)) + torch.arange(3)[:, None] / 10 for i in range(3)]
    for batch in rows:
        queue.push(batch)
    newest = torch.cat(rows)[-5:]
    order = (torch.arange(5) + queue.pointer) % 5  # from the oldest to the newest
    assert torch.equal(queue.keys[order], newest)


def test_nearest_neighbours():
    queue = Queue(6, 4)
    z = torch.randn(3, 4)
    similarity = F.normalize(z, dim=1) @ queue.keys.T
    assert torch.equal(queue.nearest(z)[:, 0], queue.keys[similarity.argmax(1)])
    assert queue.nearest(z, 5).shape == (3, 5, 4)


def test_moco_enqueues_the_keys_of_both_views_after_the_step():
    method = small("mocov2")
    views = images(count=2)
    before = method.queue0.keys.clone()
    k0, k1 = (F.normalize(k, dim=1) for k in copy.deepcopy(method).embed_target(*views))
    method.loss(views)
    assert torch.equal(method.queue0.keys, before)
    method.after_step(0.0)
    torch.testing.assert_close(method.queue0.keys[:8], k0)
    torch.testing.assert_close(method.queue1.keys[:8], k1)
    assert torch.equal(method.queue0.keys[8:], before[8:]) and method.queue0.pointer == 8


def test_clsp_keeps_positives_out_of_the_queue():
    method = small("clsp-mocov2")
    view0, view1, positive = images()
    plain = copy.deepcopy(method.base)
    method.loss([view0, view1], positive)
    plain.loss([view0, view1])
    for m in (method, plain):
        m.after_step(0.5)
    assert torch.equal(method.base.queue0.keys, plain.queue0.keys)


@pytest.mark.parametrize("name", ["dino", "swav"])
def test_prototypes_are_frozen_at_first(name):
    method = small(name)
    loss_of(method, name)[0].backward()
    assert method.prototypes.grad is None
    method.after_step(0.5)
    loss_of(method, name)[0].backward()
    assert method.prototypes.grad.abs().sum() > 0


def test_dino_centre():
    method = small("dino")
    views = images(count=2)
    from synpos_lib.methods.dino import scores

    t = torch.cat([scores(z, method.target_prototypes) for z in copy.deepcopy(method).embed_target(*views)])
    method.loss(views)
    method.after_step(0.0)
    torch.testing.assert_close(method.center, 0.1 * t.mean(0))


def test_swav_uses_its_queue_when_it_is_time():
    method = small("swav")
    scores = torch.randn(8, 6)
    early = method.codes(scores, method.queue0)
    method.after_step(0.5)
    assert not same_numbers(early, method.codes(scores, method.queue0))


def test_clgan_plays_a_min_max_game():
    """The contrastive gradient reaches encoder and generators with opposite signs; the critic's part is its own."""
    torch.manual_seed(0)
    method = small("clgan", hardness=1.0)
    method.after_step(0.5)
    method.critic.eval()  # holds its spectral norms still
    n = torch.randn(4, 4)
    x0, x1 = (2.5 * g(n) for g in (method.generator0, method.generator1))
    made = [x0.detach().requires_grad_(), x1.detach().requires_grad_()]
    from synpos_lib.methods.clgan import Reverse

    gradients = []
    for reverse in (False, True):
        z0, z1 = method.embed(*(Reverse.apply(x, 1.0) if reverse else x for x in made))
        gradients.append(torch.autograd.grad(nt_xent(z0, z1, temperature=0.2), made[0])[0])
    torch.testing.assert_close(gradients[0], -gradients[1])
    total, parts = method.adversarial(images(count=2), [x0, x1])
    generators_only = torch.autograd.grad(total, [*method.critic.parameters()], retain_graph=True)
    critic_only = torch.autograd.grad(
        method.adversarial(images(count=2), [x.detach() for x in (x0, x1)])[0], [*method.critic.parameters()]
    )
    for ours, theirs in zip(generators_only, critic_only, strict=True):
        torch.testing.assert_close(ours, theirs)


# ------------------------------------------------------------------------------------------- bad input


def test_a_short_training_of_a_small_encoder_has_small_heads_short_queues_few_prototypes_and_a_short_memory():
    sizes = {"width": 64, "images": 1_500, "batch": 64, "steps": 900}
    fit = {name: short.sizes(name, **sizes) for name in METHODS}
    assert fit["simclr"] == fit["mixdiff-simclr"] == {"hidden": 512, "out": 128}  # 4096 and 256, by 64 / 512
    assert fit["barlow"] == {"hidden": 256, "out": 256}
    assert fit["clsp-simclr"] == fit["simclr-aug"] == fit["simclr"]
    assert fit["mocov2"]["queue_size"] == 93 and short.sizes("mocov2", **sizes | {"images": 100})["queue_size"] == 64
    assert fit["mocov2"]["tau"] == (1 - 30 / 900, 0.999) and fit["byol"]["tau"] == (1 - 30 / 900, 1.0)
    assert fit["nnclr"]["queue_size"] == fit["all4one"]["queue_size"] == 1_500 and fit["swav"]["queue_size"] == 187
    assert short.turn("byol", {"tau": (0.0, 1.0)}, "tau", 0.25) == {"tau": (0.0, 1.0)}  # no memory has no quarter
    assert short.turn("byol", {"tau": (0.96, 1.0)}, "tau", 0.5)["tau"] == pytest.approx((0.92, 1.0))
    assert fit["dino"]["prototypes"] == 123 and fit["swav"]["prototypes"] == 90
    for name, changed in fit.items():
        methods.build(name, torch.nn.Flatten(), 12, **changed)


def test_a_training_of_the_papers_size_changes_nothing():
    for name in METHODS:
        changed = short.sizes(name, width=512, images=1_281_167, batch=256, steps=200_000)
        assert {key: methods.hyperparameters(name)[key] for key in changed} == changed


def test_all_that_pull_share_a_row_and_what_has_no_row_trains_as_the_method_inside(monkeypatch):
    sizes = {"width": 64, "images": 1_500, "batch": 64, "steps": 900}
    rows = {
        "simclr": (5e-4, "temperature", 0.5),
        "clsp-simclr": (1e-3, "temperature", 1.0),
        "adainf-simclr": (4e-3, "temperature", 2.0),
        "byol": (1e-3, "tau", 2.0),
    }
    monkeypatch.setattr("synpos_lib.methods.short.CHOICES", rows)

    def settings(name):
        rate, changed = short.settings(name, **sizes)
        return rate, changed.get("temperature", 0.2)

    assert settings("simclr") == settings("synthetic-simclr") == settings("mixdiff-simclr") == (5e-4, 0.1)
    assert settings("clsp-simclr") == settings("simclr-aug") == settings("clsp-simclr-noaug") == (1e-3, 0.2)
    assert settings("adainf-simclr") == (4e-3, 0.4)
    start, end = short.settings("clsp-byol", **sizes)[1]["tau"]
    assert 1 / (1 - start) == pytest.approx(60) and end == 1.0  # twice the thirtieth of 900 steps


def test_what_a_recipe_says_of_labels_and_augmentation():
    needs = {name: methods.recipe(name).needs_labels for name in METHODS}
    assert [name for name, labels in needs.items() if labels] == ["supcon"]
    plain = [name for name in METHODS if methods.recipe(name).plain_views]
    assert plain == [name for name in METHODS if name.endswith("-noaug")] and "clsp-byol-noaug" in plain
    families = {"contrast", "prediction", "clusters", "decorrelation", "neighbours", "labels"}
    assert {recipe.family for recipe in METHODS.values()} == families
    assert methods.recipe("byol").family == methods.recipe("clsp-byol").family == "prediction"


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(Problem, match="did you mean 'clsp-simclr'"):
        methods.recipe("clps-simclr")
    with pytest.raises(Problem, match="did you mean 'temperature'"):
        methods.build("simclr", small_encoder(), 32, temprature=0.1)


def test_missing_or_useless_inputs():
    view0, view1, positive = images()
    with pytest.raises(Problem, match="needs the labels"):
        small("supcon").loss([view0, view1])
    with pytest.raises(Problem, match="CLSP needs a positive"):
        small("clsp-simclr").loss([view0, view1])
    with pytest.raises(Problem, match="no use for positives"):
        small("simclr").loss([view0, view1], positive)


def test_batches_that_are_too_small_or_too_large():
    with pytest.raises(Problem, match="a batch of 1 is too small"):
        small("simclr").loss([x[:1] for x in images(count=2)])
    method = small("mocov2", queue_size=4)
    method.loss(images(count=2))
    with pytest.raises(Problem, match="a queue of 4 cannot take a batch of 8"):
        method.after_step(0.1)


def test_every_method_says_how_it_differs():
    import importlib
    import pathlib

    folder = pathlib.Path(methods.__file__).parent
    for path in folder.glob("*.py"):
        if path.stem not in ("__init__", "parts", "short", "table"):
            text = importlib.import_module(f"synpos_lib.methods.{path.stem}").__doc__
            assert "https://arxiv.org/abs/" in text and "Differs from the reference in" in text, path.stem


def test_names_need_no_torch():
    import subprocess
    import sys

    code = "import sys; from synpos_lib import methods; methods.recipe('byol'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
