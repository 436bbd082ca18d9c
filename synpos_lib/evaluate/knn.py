"""k nearest neighbours: the k most similar training features vote, weighted by exp(cos / T).

score(c) = sum_{i in kNN(z), y_i = c} exp(cos(z, z_i) / 0.07),   k = 20
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 20) -> float:
    """Share of the test features whose neighbours vote for the correct label; see `knn_hits`."""
    return int(knn_hits(train, labels, test, test_labels, k=k).sum()) / len(test)


def knn_hits(
    train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """For each test feature, whether its neighbours vote for the correct label."""
    classes, hits = int(max(labels.max(), test_labels.max())) + 1, []
    train, test = F.normalize(train.float(), dim=1), F.normalize(test.float(), dim=1)
    labels, test_labels = labels.to(train.device), test_labels.to(train.device)
    size = part_size(len(train))
    for z, y in zip(test.split(size), test_labels.split(size), strict=True):
        similarity, index = (z @ train.T).topk(min(k, len(train)), dim=1)  # (B, k), nearest first
        votes = ((similarity - 1) / temperature).exp()
        score = torch.zeros(len(z), classes, device=z.device).scatter_add_(1, labels[index], votes)
        hits.append(score.argmax(1) == y)
    return torch.cat(hits).cpu()


def part_size(n: int) -> int:
    """How many features to compare with n others at a time: 1000, or so many that the cosines take 128 MB."""
    return max(1, min(1000, 2**25 // n))
