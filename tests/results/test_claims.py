"""Verdicts against the cases of the rule, spelled out, and SciPy's tests; Holm's correction against its text."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.results import claims, tables
from synpos_lib.results.tables import Estimate

HOLDS, FAILS, CROSSES = "holds on these images", "does not hold on these images", "undecided: interval crosses"


@pytest.mark.parametrize(
    ("interval", "rule", "expected"),
    [
        ((0.02, 0.01, 0.03), "above 0", HOLDS),
        ((0.02, -0.01, 0.05), "above 0", CROSSES),
        ((0.02, 0.0, 0.04), "above 0", CROSSES),  # touching is not above
        ((-0.02, -0.05, 0.01), "above 0", CROSSES),
        ((-0.02, -0.05, 0.0), "above 0", FAILS),
        ((0.0, -0.1, 0.1), "above 0", CROSSES),
        ((0.02, float("nan"), float("nan")), "above 0", "undecided: one run"),
        ((0.75, 0.6, 0.9), "above 0.5", HOLDS),
        ((0.75, 0.4, 0.9), "above 0.5", CROSSES),
        ((0.02, 0.01, 0.03), "below 0.05", HOLDS),
        ((0.002, -0.01, 0.015), "within 0.02", HOLDS),
        ((0.02, 0.05, 0.06), "below 0.05", FAILS),
        ((0.002, -0.03, 0.015), "within 0.02", CROSSES),
        ((0.002, -0.01, 0.03), "within 0.02", CROSSES),
        ((0.02, 0.01, 0.1), "below 0.05", CROSSES),
        ((0.1, -0.2, 0.4), "within 0.02", CROSSES),
        ((-0.1, -0.2, -0.02), "within 0.02", FAILS),
        ((-0.1, -0.2, -0.06), "above -0.05", FAILS),
    ],
)
def test_the_verdict_follows_from_the_interval(interval, rule, expected):
    assert claims.verdict(Estimate(*interval, 3), rule) == expected


def gain(ours, theirs):
    """Paired over seeds."""
    sides = {"ours": ours, "theirs": theirs}
    rows = [{"method": m, "seed": i, "value": v} for m, values in sides.items() for i, v in enumerate(values)]
    return tables.gain(pd.DataFrame(rows), "ours", "theirs")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((0.998, 0.999), (0.998, 0.999), "cannot show it here"),  # a ceiling
        ((0.998, 0.999), (0.985, 0.987), HOLDS),  # one of them has room
        ((0.002, 0.001), (0.003, 0.004), "cannot show it here"),  # a floor
        ((0.002, 0.001), (0.5, 0.499), FAILS),
        ((0.999,), (0.998,), "cannot show it here"),  # more runs would not help
    ],
)
def test_a_ceiling_or_a_floor_refutes_nothing(ours, theirs, expected):
    assert claims.verdict(gain(ours, theirs)) == expected


def test_the_same_difference_without_levels_is_judged():
    assert claims.verdict(tables.mean([0.0, 0.0])) == FAILS


@pytest.mark.parametrize(
    ("several", "expected"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, CROSSES], CROSSES),
        ([FAILS, HOLDS], FAILS),
        ([CROSSES, "undecided: one run"], CROSSES),
        ([FAILS, CROSSES], FAILS),
        ([HOLDS, "cannot show it here"], HOLDS),  # which is silent
        (["cannot show it here"], "cannot show it here"),
        (["reproduced", "not reproduced"], "not reproduced"),
        (["not attempted"], "not attempted"),
    ],
)
def test_several_measurements_have_one_verdict_the_least_favourable(several, expected):
    assert claims.together(several) == claims.together(several[::-1]) == expected


def test_above_zero_is_what_a_paired_t_test_calls_significant():
    rng = np.random.default_rng(0)
    for _ in range(50):
        ours, theirs = rng.normal(0.5, 1, 6), rng.normal(0, 1, 6)
        test, estimate = stats.ttest_rel(ours, theirs), tables.mean(ours - theirs)
        significant = test.pvalue < 0.05 and ours.mean() > theirs.mean()
        assert (claims.verdict(estimate) == HOLDS) == significant
        assert claims.p_value(estimate, "above 0") == pytest.approx(test.pvalue)


@pytest.mark.parametrize("rule", ["above 0.1", "below 0.1", "within 0.3"])
def test_the_p_value_of_a_mean_is_below_5_percent_where_its_interval_decides(rule):
    rng, found = np.random.default_rng(1), set()
    for shift in np.linspace(-1, 1, 41):
        estimate = tables.mean(rng.normal(shift, 0.2, 5))
        verdict = claims.verdict(estimate, rule)
        assert (verdict in (HOLDS, FAILS)) == (claims.p_value(estimate, rule) < 0.05)
        found.add(verdict)
    assert found == {HOLDS, FAILS, CROSSES}


def test_within_is_judged_by_two_one_sided_tests():
    x = np.array([0.01, -0.02, 0.03, 0.0, 0.015])
    low = stats.ttest_1samp(x, -0.05, alternative="greater").pvalue
    high = stats.ttest_1samp(x, 0.05, alternative="less").pvalue
    assert claims.p_value(tables.mean(x), "within 0.05") == pytest.approx(2 * max(low, high))
    outside = stats.ttest_1samp(x + 0.2, 0.05, alternative="greater").pvalue
    assert claims.p_value(tables.mean(x + 0.2), "within 0.05") == pytest.approx(2 * outside)


def test_a_share_is_judged_by_the_binomial_test():
    tail = sum(stats.binom.pmf(k, 20, 0.5) for k in range(15, 21))
    assert claims.p_value(tables.share(15, 20), "above 0.5") == pytest.approx(2 * tail)
    assert claims.p_value(tables.share(5, 20), "above 0.5") == pytest.approx(2 * tail)
    assert claims.p_value(tables.share(10, 20), "above 0.5") == 1


def test_without_an_interval_there_is_no_p_value():
    assert np.isnan(claims.p_value(None, "above 0")) and np.isnan(claims.p_value(tables.mean([0.3]), "within 0.1"))
    assert claims.p_value(tables.mean([0.1, 0.1]), "above 0") == 0  # no spread at all
    assert claims.p_value(tables.mean([0.0, 0.0]), "above 0") == 1


@pytest.mark.parametrize(
    ("mean", "spread", "rule"), [(0.02, 0.03, "above 0"), (-0.01, 0.02, "above 0"), (0.003, 0.02, "within 0.02")]
)
def test_with_as_many_runs_as_needed_about_every_second_experiment_decides(mean, spread, rule):
    draw, few = np.random.default_rng(0), np.array([-1.0, 0.0, 1.0])
    n = claims.needs(tables.mean(mean + spread * few), rule)  # whose mean and spread are exactly these

    def decided(n):
        verdicts = [claims.verdict(tables.mean(draw.normal(mean, spread, n)), rule) for _ in range(400)]
        return 1 - verdicts.count(CROSSES) / 400

    assert 0.35 < decided(int(n)) < 0.65 and decided(int(3 * n)) > 0.9 and decided(int(n) // 2) < 0.35


def test_the_number_needed_is_the_first_whose_interval_decides():
    for count, hits, limit in [(30, 18, 0.5), (40, 25, 0.7), (600, 290, 0.5)]:
        n, share = claims.needs(tables.share(hits, count), f"above {limit}"), hits / count
        z = [(share - limit) / (limit * (1 - limit) / k) ** 0.5 for k in (n - 1, n)]
        assert abs(z[0]) <= 1.959964 < abs(z[1])
    values = [0.01, 0.03, -0.01, 0.02]
    n = claims.needs(tables.mean(values), "above 0")
    t = [np.mean(values) / np.std(values, ddof=1) * k**0.5 / stats.t.ppf(0.975, k - 1) for k in (n - 1, n)]
    assert t[0] <= 1 < t[1]
    assert claims.needs(tables.mean([0.1, 0.1]), "above 0") == 2  # no spread at all


def test_what_no_number_would_decide_is_said_and_what_is_unknown_too():
    assert claims.needs(tables.mean([0.001, -0.001, 0.0]), "above 0") == float("inf")
    assert claims.needs(tables.share(50, 100), "above 0.5") == float("inf")
    assert claims.needs(tables.share(501, 1000), "above 0.5") == float("inf")  # a million images
    assert claims.needs(gain((0.998, 0.999), (0.998, 0.999)), "above 0") == float("inf")  # a ceiling
    assert np.isnan(claims.needs(tables.mean([0.3]), "above 0")) and np.isnan(claims.needs(None, "above 0"))


def test_holm_is_what_its_text_says():
    """Step down from the smallest p: go on while p_(i) <= alpha / (m - i + 1), and reject none after the first stop."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        p, alpha = rng.uniform(0, 0.1, rng.integers(1, 9)), rng.uniform(0.01, 0.3)
        rejected, left = np.zeros(len(p), bool), len(p)
        for i in sorted(range(len(p)), key=lambda i: p[i]):
            if p[i] > alpha / left:
                break
            rejected[i], left = True, left - 1
        assert ((claims.holm(p) <= alpha) == rejected).all()
    assert claims.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert claims.holm([0.9, 0.8]) == pytest.approx([1, 1]) and len(claims.holm([])) == 0


