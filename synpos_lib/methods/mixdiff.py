"""MixDiff: the second view is a synthetic variation of the image; the method's loss stays as it is.

    L = L_base(z(T(x)), z(T'(x~))),   x~ = variation of x

https://arxiv.org/abs/2406.12368

Differs from the reference in: `ratio` below 1 leaves the other images of a batch their two real views (the
released code replaces all).
"""

import torch
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.methods.parts import Loss, Method, Wrapper


class MixDiff(Wrapper):
    def __init__(
        self,
        base: Method,
        *,
        ratio: float = 1.0,  # share of the images whose second view is synthetic
    ):
        super().__init__(base)
        if not 0 <= ratio <= 1:
            raise Problem(f"ratio is a share between 0 and 1, not {ratio}")
        self.ratio = ratio

    def loss(self, views: list[Tensor], positive: Tensor | None = None) -> Loss:
        if positive is None:
            raise Problem("MixDiff needs a variation of every image: pass them as the positives")
        mixed = round(self.ratio * len(positive))  # batches are shuffled, so the first ones are any ones
        return self.base.loss([views[0], torch.cat([positive[:mixed], views[1][mixed:]])])
