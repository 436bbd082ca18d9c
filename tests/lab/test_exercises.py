"""Every stub fails kindly, every solution passes, and common mistakes get their own message."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from synpos_lib.data import scenes
from synpos_lib.lab import exercises, parameters

SCORES = pd.DataFrame(
    {
        "block": ["mid", "mid", "mid", "in"],
        "t": [50, 300, 600, 800],
        "linear what": [0.9, 0.5, 0.12, 0.4],
    }
)
EXTRA = {"check_last_readable": (SCORES,)}


def exercise(notebook):
    """The stub, the folded solution and the name of the check, from the notebook itself."""
    cells = {cell["id"]: "".join(cell["source"]) for cell in parameters.read_notebook(notebook)["cells"]}
    stub = cells["exercise-stub"]
    solution = re.search(r"```python\n(.*?)```", cells["solution"], re.S).group(1)
    return stub.split("\n\n\n")[0], solution, re.search(r"exercises\.(check_\w+)", stub).group(1)


def verdict(code, check, capsys):
    names = {"scenes": scenes, "torch": torch}
    exec(code, names)
    function = next(value for key, value in names.items() if re.search(rf"def {key}\(", code))
    getattr(exercises, check)(function, *EXTRA.get(check, ()))
    return capsys.readouterr().out


@pytest.mark.parametrize("notebook", parameters.notebook_names())
def test_the_stub_fails_kindly_and_the_solution_passes(notebook, capsys):
    stub, solution, check = exercise(notebook)
    assert verdict(stub, check, capsys).startswith("Not yet: the function returns nothing")
    assert verdict(solution, check, capsys) == "Right.\n"


def _shares(z, power=1):
    """Entropy of the shares of the singular values, to a power."""
    s = torch.linalg.svdvals(z) ** power
    return torch.special.entr(s / s.sum()).sum()


def _per_class(said, truth, classes):
    return sum((said[truth == c] == c).float().mean() for c in classes) / len(classes)


def interval(ours, theirs, quantile=2.776445, over=5):
    """The paired interval, with a quantile and a divisor of the variance of one's own."""
    d = np.subtract(ours, theirs)
    reach = quantile * d.std(ddof=1) / over**0.5
    return d.mean() - reach, d.mean() + reach


def _halves(left, right, fractal, weight, axis=2):
    """Two halves beside (or, axis 1, above) each other, with a fractal."""
    n = left.shape[axis] // 2
    hybrid = torch.cat([left.narrow(axis, 0, n), right.narrow(axis, n, n)], axis)
    return ((1 - weight) * hybrid.float() + weight * fractal.float()).byte()


