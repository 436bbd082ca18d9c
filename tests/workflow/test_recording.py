"""A finished profile is recorded whole, an unfinished or edited one not; rows know when their code has changed."""

import json
import os
import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from PIL import Image

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run
from synpos_lib.lab import notebook, recorded
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import marks, planner, profiles, recording

PARAMETERS = 'profile = "p"  # where results go\n'


def write_notebook(folder, name: str, code: str, drawing: str = "draw = 1") -> None:
    cells = [
        {"cell_type": "code", "id": "parameters", "metadata": {"tags": ["parameters"]}, "source": PARAMETERS},
        {"cell_type": "code", "id": "work", "metadata": {}, "source": code},
        {"cell_type": "code", "id": "fig-one", "metadata": {}, "source": drawing},
    ]
    (folder / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A profile of two notebooks, both finished, the second after the first."""
    (tmp_path / "profiles").mkdir()
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path))
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "recorded")
    write_notebook(tmp_path, "01_a", "from synpos_lib import tables")
    write_notebook(tmp_path, "02_b", "x = 1")
    (tmp_path / "graph.yaml").write_text("01_a: []\n02_b: [01_a]\n")
    (tmp_path / "profiles" / "p.yaml").write_text("01_a: {}\n02_b: {}\n")
    here, steps = tmp_path / "outputs" / "p", workflow.plan("p")
    for name in steps:
        with open_run(here / "runs" / f"run-of-{name}", {"images": "1234"}) as run:
            run.log(step=1)
            run.finish(loss=0.5)
        nb = notebook.Notebook(name, {"profile": "p"})
        figure, axis = plt.subplots(figsize=(9, 4))
        axis.plot([1, 2])
        nb.figure(figure, "curve", "A curve", [run])
        nb.table(pd.DataFrame({"method": ["simclr"], "value": [0.25]}), "scores", "Scores", [run])
        mark = {"id": name, "seconds": 2.5, "memory_mb": 300, "disk_mb": 1.5, "notebook": name}
        mark |= {"parameters": {"profile": "p"}, "code": steps[name].code, "provenance": runtime.provenance()}
        mark |= {"after": {other: other for other in steps[name].after}, "files": []}
        files.write_json(here / "jobs" / f"{name}.json", mark)
    return tmp_path


def test_tables_pictures_costs_and_origins_are_kept(folder):
    target = recording.record("p", "laptop")
    assert target == folder / "recorded" / "laptop"
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest["command"] == "./run_all.sh p" and manifest["seconds"] == 5.0
    assert manifest["commits"] and manifest["hardware"] and set(manifest["jobs"]) == {"01_a", "02_b"}
    run = manifest["runs"]["run-of-01_a"]
    assert run["data"] == "1234" and run["metrics"] and run["commit"] and run["hardware"]
    assert manifest["tables"]["01_a.scores.csv"]["versions"]["torch"]
    kept = pd.read_csv(target / "tables" / "01_a.scores.csv")
    assert list(kept.value) == [0.25]
    picture = Image.open(target / "figures" / "02_b.curve.png")
    assert picture.width <= recording.WIDTH
    timings = pd.read_csv(target / "timings.csv")
    assert list(timings.columns) == list(planner.TIMINGS) and list(timings.seconds) == [2.5, 2.5]


def test_the_report_is_left_out_but_for_what_it_cost(folder, monkeypatch):
    monkeypatch.setattr(recording.parameters, "REPORT", "02_b")
    target = recording.record("p", "laptop")
    assert {path.name for path in target.glob("*/*")} == {"01_a.scores.csv", "01_a.curve.png"}
    assert set(files.read_json(target / "manifest.json", dict)["jobs"]) == {"01_a"}
    assert list(pd.read_csv(target / "timings.csv").job) == ["01_a", "02_b"]


def test_recorded_costs_are_found_by_the_planner(folder):
    recording.record("p", "laptop")
    job = workflow.plan("p")["01_a"].job
    assert planner.costs([job], [])["01_a"].seconds == 2.5


def test_what_a_retrained_job_cost_is_not_what_it_costs_without(folder):
    mark = folder / "outputs" / "p" / "jobs" / "01_a.json"
    theirs = {"profile": "p", "retrain": True}
    files.write_json(mark, files.read_json(mark, dict) | {"parameters": theirs})
    manifest = files.read_json(recording.record("p", "laptop") / "manifest.json", dict)
    assert manifest["jobs"]["01_a"]["parameters"] == theirs
    costs = planner.costs([step.job for step in workflow.plan("p").values()], [])
    assert costs["01_a"].seconds is None and costs["02_b"].seconds == 2.5


def test_a_job_that_found_its_training_done_says_nothing_of_what_it_costs(folder):
    here = folder / "outputs" / "p"
    mark = files.read_json(here / "jobs" / "01_a.json", dict)
    files.write_json(here / "jobs" / "01_a.json", mark | {"seconds": -1.0})  # less than its run took
    recording.record("p", "laptop")
    assert list(pd.read_csv(folder / "recorded" / "laptop" / "timings.csv").job) == ["02_b"]


def test_rows_are_marked_when_code_that_computes_has_changed(folder):
    work, drawing = "from synpos_lib.data import scenes\nfish = scenes.render(4)", "nb.figure(fish, color='red')"
    write_notebook(folder, "01_a", work, drawing)
    mark = folder / "outputs" / "p" / "jobs" / "01_a.json"
    files.write_json(mark, files.read_json(mark, dict) | {"code": workflow.job_fingerprint("01_a", {})})
    recording.record("p", "laptop")
    rows = recorded.load("02_b.scores")
    assert list(rows.value) == [0.25] and list(rows.recorded) == ["laptop"] and not rows.changed.any()
    write_notebook(folder, "01_a", work + "  # a comment", drawing.replace("red", "blue"))
    assert not recorded.load("02_b.scores").changed.any()
    write_notebook(folder, "01_a", work.replace("4", "5"), drawing)  # what 02_b builds on
    assert recorded.load("02_b.scores").changed.all()


def test_what_is_not_recorded_has_no_rows(folder):
    rows = recorded.load("02_b.scores")
    assert rows.empty and set(recorded.MARKS) <= set(rows)


def test_an_edited_recording_is_refused(folder):
    target = recording.record("p", "laptop")
    (target / "tables" / "02_b.scores.csv").write_text("method,value\nsimclr,0.99\n")
    with pytest.raises(Problem, match="not what its manifest says"):
        recorded.load("02_b.scores")


def spoil_job(here):
    (here / "jobs" / "02_b.json").unlink()


def spoil_table(here):
    (here / "tables" / "01_a.scores.csv").write_text("method,value\nsimclr,0.99\n")


def spoil_run(here):
    (here / "runs" / "run-of-01_a" / "metrics.jsonl").write_text('{"step": 2}\n')


@pytest.mark.parametrize(
    "spoil, message",
    [(spoil_job, "02_b is not finished"), (spoil_table, "scores.csv is damaged"), (spoil_run, "cannot be believed")],
)
def test_what_is_unfinished_or_was_touched_is_not_recorded(folder, spoil, message):
    spoil(folder / "outputs" / "p")
    with pytest.raises(Problem, match=message):
        recording.record("p", "laptop")
    assert not (folder / "recorded").exists()


def everything(folder) -> dict:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_recording_of_something_else_is_never_replaced(folder):
    target = recording.record("p", "laptop")
    before = everything(folder / "recorded")
    (folder / "profiles" / "q.yaml").write_text("01_a: {}\n")
    shutil.copytree(folder / "outputs" / "p", folder / "outputs" / "q")
    mark = folder / "outputs" / "q" / "jobs" / "01_a.json"
    files.write_json(mark, files.read_json(mark, dict) | {"parameters": {"profile": "q"}})
    for note in folder.glob("outputs/q/*/01_a.*.json"):
        files.write_json(note, files.read_json(note, dict) | {"parameters": {"profile": "q"}})
    with pytest.raises(Problem, match=r"keeps what `./run_all.sh p` has made: choose another name"):
        recording.record("q", "laptop")
    assert everything(folder / "recorded") == before
    (target / "manifest.json").unlink()  # no recording: perhaps somebody's own files
    with pytest.raises(Problem, match="is no recording: choose another name"):
        recording.record("p", "laptop")


@pytest.mark.parametrize("step", ["fill", "away", "in"])
def test_a_kill_while_a_recording_is_replaced_loses_neither(folder, monkeypatch, step):
    recording.record("p", "laptop")
    before, replace = everything(folder / "recorded"), os.replace
    kills = {"fill": "timings.csv", "away": "laptop"}

    def until_killed(source, target):
        if Path(target).name == kills.get(step):
            raise KeyboardInterrupt
        replace(source, target)
        if step == "in" and Path(target).parent.name == ".old":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_killed)
        with pytest.raises(KeyboardInterrupt):
            recording.record("p", "laptop")
    kept = {name.replace("/.old/", "/"): data for name, data in everything(folder / "recorded").items()}
    assert before.items() <= kept.items()
    recording.record("p", "laptop")
    assert everything(folder / "recorded").keys() == before.keys(), "no litter"


def test_recording_one_thing_never_removes_what_a_kill_left_of_another(folder, monkeypatch):
    recording.record("p", "laptop")
    os.makedirs(folder / "recorded" / ".old")
    os.replace(folder / "recorded" / "laptop", folder / "recorded" / ".old" / "laptop")  # killed between its two steps
    recording.record("p", "desktop")
    recording.record("p", "laptop")
    assert sorted(path.name for path in (folder / "recorded").iterdir()) == ["desktop", "laptop"]
    with monkeypatch.context() as patch:
        patch.setattr(recording, "_timings", lambda costs: 1 / 0)
        os.makedirs(folder / "recorded" / ".old" / "other")
        with pytest.raises(ZeroDivisionError):
            recording.record("p", "third")
    assert (folder / "recorded" / ".old" / "other").exists() and not (folder / "recorded" / ".new").exists()


def test_a_result_that_is_being_made_anew_is_not_set_aside(folder, monkeypatch):
    table = folder / "outputs" / "p" / "tables" / "01_a.scores.csv"
    whole, digest = table.read_bytes(), files.sha256

    def while_it_is_written(path):
        table.write_bytes(b"new")  # and its note, which a notebook removes first
        table.with_suffix(".json").unlink(missing_ok=True)
        return digest(path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "sha256", while_it_is_written)
        with pytest.raises(Problem, match="scores.csv is being made anew: wait"):
            marks.read_note(table.with_suffix(".json"))
    assert table.read_bytes() == b"new" and not table.with_name("01_a.scores.csv.damaged").exists(), whole


def test_an_edited_manifest_is_refused_and_stays_where_it_is(folder):
    manifest = recording.record("p", "laptop") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"seconds": 5.0', '"seconds": 4.0'))
    with pytest.raises(Problem, match="manifest.json cannot be believed .*git checkout"):
        recorded.load("02_b.scores")
    assert manifest.exists()


def test_a_start_that_waited_for_another_runs_nothing_twice(folder, monkeypatch):
    mark = folder / "outputs" / "p" / "jobs" / "02_b.json"
    data = mark.read_bytes()
    mark.unlink()
    steps = workflow.plan("p")
    assert steps["02_b"].reason
    mark.write_bytes(data)  # the other start has finished it
    monkeypatch.delattr(workflow, "_snakemake")
    assert workflow.run("p", steps, list(steps), 1, []) == 0


def test_a_manifest_of_another_shape_is_refused(folder):
    manifest = recording.record("p", "laptop") / "manifest.json"
    whole = recorded.read_manifest(manifest.parent)
    del whole["tables"]["02_b.scores.csv"]["made"]
    files.write_json(manifest, whole)
    with pytest.raises(Problem, match="manifest.json cannot be believed .*lacks made"):
        recorded.load("02_b.scores")


@pytest.mark.parametrize("harm", ["seconds", "2.5", "job"])
def test_damaged_costs_are_refused_by_name(folder, harm):
    timings = recording.record("p", "laptop") / "timings.csv"
    timings.write_text(timings.read_text().replace(harm, "x"))
    with pytest.raises(Problem, match="timings.csv is damaged .*git checkout"):
        workflow.plan("p")


def test_recordings_of_the_repository_are_whole():
    found = sorted((runtime.REPOSITORY / "outputs" / "recorded").glob("*/manifest.json"))
    assert "thorough-search" in {path.parent.name for path in found} <= set(profiles.profile_names())
    for path in found:
        manifest = recorded.read_manifest(path.parent)
        for kind in ("tables", "figures"):
            for name, about in manifest[kind].items():
                assert files.sha256(path.parent / kind / name) == about["sha256"], name
