"""Notebook 01: it looks for copies among all it is given, and shows the model that every other notebook uses."""

import json
import shutil

import pandas as pd
import pytest
import torch

from synpos_lib.data import catalog
from synpos_lib.diffusion import model
from synpos_lib.lab import parameters


def run_cells(variables: dict, *names: str) -> dict:
    """Run code cells of the notebook with these variables; what they leave behind."""
    code = {cell["id"]: "".join(cell["source"]) for cell in parameters.read_notebook("01_diffusion")["cells"]}
    for name in names:
        exec(code[name], variables)
    return variables


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The notebook with its own parameters and imports, up to where it loads images; results go to a folder."""
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    return run_cells({"pd": pd}, "parameters", "setup")


def test_a_copy_of_any_training_image_is_found(opened, tmp_path):
    """As judge, means of 4 × 4 pixels; as samples, copies of images that stand far back in the training set."""
    train = catalog.load("scenes", "train", n=2500)
    copies = train.images[2300:2360]

    def judge(images):
        features = torch.nn.functional.avg_pool2d(images.float(), 4).flatten(1)
        return {"features": features, "what": torch.full((len(images), 10), 0.1)}

    opened |= {"train": train, "sample_images": copies, "samples": 60, "test_images": 300, "runs": []}
    opened |= {"place": model.shipped("scenes"), "get_judge": lambda *args, **options: judge}
    run_cells(opened, "judge", "measure", "fig-nearest")
    table = pd.read_csv(tmp_path / "quick" / "tables" / "01_diffusion.quality.csv", index_col="check")
    assert list(table.loc["near-duplicates of a training image"]) == ["100.0%", "1.0%"]
    assert opened["index"].tolist() == list(range(2300, 2312))
    for kind, name in (("tables", "quality"), ("figures", "nearest")):
        note = json.loads((tmp_path / "quick" / kind / f"01_diffusion.{name}.json").read_text())
        assert note["text"].endswith("among 2,500 of the 5,000 images that the model learned from")


def test_what_was_trained_here_is_shown_by_a_start_without_retrain_until_it_is_deleted(opened, tmp_path, capsys):
    opened |= {"images": 32, "steps": 1}
    run_cells(opened | {"retrain": True}, "train-or-load")
    capsys.readouterr()
    place = tmp_path / "quick" / "runs" / "diffusion-scenes"
    again = run_cells(dict(opened), "train-or-load")
    words = f"diffusion model: trained here, in {place}; to use the shipped weights again, delete that folder"
    assert words in capsys.readouterr().out
    assert again["about"]["recipe"]["steps"] == 1 and again["runs"] == ["diffusion-scenes"]
    theirs = model.load("scenes", tmp_path / "quick").state_dict()
    assert all((value == theirs[name]).all() for name, value in again["unet"].state_dict().items())
    assert model.coverage(again["place"], again["train"]) == "all 32 images that the model learned from"
    shutil.rmtree(place)
    shipped = run_cells(dict(opened), "train-or-load")
    assert "the weights shipped for 'scenes'" in capsys.readouterr().out
    assert shipped["about"]["recipe"]["steps"] == 40_000 and shipped["runs"] == []