@pytest.mark.parametrize(
    ("check", "wrong", "hint"),
    [
        ("check_wrong_partner", lambda a: a, "anchors themselves"),
        ("check_wrong_partner", lambda a: scenes.render(200, seed=9), "places differ"),
        ("check_wrong_partner", lambda a: scenes.render(200, seed=9, where=a.where, what=a.what), "share the species"),
        ("check_wrong_partner", lambda a: a.images, "return what scenes.render gives"),
        ("check_noisy", lambda x, a, e: (1 - a) ** 0.5 * x + a**0.5 * e, "exchange the two"),
        ("check_noisy", lambda x, a, e: x + e, "term by term"),
        ("check_noisy", lambda x, a, e: a * x + (1 - a) * e, "square root"),
        ("check_noisy", lambda x, a, e: a**0.5 * x + (1 - a**0.5) * e, "sqrt"),
        ("check_last_readable", lambda s, f, c: 50, "cleanest"),
        ("check_last_readable", lambda s, f, c: 800, "select the bottleneck"),
        ("check_last_readable", lambda s, f, c: 600, "more than twice chance"),
        ("check_last_readable", lambda s, f, c: 0.5, "check the limit"),
        ("check_silence_late", lambda t, h: 0 * h if t > 200 else h, "other way round"),
        ("check_silence_late", lambda t, h: 0 * h, "depends on t"),
        ("check_silence_late", lambda t, h: h if t > 200 else 0.5 * h, "late ones zero"),
        ("check_mix_pixels", lambda i, a, w: i // 2 + a // 2, "gave 150"),
        ("check_mix_pixels", lambda i, a, w: (w * a.float() + (1 - w) * i.float()).byte(), "own share"),
        ("check_mix_pixels", lambda i, a, w: w * i.float() + (1 - w) * a.float(), "uint8"),
        ("check_mutual", lambda n: n[n], "truth value"),
        ("check_mutual", lambda n: n[n] == n, "nobody is mutual"),
        ("check_mutual", lambda n: n[n[n]] == n, "2 chooses 1"),
        ("check_mutual", lambda n: (n[n] == torch.arange(6)) | (n[n[n]] == torch.arange(6)), "not three"),
        ("check_lucky", lambda n: 1 - 0.95**n, "one side only"),
        ("check_lucky", lambda n: 0.025 * n, "at least one"),
        ("check_lucky", lambda n: 0.025, "n-th power"),
        ("check_lucky", lambda n: 0.5, "none of them is lucky"),
        ("check_effective_rank", lambda z: _shares(z).exp(), "subtract the mean"),
        ("check_effective_rank", lambda z: _shares(z - z.mean(0)), "exponential counts"),
        ("check_effective_rank", lambda z: _shares(z - z.mean(0), 2).exp(), "squared"),
        ("check_mean_per_class", lambda s, t: (s == t).float().mean(), "plain accuracy"),
        ("check_mean_per_class", lambda s, t: _per_class(s, t, range(5)), "not a number"),
        ("check_mean_per_class", lambda s, t: _per_class(t, s, s.unique()), "how often what it said was right"),
        ("check_mean_per_class", lambda s, t: _per_class(s, t, t.unique()) * len(t.unique()) / 4, "count as zero"),
        ("check_paired_interval", lambda a, b: interval(b, a), "ours minus theirs"),
        ("check_paired_interval", lambda a, b: interval(a, b, quantile=1.959964), "many runs"),
        ("check_paired_interval", lambda a, b: interval(a, b, quantile=stats.t.ppf(0.975, 5)), "one less"),
        ("check_paired_interval", lambda a, b: interval(a, b, quantile=stats.t.ppf(0.95, 4)), "each side"),
        ("check_paired_interval", lambda a, b: interval(a, b, over=1), "square root of their number"),
        ("check_paired_interval", lambda a, b: interval(a, b, over=5 / 0.8), "n - 1"),
        ("check_paired_interval", lambda a, b: stats.ttest_ind(a, b).confidence_interval(), "not paired"),
        ("check_choose", lambda v, t: max(t), "two things"),
        ("check_choose", lambda v, t: (t.index(max(t)), max(t)), "let validation decide"),
        ("check_choose", lambda v, t: (v.index(max(v)), max(v)), "report test"),
        ("check_is_copy", lambda p, a: (p.float() - a.float()).mean().item() < 8, "must not cancel"),
        ("check_is_copy", lambda p, a: (p.float() - a.float()).abs().max().item() < 8, "not their maximum"),
        ("check_is_copy", lambda p, a: True, "mean absolute difference"),
        ("check_mean_corruption_error", lambda e, r: (e / r).mean(), "severity by severity"),
        ("check_mean_corruption_error", lambda e, r: e.sum() / r.sum(), "count alike"),
        ("check_mean_corruption_error", lambda e, r: (e.sum(0) / r.sum(0)).mean(), "columns"),
        ("check_mean_corruption_error", lambda e, r: e.sum(1) / r.sum(1), "one number"),
        ("check_is_copy", lambda p, a: ((p - a).float().mean() < 8).item(), "wrap around"),
        ("check_mixed", lambda o, e, f, weight=0.2: 0.8 * e.float() + 0.2 * f.float(), "uint8"),
        ("check_mixed", lambda o, e, f, weight=0.2: _halves(e, o, f, 0.2), "on the left"),
        ("check_mixed", lambda o, e, f, weight=0.2: _halves(o, e, f, 0.8), "the fractal's share"),
        ("check_mixed", lambda o, e, f, weight=0.2: _halves(o, e, f, 0.2, axis=1), "the width"),
    ],
)
def test_common_mistakes_get_their_message(check, wrong, hint, capsys):
    getattr(exercises, check)(wrong, *EXTRA.get(check, ()))
    assert hint in capsys.readouterr().out
