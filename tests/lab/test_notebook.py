"""What a notebook keeps: pictures, tables and a note of what made them; strict parameters."""

import hashlib
import json
import re

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import notebook


@pytest.fixture
def folder(tmp_path, monkeypatch):
    cell = {"cell_type": "code", "id": "parameters", "metadata": {"tags": ["parameters"]}, "outputs": []}
    cell["source"] = ['profile = "quick"  # where results go\n', "steps = 20  # of sampling, at least 1"]
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": ["# 01 · Does it run?\n", "Yes."]}
    (tmp_path / "01_test.ipynb").write_text(json.dumps({"cells": [title, cell]}))
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path))
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path


def test_figures_and_tables_are_kept_with_what_made_them(folder, capsys):
    nb = notebook.open("01_test", {"profile": "quick", "steps": 20, "unrelated": object()})
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    nb.figure(figure, "line", 'A "line" that rises')
    nb.table(pd.DataFrame({"accuracy": [0.5]}), "scores", "One score")
    nb.close()
    results = folder / "outputs" / "quick"
    assert (results / "figures" / "01_test.line.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (results / "figures" / "01_test.line.svg").read_text()
    assert (results / "tables" / "01_test.scores.csv").read_text() == "accuracy\n0.5\n"
    note = json.loads((results / "figures" / "01_test.line.json").read_text())
    assert note["parameters"] == {"profile": "quick", "steps": 20}
    assert note["text"] == 'A "line" that rises' and note["provenance"]["commit"]
    assert "2 results" in capsys.readouterr().out


def test_a_note_vouches_for_its_files_and_recorded_columns_are_dimmed(folder):
    nb = notebook.open("01_test", {"profile": "quick", "steps": 20})
    frame = pd.DataFrame({"this run": [0.5], "recorded": [0.4]}, index=pd.Index(["simclr"], name="method"))
    nb.table(frame, "scores", "Two scores", runs=["ssl-a"])
    note = json.loads((nb.folder / "tables" / "01_test.scores.json").read_text())
    assert note["runs"] == ["ssl-a"]
    for name, digest in note["files"].items():
        assert hashlib.sha256((nb.folder / "tables" / name).read_bytes()).hexdigest() == digest
    assert set(note["files"]) == {"01_test.scores.csv", "01_test.scores.html"}
    shown = (nb.folder / "tables" / "01_test.scores.html").read_text()
    assert ".dim3 td:nth-child(3) { opacity" in shown and 'class="dim3"' in shown


@pytest.mark.parametrize("names", [None, ["method", "factor"]])
def test_several_levels_of_an_index_are_kept_named_or_not(folder, names):
    nb = notebook.open("01_test", {"profile": "quick", "steps": 20})
    index = pd.MultiIndex.from_product([["clsp", "byol"], ["what", "where"]], names=names)
    frame = pd.DataFrame({"value": [0.1, 0.2, 0.3, 0.4], "recorded": [0.2, 0.3, 0.4, 0.5]}, index=index)
    nb.table(frame, "levels", "Four scores")
    again = pd.read_csv(nb.folder / "tables" / "01_test.levels.csv", index_col=[0, 1])
    assert again.to_numpy().tolist() == frame.to_numpy().tolist() and list(again.index) == list(index)
    page = (nb.folder / "tables" / "01_test.levels.html").read_text()
    body = re.findall(r"<tr>(.*?)</tr>", page.split("<tbody>")[1], re.S)
    column = int(re.search(r'class="dim(\d+)"', page)[1]) - 1
    assert [re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)[column] for row in body] == ["0.2", "0.3", "0.4", "0.5"]


@pytest.mark.parametrize("value", ["20", 20.5, True, None])
def test_a_parameter_of_the_wrong_type_stops_before_anything_runs(folder, value):
    with pytest.raises(Problem, match="steps"):
        notebook.open("01_test", {"profile": "quick", "steps": value})


def test_a_parameter_out_of_its_range_stops_before_anything_runs(folder):
    with pytest.raises(Problem, match="'steps' in the parameters of 01_test must be at least 1, not 0"):
        notebook.open("01_test", {"profile": "quick", "steps": 0})


def test_results_go_to_the_folder_that_a_variable_names_with_a_tilde_too(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("SYNPOS_OUTPUTS", "~/mine")
    assert notebook.open("01_test", {"profile": "quick", "steps": 1}).folder == folder / "home" / "mine" / "quick"
    monkeypatch.setenv("SYNPOS_OUTPUTS", "")
    assert notebook.open("01_test", {"profile": "quick", "steps": 1}).folder == runtime.REPOSITORY / "outputs" / "quick"


def test_jobs_of_one_notebook_do_not_overwrite_each_other(folder, monkeypatch):
    monkeypatch.setenv("SYNPOS_JOB", "01_test-steps=5")
    nb = notebook.open("01_test", {"profile": "quick", "steps": 5})
    nb.table(pd.DataFrame({"x": [1]}), "t", "T")
    assert (nb.folder / "tables" / "01_test-steps=5.t.csv").exists()


def test_contents_come_from_the_titles(folder):
    assert notebook.contents() == [{"notebook": "01_test", "question": "Does it run?"}]
