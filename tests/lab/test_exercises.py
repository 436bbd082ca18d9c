"""Every stub gets a hint, every solution passes, and each common mistake has a message of its own."""

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
def test_the_stub_gets_a_hint_and_the_solution_passes(notebook, capsys):
    stub, solution, check = exercise(notebook)
    assert verdict(stub, check, capsys).startswith("Not yet: the function returns nothing")
    assert verdict(solution, check, capsys) == "Right.\n"


def _shares(z, power=1):
    """Entropy of the shares of the singular values, to a power."""
    s = torch.linalg.svdvals(z) ** power
    return torch.special.entr(s / s.sum()).sum()


def _per_class(labels, truth, classes):
    return sum((labels[truth == c] == c).float().mean() for c in classes) / len(classes)


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


MISTAKES = {
    "check_wrong_partner": [
        lambda a: a,
        lambda a: scenes.render(200, seed=9),
        lambda a: scenes.render(200, seed=9, where=a.where, what=a.what),
        lambda a: a.images,
    ],
    "check_noisy": [
        lambda x, a, e: (1 - a) ** 0.5 * x + a**0.5 * e,
        lambda x, a, e: x + e,
        lambda x, a, e: a * x + (1 - a) * e,
        lambda x, a, e: a**0.5 * x + (1 - a**0.5) * e,
    ],
    "check_last_readable": [
        lambda s, f, c: 50,
        lambda s, f, c: 800,
        lambda s, f, c: 600,
        lambda s, f, c: 0.5,
    ],
    "check_silence_late": [
        lambda t, h: 0 * h if t > 200 else h,
        lambda t, h: 0 * h,
        lambda t, h: h if t > 200 else 0.5 * h,
    ],
    "check_mix_pixels": [
        lambda i, a, w: i // 2 + a // 2,
        lambda i, a, w: (w * a.float() + (1 - w) * i.float()).byte(),
        lambda i, a, w: w * i.float() + (1 - w) * a.float(),
    ],
    "check_mutual": [
        lambda n: n[n],
        lambda n: n[n] == n,
        lambda n: n[n[n]] == n,
        lambda n: (n[n] == torch.arange(6)) | (n[n[n]] == torch.arange(6)),
    ],
    "check_cosines_first": [
        lambda weights: weights[:, 1::2],
        lambda weights: torch.cat([weights[:, ::2], weights[:, 1::2]], 1),
        lambda weights: weights,
        lambda weights: weights.flip(0),
        lambda weights: weights.flip(1),
    ],
    "check_blind_share": [
        lambda counts: 1 / len(counts),
        lambda counts: max(counts) / sum(counts),
        lambda counts: sum(n**2 for n in counts),
        lambda counts: sum(n / sum(counts) for n in counts),
    ],
    "check_lucky": [
        lambda n: 1 - 0.95**n,
        lambda n: 0.025 * n,
        lambda n: 0.025,
        lambda n: 0.5,
    ],
    "check_shortened": [
        lambda tau, steps: 1 - 30 / steps,
        lambda tau, steps: tau,
        lambda tau, steps: min(tau, 1 - 10 / steps),
    ],
    "check_effective_rank": [
        lambda z: _shares(z).exp(),
        lambda z: _shares(z - z.mean(0)),
        lambda z: _shares(z - z.mean(0), 2).exp(),
    ],
    "check_mean_per_class": [
        lambda s, t: (s == t).float().mean(),
        lambda s, t: _per_class(s, t, range(5)),
        lambda s, t: _per_class(t, s, s.unique()),
        lambda s, t: _per_class(s, t, t.unique()) * len(t.unique()) / 4,
    ],
    "check_paired_interval": [
        lambda a, b: interval(b, a),
        lambda a, b: interval(a, b, quantile=1.959964),
        lambda a, b: interval(a, b, quantile=stats.t.ppf(0.975, 5)),
        lambda a, b: interval(a, b, quantile=stats.t.ppf(0.95, 4)),
        lambda a, b: interval(a, b, over=1),
        lambda a, b: interval(a, b, over=5 / 0.8),
        lambda a, b: stats.ttest_ind(a, b).confidence_interval(),
    ],
    "check_choose": [
        lambda v, t: max(t),
        lambda v, t: (t.index(max(t)), max(t)),
        lambda v, t: (v.index(max(v)), max(v)),
    ],
    "check_is_copy": [
        lambda p, a: (p.float() - a.float()).mean().item() < 8,
        lambda p, a: (p.float() - a.float()).abs().max().item() < 8,
        lambda p, a: True,
        lambda p, a: ((p - a).float().mean() < 8).item(),
    ],
    "check_mean_corruption_error": [
        lambda e, r: (e / r).mean(),
        lambda e, r: e.sum() / r.sum(),
        lambda e, r: (e.sum(0) / r.sum(0)).mean(),
        lambda e, r: e.sum(1) / r.sum(1),
    ],
    "check_mixed": [
        lambda o, e, f, weight=0.2: 0.8 * e.float() + 0.2 * f.float(),
        lambda o, e, f, weight=0.2: _halves(e, o, f, 0.2),
        lambda o, e, f, weight=0.2: _halves(o, e, f, 0.8),
        lambda o, e, f, weight=0.2: _halves(o, e, f, 0.2, axis=1),
    ],
}


@pytest.mark.parametrize("check", [name for name in vars(exercises) if name.startswith("check_")])
def test_every_common_mistake_has_a_message_of_its_own(check, capsys):
    messages = []
    for mistake in MISTAKES[check]:
        getattr(exercises, check)(mistake, *EXTRA.get(check, ()))
        messages.append(capsys.readouterr().out)
    assert all(message.startswith("Not yet: ") and message.endswith(".\n") for message in messages)
    assert len(set(messages)) == len(messages) >= 3


def test_a_problem_inside_the_function_is_a_message_too(capsys):
    exercises.check_wrong_partner(lambda anchors: scenes.render(3, where=anchors.where))
    assert "indices must be 3 numbers" in capsys.readouterr().out
