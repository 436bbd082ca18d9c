"""NNCLR: the positive is not the other view but its nearest neighbour among earlier images.

    L = 1/2 [ CE(nn(z0) p1^T / tau) + CE(nn(z1) p0^T / tau) ],   nn(z) = argmax_{q in Q} cos(z, q),   p = predictor(z)

Q is a queue of earlier projections of the first view. https://arxiv.org/abs/2104.14548

Differs from the reference in: sizes as in solo-learn's CIFAR settings; only rows are contrasted, not
columns too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Method, Queue, full_precision, mlp


@full_precision
def neighbour_contrast(nn0: Tensor, p1: Tensor, *, temperature: float) -> Tensor:
    logits = F.normalize(nn0, dim=1) @ F.normalize(p1, dim=1).T / temperature  # (B, B)
    return F.cross_entropy(logits, torch.arange(len(nn0), device=nn0.device))


class NNCLR(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 2048,
        predictor_hidden: int = 4096,
        out: int = 256,
        temperature: float = 0.2,
        queue_size: int = 65536,
    ):
        super().__init__(encoder, mlp(width, hidden, hidden, out, norm_last=True))
        self.predictor = mlp(out, predictor_hidden, out)
        self.temperature = temperature
        self.queue = Queue(queue_size, out)

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        p0, p1 = self.predictor(z0), self.predictor(z1)
        nn0, nn1 = (self.queue.nearest(z.detach())[:, 0] for z in (z0, z1))
        self.queue.enqueue(F.normalize(z0, dim=1))
        first = neighbour_contrast(nn0, p1, temperature=self.temperature)
        total = (first + neighbour_contrast(nn1, p0, temperature=self.temperature)) / 2
        similarity = F.cosine_similarity(nn0, z0.detach()).mean()
        return total, {"neighbour_contrast": total.detach(), "neighbour_similarity": similarity}
