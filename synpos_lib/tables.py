"""Numbers with their uncertainty: proportions, means over seeds, paired differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A value, its 95 % interval, and what it rests on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n}"


def share(hits: Sequence[bool]) -> Estimate:
    """A proportion with its Wilson interval."""
    hits = np.asarray(hits, dtype=float).ravel()
    interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return Estimate(float(hits.mean()), float(interval.low), float(interval.high), len(hits))


def mean(values: Sequence[float]) -> Estimate:
    """A mean over independent runs with its Student t interval."""
    values = np.asarray(values, dtype=float)
    n = len(values)
    reach = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else float("nan")
    return Estimate(float(values.mean()), float(values.mean() - reach), float(values.mean() + reach), n)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Estimate:
    """The mean difference of paired runs (same seed) with its Student t interval."""
    return mean(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))
