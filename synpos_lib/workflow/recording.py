"""Record the results of a finished profile, small enough to commit, with a manifest of their origin.

    ./run_all.sh record quick          outputs/quick -> outputs/recorded/quick

It keeps the tidy tables and small pictures of every notebook that ran once, the claims of every job, and what each
cost. Jobs of one notebook that ran many times (one training each) are in the tables that gather them. The report is
left out: every report judges the recorded claims anew.
"""

import time
from collections import Counter
from itertools import takewhile
from pathlib import Path

import pandas as pd

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import Run, read_run
from synpos_lib.lab import parameters, recorded
from synpos_lib.workflow import graph, marks, pages, planner

WIDTH = 900  # pixels, of a recorded picture
GATHERING = ("08_linear_and_knn", parameters.REPORT)  # notebooks that show the runs of others


def record(profile: str, name: str) -> Path:
    """Write outputs/recorded/<name>; refused when a job is unfinished or a result was changed."""
    here, steps = graph.folder(profile), graph.plan(profile)
    done: dict[str, marks.Mark] = {}
    for step in steps.values():
        if step.reason or not step.mark:
            raise Problem(f"{step.name} is not finished ({step.reason}): start ./run_all.sh {profile} first")
        done[step.name] = step.mark
    counts = Counter(mark["notebook"] for mark in done.values())
    notes: dict[Path, marks.Note] = {}
    for job, mark in done.items():
        if mark["notebook"] != parameters.REPORT:
            pattern = f"*/{job}.*.json" if counts[mark["notebook"]] == 1 else f"tables/{job}.claims.json"
            notes |= {path: marks.read_note(path) for path in sorted(here.glob(pattern))}
    notes = dict(sorted(notes.items(), key=lambda item: (item[1]["notebook"], item[1]["job"], item[1]["order"])))
    jobs = {note["job"] for note in notes.values()}
    runs = [read_run(here / "runs" / run) for run in sorted({run for note in notes.values() for run in note["runs"]})]
    command = f"./run_all.sh {profile}"
    manifest = {
        "profile": profile,
        "command": command,
        "purpose": purpose(profile),
        "notebooks": sorted(counts),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commits": sorted({mark["provenance"]["commit"] for mark in done.values()}),
        "hardware": sorted({mark["provenance"]["hardware"] for mark in done.values()}),
        "seconds": round(sum(mark["seconds"] for mark in done.values()), 1),
        "tables": {},
        "figures": {},
        "runs": {run.name: _run_record(run) for run in runs},
        "jobs": {job: {key: done[job][key] for key in ("notebook", "parameters")} for job in done if job in jobs},
    }
    with recorded.replacing(recorded.FOLDER / name, command) as target:
        for path, note in notes.items():
            _record_result(path, note, target, manifest)
        costs = {job: mark for job, mark in done.items() if _computed_its_runs(here, job, mark)}
        files.write_bytes(target / "timings.csv", _timings(costs))
        files.write_json(target / "manifest.json", manifest)
    return recorded.FOLDER / name


def purpose(profile: str) -> str:
    """What a profile says of itself: the comment that its file begins with."""
    lines = (parameters.notebooks_folder() / "profiles" / f"{profile}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


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


def _record_result(path: Path, note: marks.Note, target: Path, manifest: dict) -> None:
    """Copy one table, or one picture in a small version, and add its origin to the manifest."""
    kind = path.parent.name
    source = path.with_name(f"{path.stem}.{'csv' if kind == 'tables' else 'png'}")
    data = source.read_bytes() if kind == "tables" else pages.small_picture(source, WIDTH)
    files.write_bytes(target / kind / source.name, data)
    manifest[kind][source.name] = {
        "text": note["text"],
        "notebook": note["notebook"],
        "runs": note["runs"],
        "sha256": files.sha256(target / kind / source.name),
        "code": recorded.results_code(note["notebook"], manifest["notebooks"]),
        "made": note["provenance"]["time"],
        **{key: note["provenance"][key] for key in ("hardware", "commit", "versions")},
    }


def _computed_its_runs(here: Path, job: str, mark: marks.Mark) -> bool:
    """Whether a job took at least as long as each run it shows; if not, that run was finished before."""
    if mark["notebook"] in GATHERING:
        return True
    names = {run for path in here.glob(f"*/{job}.*.json") for run in marks.read_note(path)["runs"]}
    return all(read_run(here / "runs" / name).results["seconds"] <= mark["seconds"] for name in names)


def _timings(done: dict[str, marks.Mark]) -> bytes:
    """The cost, parameters and hardware of every job, for the planner."""
    rows = []
    for job, mark in done.items():
        cost = mark["seconds"], mark["memory_mb"], mark["disk_mb"]
        rows.append([job, *cost, mark["provenance"]["hardware"], planner.digest(mark["parameters"])])
    return pd.DataFrame(rows, columns=planner.TIMINGS).to_csv(index=False).encode()
