"""Two cached feature sets give the training that encoding every image anew gives; few images are fitted to the end."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from nearly import same_numbers
from sklearn.linear_model import LogisticRegression
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.data import catalog, views
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.results import tables
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen


def data(n, seed):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (n,), generator=draw)
    colours = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [200, 200, 60]])
    noise = torch.randint(0, 50, (n, 3, 8, 8), generator=draw)
    images = (colours[labels][:, :, None, None] + noise).to(torch.uint8)
    return images, labels


@pytest.fixture
def frozen(full_precision):
    torch.manual_seed(0)
    network, width = encoders.small_encoder((8, 8, 16))
    return Frozen(network, width, *views.NORMALIZATION["other"])


def slow(encoder, images, labels, epochs, milestones, batch, seed):
    """The protocol as it is usually written: a data loader with flips, an nn.Linear, SGD, a schedule."""
    draw = runtime.generator(seed, "linear")
    layer = nn.Linear(encoder.width, 4)
    weight, bias = ((2 * torch.rand(*size, generator=draw) - 1) / encoder.width**0.5 for size in ((4, 16), (4,)))
    layer.load_state_dict({"weight": weight, "bias": bias})
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=draw)
        coin = torch.randint(2, (len(images),), generator=draw)
        pixels = torch.where(coin[:, None, None, None].bool(), images[order].flip(3), images[order])
        for x, y in zip(pixels.split(batch), labels[order].split(batch), strict=True):
            loss = F.cross_entropy(layer(encoder(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    return layer


def test_equals_the_slow_way(frozen):
    images, labels = data(70, 0)
    settings = {"epochs": 6, "milestones": (3, 5), "batch": 16, "seed": 3}
    layer = slow(frozen, images, labels, **settings)
    weight, bias = linear.sgd(frozen(images), frozen(images, flip=True), labels, **settings)
    assert same_numbers(weight, layer.weight.data) and same_numbers(bias, layer.bias.data)


def test_a_flipped_image_has_the_flipped_feature_set(frozen):
    images, _ = data(10, 0)
    assert same_numbers(frozen(images, flip=True), frozen(images.flip(3)))


def test_learns_and_leaves_the_encoder_bitwise_unchanged(frozen):
    frozen.network[2].eval()  # a mixture of modes has to survive, too
    before, modes = copy.deepcopy(frozen.network.state_dict()), [m.training for m in frozen.network.modules()]
    state = torch.get_rng_state()
    (images, labels), (test, test_labels) = data(300, 0), data(100, 1)
    first, again = (linear.fit(frozen(images), frozen(images, flip=True), labels) for _ in range(2))
    assert linear.accuracy(frozen(test) @ first[0].T + first[1], test_labels) > 0.6
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, frozen.network.state_dict()[key]) for key, value in before.items())
    assert modes == [m.training for m in frozen.network.modules()]


def test_accuracy_is_the_share_of_highest_logits():
    logits = torch.tensor([[9.0, 8, 7], [1, 2, 3], [1, 0, 0]])
    assert linear.accuracy(logits, torch.tensor([0, 0, 0])) == pytest.approx(2 / 3)
    assert linear.accuracy(logits, torch.tensor([1, 2, 1])) == pytest.approx(1 / 3)


@pytest.fixture(scope="module")
def embedded():
    return catalog.load("scenes", "train", n=1500), catalog.load("scenes", "val", n=500)


@pytest.fixture(scope="module", params=["tiny", "small"])
def random_features(request, embedded):
    """Features of an untrained network: of training images, of these mirrored, and of validation images."""
    with runtime.own_randomness(0):
        frozen = Frozen(*encoders.by_name(request.param), *views.NORMALIZATION["other"])
    train, val = embedded
    return frozen(train.images), frozen(train.images, flip=True), train.labels, frozen(val.images), val.labels


def test_an_untrained_network_is_not_better_by_its_neighbours_than_by_a_fitted_layer(random_features):
    plain, flipped, y, z, truth = random_features
    weight, bias = linear.fit(plain, flipped, y)
    hits = round(linear.accuracy(z @ weight.T + bias, truth) * len(z))
    near = round(knn_accuracy(plain, y, z, truth) * len(z))
    assert tables.share(hits, len(z)).high > tables.share(near, len(z)).low


def test_a_longer_fit_finds_the_same_layer(random_features):
    plain, flipped, y, z, truth = random_features
    usual, longer = (linear.lbfgs(plain, flipped, y, tolerance=tolerance) for tolerance in (1e-4, 1e-5))
    logits, further = (z @ weight.T + bias for weight, bias in (usual, longer))
    assert linear.accuracy(logits, truth) == pytest.approx(linear.accuracy(further, truth), abs=0.003)
    torch.testing.assert_close(logits.softmax(1), further.softmax(1), atol=0.02, rtol=0)


def test_the_converged_layer_is_scikit_learns():
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(4, (300,), generator=draw)
    plain = torch.randn(4, 6, generator=draw)[y] + torch.randn(300, 6, generator=draw)
    plain *= torch.logspace(0, -4, 6)  # as an encoder's: some directions hardly vary
    flipped = plain + 0.3 * torch.randn(300, 6, generator=draw) * torch.logspace(0, -4, 6) + 5
    weight, bias = linear.lbfgs(plain.double(), flipped.double(), y, tolerance=1e-9)
    both, labels = torch.cat([plain, flipped]).double().numpy(), torch.cat([y, y]).numpy()
    middle = both.mean(0)
    scaled = (both - middle) / np.sqrt(((both - middle) ** 2).mean())
    exactly = {"solver": "newton-cholesky", "tol": 1e-12}  # lbfgs stops 1e-6 short of the minimum
    model = LogisticRegression(C=1 / (linear.LAMBDA * len(scaled)), **exactly).fit(scaled, labels)
    ours = (torch.from_numpy(both) @ weight.T + bias).softmax(1)
    np.testing.assert_allclose(ours, model.predict_proba(scaled), atol=1e-6)
    usual = linear.fit(plain, flipped, y)
    np.testing.assert_allclose((torch.from_numpy(both).float() @ usual[0].T + usual[1]).softmax(1), ours, atol=2e-3)


def test_a_layer_that_is_not_at_its_minimum_says_so(monkeypatch):
    real = linear.optimize.minimize
    few = lambda *a, options, **o: real(*a, options=options | {"maxiter": 2}, **o)  # noqa: E731
    monkeypatch.setattr(linear.optimize, "minimize", few)
    z = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="not at its minimum for lambda 0.0001"):
        linear.fit(z, z, torch.arange(60) % 3)


@pytest.mark.parametrize(("n", "way"), [(linear.ENOUGH - 1, "converged"), (linear.ENOUGH, "released")])
def test_the_number_of_images_decides_which_protocol_is_used_and_named(n, way, monkeypatch):
    monkeypatch.setattr(linear, "sgd", lambda *a, **o: "released")
    monkeypatch.setattr(linear, "lbfgs", lambda *a, **o: "converged")
    assert linear.fit(torch.zeros(n, 1), torch.zeros(n, 1), torch.zeros(n)) == way
    assert linear.protocol(n).startswith(way)
