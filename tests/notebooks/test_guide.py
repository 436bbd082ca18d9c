"""What notebooks/README.md shows is tried: the method in 40 lines trains, in every form."""

import re
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from synpos_lib import methods, profiles
from synpos_lib.methods import Recipe


@pytest.fixture
def simsiam(monkeypatch):
    text = (profiles.notebooks_folder() / "README.md").read_text()
    code, line = (
        re.search(rf"```python\n({start}.*?)```", text, re.DOTALL)[1] for start in ('"""SimSiam', '    "sims')
    )
    assert len(code.splitlines()) <= 40
    module = types.ModuleType("synpos_lib.methods.simsiam")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = eval(f"{{{line}}}", {"Recipe": Recipe, "_SYMMETRIC": methods._SYMMETRIC})
    monkeypatch.setattr(methods, "_BASES", methods._BASES | recipe)
    monkeypatch.setattr(methods, "METHODS", methods._methods())
    return "simsiam"


def test_the_method_of_the_readme_is_its_formula_and_trains(simsiam):
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 16))
    views = [torch.rand(6, 3, 8, 8) for _ in range(3)]
    method = methods.build(simsiam, encoder, 16, hidden=8, out=8, bottleneck=4)
    z = method.embed(*views[:2])
    p = [method.predictor(part) for part in z]
    naive = -sum(F.cosine_similarity(p[a][i], z[1 - a][i], dim=0) for a in range(2) for i in range(6)) / 12
    total, _ = method.compare(*z, views)
    assert torch.allclose(total, naive, atol=1e-5)
    total.backward()
    assert all(weight.grad is not None for weight in method.parameters())
    for name in (f"clsp-{simsiam}", f"{simsiam}-aug", f"mixdiff-{simsiam}"):
        total, _ = methods.build(name, encoder, 16, hidden=8, out=8, bottleneck=4).loss(views[:2], views[2])
        assert total.isfinite()


def test_every_notebook_of_the_reading_plan_exists():
    text = (profiles.notebooks_folder() / "README.md").read_text()
    plan = text.split("## Three sessions")[1].split("## Glossary")[0]
    named = set(re.findall(r"\| (\d\d),", plan))
    assert named and named <= {name[:2] for name in profiles.notebook_names()}
