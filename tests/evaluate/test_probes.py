"""The probes find what is there, and nothing where there is nothing."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from synpos_lib.evaluate import probes


@pytest.fixture
def clouds():
    torch.manual_seed(0)
    labels = torch.arange(400) % 4
    z = torch.randn(400, 10) + 2 * torch.nn.functional.one_hot(labels, 10)
    return z[:300], labels[:300], z[300:], labels[300:]


def test_the_linear_probe_agrees_with_scikit_learn(clouds):
    z, y, z_test, y_test = clouds
    peer = RidgeClassifier(alpha=0.01 * 300).fit((z - z.mean(0)) / z.std(0), y)
    expected = peer.score((z_test - z.mean(0)) / z.std(0), y_test)
    assert probes.linear_accuracy(*clouds) == pytest.approx(expected, abs=0.011)


def test_shuffled_labels_are_at_chance(clouds):
    z, y, z_test, y_test = clouds
    guess = probes.linear_accuracy(z, y[torch.randperm(300)], z_test, y_test)
    assert guess < 0.45


def test_tsne_repeats_itself():
    z = torch.randn(60, 5)
    assert np.array_equal(probes.tsne(z, perplexity=10), probes.tsne(z, perplexity=10))


def test_probe_standardises_with_training_features():
    torch.manual_seed(0)
    y = torch.arange(400) % 4
    z = torch.randn(400, 10) + 2 * torch.nn.functional.one_hot(y, 10)
    only = y[300:] == 0
    assert probes.linear_accuracy(z[:300], y[:300], z[300:][only], y[300:][only]) > 0.6
