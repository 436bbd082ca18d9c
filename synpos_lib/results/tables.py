"""Numbers with their uncertainty: proportions, means over seeds, paired differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from synpos_lib.core.errors import Problem, suggest


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


def summary(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """For each group: mean, std, 95 % interval and number of the column `value`, one row per independent run."""
    rows = []
    for key, values in frame.groupby(list(by), sort=False).value:
        estimate = mean(values)
        spread = values.std(ddof=1)
        rows.append([*key, estimate.value, spread, estimate.low, estimate.high, estimate.n])
    return pd.DataFrame(rows, columns=[*by, "mean", "std", "low", "high", "n"])


def cells(frame: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """The text of each group for a table: '91.2 ± 0.4 (n = 5)', in percent, without the spread of a single run."""
    found = summary(frame, by)
    spread = [f" ± {100 * std:.1f}" if n > 1 else "" for std, n in zip(found["std"], found.n, strict=True)]
    text = [f"{100 * m:.1f}{s} (n = {n})" for m, s, n in zip(found["mean"], spread, found.n, strict=True)]
    return pd.Series(text, index=pd.MultiIndex.from_frame(found[list(by)]), dtype=object)


def against(frame: pd.DataFrame, baseline: str, by: Sequence[str]) -> pd.DataFrame:
    """Each method minus the baseline method, paired over the seeds that both have, within each group of `by`."""
    keys = [*by, "seed"]
    twice = frame[frame.duplicated(["method", *keys])]
    if len(twice):
        row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in ("method", *keys))
        raise Problem(f"two values for {row}: pairs need one; leave out what is another run, or add a column to `by`")
    theirs = frame[frame.method == baseline].set_index(keys).value
    if theirs.empty:
        raise Problem(
            f"there is no run of the baseline '{baseline}' ({suggest(baseline, list(frame.method.unique()))})"
        )
    others = frame[frame.method != baseline].join(theirs.rename("baseline"), on=keys, how="inner")
    return summary(others.assign(value=others.value - others.baseline), ["method", *by])
