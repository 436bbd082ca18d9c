"""SupCon: SimCLR in which all images of a class are positives; the only method here that sees labels.

    L = -1/2B sum_i 1/|P(i)| sum_{p in P(i)} log( exp(z_i . z_p / tau) / sum_{k != i} exp(z_i . z_k / tau) )

with P(i) the other views of the same class (the mean outside the logarithm, "L_out").
https://arxiv.org/abs/2004.11362

Differs from the reference in: no factor tau / 0.07 before the loss. solo-learn, whose number the CLSP
poster cites, takes the logarithm of the sum instead ("L_in") and a head of 2048-256; the released CLSP code has
the form and the head used here, but trains with SGD at 0.5 for batches of 1024, where this companion keeps
solo-learn's 0.4 for 256. So neither published number is of exactly this recipe.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.methods.parts import Loss, full_precision, gather
from synpos_lib.methods.simclr import SimCLR


@full_precision
def supervised_contrast(z0: Tensor, z1: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
    z = F.normalize(torch.cat([z0, z1]), dim=1)  # (2B, D)
    y = labels.repeat(2)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_p = (z @ z.T / temperature).masked_fill(itself, -torch.inf).log_softmax(1)  # (2B, 2B)
    positive = (y[:, None] == y) & ~itself
    return -(log_p.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()


class SupCon(SimCLR):
    def loss(self, views: list[Tensor], positive: Tensor | None = None, labels: Tensor | None = None) -> Loss:
        if labels is None:
            raise Problem("SupCon needs the labels of the batch: choose a labelled data set, or another method")
        z0, z1 = self.embed(*views)
        total = supervised_contrast(z0, z1, gather(labels), temperature=self.temperature)
        return total, {"supcon": total.detach()}
