"""Verdicts against the three cases of the rule, spelled out, and against a t test."""

import numpy as np
import pytest
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.results import claims, tables
from synpos_lib.results.tables import Estimate


@pytest.mark.parametrize(
    ("interval", "rule", "expected"),
    [
        ((0.02, 0.01, 0.03), "above 0", "reproduced"),
        ((0.02, -0.01, 0.05), "above 0", "undecided"),
        ((0.02, 0.0, 0.04), "above 0", "undecided"),  # touching is not above
        ((-0.02, -0.05, 0.01), "above 0", "undecided"),
        ((-0.02, -0.05, 0.0), "above 0", "not reproduced"),
        ((0.0, -0.1, 0.1), "above 0", "undecided"),
        ((0.02, float("nan"), float("nan")), "above 0", "undecided"),  # one run has no interval
        ((0.75, 0.6, 0.9), "above 0.5", "reproduced"),
        ((0.75, 0.4, 0.9), "above 0.5", "undecided"),
        ((0.02, 0.01, 0.03), "below 0.05", "reproduced"),
        ((0.002, -0.01, 0.015), "within 0.02", "reproduced"),
        ((0.02, 0.05, 0.06), "below 0.05", "not reproduced"),
        ((0.002, -0.03, 0.015), "within 0.02", "undecided"),
        ((0.1, -0.2, 0.4), "within 0.02", "undecided"),
        ((-0.1, -0.2, -0.02), "within 0.02", "not reproduced"),
        ((-0.1, -0.2, -0.06), "above -0.05", "not reproduced"),
    ],
)
def test_the_verdict_follows_from_the_interval(interval, rule, expected):
    assert claims.verdict(Estimate(*interval, 3), rule) == expected


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "undecided"], "partly"),
        (["not reproduced", "reproduced"], "partly"),
        (["undecided", "not reproduced"], "undecided"),
        (["not reproduced"], "not reproduced"),
    ],
)
def test_several_measurements_have_one_verdict(several, expected):
    assert claims.together(several) == expected


def test_above_zero_is_what_a_paired_t_test_calls_significant():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ours, theirs = rng.normal(0.5, 1, 6), rng.normal(0, 1, 6)
        significant = stats.ttest_rel(ours, theirs).pvalue < 0.05 and ours.mean() > theirs.mean()
        assert (claims.verdict(tables.mean(ours - theirs)) == "reproduced") == significant


def test_a_row_holds_the_estimate_and_the_rule():
    row = claims.claim("more is better", "CLSP", Estimate(0.1, 0.05, 0.15, 4))
    assert list(row) == list(claims.COLUMNS)
    assert [row[key] for key in ("measured", "low", "high", "n", "verdict", "rule")] == [
        0.1,
        0.05,
        0.15,
        4,
        "reproduced",
        "above 0",
    ]


def test_what_was_not_measured_has_no_numbers():
    row = claims.claim("it scales", "CLSP", None)
    assert row["verdict"] == "not attempted here" and row["n"] == 0 and np.isnan(row["measured"])


@pytest.mark.parametrize("rule", ["", "over 0", "above", "above zero", "above 0 "])
def test_a_rule_that_cannot_be_computed_is_refused(rule):
    with pytest.raises(Problem, match="above x"):
        claims.verdict(Estimate(1, 0, 2, 3), rule)


@pytest.mark.parametrize(
    ("interval", "rule"), [((0.002, -0.01, 0.03), "within 0.02"), ((0.02, 0.01, 0.1), "below 0.05")]
)
def test_an_interval_that_leaves_the_rule_at_its_upper_end_is_undecided(interval, rule):
    assert claims.verdict(Estimate(*interval, 3), rule) == "undecided"
