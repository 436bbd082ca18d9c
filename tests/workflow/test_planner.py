"""Costs: measured before recorded before unknown; a recording is scaled by one ratio."""

import csv
import time

import pytest
from jobs import write_mark

from synpos_lib.core import files
from synpos_lib.lab import recorded
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import job, planner, watch
from synpos_lib.workflow.profiles import Job

HERE, THERE = "this machine", "another machine"
TRAINING = Job("07", "07_ssl_training", {"profile": "p", "epochs": 3})
OTHER = Job("08", "08_linear_and_knn", {"profile": "p"})


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(planner.runtime, "hardware", lambda: HERE)
    return tmp_path


def record(folder, seconds: dict[str, float]) -> None:
    place = folder / "recorded" / "there"
    place.mkdir(parents=True)
    with (place / "timings.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(planner.TIMINGS)
        for each in (TRAINING, OTHER):
            rows.writerow([each.name, seconds[each.name], 500, "", THERE, planner.digest(each.parameters)])


def mark(of: Job, seconds: float, **changes) -> dict:
    return {"seconds": seconds, "memory_mb": 300, "disk_mb": 2.0, "parameters": of.parameters} | changes


def cost(*marks: dict) -> planner.Cost:
    return planner.costs([TRAINING], [("07", mark) for mark in marks])["07"]


def test_a_measurement_with_these_parameters_comes_first(folders):
    record(folders, {"07": 100.0, "08": 10.0})
    assert cost(mark(TRAINING, 7.0)) == planner.Cost(7.0, 300, 2.0, "as measured here")
    other = mark(TRAINING, 7.0, parameters={"profile": "p", "epochs": 1})
    assert cost(other, {}) == planner.Cost(100.0, 500, None, f"recorded on {THERE}, not scaled to this machine")


def test_a_recording_is_scaled_by_the_jobs_that_ran_in_both_places(folders):
    record(folders, {"07": 100.0, "08": 10.0})
    assert "not scaled" in cost().basis
    marks = [("08", mark(OTHER, 25.0)), ("07", mark(TRAINING, 9.0, parameters={"profile": "p", "epochs": 1}))]
    scaled = planner.costs([TRAINING], marks)["07"]
    assert scaled.seconds == pytest.approx(250) and "times 2.50 as of 1 jobs finished here" in scaled.basis


@pytest.mark.parametrize("change, basis", [({}, "times 2.50"), ({"busy": True}, "not scaled"), (None, "not scaled")])
def test_no_ratio_comes_from_a_busy_machine_or_from_another_one(folders, change, basis):
    record(folders, {"07": 100.0, "08": 10.0})
    other = {"provenance": {"hardware": f"{HERE}, AVX2"}} if change is None else change
    assert basis in planner.costs([TRAINING], [("08", mark(OTHER, 25.0, **other))])["07"].basis
    assert cost(mark(TRAINING, 7.0, **other)).basis == (
        f"measured on {HERE}, AVX2" if change is None else planner.MEASURED
    )


def test_only_a_measurement_is_believed_like_one():
    estimate = mark(TRAINING, 7.0, basis=f"recorded on {THERE}, times 1.00 for this machine")
    assert cost(estimate) == planner.Cost()
    assert cost(mark(TRAINING, 7.0, basis=planner.MEASURED)).seconds == 7.0


def test_what_nobody_knows_is_unknown():
    assert cost() == planner.Cost() and str(planner.Cost()) == "time unknown"
    assert cost(mark(TRAINING, 7.0, parameters={})).basis == "as measured here with other parameters"


def step(name: str, reason: str = "not done yet", cost: planner.Cost | None = None) -> workflow.Step:
    return workflow.Step(Job(name, "00_start_here", {}), [], "", {}, reason, cost or planner.Cost())


def test_the_dry_run_says_what_it_knows_and_what_not():
    known = planner.Cost(600.0, 1500, 20.0, "as measured here")
    steps = [step("a", cost=known), step("b", cost=known), step("c"), step("d", "", known)]
    text = workflow.describe("quick", steps, jobs=2)
    assert "a: runs, not done yet (about 10.0 min, 1.5 GB of memory, 20 MB on disk; as measured here)" in text
    assert "c: runs, not done yet (time unknown)" in text
    assert "3 of 4 jobs would run, time: about 10.0 min, 1 unknown" in text
    assert "memory: up to 3.0 GB at once, 1 unknown" in text and "disk: about 40 MB, 1 unknown" in text
    assert "GPU" not in text


def test_a_profile_for_a_gpu_says_its_hours_and_where_they_are_from():
    last = workflow.describe("paper", [step("a")], jobs=1).splitlines()[-1]
    assert last.startswith(
        "GPU-hours: about 1015 (42.3 days) for the whole profile 'paper', estimated on 2026-11-28 from "
    )
    assert "released CLSP logs" in last and "not counted: " in last
    assert "GPU" not in workflow.describe("paper", [step("a", reason="")], jobs=1), "nothing would run"


def test_a_run_tells_what_to_expect_and_what_a_long_job_says(tmp_path, capsys, monkeypatch):
    steps = [step("a", cost=planner.Cost(600.0)), step("b", cost=planner.Cost(1200.0)), step("c")]
    report = watch.Progress(tmp_path, steps, jobs=2)

    def printed():
        report.look()
        return capsys.readouterr().out

    output = job._LastLine(tmp_path / "jobs" / "a.running")
    assert printed() == "[1/3] a started, takes about 10.0 min\n"
    output.write("reading\nlearning: 3 of 9, 6.0 min left\n")
    assert printed() == "", "too early"
    monkeypatch.setattr(watch, "EVERY", -1.0)
    assert printed() == "[1/3] a … learning: 3 of 9, 6.0 min left\n"
    output.write("\n")
    assert printed() == "", "nothing new"
    write_mark(tmp_path / "jobs" / "a.json", id="1", seconds=30.0)
    assert printed() == "[1/3] a done in 30 s; 2 left, time: about 20.0 min, 1 unknown\n"
    write_mark(tmp_path / "jobs" / "b.json", id="2", seconds=30.0)
    assert printed() == "[2/3] b done in 30 s; 1 left, time: unknown\n"


def test_a_job_is_charged_for_its_own_files_only(tmp_path):
    for name in ("tables/a.x.csv", "tables/b.x.csv", "runs/a/done.json", "runs/a/weights", "runs/b/weights"):
        files.write_bytes(tmp_path / name, b"1234")
    assert job.disk_bytes(tmp_path, ["tables/a.x.csv", "runs/a/done.json"], 0.0) == 12
    assert job.disk_bytes(tmp_path, ["tables/a.x.csv", "runs/a/done.json"], time.time() + 60) == 0
