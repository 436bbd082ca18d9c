"""The table explorer: means over seeds, and differences by seed, as SciPy has them."""

import pandas as pd
import pytest
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.lab import explore
from synpos_lib.lab.explore import panel, rows

VALUES = {"simclr": [0.50, 0.55, 0.61], "clsp-simclr": [0.60, 0.62, 0.66], "byol": [0.40, 0.41]}
FRAME = pd.DataFrame(
    [
        {"dataset": "scenes", "method": method, "variant": "", "seed": seed, "factor": factor, "metric": "linear"}
        | {"value": value - (factor == "where") / 10}
        for method, values in VALUES.items()
        for seed, value in enumerate(values)
        for factor in ("what", "where")
    ]
)


def test_rows_are_means_over_seeds_sorted_and_filtered():
    table = rows.select_rows(FRAME, "mean", True, "SIMCLR what")
    assert list(table.method) == ["clsp-simclr", "simclr"] and list(table.n) == [3, 3]
    assert table["mean"][0] == pytest.approx((0.60 + 0.62 + 0.66) / 3)
    assert list(rows.select_rows(FRAME, "mean", False).method)[0] == "byol"
    with pytest.raises(Problem, match="no row contains 'zebra'"):
        rows.select_rows(FRAME, having="zebra")


def test_two_rows_are_compared_seed_by_seed():
    gap = rows.compare_rows(FRAME, "clsp-simclr · what", "simclr · what")
    expected = stats.ttest_rel(VALUES["clsp-simclr"], VALUES["simclr"]).confidence_interval(0.95)
    assert (gap.low, gap.high, gap.n) == (pytest.approx(expected.low), pytest.approx(expected.high), 3)
    assert rows.compare_rows(FRAME, "simclr · what", "byol · what").n == 2  # the seeds that both have


def test_what_cannot_be_compared_is_said():
    with pytest.raises(Problem, match="differ in their factor"):
        rows.compare_rows(FRAME, "simclr · what", "simclr · where")
    late = FRAME.assign(seed=FRAME.seed + 10 * (FRAME.method == "byol"))
    with pytest.raises(Problem, match="no seed in common"):
        rows.compare_rows(late, "simclr · what", "byol · what")


def test_the_widget_compares_and_says_the_interval(monkeypatch):
    monkeypatch.setattr(panel.runtime, "in_batch", lambda: False)
    monkeypatch.setattr(panel, "_values", {})
    controls, screen = explore.table_explorer(FRAME).children
    by_name = {control.description: control for control in controls.children}
    by_name["compare"].value, by_name["with"].value = "clsp-simclr · what", "simclr · what"
    assert "+7.3 points [" in screen.value and "paired over 3 seeds" in screen.value
    by_name["filter"].value = "byol"
    assert screen.value.count("<tr") == 3  # the head, what, where
