"""Partners of an anchor (nearest neighbours, other views, synthetic images), and how good each kind is.

`Retrieved` makes positives of nearest neighbours: the control for images that a diffusion model draws.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.data import scenes, views
from synpos_lib.data.images import Images, images_fingerprint, row_finder
from synpos_lib.diffusion.features import pooled
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate.judge import Judge
from synpos_lib.evaluate.knn import part_size
from synpos_lib.results import tables


class Partners(NamedTuple):
    """One partner for each anchor, and their labels; `where` is None for images without known scenes."""

    images: Tensor  # (n, 3, H, W) uint8
    what: Tensor  # (n,)
    where: Tensor | None = None


def nearest(z: Tensor, k: int = 1, rows: Tensor | None = None) -> Tensor:
    """For each image the k others with the highest cosine, nearest first, never itself: (N, D) -> (N, k).

    With `rows`, for these images only.
    """
    if k >= len(z):
        raise Problem(f"{len(z)} images have no {k} others each: ask for {len(z) - 1} neighbours at most")
    z = F.normalize(z.float(), dim=1)
    parts = []
    for part in (torch.arange(len(z)) if rows is None else rows).split(part_size(len(z))):
        similarity = z[part] @ z.T
        similarity[torch.arange(len(part)), part] = -torch.inf
        parts.append(similarity.topk(k, dim=1).indices)
    return torch.cat(parts)


class Retrieved:
    """A generator of positives that generates nothing: the nearest other training images, by the model's bottleneck."""

    def __init__(
        self,
        unet: UNet,
        images: Tensor,  # (N, 3, H, W) uint8: the training images, the anchors among them
        *,
        t: int = 50,  # noise at which the bottleneck is read; that of CLSP's t-SNE figure
    ) -> None:
        self.images, self.rows = images, row_finder(images)
        self.z = pooled(unet, images, t, ["mid"])["mid"]
        weights = weights_fingerprint(unet)
        self.settings = {"generator": "retrieved", "weights": weights, "t": t, "pool": images_fingerprint(images)}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """The k images nearest to each anchor, never itself: uint8 (B, 3, H, W) -> (B, k, 3, H, W); no chance in it."""
        return self.images[nearest(self.z, k, self.rows(anchors))]


def candidates(train: Images, positives: Tensor, judge: Judge, *, seed: int = 0) -> dict[str, Partners]:
    """Partners of the first n anchors that no encoder chooses; the judge labels the n synthetic `positives`."""
    n = len(positives)
    anchors = _partners(train, torch.arange(n))
    draw = runtime.generator(seed, "another view")
    view = views.view(anchors.images, views.by_name("vicreg"), draw, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    labels = judge.labels(positives)
    kinds = {
        "another view": anchors._replace(images=view.mul(255).round().to(torch.uint8)),
        "synthetic": Partners(positives, labels["what"], labels.get("where")),
    }
    if train.name == "scenes":  # the only images that can be drawn anew
        kinds["oracle"] = Partners(*scenes.render(n, seed=runtime.derive(seed, "oracle") % 2**32, what=anchors.what))
    draw = runtime.generator(seed, "strangers")
    step = torch.randint(1, len(train), (n,), generator=draw)  # never 0: an image is no stranger to itself
    return kinds | {"stranger": _partners(train, (torch.arange(n) + step) % len(train))}


def compare(encoder: Callable[[Tensor], Tensor], train: Images, others: dict[str, Partners]) -> list[dict]:
    """For each kind of partner, the share that is false, the share in the same place, and the cosine to the anchor.

    Nearest neighbours are those of this encoder.
    """
    n, z = len(next(iter(others.values())).images), encoder(train.images)
    anchors = _partners(train, torch.arange(n))
    rows = []
    for name, partners in {"nearest neighbour": _partners(train, nearest(z)[:n, 0]), **others}.items():
        false = tables.share(partners.what != anchors.what)
        row = {"partner": name, "false": false.value, "low": false.low, "high": false.high, "n": n}
        if partners.where is not None and anchors.where is not None:
            row["same place"] = (partners.where == anchors.where).double().mean().item()
        row["cosine"] = F.cosine_similarity(z[:n], encoder(partners.images)).mean().item()
        rows.append(row)
    return rows


def _partners(train: Images, rows: Tensor) -> Partners:
    """These images of a labelled set."""
    return Partners(train.images[rows], train.truth[rows], None if train.where is None else train.where[rows])
