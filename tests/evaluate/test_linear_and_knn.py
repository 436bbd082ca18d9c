"""Both protocols for both factors, each as its own module does it."""

import pytest
import torch

from synpos_lib.data import catalog, views
from synpos_lib.evaluate import linear, linear_and_knn
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen


@pytest.fixture
def encoder(full_precision):
    torch.manual_seed(0)
    return Frozen(*encoders.small_encoder((8, 8, 16)), *views.NORMALIZATION["other"])


def test_linear_and_knn_are_the_two_protocols_for_each_factor(encoder):
    train, test = catalog.load("scenes", "train", n=120), catalog.load("scenes", "test", n=60)
    rows = linear_and_knn.linear_and_knn(encoder, train, test, seed=2)
    expected = []
    for factor, y, truth in (("what", train.labels, test.labels), ("where", train.where, test.where)):
        weight, bias = linear.fit(encoder(train.images), encoder(train.images, flip=True), y, seed=2)
        top1 = linear.accuracy(encoder(test.images) @ weight.T + bias, truth)
        near = knn_accuracy(encoder(train.images), y, encoder(test.images), truth)
        expected += [(factor, "linear", top1, 60), (factor, "kNN", near, 60)]
    assert [tuple(row.values()) for row in rows] == expected
