"""SimCLR: two views of an image should be more alike than any other two images of the batch.

    L = -1/2B sum_i log( exp(z_i . z_j(i) / tau) / sum_{k != i} exp(z_i . z_k / tau) ),   |z| = 1

with j(i) the other view of image i and k over all 2B views (NT-Xent). https://arxiv.org/abs/2002.05709

Differs from the reference in: the head has no BatchNorm and 4096-256 units, SGD replaces LARS, no blur: all
as in the released CLSP code, which it is compared with.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.methods.parts import Loss, Method, full_precision, mlp


@full_precision
def nt_xent(z0: Tensor, z1: Tensor, *, temperature: float) -> Tensor:
    z = F.normalize(torch.cat([z0, z1]), dim=1)  # (2B, D)
    s = z @ z.T / temperature  # (2B, 2B)
    s = s.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf)
    other_view = torch.arange(len(z), device=z.device).roll(len(z0))
    return F.cross_entropy(s, other_view)


class SimCLR(Method):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        hidden: int = 4096,  # units; the released runs
        out: int = 256,
        temperature: float = 0.2,  # the released runs
    ):
        super().__init__(encoder, mlp(width, hidden, out, norm=False))
        self.temperature = temperature

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        total = nt_xent(z0, z1, temperature=self.temperature)
        return total, {"nt_xent": total.detach()}
