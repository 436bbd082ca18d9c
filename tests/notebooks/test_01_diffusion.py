"""Notebook 01: it shows the model that every other notebook uses."""

import shutil

import pandas as pd
import pytest

from synpos_lib import profiles
from synpos_lib.diffusion import model


def run_cells(variables: dict, *names: str) -> dict:
    """Run code cells of the notebook with these variables; what they leave behind."""
    code = {cell["id"]: "".join(cell["source"]) for cell in profiles.read_notebook("01_diffusion")["cells"]}
    for name in names:
        exec(code[name], variables)
    return variables


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The notebook with its own parameters and imports, up to where it loads images; results go to a folder."""
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    return run_cells({"pd": pd}, "parameters", "setup")


def test_what_was_trained_here_is_shown_by_a_start_without_retrain_until_it_is_deleted(opened, tmp_path, capsys):
    opened |= {"images": 32, "steps": 1}
    run_cells(opened | {"retrain": True}, "train-or-load")
    capsys.readouterr()
    place = tmp_path / "quick" / "runs" / "diffusion-scenes"
    again = run_cells(dict(opened), "train-or-load")
    words = f"diffusion model: trained here, in {place}; to use the shipped weights again, delete that folder"
    assert words in capsys.readouterr().out
    assert again["made"]["recipe"]["steps"] == 1 and again["runs"] == ["diffusion-scenes"]
    theirs = model.load("scenes", tmp_path / "quick").state_dict()
    assert all((value == theirs[name]).all() for name, value in again["unet"].state_dict().items())
    shutil.rmtree(place)
    shipped = run_cells(dict(opened), "train-or-load")
    assert "the weights shipped for 'scenes'" in capsys.readouterr().out
    assert shipped["made"]["recipe"]["steps"] == 22000 and shipped["runs"] == []
