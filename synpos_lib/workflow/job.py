"""One job: execute a notebook with its parameters, keep it as .ipynb, page and slides, and leave the done-mark last."""

import contextlib
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
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import pages, watch


def run(plan: Path, name: str, threads: int, parent: int) -> int:
    """Execute one job of a plan; 0 when it succeeded."""
    workflow.end_with_parent(parent)
    here = plan.resolve().parent
    job = json.loads(plan.read_text())["jobs"][name]
    notebook = here / "notebooks" / f"{name}.ipynb"
    failure = here / "jobs" / f"{name}.failed"
    failure.unlink(missing_ok=True)
    running = here / "jobs" / f"{name}.running"
    start = time.time()
    try:
        said = _Said(running)
        # what runs, should it have been edited since
        job["code"] = workflow.job_fingerprint(job["notebook"], job["parameters"])
        error = _execute(job, name, notebook, threads, said)
        if not error:
            files.write_json(here / "jobs" / f"{name}.json", _mark(here, job, name, start))
    except Exception as problem:  # the kernel died, the disk is full, …: the command line says it in one line
        traceback.print_exc()
        error = str(problem) if isinstance(problem, Problem) else _one_line(f"{type(problem).__name__}: {problem}")
    running.unlink(missing_ok=True)
    if error:
        files.write_json(failure, {"error": error, "notebook": str(notebook)})
    return 1 if error else 0


class _Said:
    """A file to print to that keeps the last line where the command line looks for it."""

    def __init__(self, running: Path):
        self.running = running
        files.write_json(running, {"pid": os.getpid(), "said": ""})

    def write(self, text: str) -> None:
        if text.strip():
            with contextlib.suppress(Problem):  # a full disk is for the results to find
                files.write_json(self.running, {"pid": os.getpid(), "said": text.strip().splitlines()[-1][:100]})

    def flush(self) -> None:
        pass


def _execute(job: dict, name: str, target: Path, threads: int, said: _Said) -> str:
    """Run the notebook, keep it whole or failed, and return the error's last line, if any."""
    import papermill

    words = ("SYNPOS_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.environ.update({word: str(threads) for word in words})
    os.environ |= {"SYNPOS_JOB": name, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    source = parameters.notebooks_folder() / f"{job['notebook']}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}")
    os.environ["SYNPOS_OUTPUTS"] = str(target.parents[2])
    error = ""
    try:
        papermill.execute_notebook(
            str(source),
            str(unfinished),
            job["parameters"],
            progress_bar=False,
            log_output=False,
            stdout_file=said,
            cwd=str(source.parent),
            kernel_name="python3",
        )
    except papermill.PapermillExecutionError as problem:
        error = _one_line(f"{problem.ename}: {problem.evalue}")
    finally:
        if unfinished.exists():
            os.replace(unfinished, target)
            files.write_bytes(target.with_suffix(".html"), pages.to_html(target).encode())
            files.write_bytes(pages.slides_of(target), pages.to_slides(target).encode())
    return error


def _one_line(text: str) -> str:
    """The last line that says something, without terminal colours; a Problem's own name says nothing."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return (lines or ["it failed without a message"])[-1].removeprefix("Problem: ")


def _mark(here: Path, job: dict, name: str, start: float) -> dict:
    """What the done-mark says; results that this job left earlier and no longer makes are removed."""
    made = [f"notebooks/{name}.{kind}" for kind in ("ipynb", "html", "slides.html")]
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3  # of the kernel, which has ended
    provenance = {"commit": runtime.commit(), "hardware": runtime.hardware(), "time": time.strftime("%FT%T%z")}
    for note in sorted([*here.glob("figures/*.json"), *here.glob("tables/*.json")]):
        said = watch.try_read(note)  # nothing, when another job has just removed its own
        if said.get("job") != name:
            continue
        group = [path for path in note.parent.iterdir() if path.stem == note.stem]
        if note.stat().st_mtime < start - 1:
            for path in group:
                path.unlink()
        else:
            provenance = said["provenance"]  # the notebook's own knows of the GPU and of versions
            made += sorted(f"{note.parent.name}/{path.name}" for path in group)
            runs = [f"runs/{run}/done.json" for run in said.get("runs", ())]  # set aside when the run is damaged
            made += [mark for mark in runs if mark not in made and (here / mark).exists()]
    marks = {other: json.loads((here / "jobs" / f"{other}.json").read_text()) for other in job["after"]}
    return {
        "id": uuid.uuid4().hex,
        "seconds": round(time.time() - start, 1),
        "memory_mb": round(used),
        "disk_mb": round(_written(here, made, start) / 1e6, 1),
        "notebook": job["notebook"],
        "parameters": job["parameters"],
        "code": job["code"],
        "after": {other: mark["id"] for other, mark in marks.items()},
        "files": made,
        "provenance": provenance,
    }


def _written(here: Path, made: list[str], start: float) -> int:
    """Bytes in the results, and in the runs behind them, as far as they have changed since."""
    runs = {(here / name).parent for name in made if name.startswith("runs/")}
    total = 0
    for path in {*(here / name for name in made), *(path for run in runs for path in run.rglob("*"))}:
        with contextlib.suppress(OSError):  # another job's file that was there for a moment
            about = path.lstat()
            total += about.st_size if stat.S_ISREG(about.st_mode) and about.st_mtime >= start - 1 else 0
    return total
