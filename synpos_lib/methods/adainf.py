"""AdaInf: synthetic images as more data, each an image of its own: CLSP's budget without the pairing.

    D = replicate x real images  +  all synthetic images;   any method trains on D, its loss unchanged

https://arxiv.org/abs/2403.12448

Differs from the reference in: augmentation is the method's own (theirs is weaker), and an epoch draws as
many images as there are real ones, so that every arm of a comparison takes the same number of steps.
"""

import torch
from torch import Tensor


def inflate(
    n: int,
    k: int,
    *,
    replicate: int = 10,  # copies of the real data per copy of the synthetic data; the paper
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """One epoch's n images out of D, as (row, candidate); candidate -1 is the real image itself."""
    drawn = torch.randperm(n * (replicate + k), generator=generator)[:n]
    return drawn % n, (drawn // n - replicate).clamp_min(-1)
