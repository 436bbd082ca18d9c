"""Intervals against their closed forms and against SciPy's own tests."""

import numpy as np
import pytest
from scipy import stats

from synpos_lib import tables


def test_a_share_has_the_wilson_interval():
    share = tables.share([True] * 30 + [False] * 70)
    z, n, p = stats.norm.ppf(0.975), 100, 0.3
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert share == pytest.approx((0.3, centre - reach, centre + reach, 100))
    assert str(share) == "30.0 % [21.9, 39.6], n = 100"


def test_a_paired_difference_agrees_with_the_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 1, 5), rng.normal(0, 1, 5)
    interval = stats.ttest_rel(ours, theirs).confidence_interval()
    difference = tables.paired(ours, theirs)
    assert (difference.low, difference.high) == pytest.approx((interval.low, interval.high))
    assert difference.value == pytest.approx((ours - theirs).mean())


def test_one_run_has_no_interval():
    assert np.isnan(tables.mean([0.5]).low)
