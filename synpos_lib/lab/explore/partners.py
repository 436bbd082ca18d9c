"""The positives browser: an anchor, its candidates, and its nearest neighbours early and late in training."""

import ipywidgets as widgets
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from synpos_lib.data.images import Images
from synpos_lib.evaluate.judge import Judge
from synpos_lib.evaluate.neighbours import nearest
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import image, panel
from synpos_lib.train.frozen import Frozen


def partners_of(anchor: int, train: Images, store: Tensor, judge: Judge, neighbours: dict[str, Tensor]) -> pd.DataFrame:
    """Every partner of one anchor: where it comes from, its image, and whether it is false, of another species.

    `neighbours` has for each row name the neighbours (N, k) of every image; the judge labels the synthetic images.
    """
    species, synthetic = train.truth, store[anchor]  # (N,), (K, 3, H, W)
    kinds = {"synthetic": (synthetic, judge.labels(synthetic)["what"])}
    kinds |= {name: (train.images[near[anchor]], species[near[anchor]]) for name, near in neighbours.items()}
    rows = [
        {"partner": kind, "image": picture, "false": bool(what != species[anchor])}
        for kind, (pictures, labels) in kinds.items()
        for picture, what in zip(pictures, labels, strict=True)
    ]
    return pd.DataFrame(rows)


def picture(anchor: int, train: Images, partners: pd.DataFrame) -> Figure:
    """One row per kind of partner, the anchor before each; false positives have a red frame."""
    groups = dict(list(partners.groupby("partner", sort=False)))
    width = 1 + max(map(len, groups.values()))
    sheet = torch.full((len(groups), width, *train.images.shape[1:]), 255, dtype=torch.uint8)
    for row, group in zip(sheet, groups.values(), strict=True):
        row[0] = train.images[anchor]
        row[1 : 1 + len(group)] = torch.stack(list(group.image))
    names = [f"{name}\n{group.false.sum()} of {len(group)} false" for name, group in groups.items()]
    columns = ["anchor", *map(str, range(1, width))]
    figure = figures.grid(sheet.flatten(0, 1), width, row_names=names, column_names=columns, cell=0.8)
    height, side = (n + 1 for n in train.images.shape[2:])
    for y, group in enumerate(groups.values()):
        for x in (i for i, false in enumerate(group.false, 1) if false):
            figure.axes[0].add_patch(figures.frame((x * side - 0.5, y * height - 0.5), side - 1, height - 1))
    return figure


def positives_browser(
    train: Images, store: Tensor, judge: Judge, stages: dict[int, Frozen], k: int = 8
) -> widgets.VBox | None:
    """`stages` has the encoder after each number of epochs; their neighbours are computed once, at the start."""
    names = {epochs: f"after {epochs} epochs" if epochs else "untrained" for epochs in stages}
    neighbours = {names[epochs]: nearest(encoder(train.images), k) for epochs, encoder in stages.items()}

    def draw(anchor: int = 0) -> str:
        partners = partners_of(anchor, train, store, judge, neighbours)
        counts = partners.groupby("partner", sort=False).false.agg(["sum", "size"])
        text = "; ".join(f"{name}: {row['sum']} of {row['size']} false" for name, row in counts.iterrows())
        species = train.classes[train.truth[anchor]]
        head = f"<p>Anchor {anchor}: <b>{species}</b>. A red frame: another species.</p>"
        return head + image(picture(anchor, train, partners), f"Partners of anchor {anchor}, {species}. {text}")

    last = min(len(train), len(store)) - 1
    return panel("positives", draw, lambda: {"anchor": widgets.IntSlider(0, 0, last)}, live=["anchor"])
