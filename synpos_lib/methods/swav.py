"""SwAV: predict from one view the prototype assignment (code) of the other; codes use all prototypes equally.

    L = 1/2 [ H(Q0, P1) + H(Q1, P0) ],   P = softmax(z C^T / tau),   Q = Sinkhorn(z C^T),   |z| = |c| = 1

https://arxiv.org/abs/2006.09882

Differs from the reference in: two views and no small crops, sizes as in solo-learn's CIFAR settings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.dino import scores
from synpos_lib.methods.parts import Loss, Method, Progress, Queue, full_precision, mlp


@full_precision
def swapped_prediction(s: Tensor, q: Tensor, *, temperature: float) -> Tensor:
    return -(q * (s / temperature).log_softmax(1)).sum(1).mean()


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int = 3) -> Tensor:
    """Codes Q = diag(u) exp(scores / epsilon) diag(v) with rows that sum to 1 and columns used equally.

    In logarithms, so that no exponential overflows.
    """
    log_q = scores.float() / epsilon  # (B, K)
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp()


class SwAV(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        prototypes: int = 3000,
        temperature: float = 0.1,
        epsilon: float = 0.05,  # entropy of the codes; lower is sharper
        queue_size: int = 3840,  # projections per view that help to balance the codes of a small batch
        queue_from: float = 0.05,  # share of the training after which the queue is used: epoch 50 of 1000
        frozen: float = 0.002,  # share of the training in which the prototypes stay as they are: 2 epochs of 1000
    ):
        super().__init__(encoder, mlp(width, hidden, out))
        self.temperature, self.epsilon, self.queue_from, self.frozen = temperature, epsilon, queue_from, frozen
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, out), dim=1))
        self.queue0, self.queue1 = Queue(queue_size, out), Queue(queue_size, out)
        self.progress = Progress()

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        prototypes = self.prototypes.detach() if self.progress.share < self.frozen else self.prototypes
        s0, s1 = (scores(z, prototypes) for z in (z0, z1))  # (B, prototypes)
        q0, q1 = self.codes(s0, self.queue0), self.codes(s1, self.queue1)
        self.queue0.enqueue(F.normalize(z0, dim=1))
        self.queue1.enqueue(F.normalize(z1, dim=1))
        first = swapped_prediction(s1, q0, temperature=self.temperature)
        total = (first + swapped_prediction(s0, q1, temperature=self.temperature)) / 2
        return total, {"swapped_prediction": total.detach()}

    @torch.no_grad()
    def codes(self, s: Tensor, queue: Queue) -> Tensor:
        """Balanced assignments of the batch, together with the queue once that is in use."""
        rows = s
        if self.progress.share >= self.queue_from:
            rows = torch.cat([s, scores(queue.keys, self.prototypes)])
        return sinkhorn(rows, epsilon=self.epsilon)[: len(s)]
