"""Two cached feature sets give the very training that encoding every image anew in every epoch gives."""

import copy

import pytest
import torch
import torch.nn.functional as F
from nearly import same_numbers
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.data import views
from synpos_lib.evaluate import linear
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
    weight, bias = linear.fit(frozen(images), frozen(images, flip=True), labels, **settings)
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
