"""A fair chance for every row of a table: its learning rate and one more number, by one search, on validation images.

    table = Search(runs, draws, val, config).trainings("barlow")
    table = Search(runs, draws, val, config).trainings("clsp-simclr", positives)

Five tries for each row, each the mean of several trainings, since one may get under way by luck where others stay
stuck. The first try has learning rate 0.008 and the method's own knob; each further one takes a step from the best so
far that has one left: four times or a quarter of its rate, twice or half its knob. Around SimCLR, and around MoCo v2,
whatever pulls a third image towards the anchor is one row: these arms train alike and differ in the image alone. Their
settings suit CLSP no better than its controls, whereas SimCLR has settings of its own. What was found is kept in
`methods.short.CHOICES`, which notebook 07 trains by. Nothing here sees a test image.
"""

import contextlib
import math
from collections.abc import Callable, Mapping
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
TRIES = 5
START: Point = (8e-3, 1.0)
KNOBS = {
    **dict.fromkeys(("vicreg", "vibcreg"), "cov_weight"),
    **{"byol": "tau", "dino": "tau_t", "barlow": "lambda_"},
}
ARMS = {  # the rows that need positives: methods and, after a space, their kind of positives
    "adainf-simclr": ["adainf-simclr positives"],
    "clsp-simclr": [
        "clsp-simclr positives",
        "clsp-simclr cut-and-paste",
        "clsp-simclr blurred",
        "clsp-simclr retrieved",
        "clsp-simclr oracle",
        "simclr-aug",
    ],
    "clsp-mocov2": ["clsp-mocov2 positives", "mocov2-aug"],
}


def rows() -> list[str]:
    """All rows of the search: the methods by themselves, and what is put around them."""
    alone = [name for name, recipe in methods.load("table.METHODS").items() if recipe.role == "none"]
    return [*alone, *ARMS]


def knob(row: str) -> str:
    """What the search turns beside the learning rate."""
    return KNOBS.get(short.inner(row), "temperature")


def schedule(row: str, seeds: list[int]) -> list[tuple[str, str, int]]:
    """The trainings of one try, as method, kind of positives or nothing, and seed.

    Arms and seeds go round side by side until each has been used equally often.
    """
    arms = [arm.partition(" ") for arm in ARMS.get(row, [row])]
    count = math.lcm(len(arms), len(seeds))
    return [(*arms[i % len(arms)][::2], seeds[i % len(seeds)]) for i in range(count)]


@dataclass
class Search:
    """What all tries have in common."""

    runs: Path  # the folder of all runs
    draws: Mapping[int, Images]  # the training images of each seed
    val: Images
    config: Config

    def __post_init__(self) -> None:
        if self.val.split != "val":
            raise Problem(f"a search is decided by validation images, not by those of '{self.val.split}': load 'val'")

    def trainings(self, row: str, positives: Mapping[tuple[str, int], Tensor] | None = None) -> pd.DataFrame:
        """For each training of a row: its try, learning_rate, factor, knn on validation images, run, and if chosen.

        `positives` are keyed by kind and seed. A training that diverges has an accuracy of 0.
        """
        done: list[dict] = []

        def worth(point: Point) -> float:
            values = []
            for method, kind, seed in schedule(row, list(self.draws)):
                store = positives[kind, seed] if positives and kind else None
                training = self._train(point, method, kind, seed, store)
                done.append({"row": row, "try": len(tries), "knob": knob(row), **training})
                values.append(training["knn"])
            tries.append(sum(values) / len(values))
            return tries[-1]

        tries: list[float] = []
        if max(walk(worth).values()) == 0:
            raise Problem(f"every training of '{row}' diverged: lengthen warmup, or begin at a lower rate")
        table = pd.DataFrame(done)
        return table.assign(chosen=table["try"] == tries.index(max(tries)))

    def _train(self, point: Point, method: str, kind: str, seed: int, positives: Tensor | None) -> dict:
        (rate, factor), images = point, self.draws[seed]
        changes = short.sizes(method, **scale(self.config, len(images)))
        changes = short.turn(method, changes, knob(method), factor)
        config = replace(self.config, method=method, learning_rate=rate, hyperparameters=changes, seed=seed)
        words = ["search", images.name, method, kind, f"{rate:g}", f"{knob(method)}x{factor:g}", f"seed{seed}"]
        folder = self.runs / safe_name("-".join(filter(None, words)))
        measures = {"knn": 0.0, "rank": math.nan, "seconds": math.nan}
        with quiet(), contextlib.suppress(Diverged):
            run = pretrain(folder, config, images, positives, probe=knn_probe(images, self.val))
            assert run is not None  # one process
            measures = {key: run.results[key] for key in measures}
        arm = f"{method} {kind}".strip()
        return {"arm": arm, "seed": seed, "learning_rate": rate, "factor": factor, **measures, "run": folder.name}


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
