"""Weighted kNN against a naive transcription of its formula."""

import math

import pytest
import torch
import torch.nn.functional as F

from synpos_lib.evaluate.knn import knn_accuracy


def features(n, seed, classes=4, noise=0.6):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=draw)
    return torch.eye(classes)[labels] + noise * torch.randn(n, classes, generator=draw), labels


def naive(train, labels, test, test_labels, k, temperature):
    hits = 0
    for z, y in zip(F.normalize(test, dim=1), test_labels, strict=True):
        near = sorted(range(len(train)), key=lambda i: -float(F.normalize(train[i], dim=0) @ z))[:k]
        votes = {}
        for i in near:
            cosine = float(F.normalize(train[i], dim=0) @ z)
            votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + math.exp(cosine / temperature)
        hits += max(votes, key=votes.get) == int(y)
    return hits / len(test)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_equals_the_formula(k):
    data = (*features(80, 0), *features(40, 1))
    assert knn_accuracy(*data, k=k) == pytest.approx(naive(*data, k, 0.07))


def test_k_larger_than_the_training_set():
    data = (*features(10, 0), *features(20, 1))
    assert knn_accuracy(*data, k=200) == pytest.approx(naive(*data, 10, 0.07))
