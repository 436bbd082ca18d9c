"""k nearest neighbours: the k most similar training features vote, weighted by exp(cos / T).

score(c) = sum_{i in kNN(z), y_i = c} exp(cos(z, z_i) / 0.07),   k = 20
"""

import torch
import torch.nn.functional as F
from torch import Tensor

OFFICIAL_K = (5, 10, 20, 50, 100, 200)


def knn_accuracy(
    train: Tensor,
    labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of the test features whose neighbours vote for the right label."""
    return _accuracies(train, labels, test, test_labels, (k,), temperature)[k]


def official_knn(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> dict[str, float]:
    """What the released code reports: the best k **on the test set**; only for comparison with published numbers."""
    accuracies = _accuracies(train, labels, test, test_labels, OFFICIAL_K, 0.07)
    k = max(accuracies, key=accuracies.get)
    return {"accuracy, k chosen on test": accuracies[k], "k": k}


def _accuracies(train, labels, test, test_labels, ks: tuple[int, ...], temperature: float) -> dict[int, float]:
    classes = int(max(labels.max(), test_labels.max())) + 1
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    labels, test_labels = labels.to(train.device), test_labels.to(train.device)
    hits = dict.fromkeys(ks, 0)
    for z, y in zip(test.split(1000), test_labels.split(1000), strict=True):
        similarity, index = (z @ train.T).topk(min(max(ks), len(train)), dim=1)  # (B, k), nearest first
        votes = ((similarity - 1) / temperature).exp()
        for k in ks:
            score = torch.zeros(len(z), classes, device=z.device)
            score.scatter_add_(1, labels[index[:, :k]], votes[:, :k])
            hits[k] += int((score.argmax(1) == y).sum())
    return {k: count / len(test) for k, count in hits.items()}
