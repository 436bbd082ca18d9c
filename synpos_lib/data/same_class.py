"""Same class: positives that are other real images, a chosen share of them of the anchor's class.

    positive = an image of the anchor's class with probability `share`, else one of another class

No model draws them; they are chosen by their labels. A yardstick for generators, not a method.
"""

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.images import Images, row_finder


class SameClass:
    """A generator of positives: other images of a pool that contains the anchors."""

    def __init__(self, pool: Images, share: float) -> None:
        self.images, self.share, self.rows = pool.images, share, row_finder(pool.images)
        counts = torch.bincount(pool.truth, minlength=len(pool.classes))
        if share > 0 and (counts == 1).any():
            name = pool.classes[int((counts == 1).nonzero()[0])]
            raise Problem(f"there is only one image of '{name}', and its positive must be another one: take more")
        if share < 1 and (counts > 0).sum() < 2:
            raise Problem(
                f"all these images are of the class '{pool.classes[int(counts.argmax())]}': add another class"
            )
        self.count = counts[pool.truth]  # (N,) the size of each image's class
        self.order = pool.truth.argsort(stable=True)  # the rows, class by class
        self.place = self.order.argsort()  # of each row in that order
        self.start = (counts.cumsum(0) - counts)[pool.truth]  # where its class begins there
        self.settings = {"generator": "same class", "share": share, "pool": pool.fingerprint}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k candidates for each anchor, never itself: uint8 (B, 3, H, W) -> (B, k, 3, H, W)."""
        rng, row = runtime.generator(seed, "same class"), self.rows(anchors)[:, None]
        right, which = torch.rand(2, len(row), k, generator=rng, dtype=torch.float64)
        start, count, place = (part[row] for part in (self.start, self.count, self.place))
        same = start + (place - start + 1 + (which * (count - 1)).long()) % count  # one of the others, from the next on
        other = (start + count + (which * (len(self.order) - count)).long()) % len(self.order)
        return self.images[self.order[torch.where(right < self.share, same, other)]]