def test_the_correction_takes_back_what_luck_explains_and_touches_nothing_else():
    near, clear, one_run = tables.mean([0.2, 0.28, 0.14]), tables.mean([0.2, 0.21, 0.2]), tables.mean([0.2])
    lost, open_ = tables.mean([-0.2, -0.2, -0.201]), tables.mean([0.1, -0.1, 0.05])
    ceiling = gain((0.999, 0.999), (0.998, 0.998))
    table = pd.DataFrame(claims.claim("", "CLSP", e) for e in (near, clear, one_run, lost, open_, ceiling, None))
    assert table.verdict[0] == HOLDS and 0.05 / 2 < table.p[0] < 0.05
    expected = [CROSSES, HOLDS, "undecided: one run", FAILS, CROSSES, "cannot show it here", "not attempted"]
    assert claims.correct(table).tolist() == expected
    alone = table.drop(index=[1, 3, 4])  # a family of one needs no correction
    assert claims.correct(alone).tolist() == alone.verdict.tolist()


def test_a_row_holds_the_estimate_and_the_rule():
    row = claims.claim("more is better", "CLSP", tables.mean([0.1, 0.14]), departure="s = t/2", on="scenes")
    assert list(row) == list(claims.COLUMNS)
    assert row["measured"] == pytest.approx(0.12) and row["n"] == 2 and row["rule"] == "above 0"
    assert row["p"] == pytest.approx(stats.ttest_1samp([0.1, 0.14], 0).pvalue) and row["verdict"] == CROSSES
    assert (row["of"], row["departure"], row["on"]) == ("", "s = t/2", "scenes")


def test_what_was_not_measured_has_no_numbers():
    row = claims.claim("it scales", "CLSP", None)
    assert row["verdict"] == "not attempted" and row["n"] == 0 and np.isnan(row["measured"])


@pytest.mark.parametrize("rule", ["", "over 0", "above", "above zero", "above 0 "])
def test_a_rule_that_cannot_be_computed_is_refused(rule):
    with pytest.raises(Problem, match="above x"):
        claims.verdict(Estimate(1, 0, 2, 3), rule)
