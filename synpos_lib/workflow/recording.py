"""Record the results of a finished profile, small enough to commit, with a manifest of their origin.

    ./run_all.sh record quick          outputs/quick -> outputs/recorded/quick

It keeps the tidy tables and small pictures of every notebook that ran once, and the cost of every job. Jobs of one
notebook that ran many times (one training each) are in the tables that gather them.
"""

import shutil
import time
from pathlib import Path

import pandas as pd

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import Run, read_run
from synpos_lib.lab import parameters, recorded
from synpos_lib.workflow import graph, pages, planner, report

WIDTH = 900  # pixels, of a recorded picture
GATHERING = ("08_linear_and_knn", parameters.REPORT)  # notebooks that show the runs of others


def record(profile: str, name: str) -> Path:
    """Write outputs/recorded/<name>; refused when a job is unfinished or a result was changed."""
    here, steps = graph.folder(profile), graph.plan(profile)
    for step in steps.values():
        if step.reason:
            raise Problem(f"{step.name} is not finished ({step.reason}): start ./run_all.sh {profile} first")
    notebooks = [step.job.notebook for step in steps.values()]
    once = [step for step in steps.values() if notebooks.count(step.job.notebook) == 1]
    notes = {path: report.read_note(path) for step in once for path in sorted(here.glob(f"*/{step.name}.*.json"))}
    runs = [read_run(here / "runs" / run) for run in sorted({run for note in notes.values() for run in note["runs"]})]
    target = recorded.FOLDER / name
    shutil.rmtree(target, ignore_errors=True)
    manifest = {
        "profile": profile,
        "command": f"./run_all.sh {profile}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commits": sorted({step.mark["provenance"]["commit"] for step in steps.values()}),
        "hardware": sorted({step.mark["provenance"]["hardware"] for step in steps.values()}),
        "seconds": round(sum(step.mark["seconds"] for step in steps.values()), 1),
        "tables": {},
        "figures": {},
        "runs": {run.name: _run_record(run) for run in runs},
        "jobs": {step.name: {"notebook": step.job.notebook, "parameters": step.mark["parameters"]} for step in once},
    }
    for path, note in notes.items():
        _record_result(path, note, target, manifest)
    files.write_bytes(
        target / "timings.csv", _timings([step for step in steps.values() if _computed_its_runs(here, step)])
    )
    files.write_json(target / "manifest.json", manifest)  # last: without it there is no recording
    return target


def _run_record(run: Run) -> dict:
    """The data, cost and origin of a run."""
    metrics = run.folder / "metrics.jsonl"
    return {
        "data": run.config.get("images"),
        "seconds": run.results["seconds"],
        "commit": run.provenance["commit"],
        "hardware": run.provenance["hardware"],
        "metrics": files.sha256(metrics) if metrics.exists() else None,
    }


def _record_result(path: Path, note: dict, target: Path, manifest: dict) -> None:
    """Copy one table, or one picture in a small version, and add its origin to the manifest."""
    kind = path.parent.name
    source = path.with_name(f"{path.stem}.{'csv' if kind == 'tables' else 'png'}")
    data = source.read_bytes() if kind == "tables" else pages.small_picture(source, WIDTH)
    files.write_bytes(target / kind / source.name, data)
    manifest[kind][source.name] = {
        **{key: note[key] for key in ("text", "notebook", "runs")},
        "sha256": files.sha256(target / kind / source.name),
        "code": recorded.results_code(note["notebook"]),
        "made": note["provenance"]["time"],
        **{key: note["provenance"][key] for key in ("hardware", "commit", "versions")},
    }


def _computed_its_runs(here: Path, step: graph.Step) -> bool:
    """Whether a job took at least as long as each run it shows; if not, that run was finished before."""
    if step.job.notebook in GATHERING:
        return True
    names = {run for path in here.glob(f"*/{step.name}.*.json") for run in report.read_note(path)["runs"]}
    return all(read_run(here / "runs" / name).results["seconds"] <= step.mark["seconds"] for name in names)


def _timings(steps: list[graph.Step]) -> bytes:
    """The cost, parameters and hardware of every job, for the planner."""
    rows = []
    for step in steps:
        costs, hardware = map(step.mark.get, planner.TIMINGS[1:4]), step.mark["provenance"]["hardware"]
        rows.append([step.name, *costs, hardware, planner.digest(step.mark["parameters"])])
    return pd.DataFrame(rows, columns=planner.TIMINGS).to_csv(index=False).encode()
