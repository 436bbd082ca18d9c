"""What each paper compares: CLSP's ablations, MixDiff's arms, DiffuseMix's rivals.

Every module has a `Study`, which holds what all its trainings have in common. `Study.answers(...)` makes one training,
or reuses it, asks the trained network, and returns a row for every answer: the columns of `results.evaluations`, the
name of the `run`, and what else the comparison tells apart. `claims(...)` judges the paper's sentences by such rows.
"""

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import Run
from synpos_lib.data.images import Images
from synpos_lib.evaluate import collapse
from synpos_lib.train.frozen import Frozen
from synpos_lib.train.pretrain import Config, pretrain

Probe = Callable[[Frozen], dict]


def train(folder: Path, config: Config, images: Images, positives: Tensor, probe: Probe) -> Run:
    """Train, continue or reuse one encoder of a comparison, which is probed once, at its end."""
    store = positives if methods.recipe(config.method).needs_positives else None
    run = pretrain(folder, config, images, store, probe=probe)
    if run is None:
        raise Problem(f"{folder.name} belongs to a comparison, which one process makes: start it without torchrun")
    return run


def health_probe(images: Images) -> Probe:
    """For pretrain: how healthy are the features of the first thousand images?"""
    some = images.images[:1000]

    def probe(encoder: Frozen) -> dict:
        health = collapse.monitor(encoder(some), encoder(some, flip=True))
        return health | collapse.warning(health)

    return probe


def warning(run: Run) -> str:
    """What is wrong with the features that a training ended with, in words, or nothing."""
    return collapse.verdict({name: run.results[name] for name in ("std", "rank", "alignment", "uniformity")})


def collapses(rows: pd.DataFrame) -> str:
    """A sentence that names the trainings behind these rows which collapsed."""
    names = rows.run[rows.warning != ""].unique()
    return f"{len(names)} of {rows.run.nunique()} trainings collapsed{': ' * bool(len(names))}{', '.join(names)}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out runs that are reused and all epochs but the last; show what else is printed, at the end."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            if not re.search(r": epoch (\d+)/(?!\1 )|: reused, ", line):
                print(line, flush=True)
