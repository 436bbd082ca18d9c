"""MoCo v2: contrast a view with its other view's key and with a long queue of earlier keys.

    L = 1/2 [ l(q0, k1, Q1) + l(q1, k0, Q0) ]
    l(q, k, Q) = -log( exp(q . k / tau) / (exp(q . k / tau) + sum_{n in Q} exp(q . n / tau)) )

Keys come from a momentum copy of the network; Q0 and Q1 hold the keys of either view.
https://arxiv.org/abs/2003.04297

Differs from the reference in: symmetric, two queues, momentum from 0.99 to 0.999, and a head of 4096-256
units: all as in the released CLSP code; no shuffled BatchNorm. The momentum network moves after the step
instead of before it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Momentum, Queue, full_precision, mlp


@full_precision
def info_nce(q: Tensor, k: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    positive = (q * k).sum(1, keepdim=True)  # (B, 1)
    logits = torch.cat([positive, q @ queue.T], dim=1) / temperature  # (B, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long, device=q.device))


class MoCoV2(Momentum):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 4096,  # units; the released runs
        out: int = 256,
        temperature: float = 0.2,
        queue_size: int = 32768,  # keys per view; the released runs
        tau: tuple[float, float] = (0.99, 0.999),  # momentum at the start and at the end
    ):
        super().__init__(encoder, mlp(width, hidden, out, norm=False), tau=tau)
        self.temperature = temperature
        self.queue0, self.queue1 = Queue(queue_size, out), Queue(queue_size, out)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        q0, q1 = F.normalize(z0, dim=1), F.normalize(z1, dim=1)
        k0, k1 = (F.normalize(k, dim=1) for k in self.embed_target(*views))
        total = (self.contrast(q0, k1, self.queue1.keys) + self.contrast(q1, k0, self.queue0.keys)) / 2
        self.queue0.enqueue(k0)
        self.queue1.enqueue(k1)
        return total, {"info_nce": total.detach()}

    def contrast(self, q: Tensor, k: Tensor, queue: Tensor) -> Tensor:
        return info_nce(q, k, queue, temperature=self.temperature)
