"""Intervals against their closed forms and against SciPy's own tests."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synpos_lib.core.errors import Problem
from synpos_lib.results import tables


def test_a_share_has_the_wilson_interval():
    share = tables.share([True] * 30 + [False] * 70)
    z, n, p = stats.norm.ppf(0.975), 100, 0.3
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert share == pytest.approx((0.3, centre - reach, centre + reach, 100))
    assert str(share) == "30.0 % [21.9, 39.6], n = 100" and tables.share(30, 100) == share


def test_one_run_has_no_interval():
    assert np.isnan(tables.mean([0.5]).low)


def runs(**values):
    rows = [{"method": m, "metric": "linear", "seed": s, "value": v} for m, vs in values.items() for s, v in vs.items()]
    return pd.DataFrame(rows)


def test_a_gain_is_the_paired_t_test_of_each_seeds_mean():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 5, 3)).round(3)  # methods, seeds, rows of each
    cells = [(m, s, v) for m in range(2) for s in range(5) for v in values[m, s]]
    frame = pd.DataFrame(cells, columns=["method", "seed", "value"]).replace({"method": {0: "ours", 1: "theirs"}})
    frame = pd.concat([frame, frame[frame.seed == 0].assign(method="others", seed=9)])  # a seed that has no partner
    gain = tables.gain(frame, "ours", "theirs")
    interval = stats.ttest_rel(*values.mean(2)).confidence_interval()
    assert (gain.low, gain.high) == pytest.approx((interval.low, interval.high)) and gain.n == 5
    assert gain.value == pytest.approx((values[0] - values[1]).mean())
    assert tables.gain(frame, "ours", "others") is None and tables.gain(frame, "ours", "nobody") is None
    assert tables.gain(frame.assign(at=frame.method), "ours", "theirs", "at") == gain
    assert tables.gain(frame[:0], "ours", "theirs") is None


def test_a_summary_has_one_line_per_group():
    frame = runs(simclr={0: 0.5, 1: 0.7, 2: 0.6}, byol={0: 0.4})
    table = tables.summary(frame, ["method"]).set_index("method")
    reach = stats.t.ppf(0.975, 2) * 0.1 / 3**0.5
    assert table.loc["simclr"].tolist() == pytest.approx([0.6, 0.1, 0.6 - reach, 0.6 + reach, 3])
    assert table.loc["byol", "mean"] == 0.4 and np.isnan(table.loc["byol", "std"]) and table.loc["byol", "n"] == 1


def test_differences_are_paired_by_seed_and_only_where_both_have_it():
    frame = runs(simclr={0: 0.5, 1: 0.7, 3: 0.1}, clsp={1: 0.9, 0: 0.6, 2: 0.99})
    table = tables.against(frame, "simclr", ["metric"])
    assert table.method.tolist() == ["clsp"] and table.n.tolist() == [2]
    interval = stats.ttest_rel([0.6, 0.9], [0.5, 0.7]).confidence_interval()
    assert table.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx([0.15, interval.low, interval.high])


def test_differences_need_their_baseline_and_one_value_each():
    frame = runs(simclr={0: 0.5}, clsp={0: 0.6})
    with pytest.raises(Problem, match="did you mean 'simclr'"):
        tables.against(frame, "simcl", ["metric"])
    with pytest.raises(Problem, match="two values for method simclr, metric linear, seed 0"):
        tables.against(pd.concat([frame, frame]), "simclr", ["metric"])


def test_cells_say_mean_spread_and_number():
    frame = pd.DataFrame({"method": ["a", "a", "b"], "target": ["x"] * 3, "value": [0.5, 0.6, 0.25]})
    texts = tables.cells(frame, ["method", "target"])
    assert texts["a", "x"] == "55.0 ± 7.1 (n = 2)" and texts["b", "x"] == "25.0 (n = 1)"


def test_p_values_are_those_of_tests_for_above_and_for_below():
    above, below = tables.share(15, 20).p_values(0.5)
    assert above == pytest.approx(sum(stats.binom.pmf(k, 20, 0.5) for k in range(15, 21)))
    assert below == pytest.approx(sum(stats.binom.pmf(k, 20, 0.5) for k in range(16)))
    x = [0.1, 0.3, 0.2, 0.25]
    tests = [stats.ttest_1samp(x, 0.1, alternative=side).pvalue for side in ("greater", "less")]
    assert tables.mean(x).p_values(0.1) == pytest.approx(tests)


def test_a_gain_knows_both_levels():
    gain = tables.gain(runs(simclr={0: 0.5, 1: 0.7, 3: 0.1}, clsp={1: 0.9, 0: 0.6, 2: 0.99}), "clsp", "simclr")
    assert gain.levels == pytest.approx((0.75, 0.6))  # of the pairs


def test_the_weakest_of_several_differences_is_a_sure_loss_then_a_single_run_then_the_lowest_interval():
    won, unsure = tables.Gain(0.03, 0.02, 0.04, 5), tables.Gain(0.01, -0.11, 0.13, 5)
    lost, single = tables.Gain(-0.02, -0.022, -0.018, 5), tables.Gain(0.5, float("nan"), float("nan"), 1)
    assert tables.weakest({"a": won, "b": unsure}) == "b"
    assert tables.weakest({"a": lost, "b": unsure, "c": single}) == "a"
    assert tables.weakest({"a": won, "b": single}) == "b"
    assert tables.weakest({"a": won, "b": None}) is None and tables.weakest({}) is None
