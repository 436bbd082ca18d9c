"""One job: execute a notebook with its parameters, keep it as .ipynb, page and slides, and leave the done-mark last."""

import contextlib
import io
import json
import os
import re
import resource
import stat
import time
import traceback
import uuid
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters
from synpos_lib.workflow import graph, marks, pages

MUTE = "a cell failed and left no error: memory or open files may have run out (raise their number with `ulimit -n`)"


def run(plan: Path, name: str, threads: int, parent: int) -> int:
    """Execute one job of a plan; 0 when it succeeded."""
    graph.end_with_parent(parent)
    here = plan.resolve().parent
    job = files.read_json(plan, marks.Plan)["jobs"][name]
    notebook = here / "notebooks" / f"{name}.ipynb"
    mark, running, failure = (marks.path(here, name, kind) for kind in ("json", "running", "failed"))
    for path in (mark, failure):  # the old mark does not hold for the results of this start
        path.unlink(missing_ok=True)
    start = time.time()
    try:
        output = _LastLine(running)
        code = graph.job_fingerprint(job["notebook"], job["parameters"])  # of the code as it is now
        error = _execute(job, name, notebook, threads, output)
        if not error:
            files.write_json(mark, _mark(here, job, name, code, start))
    except Exception as problem:  # the kernel died, the disk is full, …: the command line prints one line
        traceback.print_exc()
        error = str(problem) if isinstance(problem, Problem) else _one_line(f"{type(problem).__name__}: {problem}")
    running.unlink(missing_ok=True)
    if error:
        files.write_json(failure, {"error": error, "notebook": str(notebook)})
    return 1 if error else 0


class _LastLine(io.TextIOBase):
    """A stream for the output of a notebook; the file `running` has its last line, for the command line."""

    def __init__(self, running: Path):
        self.running = running
        files.write_json(running, {"pid": os.getpid(), "line": ""})

    def write(self, text: str) -> int:
        if text.strip():
            with contextlib.suppress(Problem):  # a full disk stops the job when a result is written
                files.write_json(self.running, {"pid": os.getpid(), "line": text.strip().splitlines()[-1][:100]})
        return len(text)


def _execute(job: marks.Entry, name: str, target: Path, threads: int, output: _LastLine) -> str:
    """Run the notebook, write it and its pages even after an error, and return the error's last line, if any."""
    import papermill

    libraries = ("OMP", "MKL", "OPENBLAS", "NUMBA")
    os.environ.update({f"{library}_NUM_THREADS": str(threads) for library in libraries}, SYNPOS_THREADS=str(threads))
    os.environ |= {"SYNPOS_JOB": name, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    source = parameters.notebooks_folder() / f"{job['notebook']}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = marks.start_folder(target.parents[1]) / target.name
    unfinished.parent.mkdir(exist_ok=True)
    os.environ["SYNPOS_OUTPUTS"] = str(target.parents[2])
    error = ""
    try:
        quiet = {"progress_bar": False, "log_output": False, "stdout_file": output}
        place = {"cwd": str(source.parent), "kernel_name": "python3"}
        papermill.execute_notebook(str(source), str(unfinished), job["parameters"], **quiet, **place)
    except papermill.PapermillExecutionError as problem:
        mute = problem.ename == "CellExecutionError"  # what papermill says when the kernel gave no error
        error = MUTE if mute else _one_line(f"{problem.ename}: {problem.evalue}")
    except Exception:  # the kernel died, the disk is full, …
        with contextlib.suppress(OSError, ValueError):  # it has no page if it was written by half
            _keep(unfinished, target)
        raise
    _keep(unfinished, target)
    return error


def _keep(unfinished: Path, target: Path) -> None:
    """Put an executed notebook in its place, with its pages; half of one is refused."""
    json.loads(unfinished.read_bytes())
    os.replace(unfinished, target)
    pages.write(target)


def _one_line(text: str) -> str:
    """The last line that says something, without terminal colours; the name of a Problem says nothing."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return re.sub("^(Problem|Damaged|NotHere): ", "", (lines or ["it failed without a message"])[-1])


def _mark(here: Path, job: marks.Entry, name: str, code: str, start: float) -> marks.Mark:
    """The done-mark; results that this job wrote earlier and no longer writes are removed."""
    results = [f"notebooks/{name}.{kind}" for kind in ("ipynb", "html", "slides.html")]
    seconds, used = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)  # of the kernel, now ended
    now = time.strftime("%FT%T%z")
    provenance: runtime.Origin = {"commit": runtime.commit(), "hardware": runtime.hardware(), "time": now}
    for path, note in marks.notes(here).items():
        if note["job"] != name:
            continue
        group = [neighbour for neighbour in path.parent.iterdir() if neighbour.stem == path.stem]
        if path.stat().st_mtime < start - 1:
            for old in group:
                old.unlink()
            continue
        provenance = note["provenance"]  # the notebook's own names the GPU and the versions
        results += sorted(f"{path.parent.name}/{neighbour.name}" for neighbour in group)
        runs = [f"runs/{run}/done.json" for run in note["runs"]]  # set aside when the run is damaged
        results += [mark for mark in runs if mark not in results and (here / mark).exists()]
    return {
        "id": uuid.uuid4().hex,
        "seconds": round(seconds, 1),
        "busy": runtime.busy(seconds, used.ru_utime + used.ru_stime),
        "memory_mb": round(used.ru_maxrss / 1e3),
        "disk_mb": round(disk_bytes(here, results, start) / 1e6, 1),
        "notebook": job["notebook"],
        "parameters": job["parameters"],
        "code": code,
        "after": {other: files.read_json(marks.path(here, other), marks.Mark)["id"] for other in job["after"]},
        "files": results,
        "provenance": provenance,
    }


def disk_bytes(here: Path, results: list[str], start: float) -> int:
    """Bytes in the results and their runs that were written since `start`."""
    runs = {(here / name).parent for name in results if name.startswith("runs/")}
    total = 0
    for path in {*(here / name for name in results), *(path for run in runs for path in run.rglob("*"))}:
        with contextlib.suppress(OSError):  # another job's file that was there for a moment
            about = path.lstat()
            total += about.st_size if stat.S_ISREG(about.st_mode) and about.st_mtime >= start - 1 else 0
    return total
