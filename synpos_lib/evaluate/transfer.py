"""Transfer: a linear classifier on frozen features of images of another kind.

    min over W, b of   mean CE(W z + b, y) + lambda / 2 |W|²,   by L-BFGS, for 45 values of lambda from 1e-6 to 1e5

With the value that is best on the target's validation images the classifier is fitted again, on training and
validation images together, and evaluated once on the test images. Features are computed once, centred, and divided by
one number, so that a value of lambda means the same for every encoder; `evaluate.linear` finds the minimum.

This is the usual protocol of transfer studies (https://arxiv.org/abs/1805.08974); CLSP's poster does not state its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import Run
from synpos_lib.data import catalog
from synpos_lib.data.images import Images
from synpos_lib.evaluate import linear
from synpos_lib.results import evaluations
from synpos_lib.results.tables import Estimate
from synpos_lib.train.frozen import Frozen

CODE = ("synpos_lib.evaluate.transfer",)
LAMBDAS = tuple(np.logspace(5, -6, 45).tolist())  # from strong to weak: each solution is where the next one starts
TARGETS = {  # source: its targets; the papers' pairs, and those of the embedded images
    "scenes": ("digits", "letters", "shapes", "textures", "new-species"),
    "cifar10": ("cifar100",),
    "cifar100": ("cifar10",),
    "stl10": ("cifar10", "cifar100", "pets", "flowers102", "dtd", "caltech101"),
    "imagenet100": ("cifar10", "cifar100", "pets", "flowers102", "dtd", "caltech101", "food101", "cars"),
}
MEAN_PER_CLASS = ("pets", "flowers102", "caltech101")  # their classes differ in size; for the others: accuracy


class Target(NamedTuple):
    """A data set to transfer to, in three splits."""

    name: str
    train: Images
    val: Images
    test: Images

    @property
    def metric(self) -> str:
        return "mean per class" if self.name in MEAN_PER_CLASS else "accuracy"


class Transfer(NamedTuple):
    """The result on the test images, and how lambda was chosen: accuracy on validation images for each value."""

    value: float
    lambda_: float
    validation: dict[float, float]


def targets(source: str, *, train: int = 0, val: int = 0, test: int = 0) -> tuple[list[Target], list[str]]:
    """The targets of a network trained on `source`, at its size in pixels, and the names of those not on this machine.

    `train`, `val` and `test` are numbers of images; 0 takes all of a split.
    """
    if source not in TARGETS:
        raise Problem(f"there are no transfer targets for '{source}': {suggest(source, TARGETS)}")
    size = catalog.REAL[source].size if source in catalog.REAL else None
    counts = {"train": train, "val": val, "test": test}
    here, absent = [], []
    for name in TARGETS[source]:
        try:
            parts = (catalog.load(name, split, n=n or None, size=size) for split, n in counts.items())
            here.append(Target(name, *parts))
        except catalog.NotHere as problem:
            print(f"left out: {problem}")
            absent.append(name)
    return here, absent


def evaluate(
    runs: Path, protocol: str, run: Run, encoder: Callable[[Run], Frozen], to: Sequence[Target], **about: object
) -> Run:
    """Evaluate the encoder of a finished training once on all targets; see `evaluations.evaluate`."""
    config = {"targets": {t.name: [part.fingerprint for part in (t.train, t.val, t.test)] for t in to}}
    return evaluations.evaluate(runs, protocol, run, config, lambda: rows(encoder(run), to), CODE, **about)


def rows(encoder: Frozen, to: Sequence[Target]) -> list[dict]:
    """A row of results for each target, without the columns that describe the encoder."""
    return [
        {"factor": "what", "target": t.name, "metric": t.metric, "value": transfer(encoder, t).value, "n": len(t.test)}
        for t in to
    ]


def transfer(encoder: Frozen, to: Target) -> Transfer:
    """Choose lambda on validation images, fit on training and validation images, evaluate on test images."""
    z, z_val, z_test = (encoder(part.images) for part in (to.train, to.val, to.test))
    y, y_val, y_test = (part.truth for part in (to.train, to.val, to.test))
    validation = dict(zip(LAMBDAS, _scores(z, y, z_val, y_val, LAMBDAS, to.metric), strict=True))
    best = max(validation, key=lambda value: validation[value])  # the strongest of equals
    both, labels = torch.cat([z, z_val]), torch.cat([y, y_val])
    return Transfer(_scores(both, labels, z_test, y_test, (best,), to.metric)[0], best, validation)


def _scores(z: Tensor, y: Tensor, z_test: Tensor, y_test: Tensor, lambdas: Sequence[float], metric: str) -> list[float]:
    """Fit on (z, y) for each lambda in turn, and score each fit on the test features."""
    mean, size = linear.scale(z)
    z, z_test = (((part - mean) / size).to(runtime.device(), torch.float64) for part in (z, z_test))
    y, classes = y.to(z.device), int(max(y.max(), y_test.max())) + 1
    layer = z.new_zeros(classes, z.shape[1] + 1)
    scores = []
    for lambda_ in lambdas:
        layer = linear.minimum(z, y, lambda_, layer)
        predictions = (z_test @ layer[:, :-1].T + layer[:, -1]).argmax(1).cpu()
        scores.append(score(predictions, y_test, metric))
    return scores


def score(predictions: Tensor, labels: Tensor, metric: str) -> float:
    """Share of right answers, among all images or on average over the classes."""
    hits = (predictions == labels).double()
    if metric == "accuracy":
        return hits.mean().item()
    count = labels.bincount()
    return (labels.bincount(hits) / count)[count > 0].mean().item()


def wins(differences: pd.DataFrame) -> Estimate:
    """The share of targets won, from the paired differences of `tables.against`, one row for each target.

    A target is won where the mean difference over seeds is above zero. The interval reaches from the share of targets
    whose own 95 % interval lies above zero to the share of those whose interval does not lie below it.
    """
    low, high = (differences.low > 0).mean(), 1 - (differences.high < 0).mean()
    return Estimate(float((differences["mean"] > 0).mean()), float(low), float(high), int(differences.n.min()))
