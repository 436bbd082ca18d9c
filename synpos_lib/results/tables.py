"""Numbers with their uncertainty: proportions, means over seeds, paired differences."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from synpos_lib.core.errors import Problem, suggest


class Estimate(NamedTuple):
    """A mean, its 95 % interval (Student's t), and the number of measurements behind it."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.n}"

    @property
    def spread(self) -> float:
        """The standard deviation of the n measurements; nan for a single one."""
        return float((self.high - self.value) * self.n**0.5 / stats.t.ppf(0.975, self.n - 1))

    def p_values(self, limit: float) -> tuple[float, float]:
        """Of two tests, that the truth is above the limit and that it is below; nan for a single measurement."""
        error = self.spread / self.n**0.5
        if error == 0:
            return float(self.value <= limit), float(self.value >= limit)
        t = (self.value - limit) / error
        return float(stats.t.sf(t, self.n - 1)), float(stats.t.cdf(t, self.n - 1))


class Share(Estimate):
    """A proportion among n, with its Wilson interval."""

    def p_values(self, limit: float) -> tuple[float, float]:
        """Of two exact binomial tests, that the truth is above the limit and that it is below."""
        hits = round(self.value * self.n)
        above, below = (stats.binomtest(hits, self.n, limit, side).pvalue for side in ("greater", "less"))
        return float(above), float(below)


class Gain(Estimate):
    """A mean difference between two values of accuracy, whose means are the `levels`."""

    levels: tuple[float, float]


def share(hits: ArrayLike, n: int | None = None) -> Share:
    """A proportion with its Wilson interval: a number of hits among n, or one truth value for each of them."""
    values = np.asarray(hits)
    count, n = int(values.sum()), values.size if n is None else n
    interval = stats.binomtest(count, n).proportion_ci(method="wilson")
    return Share(count / n, float(interval.low), float(interval.high), n)


def mean(values: ArrayLike) -> Estimate:
    """A mean over independent runs with its Student t interval."""
    x = np.asarray(values, dtype=float)
    return around(float(x.mean()), float(x.std(ddof=1)) if len(x) > 1 else float("nan"), len(x))


def around(value: float, spread: float, n: int) -> Estimate:
    """The estimate that n measurements with this mean and this standard deviation give."""
    reach = float(stats.t.ppf(0.975, n - 1)) * spread / n**0.5
    return Estimate(value, value - reach, value + reach, n)


def gain(frame: pd.DataFrame, ours: object, theirs: object, column: str = "method") -> Gain | None:
    """The mean difference between two values of a column, paired over the seeds that both have; None without a pair.

    A seed counts with the mean of its rows.
    """
    wide = frame.pivot_table(index="seed", columns=column, values="value")
    pairs = wide.reindex(columns=[ours, theirs]).dropna()
    if pairs.empty:
        return None
    difference = Gain(*mean(pairs.iloc[:, 0] - pairs.iloc[:, 1]))
    difference.levels = (float(pairs.iloc[:, 0].mean()), float(pairs.iloc[:, 1].mean()))
    return difference


def weakest(gains: Mapping[str, Gain | None]) -> str | None:
    """Of differences to several rivals, the one that decides whether all are above zero; None if any is missing.

    A sure loss, else one without an interval, else the one whose interval reaches lowest.
    """
    known = {name: gain for name, gain in gains.items() if gain}
    if not known or len(known) < len(gains):
        return None
    losses = {name: gain.high for name, gain in known.items() if gain.high < 0}
    single = [name for name, gain in known.items() if np.isnan(gain.low)]
    if losses or single:
        return min(losses, key=losses.__getitem__) if losses else single[0]
    return min(known, key=lambda name: known[name].low)


def summary(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """For each group: mean, std, 95 % interval and number of the column `value`, one row per independent run."""
    rows = []
    for key, values in frame.groupby(list(by), sort=False).value:
        estimate = mean(values)
        rows.append([*key, estimate.value, values.std(ddof=1), estimate.low, estimate.high, estimate.n])
    return pd.DataFrame(rows, columns=[*by, "mean", "std", "low", "high", "n"])


def cells(frame: pd.DataFrame, by: Sequence[str]) -> pd.Series:
    """The text of each group for a table: '91.2 ± 0.4 (n = 5)', in percent; a single run has no spread."""
    groups = summary(frame, by)
    text = [f"{100 * g.mean:.1f}" + f" ± {100 * g.std:.1f}" * (g.n > 1) + f" (n = {g.n})" for g in groups.itertuples()]
    return pd.Series(text, index=pd.MultiIndex.from_frame(groups[list(by)]), dtype=object)


def against(frame: pd.DataFrame, baseline: str, by: Sequence[str]) -> pd.DataFrame:
    """Each method minus the baseline method, paired over the seeds that both have, within each group of `by`."""
    keys = [*by, "seed"]
    twice = frame[frame.duplicated(["method", *keys])]
    if len(twice):
        row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in ("method", *keys))
        raise Problem(f"two values for {row}: pairs need one; leave out other runs, or add a column to `by`")
    theirs = frame[frame.method == baseline].set_index(keys).value
    if theirs.empty:
        near = suggest(baseline, list(frame.method.unique()))
        raise Problem(f"there is no run of the baseline '{baseline}' ({near})")
    others = frame[frame.method != baseline].join(theirs.rename("baseline"), on=keys, how="inner")
    return summary(others.assign(value=others.value - others.baseline), ["method", *by])
