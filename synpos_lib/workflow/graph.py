"""The graph of notebook jobs: what is finished, what runs again and why, and the run itself through Snakemake.

Snakemake runs the jobs, here or on a cluster, but `_reason` decides which. Snakemake's own triggers (params, input,
code) missed a deleted figure and a result overwritten from JupyterLab with other parameters, trained again after
`--retrain`, and depended on a folder `.snakemake` that has to be unlocked by hand after `kill -9`.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterator
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.lab import parameters
from synpos_lib.workflow import marks, pages, planner, profiles, watch
from synpos_lib.workflow.planner import Step


def folder(profile: str) -> Path:
    """Where everything of a profile goes."""
    return runtime.outputs() / profile


def plan(profile: str, retrain: Container[str] = ()) -> dict[str, Step]:
    """Every job of a profile, in an order in which they can run, with the reason to run it if there is one."""
    jobs = profiles.jobs(profile, retrain)
    after = parameters.predecessors()
    used = {job.notebook for job in jobs}
    if missing := sorted(used - after.keys()):
        raise Problem(f"{missing[0]} is missing in graph.yaml: add what it comes after, or []")
    steps: dict[str, Step] = {}
    code = functools.cache(_fingerprint)  # jobs of one notebook that name the same methods share it
    for notebook in sorted(used):
        above = _closest(notebook, after, used)
        names = [job.name for job in jobs if job.notebook in above]
        for job in (job for job in jobs if job.notebook == notebook):
            step = Step(job, names, code(notebook, _texts(job.parameters)))
            step.reason = _reason(step, profile, steps)
            steps[job.name] = step
    known: list[tuple[str, marks.Mark | marks.Entry | None]] = [(name, step.mark) for name, step in steps.items()]
    known += marks.planned(folder(profile)).items()  # of those that began and failed
    for name, cost in planner.costs(jobs, known).items():
        steps[name].cost = cost
    return steps


def _closest(notebook: str, after: dict[str, list[str]], used: set[str]) -> set[str]:
    """What a notebook comes after in this profile; a notebook the profile leaves out is looked through."""
    above: set[str] = set()
    for name in after.get(notebook, []):
        above |= {name} if name in used else _closest(name, after, used)
    return above


def job_fingerprint(notebook: str, values: dict) -> str:
    """Fingerprint of a notebook's code (its parameters are compared by value) and of all that decides what it shows."""
    return _fingerprint(notebook, _texts(values))


def _fingerprint(notebook: str, names: frozenset[str]) -> str:
    return parameters.notebook_fingerprint("\n".join(parameters.code_cells(notebook)), names, display=True)


def _texts(values: dict) -> frozenset[str]:
    """The texts among the values of parameters: some name methods."""
    every = (each for value in values.values() for each in (value if isinstance(value, list) else [value]))
    return frozenset(each for each in every if isinstance(each, str))


def _reason(step: Step, profile: str, steps: dict[str, Step]) -> str:
    """The reason to run a job; empty when it is finished."""
    here = folder(profile)
    path = marks.path(here, step.name)
    present = path.exists()
    step.mark = files.try_json(path, marks.Mark)
    if not step.mark:
        return "its done-mark was damaged or of an earlier version" if present else planner.NOT_DONE
    before, now, ids = step.mark["parameters"], step.job.parameters, step.mark["after"]
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not now.get("retrain"):  # it holds for one start; the trained weights stay in use
        changed = [name for name in changed if name != "retrain"]
    if changed:
        return "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in changed)
    if step.mark["code"] != step.code:
        return "its code has changed"
    if above := [name for name in step.after if steps[name].reason]:
        return f"it builds on {above[0]}, which runs again"
    newer = [name for name in step.after if steps[name].id != ids.get(name)]
    if newer or set(ids) != set(step.after):
        return f"it builds on {(newer or ['other jobs'])[0]}, which has run again since"
    if missing := [name for name in step.mark["files"] if not (here / name).exists()]:
        return f"{missing[0]} is gone"
    for name in (name for name in step.mark["files"] if name.endswith(".json") and not name.startswith("runs/")):
        try:
            if marks.read_note(here / name)["parameters"] != before:
                return f"{name} was made by hand with other parameters"
        except Problem:
            return f"{name} or what it describes was damaged"
    return ""


def choose(profile: str, only: list[str], start: str | None) -> set[str]:
    """The notebooks to run: all of a profile, those of `only`, or those from `start` on."""
    notebooks = sorted(profiles.read_profile(profile))
    if only:
        return {_match(word, notebooks) for word in only}
    first = _match(start, notebooks) if start else ""
    return {name for name in notebooks if name >= first}


def _match(word: str, notebooks: list[str]) -> str:
    """The notebook meant by '02', '2' or its whole name."""
    for name in notebooks:
        if name == word or name.split("_")[0] == word.zfill(2):
            return name
    raise Problem(f"unknown notebook '{word}' ({suggest(word, notebooks)})")


def steps_for(steps: dict[str, Step], targets: list[str]) -> list[Step]:
    """The targets and everything they build on, in running order."""
    names = set(targets)
    for name in reversed(steps):
        if name in names:
            names.update(steps[name].after)
    return [step for name, step in steps.items() if name in names]


