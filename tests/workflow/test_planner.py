"""Costs: measured before recorded before calculated before unknown; operations against closed forms."""

import csv
import json
import time

import pytest

from synpos_lib.core import files
from synpos_lib.lab import recorded
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import job, planner, profiles, watch
from synpos_lib.workflow.profiles import Job


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "recorded")
    monkeypatch.setattr(planner.runtime, "hardware", lambda: "this machine")
    return tmp_path


def training(**changes) -> Job:
    (job, *_) = [job for job in profiles.jobs("cifar") if job.notebook == "07_ssl_training"]
    return Job("07", "07_ssl_training", job.parameters | changes)


def calibrated(folder, **speed) -> None:
    path = folder / "outputs" / "calibration.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"hardware": "this machine", "passes per second": speed}))


def record(folder, job, seconds: float, **calibration) -> None:
    (folder / "recorded" / "there").mkdir(parents=True)
    with (folder / "recorded" / "there" / "timings.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(planner.TIMINGS)
        rows.writerow([job.name, seconds, 500, "", "another machine", planner.same(job.parameters)])
    (folder / "recorded" / "there" / "manifest.json").write_text(json.dumps({"calibration": calibration}))


def test_a_measurement_with_these_parameters_comes_first(folders):
    job = training()
    record(folders, job, 100.0)
    mark = {"seconds": 7.0, "memory_mb": 300, "disk_mb": 2.0, "parameters": job.parameters}
    assert planner.cost(job, [mark]) == planner.Cost(7.0, 300, 2.0, "as measured here")
    other = mark | {"parameters": job.parameters | {"epochs": 1}}
    assert planner.cost(job, [other, {}]).seconds == 100.0


def test_a_recording_is_scaled_by_how_fast_both_machines_are(folders):
    job = training()
    record(folders, job, 100.0, small=40.0, resnet18=90.0)
    calibrated(folders, small=20.0, resnet18=10.0)  # 2 and 9 times slower; the geometric mean is 18 ** 0.5
    cost = planner.cost(job, [])
    assert cost.seconds == pytest.approx(100 * 18**0.5) and cost.memory_mb == 500 and cost.disk_mb is None
    assert cost.basis.startswith("recorded on another machine, times 4.24")
    (folders / "outputs" / "calibration.json").unlink()
    assert "not known how fast" in planner.cost(job, []).basis


def test_only_a_measurement_is_believed_like_one(folders):
    job = training()
    planned = {"seconds": 7.0, "parameters": job.parameters, "basis": "recorded on another machine, times 1.00"}
    assert planner.cost(job, [planned]) == planner.Cost()
    measured = planned | {"basis": planner.MEASURED}
    assert planner.cost(job, [measured]).seconds == 7.0


def test_a_training_is_calculated_from_its_passes(folders):
    job = training(method="clsp-simclr", anchors=1000, epochs=10)
    assert planner.work(job) == {"resnet18": 10 * 1000 * 3 * 3}  # epochs, images, views, forward and back
    assert planner.work(training(method="simclr", anchors=1000, epochs=10)) == {"resnet18": 10 * 1000 * 2 * 3}
    assert planner.cost(job, []).seconds is None  # nothing was measured on this machine
    calibrated(folders, resnet18=50.0)
    assert planner.cost(job, []).seconds == pytest.approx(1800 + planner.STARTING)


def test_what_nobody_knows_is_unknown():
    job = Job("13", "13_report", {"profile": "quick"})
    assert planner.cost(job, []) == planner.Cost() and str(planner.Cost()) == "time unknown"
    mark = {"seconds": 7.0, "parameters": {"profile": "other"}}
    assert planner.cost(job, [mark]).basis == "as measured here with other parameters"


def test_another_machine_is_measured_anew(folders, monkeypatch):
    calibrated(folders, small=5.0)
    assert planner.calibration() == {"small": 5.0}
    monkeypatch.setattr(planner.runtime, "hardware", lambda: "a new machine")
    assert planner.calibration() == {}


def test_only_what_the_plan_needs_is_measured_and_only_once(folders, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(planner, "_passes_per_second", lambda network: asked.append(network) or 4.0)
    steps = [workflow.Step(training(), [], "", {}), workflow.Step(Job("13", "13_report", {}), [], "", {})]
    assert planner.calibrate(steps) and asked == ["resnet18"]
    assert not planner.calibrate(steps) and asked == ["resnet18"]
    steps = [workflow.Step(training(encoder="small"), [], "", {}, "", planner.Cost(7.0, basis=planner.MEASURED))]
    assert not planner.calibrate(steps), "it was measured"
    steps[0].cost.basis += " with other parameters"
    assert planner.calibrate(steps) and asked == ["resnet18", "small"]
    assert capsys.readouterr().out.count("measuring this machine, once") == 2


def test_operations_agree_with_published_counts():
    assert planner.operations("resnet18") == pytest.approx(2 * 0.5555e9, rel=0.01)  # multiply-adds of 32 × 32 ResNet-18
    assert planner.operations("paper U-Net") == pytest.approx(2 * 6.1e9, rel=0.05)  # of the CIFAR-10 DDPM


def test_the_released_training_takes_the_hours_that_were_logged():
    hours, basis = planner.gpu_hours(planner.work(training(method="clsp-simclr", anchors=48 * 1024, epochs=1000)))
    assert hours == pytest.approx(5.5) and "released CLSP logs" in basis


def test_the_dry_run_says_what_it_knows_and_what_not(folders):
    cost = planner.Cost(600.0, 1500, 20.0, "as measured here")
    steps = [
        workflow.Step(Job("a", "00_start_here", {}), [], "", {}, "not done yet", cost),
        workflow.Step(Job("b", "00_start_here", {}), [], "", {}, "not done yet", cost),
        workflow.Step(Job("c", "00_start_here", {}), [], "", {}, "not done yet"),
        workflow.Step(Job("d", "00_start_here", {}), [], "", {}, "", cost),
    ]
    said = workflow.describe(steps, jobs=2)
    assert "a: runs, not done yet (about 10.0 min, 1.5 GB of memory, 20 MB on disk; as measured here)" in said
    assert "c: runs, not done yet (time unknown)" in said
    assert "3 of 4 jobs would run, time: about 10.0 min, 1 unknown" in said
    assert "memory: up to 3.0 GB at once" in said and "disk: about 40 MB" in said and "GPU" not in said


def test_a_run_tells_what_to_expect_and_what_a_long_job_says(tmp_path, capsys, monkeypatch):
    steps = [
        workflow.Step(Job("a", "00_start_here", {}), [], "", {}, "not done yet", planner.Cost(600.0)),
        workflow.Step(Job("b", "00_start_here", {}), [], "", {}, "not done yet", planner.Cost(1200.0)),
        workflow.Step(Job("c", "00_start_here", {}), [], "", {}, "not done yet"),
    ]
    report = watch.Report(tmp_path, steps, jobs=2)
    running = tmp_path / "jobs" / "a.running"

    def told():
        report.look()
        return capsys.readouterr().out

    said = job._Said(running)
    assert told() == "[1/3] a started, takes about 10.0 min\n"
    said.write("reading\nlearning: 3 of 9, 6.0 min left\n")
    assert told() == "", "too early"
    monkeypatch.setattr(watch, "EVERY", -1.0)
    assert told() == "[1/3] a … learning: 3 of 9, 6.0 min left\n"
    said.write("\n")
    assert told() == "", "nothing new"
    files.write_json(tmp_path / "jobs" / "a.json", {"id": "1", "seconds": 30.0})
    assert told() == "[1/3] a done in 30 s; 2 left, time: about 10.0 min, 1 unknown\n"
    files.write_json(tmp_path / "jobs" / "b.json", {"id": "2", "seconds": 30.0})
    assert told() == "[2/3] b done in 30 s; 1 left, time: unknown\n"


def test_a_plan_for_a_gpu_says_its_hours(folders):
    steps = [workflow.Step(training(method="clsp-simclr", anchors=48 * 1024, epochs=1000), [], "", {}, "not done yet")]
    assert "GPU-hours: about 6 (0.2 days)" in workflow.describe(steps, jobs=1)


def test_a_job_is_charged_for_its_own_files_only(tmp_path):
    for name in ("tables/a.x.csv", "tables/b.x.csv", "runs/a/done.json", "runs/a/weights", "runs/b/weights"):
        files.write_bytes(tmp_path / name, b"1234")
    assert job._written(tmp_path, ["tables/a.x.csv", "runs/a/done.json"], 0.0) == 12
    assert job._written(tmp_path, ["tables/a.x.csv", "runs/a/done.json"], time.time() + 60) == 0
