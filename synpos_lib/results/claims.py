"""Claims of the papers beside our measurements; the verdict follows from the numbers by a rule in the same row.

claims.claim("CLSP-SimCLR beats SimCLR on CIFAR-10, linear", "CLSP", tables.gain(rows, "clsp-simclr", "simclr"))
claims.claim("CLSP wins on most targets", "CLSP", tables.share(wins), rule="above 0.5")
claims.claim("Mixing needs no augmentation", "MixDiff", tables.gain(rows, "without", "with"), rule="within 0.02")
"""

import math
import re
from collections.abc import Iterable

from synpos_lib.core.errors import Problem
from synpos_lib.results.tables import Estimate

REPRODUCED, UNDECIDED, NOT = "reproduced", "undecided", "not reproduced"
PARTLY = "partly"  # some of several measurements of a claim reproduce it
NOT_ATTEMPTED = "not attempted here"
VERDICTS = (REPRODUCED, PARTLY, UNDECIDED, NOT, NOT_ATTEMPTED)
COLUMNS = ("claim", "paper", "measured", "low", "high", "n", "verdict", "rule", "of")


def claim(text: str, paper: str, estimate: Estimate | None, rule: str = "above 0", of: str = "") -> dict:
    """One row of a table of claims; `of` is the id of the paper's own sentence in published/claims.csv."""
    value, low, high, n = estimate or Estimate(float("nan"), float("nan"), float("nan"), 0)
    return dict(zip(COLUMNS, (text, paper, value, low, high, n, verdict(estimate, rule), rule, of), strict=True))


def verdict(estimate: Estimate | None, rule: str = "above 0") -> str:
    """Whether an estimate keeps a rule, 'above x', 'below x' or 'within x' (of zero).

    The whole interval keeps it: reproduced. None of it does: not reproduced. Some of it, or no interval: undecided.
    """
    match = re.fullmatch(r"(above|below|within) (-?\d+(?:\.\d+)?)", rule)
    if not match:
        raise Problem(f"the rule of a claim is 'above x', 'below x' or 'within x' with a number x, not '{rule}'")
    word, limit = match[1], float(match[2])

    def holds(value: float) -> bool:
        return {"above": value > limit, "below": value < limit, "within": abs(value) < limit}[word]

    if estimate is None:
        return NOT_ATTEMPTED
    low, high = estimate.low, estimate.high
    if holds(low) and holds(high):
        return REPRODUCED
    nearest = {"above": high, "below": low, "within": max(low, min(high, 0.0))}[word]  # to keeping the rule
    return UNDECIDED if holds(nearest) or math.isnan(nearest) else NOT


def together(verdicts: Iterable[str]) -> str:
    """The verdict on a claim that was measured several times: the common one, else partly or undecided."""
    different = set(verdicts)
    if len(different) == 1:
        return different.pop()
    return PARTLY if different & {REPRODUCED, PARTLY} else UNDECIDED