def describe(profile: str, steps: list[Step], jobs: int) -> str:
    """The dry run: each job, its parameters, whether it runs and why, and what it should take."""
    lines = []
    for step in steps:
        lines.append(f"{step.name}: {f'runs, {step.reason}' if step.reason else 'finished'} ({step.cost})")
        lines += [f"    {name} = {value!r}" for name, value in step.job.parameters.items()]
    waiting = [step.cost for step in steps if step.reason]
    duration = planner.time_for(waiting, jobs) if waiting else "none"
    lines.append(f"{len(waiting)} of {len(steps)} jobs would run, time: {duration}")
    if any("not scaled" in cost.basis for cost in waiting):
        lines.append("times that were recorded elsewhere are not scaled to this machine: expect another pace")
    if waiting:
        lines += [f"memory: {planner.memory_for(waiting, jobs)}", f"disk: {planner.disk_for(waiting)}"]
        lines.append(profiles.gpu_hours(profile))
    return "\n".join(filter(None, lines))


@contextlib.contextmanager
def lock_profile(profile: str) -> Iterator[int]:
    """Hold the profile's folder; the lock ends with the processes that hold it, however they end."""
    folder(profile).mkdir(parents=True, exist_ok=True)
    with (folder(profile) / ".lock").open("w", encoding="utf-8") as lock:
        for i in range(100):  # a killed run takes seconds to be gone where the machine is busy
            if i == 10:
                print(f"another start of '{profile}' is running, or ending: waiting ten seconds", flush=True)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(0.1)
        else:
            place = folder(profile)
            raise Problem(f"the profile '{profile}' is already running in {place}: wait for it, or stop it")
        yield lock.fileno()


def run(profile: str, steps: dict[str, Step], targets: list[str], jobs: int, extra: list[str]) -> int:
    """Run the unfinished jobs, print their progress, write the index page; 0 when everything is done."""
    threads = int(os.environ.get("SYNPOS_THREADS") or max(1, len(os.sched_getaffinity(0)) // jobs))
    with lock_profile(profile) as lock:
        for step in steps.values():  # once more, since another start may have finished jobs before this one's turn
            step.reason = _reason(step, profile, steps)
        chosen = steps_for(steps, targets)
        waiting = {step.name: step for step in chosen if step.reason}
        if len(waiting) < len(chosen):
            print(f"{len(chosen) - len(waiting)} of {len(chosen)} jobs are finished and will not run again")
        if waiting and (hours := profiles.gpu_hours(profile)):
            print(hours)  # so that nobody starts a month by accident
        entries: dict[str, marks.Entry] = {
            step.name: {
                "notebook": step.job.notebook,
                "parameters": step.job.parameters,
                "after": step.after,
                "waits_for": [name for name in step.after if name in waiting],
                "seconds": step.cost.seconds,
                "memory_mb": step.cost.memory_mb,
                "disk_mb": step.cost.disk_mb,
                "basis": step.cost.basis,
            }
            for step in steps.values()
        }
        plan: marks.Plan = {"profile": profile, "threads": threads, "jobs": entries}
        files.write_json(folder(profile) / "plan.json", plan)  # read by workflow.smk and by each job
        code = _snakemake(profile, list(waiting.values()), threads, jobs, extra, lock) if waiting else 0
        page = pages.write_index(profile, folder(profile), list(steps))
    print(f"{'done' if code == 0 else 'not all is done'}: {page}")
    return code


def _snakemake(profile: str, waiting: list[Step], threads: int, jobs: int, extra: list[str], lock: int) -> int:
    """Start Snakemake on the waiting jobs and report until it ends.

    It works in a folder of its own, with all temporary files: no lock, date, mark or litter of a start outlives it.
    """
    here = folder(profile)
    log, place = here / "snakemake.log", marks.start_folder(here)
    shutil.rmtree(place, ignore_errors=True)  # of a start that was killed
    (place / "tmp").mkdir(parents=True)
    for name in ("", "jobs", "notebooks"):
        files.clear_parts(here / name)
    for name in ("figures", "tables"):
        files.clear_parts(here / name, age=60)  # a notebook in JupyterLab may be writing here
    for old in [*here.glob("jobs/*.running"), *here.glob("jobs/*.failed")]:
        old.unlink()
    command = [sys.executable, "-m", "snakemake", *(step.name for step in waiting)]
    command += ["--snakefile", str(parameters.notebooks_folder() / "workflow.smk"), "--directory", str(place)]
    command += ["--keep-going"]  # a failed job stops only what builds on it
    command += ["--runtime-source-cache-path", str(place / "sources")]  # else each start leaves some in the home folder
    command += ["--scheduler", "greedy"]  # the default starts a solver of linear programmes
    command += ["--cores", str(threads * jobs), "--jobs", str(jobs), *extra]
    # This library first, so that jobs import the code that planned them.
    paths = [str(runtime.REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    compiled = {"TORCHINDUCTOR_CACHE_DIR": str(Path.home() / ".cache" / "synpos" / "compiled")}  # worth keeping
    environment = {**compiled, **os.environ, "TMPDIR": str(place / "tmp"), "SYNPOS_PARENT": str(os.getpid())}
    environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1"}  # so that folders may have any name
    with log.open("w", encoding="utf-8") as out:
        streams: dict = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
        process = subprocess.Popen(command, env=environment, pass_fds=(lock,), start_new_session=True, **streams)
        report = watch.Progress(here, waiting, jobs)
        try:
            while process.poll() is None:
                report.look()
                time.sleep(0.1)
        except KeyboardInterrupt:
            print("stopping; start again to continue")
            process.send_signal(signal.SIGINT)  # so that jobs on a cluster are cancelled too
            with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                process.wait(20 if extra else 2)
            return 130
        finally:
            process.kill()  # its jobs see that and end
            shutil.rmtree(place, ignore_errors=True)
    report.look()
    return report.close(log)


def end_with_parent(parent: int) -> None:
    """End this process soon after the one that started it is gone, even when that one was killed."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
