"""Attacks against foolbox on the same model and batch, and against what the definitions promise."""

import warnings

import pytest
import torch
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.data.images import Images
from synpos_lib.evaluate import adversarial
from synpos_lib.train import classify

EPSILON = 8 / 255


@pytest.fixture(scope="module")
def model():
    """A small network that is sure of some images and unsure of others."""
    torch.manual_seed(0)
    encoder = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    )
    network = classify.Classifier(encoder, 32, {"what": 4})
    nn.init.normal_(network.heads["what"].weight, std=3.0)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(model):
    draw = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=draw)
    labels = classify.predict(model, images)["what"].argmax(1)
    labels[::5] = (labels[::5] + 1) % 4  # some are wrong from the beginning
    return labelled(images, labels)


def labelled(images, labels):
    return Images(images, labels, None, ("a", "b", "c", "d"), "noise", "test", "")


@pytest.fixture(scope="module")
def peer(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox

    class What(nn.Module):
        def forward(self, x):
            return model(x)["what"]

    return foolbox, foolbox.PyTorchModel(What().eval(), bounds=(0, 1), device="cpu")


def logits(model):
    return lambda x: model(x)["what"]


def test_fgsm_is_foolboxs(model, batch, peer):
    foolbox, theirs = peer
    x, y = batch.images.float() / 255, batch.labels
    for epsilon in (1 / 255, EPSILON):
        _, expected, _ = foolbox.attacks.FGSM()(theirs, x, y, epsilons=epsilon)
        assert torch.allclose(adversarial.fgsm(logits(model), x, y, epsilon), expected, atol=1e-6)


def test_pgd_is_foolboxs(model, batch, peer):
    foolbox, theirs = peer
    x, y = batch.images.float() / 255, batch.labels
    attack = foolbox.attacks.LinfPGD(steps=7, abs_stepsize=2 / 255, random_start=False)
    _, expected, _ = attack(theirs, x, y, epsilons=EPSILON)
    attacked = adversarial.pgd(logits(model), x, y, EPSILON, step=2 / 255, steps=7, start=x)
    assert torch.allclose(attacked, expected, atol=1e-6)


def test_accuracy_under_attack_is_foolboxs(model, batch, peer):
    """The whole table, with the same random starts: robust accuracy is one minus foolbox's success."""
    foolbox, theirs = peer
    images, labels = batch.images, batch.labels
    rows = adversarial.attacks(model, batch, n=40, epsilons=(EPSILON,), steps=5, restarts=2, batch=40)
    rates = {row["metric"].split()[0]: row["value"] for row in rows}
    x = images.float() / 255
    _, _, fooled = foolbox.attacks.FGSM()(theirs, x, labels, epsilons=EPSILON)
    assert rates["FGSM"] == pytest.approx(1 - fooled.double().mean().item())
    draw = runtime.generator(0, "attack", 0)
    ever = torch.zeros(40, dtype=torch.bool)
    for _ in range(2):
        start = (x + EPSILON * (2 * torch.rand(x.shape, generator=draw) - 1)).clamp(0, 1)
        attack = foolbox.attacks.LinfPGD(steps=5, abs_stepsize=2.5 * EPSILON / 5, random_start=True)
        attack.get_random_start = lambda x0, epsilon, start=start: attack_start(foolbox, start)
        _, _, fooled = attack(theirs, x, labels, epsilons=EPSILON)
        ever |= fooled
    clean = (theirs(x).argmax(1) == labels).double().mean().item()
    assert rates["clean"] == pytest.approx(clean)
    assert rates["PGD"] == pytest.approx(1 - ever.double().mean().item())
    assert 0 < rates["PGD"] < rates["clean"]


def attack_start(foolbox, start):
    import eagerpy

    return eagerpy.astensor(start)


def test_on_a_linear_model_fgsm_is_optimal():
    """f(x) = (w x, 0): the loss of class 0 grows fastest by eps |w|_1, and no attack in the box does better."""
    w = torch.tensor([0.5, -1.0, 2.0])

    def f(x):
        score = x.flatten(1) @ w
        return torch.stack([score, torch.zeros_like(score)], 1)

    x, y = torch.full((1, 3, 1, 1), 0.5), torch.tensor([0])
    moved = adversarial.fgsm(f, x, y, 0.1)
    assert torch.allclose(f(x)[:, 0] - f(moved)[:, 0], 0.1 * w.abs().sum())
    pushed = adversarial.pgd(f, x, y, 0.1, step=0.03, steps=10, start=x)
    assert torch.allclose(pushed, moved)


def test_attacks_stay_in_the_box_and_leave_the_model_alone(model, batch):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, y = batch.images.float() / 255, batch.labels
    start = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    state = torch.random.get_rng_state()
    for moved in (
        adversarial.fgsm(logits(model), x, y, EPSILON),
        adversarial.pgd(logits(model), x, y, EPSILON, step=0.02, steps=5, start=start),
    ):
        assert (moved - x).abs().max() <= EPSILON + 1e-6 and moved.min() >= 0 and moved.max() <= 1
    adversarial.attacks(model, batch, n=40, epsilons=(EPSILON,), steps=2, restarts=2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_more_room_and_more_restarts_can_only_hurt(model, batch):
    def ask(epsilon, restarts):
        rows = adversarial.attacks(model, batch, n=40, epsilons=(epsilon,), steps=4, restarts=restarts)
        return next(row["value"] for row in rows if row["metric"].startswith("PGD"))

    assert ask(EPSILON, 1) >= ask(EPSILON, 3)
    assert ask(1e-6, 1) >= ask(EPSILON, 1)
    rows = adversarial.attacks(model, batch, n=40, epsilons=(EPSILON,), steps=2, restarts=1)
    assert [row["metric"] for row in rows] == ["clean", "FGSM 8", "PGD 8"] and all(row["n"] == 40 for row in rows)
    few = adversarial.attacks(model, batch, n=10, epsilons=(), steps=2, restarts=1)
    assert few == [{"target": "noise", "factor": "what", "metric": "clean", "value": 0.8, "n": 10}]


class Bright(nn.Module):
    """Sees class 1 in what is bright."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, x):
        s = x.mean((1, 2, 3)) * self.w
        return {"what": torch.stack([0 * s + 0.1, s], 1)}


def test_an_image_is_right_only_if_every_start_fails(monkeypatch):
    """The k-th start fools the k-th image only, so three starts fool three of five."""
    starts = []

    def pgd(f, x, y, epsilon, *, step, steps, start):
        starts.append(len(starts))
        fooled = x.clone()
        fooled[starts[-1]] = 0
        return fooled

    monkeypatch.setattr(adversarial, "pgd", pgd)
    test = labelled(torch.full((5, 3, 4, 4), 200, dtype=torch.uint8), torch.ones(5, dtype=torch.long))
    rows = adversarial.attacks(Bright(), test, n=5, epsilons=(1 / 255,), steps=20, restarts=3)
    assert {row["metric"]: row["value"] for row in rows}["PGD 1"] == pytest.approx(2 / 5)
