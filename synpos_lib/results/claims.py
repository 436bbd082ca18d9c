"""Claims of the papers beside our measurements; the verdict follows from the numbers by a rule in the same row.

claims.claim("CLSP-SimCLR beats SimCLR, linear", "CLSP", tables.gain(rows, "clsp-simclr", "simclr"))
claims.claim("Most positives show the anchor's species", "CLSP", tables.share(same), rule="above 0.5")
claims.claim("Mixing needs no augmentation", "MixDiff", tables.gain(rows, "without", "with"), rule="within 0.02")

A verdict speaks of the images of its row, which are rarely the paper's. Whether a claim is *reproduced* is for the
report to say, which knows both.
"""

import math
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.results.tables import Estimate, Gain, Share, around

HOLDS, FAILS = "holds on these images", "does not hold on these images"
ONE_RUN, CROSSES = "undecided: one run", "undecided: interval crosses"
CANNOT = "cannot show it here"  # both levels are so near 0 or 1 that no difference could be seen
NOT_ATTEMPTED = "not attempted"
MEASURED = (HOLDS, ONE_RUN, CROSSES, FAILS, CANNOT, NOT_ATTEMPTED)  # the verdicts of a row
REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
ORIGINAL = {HOLDS: REPRODUCED, FAILS: NOT_REPRODUCED}  # the words for the paper's own data and settings
VERDICTS = (REPRODUCED, HOLDS, ONE_RUN, CROSSES, FAILS, NOT_REPRODUCED, CANNOT, NOT_ATTEMPTED)
CEILING = 0.99  # two levels above it, or both as near to 0, can show nothing
MOST_RUNS, MOST_IMAGES = 100, 10_000  # what takes more of them to decide, cannot be shown here
COLUMNS = ("claim", "paper", "measured", "low", "high", "n", "needs", "p", "verdict", "rule", "of", "departure", "on")


def claim(
    text: str,
    paper: str,
    estimate: Estimate | None,
    rule: str = "above 0",
    of: str = "",  # the id of the paper's own sentence in published/claims.csv; empty: a question of ours
    *,
    departure: str = "",  # how this measurement departs from the paper's setting; it is listed, but decides nothing
    on: str = "",  # the dataset it was measured on; empty: the notebook's parameter
) -> dict:
    """One row of a table of claims."""
    value, low, high, n = estimate or Estimate(float("nan"), float("nan"), float("nan"), 0)
    numbers = value, low, high, n, needs(estimate, rule), p_value(estimate, rule)
    return dict(zip(COLUMNS, (text, paper, *numbers, verdict(estimate, rule), rule, of, departure, on), strict=True))


def verdict(estimate: Estimate | None, rule: str = "above 0") -> str:
    """Whether an estimate keeps a rule, 'above x', 'below x' or 'within x' (of zero).

    The whole interval keeps it: it holds. None of it does: it does not hold. Some of it, or no interval: undecided.
    """
    word, limit = _read(rule)

    def holds(value: float) -> bool:
        return {"above": value > limit, "below": value < limit, "within": abs(value) < limit}[word]

    if estimate is None:
        return NOT_ATTEMPTED
    if isinstance(estimate, Gain) and (min(estimate.levels) > CEILING or max(estimate.levels) < 1 - CEILING):
        return CANNOT
    low, high = estimate.low, estimate.high
    if math.isnan(low):
        return ONE_RUN
    if holds(low) and holds(high):
        return HOLDS
    nearest = {"above": high, "below": low, "within": max(low, min(high, 0.0))}[word]  # to keeping the rule
    return CROSSES if holds(nearest) else FAILS


def needs(estimate: Estimate | None, rule: str) -> float:
    """The least n whose interval decides if mean and spread stay as measured: then about every second attempt does.

    nan where there is no spread to go by; inf where more than MOST_RUNS or, for a share, MOST_IMAGES would be needed.
    """
    if estimate is None or math.isnan(estimate.low):
        return float("nan")
    if verdict(estimate, rule) == CANNOT:
        return float("inf")
    if isinstance(estimate, Share):  # Wilson's interval leaves out the limit if the score test of the limit rejects it
        _, limit = _read(rule)
        away = abs(estimate.value - limit)
        n = math.floor(stats.norm.ppf(0.975) ** 2 * limit * (1 - limit) / away**2) + 1 if away else float("inf")
        return float(n) if n <= MOST_IMAGES else float("inf")
    for n in range(2, MOST_RUNS + 1):
        if verdict(around(estimate.value, estimate.spread, n), rule) != CROSSES:
            return float(n)
    return float("inf")


def p_value(estimate: Estimate | None, rule: str) -> float:
    """The p-value of an estimate against the limit of its rule, on two sides; nan where there is no interval.

    'within x' is kept where two one-sided tests reject -x and x, and broken where one of them finds the truth outside.
    """
    word, limit = _read(rule)
    if estimate is None:
        return float("nan")
    above, below = estimate.p_values(limit)
    if word == "within":
        inner_above, inner_below = estimate.p_values(-limit)
        above, below = min(above, inner_below), max(below, inner_above)  # outside, inside
    return float(np.minimum(1, 2 * np.minimum(above, below)))  # nan stays


def holm(p_values: ArrayLike) -> np.ndarray:
    """Holm's corrected p-values: the smallest of m counts m times, the next m - 1 times, and none less than one before.

    Whichever of the m claims are untrue, the probability that any of them is below 5 % stays below 5 %.
    """
    p = np.asarray(p_values, dtype=float)
    order = p.argsort()
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return corrected


def correct(table: pd.DataFrame) -> pd.Series:
    """The verdicts of a table that are left by Holm's correction, all its rows with an interval being one family."""
    decided = table.verdict.isin((HOLDS, FAILS, CROSSES))
    p = pd.Series(1.0, table.index)
    p[decided] = holm(table.p[decided])
    return table.verdict.mask(decided & (p >= 0.05), CROSSES)


def together(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that was measured several times: the least favourable one that decides anything."""
    silent = (NOT_ATTEMPTED, CANNOT)
    return max(verdicts, key=[*silent, *VERDICTS].index)


def _read(rule: str) -> tuple[str, float]:
    """The word and the number of a rule."""
    match = re.fullmatch(r"(above|below|within) (-?\d+(?:\.\d+)?)", rule)
    if not match:
        raise Problem(f"the rule of a claim is 'above x', 'below x' or 'within x' with a number x, not '{rule}'")
    return match[1], float(match[2])
