"""A fair chance for every row of a table: its learning rate and one more number, by one search, on validation images.

    tries = Search(runs, train, val, config).tries("barlow")
    tries = Search(runs, train, val, config).tries("clsp-simclr cut-and-paste", positives)

Eight trainings for each row. The first has learning rate 0.008 and the method's own knob; each further one takes a step
from the best so far that has one left: four times or a quarter of its rate, twice or half its knob. The rows are the
methods by themselves and, around SimCLR, each arm and each kind of positives: at the settings that suit SimCLR by
itself, a pull may keep a network from ever getting under way, even with perfect positives. What was found is kept in
`methods.short.CHOICES`, which notebook 07 trains by. Nothing here sees a test image.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.files import safe_name
from synpos_lib.data.images import Images
from synpos_lib.evaluate.probes import knn_probe
from synpos_lib.experiments import quiet, scale
from synpos_lib.methods import short
from synpos_lib.train.pretrain import Config, Diverged, pretrain

Point = tuple[float, float]  # the learning rate of AdamW, and a factor on the knob
TRIES = 8
START: Point = (8e-3, 1.0)
KNOBS = {
    **dict.fromkeys(("vicreg", "vibcreg"), "cov_weight"),
    **{"byol": "tau", "dino": "tau_t", "barlow": "lambda_"},
}

KINDS = ("cut-and-paste", "blurred", "retrieved", "oracle")  # of positives, beside the synthetic ones
ARMS = ("simclr-aug", "adainf-simclr", "clsp-simclr", *(f"clsp-simclr {kind}" for kind in KINDS))


def rows() -> list[str]:
    """All rows of the search: the methods by themselves, and what is put around SimCLR."""
    return [name for name, recipe in methods.load("table.METHODS").items() if recipe.role == "none"] + [*ARMS]


def knob(row: str) -> str:
    """What the search turns beside the learning rate."""
    return KNOBS.get(short.inner(row.split()[0]), "temperature")


def positives_of(row: str) -> str:
    """The kind of positives that a row learns from; empty for none."""
    method, _, kind = row.partition(" ")
    return (kind or "positives") if methods.recipe(method).needs_positives else ""


@dataclass
class Search:
    """What all tries have in common."""

    runs: Path  # the folder of all runs
    images: Images
    val: Images
    config: Config

    def __post_init__(self) -> None:
        if self.val.split != "val":
            raise Problem(f"a search is decided by validation images, not by those of '{self.val.split}': load 'val'")

    def tries(self, row: str, positives: Tensor | None = None) -> pd.DataFrame:
        """For each try of a row: learning_rate, knob, factor, knn on validation images, run, and which is chosen.

        A training that diverges has no numbers, and is worth less than any other.
        """
        tries = []

        def worth(point: Point) -> float:
            tries.append(self._try(row, point, positives))
            return -math.inf if math.isnan(tries[-1]["knn"]) else tries[-1]["knn"]

        if max(walk(worth).values()) == -math.inf:
            raise Problem(f"every try of '{row}' diverged: lengthen warmup, or begin at a lower rate")
        table = pd.DataFrame(tries)
        return table.assign(chosen=table.index == table.knn.idxmax())

    def _try(self, row: str, point: Point, positives: Tensor | None) -> dict:
        (rate, factor), method, name = point, row.split()[0], knob(row)
        sizes = short.sizes(method, **scale(self.config, len(self.images)))
        changes = short.turn(method, sizes, name, factor)
        config = replace(self.config, method=method, learning_rate=rate, hyperparameters=changes)
        folder = self.runs / safe_name(f"search-{self.images.name}-{row.replace(' ', '-')}-{rate:g}-{name}x{factor:g}")
        measures = dict.fromkeys(("knn", "rank", "seconds"), math.nan)
        with quiet(), contextlib.suppress(Diverged):
            run = pretrain(folder, config, self.images, positives, probe=knn_probe(self.images, self.val))
            assert run is not None  # one process
            measures = {key: run.results[key] for key in measures}
        return {"method": row, "learning_rate": rate, "knob": name, "factor": factor, **measures, "run": folder.name}


def walk(worth: Callable[[Point], float]) -> dict[Point, float]:
    """What each of the points tried is worth: each is a step from the best before it from which one was left."""
    tried = {START: worth(START)}
    while len(tried) < TRIES:
        best_first = sorted(tried, key=lambda point: -tried[point])
        step = next(near for point in best_first for near in neighbours(*point) if near not in tried)
        tried[step] = worth(step)
    return tried


def neighbours(rate: float, factor: float) -> list[Point]:
    """One step from here: in the rate, then in the knob."""
    return [(4 * rate, factor), (rate / 4, factor), (rate, 2 * factor), (rate, factor / 2)]
