"""Which image is the partner of an anchor? Nearest neighbours, other views, made images, and how good each is."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.data import views
from synpos_lib.results import tables


class Partners(NamedTuple):
    """One partner for each anchor, and what they show; `where` is None for images without known scenes."""

    images: Tensor  # (n, 3, H, W) uint8
    what: Tensor  # (n,)
    where: Tensor | None = None


def nearest(z: Tensor, k: int = 1) -> Tensor:
    """For each image the k others with the highest cosine, nearest first, never itself: (N, D) -> (N, k)."""
    z = F.normalize(z.float(), dim=1)
    found = []
    for rows in torch.arange(len(z)).split(1000):
        similarity = z[rows] @ z.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        found.append(similarity.topk(k, dim=1).indices)
    return torch.cat(found)


def candidates(train, made: Tensor, judge, *, augmentation: str = "vicreg", seed: int = 0) -> dict[str, Partners]:
    """Partners of the first n anchors that no encoder chooses; the judge says what is in the n made images."""
    from synpos_lib.data import scenes

    n = len(made)
    anchors, what, where = train.images[:n], train.labels[:n], None if train.where is None else train.where[:n]
    how, draw = views.by_name(augmentation), runtime.generator(seed, "another view")
    view = views.view(anchors, how, draw, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).mul(255).round().to(torch.uint8)
    seen = judge.labels(made)
    found = {"another view": Partners(view, what, where), "synthetic": Partners(made, seen["what"], seen.get("where"))}
    if train.name == "scenes":  # the only images that can be drawn anew
        found["oracle"] = Partners(*scenes.render(n, seed=runtime.derive(seed, "oracle") % 2**32, what=what))
    order = runtime.generator(seed, "strangers")
    other = (torch.arange(n) + torch.randint(1, len(train), (n,), generator=order)) % len(train)  # never itself
    places = None if where is None else train.where[other]
    found["stranger"] = Partners(train.images[other], train.labels[other], places)
    return found


def compare(encoder, train, others: dict[str, Partners]) -> list[dict]:
    """How false, how near in place and how close each kind of partner is; nearest neighbours by this encoder."""
    n = len(next(iter(others.values())).images)
    z = encoder(train.images)
    friend = nearest(z)[:n, 0]
    where = None if train.where is None else train.where[friend]
    kinds = {"nearest neighbour": Partners(train.images[friend], train.labels[friend], where), **others}
    rows = []
    for name, partner in kinds.items():
        false = tables.share(partner.what != train.labels[:n])
        row = {"partner": name, "false": false.value, "low": false.low, "high": false.high, "n": n}
        if partner.where is not None:
            row["same place"] = tables.share(partner.where == train.where[:n]).value
        row["cosine"] = F.cosine_similarity(z[:n], encoder(partner.images)).mean().item()
        rows.append(row)
    return rows
