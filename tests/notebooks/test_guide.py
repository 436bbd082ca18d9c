"""What notebooks/README.md shows is tried: the method in 40 lines trains, the profile for own images fits them."""

import os
import re
import shutil
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from synpos_lib import methods
from synpos_lib.data import catalog
from synpos_lib.evaluate.at_start import at_start
from synpos_lib.lab import parameters
from synpos_lib.methods import table
from synpos_lib.workflow import profiles


@pytest.fixture
def simsiam(monkeypatch):
    text = (parameters.notebooks_folder() / "README.md").read_text()
    code, line = (
        re.search(rf"```python\n({start}.*?)```", text, re.DOTALL)[1] for start in ('"""SimSiam', '    "sims')
    )
    assert len(code.splitlines()) <= 40
    module = types.ModuleType("synpos_lib.methods.simsiam")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    recipe = eval(f"{{{line}}}", vars(table))
    monkeypatch.setattr(table, "_BASES", table._BASES | recipe)
    monkeypatch.setattr(table, "METHODS", table._methods())
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
    assert "Differs from the reference in" in sys.modules[methods.recipe(simsiam).modules[0]].__doc__
    start = at_start(simsiam, [torch.rand(6, 3, 32, 32) for _ in range(2)], torch.arange(6))
    assert start["family"] == "prediction" and -1 <= start["loss"] <= 1 and not start["negatives"]
    for name in (f"clsp-{simsiam}", f"{simsiam}-aug", f"mixdiff-{simsiam}"):
        total, _ = methods.build(name, encoder, 16, hidden=8, out=8, bottleneck=4).loss(views[:2], views[2])
        assert total.isfinite()


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """5,000 photographs, all of them links to one."""
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "data"))
    Image.new("L", (40, 61)).save(tmp_path / "one.jpg")
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2500):
            os.link(tmp_path / "one.jpg", tmp_path / "photos" / name / f"{i}.jpg")
    return tmp_path / "photos"


def test_the_profile_for_own_images_asks_for_no_more_than_there_is(photographs, tmp_path, monkeypatch):
    images = {split: catalog.load(f"folder:{photographs}", split) for split in ("train", "val", "test")}
    assert images["train"].images.shape[1:] == (3, 32, 32)
    shutil.copytree(parameters.notebooks_folder(), tmp_path / "notebooks")
    guide = (parameters.notebooks_folder() / "README.md").read_text().split("## Using your own images")[1]
    block = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL)[1].replace("/data/birds", str(photographs))
    (tmp_path / "notebooks" / "profiles" / "mine.yaml").write_text(block)
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path / "notebooks"))
    jobs = profiles.jobs("mine")
    assert len(jobs) == 8 and {job.parameters.get("dataset") for job in jobs} == {f"folder:{photographs}", None}
    splits = {"images": "train", "anchors": "train", "judge_images": "train", "test_images": "test"}
    odd = {("02_latent_tsne", "test_images"): "val", ("04_interpolation_gallery", "anchors"): "val"}
    odd["07_ssl_training", "test_images"] = "val"  # while it trains; then the test split
    for job in jobs:
        for name in splits.keys() & job.parameters.keys():
            split = odd.get((job.notebook, name), splits[name])
            assert job.parameters[name] <= len(images[split]), (job.notebook, name)


def test_every_notebook_of_the_reading_plan_exists():
    text = (parameters.notebooks_folder() / "README.md").read_text()
    plan = text.split("## Three sessions")[1].split("## Glossary")[0]
    named = set(re.findall(r"\| (\d\d),", plan))
    assert named and named <= {name[:2] for name in parameters.notebook_names()}
