"""Every stub fails kindly, every solution passes, and common mistakes get their own message."""

import re

import pandas as pd
import pytest
import torch

from synpos_lib import exercises, profiles
from synpos_lib.data import scenes

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
    cells = {cell["id"]: "".join(cell["source"]) for cell in profiles.read_notebook(notebook)["cells"]}
    stub = cells["exercise-stub"]
    solution = re.search(r"```python\n(.*?)```", cells["solution"], re.S).group(1)
    return stub.split("\n\n\n")[0], solution, re.search(r"exercises\.(check_\w+)", stub).group(1)


def verdict(code, check, capsys):
    names = {"scenes": scenes, "torch": torch}
    exec(code, names)
    function = next(value for key, value in names.items() if re.search(rf"def {key}\(", code))
    getattr(exercises, check)(function, *EXTRA.get(check, ()))
    return capsys.readouterr().out


@pytest.mark.parametrize("notebook", profiles.notebook_names())
def test_the_stub_fails_kindly_and_the_solution_passes(notebook, capsys):
    stub, solution, check = exercise(notebook)
    assert verdict(stub, check, capsys).startswith("Not yet: the function returns nothing")
    assert verdict(solution, check, capsys) == "Right.\n"


def _shares(z, power=1):
    """Entropy of the shares of the singular values, to a power."""
    s = torch.linalg.svdvals(z) ** power
    return torch.special.entr(s / s.sum()).sum()


@pytest.mark.parametrize(
    ("check", "wrong", "hint"),
    [
        ("check_wrong_partner", lambda a: a, "anchors themselves"),
        ("check_wrong_partner", lambda a: scenes.render(200, seed=9), "places differ"),
        ("check_wrong_partner", lambda a: scenes.render(200, seed=9, where=a.where, what=a.what), "share the species"),
        ("check_noisy", lambda x, a, e: a * x + (1 - a) * e, "square root"),
        ("check_noisy", lambda x, a, e: a**0.5 * x + (1 - a**0.5) * e, "sqrt"),
        ("check_last_readable", lambda s, f, c: 50, "cleanest"),
        ("check_last_readable", lambda s, f, c: 800, "select the bottleneck"),
        ("check_silence_late", lambda t, h: 0 * h if t > 200 else h, "other way round"),
        ("check_mix_pixels", lambda i, a, w: (w * a.float() + (1 - w) * i.float()).byte(), "own share"),
        ("check_mix_pixels", lambda i, a, w: w * i.float() + (1 - w) * a.float(), "uint8"),
        ("check_mutual", lambda n: n[n], "truth value"),
        ("check_mutual", lambda n: n[n] == n, "nobody is mutual"),
        ("check_mutual", lambda n: n[n[n]] == n, "2 chooses 1"),
        ("check_mutual", lambda n: (n[n] == torch.arange(6)) | (n[n[n]] == torch.arange(6)), "not three"),
        ("check_effective_rank", lambda z: _shares(z).exp(), "subtract the mean"),
        ("check_effective_rank", lambda z: _shares(z - z.mean(0)), "exponential counts"),
        ("check_effective_rank", lambda z: _shares(z - z.mean(0), 2).exp(), "squared"),
        ("check_is_copy", lambda p, a: ((p - a).float().mean() < 8).item(), "wrap around"),
    ],
)
def test_common_mistakes_get_their_message(check, wrong, hint, capsys):
    getattr(exercises, check)(wrong, *EXTRA.get(check, ()))
    assert hint in capsys.readouterr().out
