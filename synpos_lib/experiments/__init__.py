"""What each paper compares: CLSP's ablations, MixDiff's arms, DiffuseMix's rivals.

Every module has a `Study`, which holds what all its trainings have in common. `Study.answers(...)` makes or reuses one
training, evaluates the network, and returns a row for every number: the columns of `results.evaluations`, the name of
the `run`, and what else the comparison distinguishes. `claims(...)` judges the paper's sentences by such rows.
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
from synpos_lib.results import tables
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen
from synpos_lib.train.pretrain import Config, pretrain

Probe = Callable[[Frozen], dict]


def train(folder: Path, config: Config, images: Images, positives: Tensor, probe: Probe) -> Run:
    """Train, continue or reuse one encoder of a comparison, with a probe that says how healthy its features are."""
    store = positives if methods.recipe(config.method).needs_positives else None
    run = pretrain(folder, config, images, store, probe=probe)
    if run is None:
        raise Problem(f"{folder.name} is part of a comparison, which runs in one process: start it without torchrun")
    return run


def answers(evaluation: Run, run: Run, **columns: object) -> pd.DataFrame:
    """A row for every number of an evaluation, with further columns, the training's name and what is wrong with it."""
    warning = collapse.verdict(run.results)
    return pd.DataFrame(evaluation.metrics()).assign(**columns, run=run.name, warning=warning)


def collapses(rows: pd.DataFrame) -> str:
    """A sentence that says how many trainings of these rows collapsed, and names them."""
    names = rows.run[rows.warning != ""].unique()
    return f"{len(names)} of {rows.run.nunique()} trainings collapsed{': ' * bool(len(names))}{', '.join(names)}"


def differences(rows: pd.DataFrame, by: str, ours: str, theirs: str) -> str:
    """One method minus another for each value of a column, for a title: 'Mix − Real: SimCLR +1.2, DINO -3.0 points'."""
    gains = {name: tables.gain(part, ours, theirs) for name, part in rows.groupby(by, sort=False)}
    texts = [f"{name} {100 * gain.value:+.1f}" for name, gain in gains.items() if gain]
    return f"{ours} − {theirs}: {', '.join(texts)} points (n = {rows.seed.nunique()})"


def scale(config: Config, images: int) -> dict[str, int]:
    """What the sizes of a short training on so many images follow from; see `methods.short`."""
    steps = config.epochs * (images // config.batch)
    return {"width": encoders.by_name(config.encoder)[1], "images": images, "batch": config.batch, "steps": steps}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is printed; at the end, print it without reused runs and with only the last epoch of each."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        for line in text.getvalue().splitlines():
            if not re.search(r": epoch (\d+)/(?!\1 )|: reused, ", line):
                print(line, flush=True)
