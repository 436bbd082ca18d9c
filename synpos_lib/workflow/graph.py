"""The graph of notebook jobs: what is finished, what runs again and why, and the run itself through Snakemake."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Container, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from synpos_lib.core import files, fingerprint, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.lab import parameters
from synpos_lib.workflow import index, planner, profiles, watch


@dataclass
class Step:
    """One job of the plan, with what is known about it before it runs."""

    job: profiles.Job
    after: list[str]  # names of the jobs it builds on
    code: str  # fingerprint of the notebook and the library modules it uses
    mark: dict  # what the done-mark says, {} without one
    why: str = ""  # the reason to run it; empty when it is finished
    cost: planner.Cost = field(default_factory=planner.Cost)

    @property
    def seconds(self) -> float | None:
        """What it should take, if that is known."""
        return self.cost.seconds

    @property
    def name(self) -> str:
        return self.job.name


def folder(profile: str) -> Path:
    """Where everything of a profile goes."""
    return runtime.outputs() / profile


def plan(profile: str, retrain: Container[str] = ()) -> dict[str, Step]:
    """Every job of a profile, in an order in which they can run, with the reason to run it if there is one."""
    jobs = profiles.jobs(profile, retrain)
    after = parameters.comes_after()
    for notebook in dict.fromkeys(job.notebook for job in jobs):
        if notebook not in after:
            raise Problem(f"{notebook} is missing in graph.yaml: add what it comes after, or []")
    used = {job.notebook for job in jobs}
    steps: dict[str, Step] = {}
    earlier = watch.try_read(folder(profile) / "plan.json").get("jobs", {})
    for notebook in _ordered(after):
        needed = _nearest(notebook, after, used)
        names = [job.name for job in jobs if job.notebook in needed]
        for job in (job for job in jobs if job.notebook == notebook):
            step = Step(job, names, job_fingerprint(notebook, job.parameters), {})
            _judge(step, profile, steps)
            step.cost = planner.cost(job, (step.mark, earlier.get(job.name, {})))
            steps[job.name] = step
    return steps


def _ordered(after: dict[str, list[str]]) -> list[str]:
    """Notebooks so that each stands behind what it comes after."""
    done: list[str] = []
    while len(done) < len(after):
        ready = [name for name in sorted(after) if name not in done and set(after[name]) <= set(done)]
        if not ready:
            circle = ", ".join(name for name in after if name not in done)
            raise Problem(f"graph.yaml goes round in a circle, or lacks an entry, among {circle}")
        done.append(ready[0])
    return done


def _nearest(notebook: str, after: dict[str, list[str]], used: set[str]) -> set[str]:
    """What a notebook comes after in this profile; a notebook the profile leaves out is looked through."""
    found = set()
    for name in after[notebook]:
        found |= {name} if name in used else _nearest(name, after, used)
    return found


def job_fingerprint(notebook: str, values: dict) -> str:
    """Fingerprint of a notebook's code (its parameters are compared by value) and of all that decides what it shows."""
    source = "\n".join(parameters.code_cells(notebook))
    names = [name for value in values.values() for name in (value if isinstance(value, list) else [value])]
    return fingerprint.source_fingerprint(source, parameters.method_modules(source, names), shown=True)


def _judge(step: Step, profile: str, steps: dict[str, Step]) -> None:
    """Decide whether a job must run, and say why."""
    path = folder(profile) / "jobs" / f"{step.name}.json"
    try:
        step.mark = files.read_json(path) if path.exists() else {}
    except Problem:
        step.why = "its done-mark was damaged"
        return
    if not step.mark:
        step.why = "not done yet"
        return
    before, now = step.mark["parameters"], step.job.parameters
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if not now.get("retrain"):  # said for one start; what was trained then stays in use
        changed = [name for name in changed if name != "retrain"]
    gone = [name for name in step.mark["files"] if not (folder(profile) / name).exists()]
    above = [name for name in step.after if steps[name].why]
    newer = [name for name in step.after if steps[name].mark.get("id") != step.mark["after"].get(name)]
    if changed:
        step.why = "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in changed)
    elif step.mark["code"] != step.code:
        step.why = "its code has changed"
    elif above:
        step.why = f"it builds on {above[0]}, which runs again"
    elif newer or set(step.mark["after"]) != set(step.after):
        step.why = f"it builds on {(newer or ['other jobs'])[0]}, made anew since"
    elif gone:
        step.why = f"{gone[0]} is gone"
    elif other := _by_hand(folder(profile), step):
        step.why = f"{other} was made by hand with other parameters"


def _by_hand(here: Path, step: Step) -> str:
    """A result of this job in whose place another start of its notebook, in JupyterLab say, has left its own."""
    ours = step.mark["parameters"]
    notes = (name for name in step.mark["files"] if name.endswith(".json") and not name.startswith("runs/"))
    return next((name for name in notes if watch.try_read(here / name).get("parameters", ours) != ours), "")


def choose(profile: str, only: list[str], start: str | None) -> set[str]:
    """The notebooks asked for: all of a profile, some, or those from one on."""
    notebooks = sorted(profiles.read_profile(profile))
    if only:
        return {_match(word, notebooks) for word in only}
    first = _match(start, notebooks) if start else ""
    return {name for name in notebooks if name >= first}


def _match(word: str, notebooks: list[str]) -> str:
    """The notebook meant by '02', '2' or its whole name."""
    found = [name for name in notebooks if name == word or name.split("_")[0] == word.zfill(2)]
    if not found:
        raise Problem(f"unknown notebook '{word}' ({suggest(word, notebooks)})")
    return found[0]


def needed(steps: dict[str, Step], targets: list[str]) -> list[Step]:
    """The targets and everything they build on, in running order."""
    wanted = set(targets)
    for name in reversed(steps):
        if name in wanted:
            wanted.update(steps[name].after)
    return [step for name, step in steps.items() if name in wanted]


def describe(steps: list[Step], jobs: int) -> str:
    """The dry run: each job, its parameters, whether it runs and why, and what it should take."""
    lines = []
    for step in steps:
        lines.append(f"{step.name}: {f'runs, {step.why} ({step.cost})' if step.why else f'finished ({step.cost})'}")
        lines += [f"    {name} = {value!r}" for name, value in step.job.parameters.items()]
    waiting = [step for step in steps if step.why]
    lines.append(
        f"{len(waiting)} of {len(steps)} jobs would run, time: {planner.time_for(waiting, jobs) if waiting else 'none'}"
    )
    if waiting:
        memory = sorted(step.cost.memory_mb or 0 for step in waiting)[-jobs:]
        disk = sum(step.cost.disk_mb or 0 for step in waiting)
        known = [
            sum(value is not None for value in column)
            for column in zip(*((step.cost.memory_mb, step.cost.disk_mb) for step in waiting), strict=True)
        ]
        lines.append(f"memory: {planner.covering(known[0], waiting, f'up to {planner.size(sum(memory))} at once')}")
        lines.append(f"disk: {planner.covering(known[1], waiting, f'about {planner.size(disk)}')}")
    return "\n".join([*lines, *_gpu_hours(waiting)])


def _gpu_hours(waiting: list[Step]) -> list[str]:
    """What is meant for a GPU, in hours of one, so that nobody starts a month by accident."""
    passes: dict[str, float] = {}
    for step in waiting:
        for network, amount in planner.work(step.job).items():
            passes[network] = passes.get(network, 0) + amount
    if not set(passes) - set(planner.SMALL):
        return []
    hours, basis = planner.gpu_hours(passes)
    uncounted = [name for name in dict.fromkeys(step.job.notebook for step in waiting) if name not in planner.WORK]
    return [
        f"GPU-hours: about {hours:,.0f} ({hours / 24:,.1f} days) for trainings and sampling, {basis}; "
        f"not counted: {', '.join(uncounted) or 'evaluations'}"
    ]


@contextlib.contextmanager
def alone(profile: str) -> Iterator[int]:
    """Hold the profile's folder; the lock ends with the processes that hold it, however they end."""
    folder(profile).mkdir(parents=True, exist_ok=True)
    with (folder(profile) / ".lock").open("w") as lock:
        for attempt in range(30):  # a killed run takes a moment to be gone
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 29:
                    raise Problem(
                        f"the profile '{profile}' is being run already, in {folder(profile)}: wait for it, or stop it"
                    ) from None
                time.sleep(0.1)
        yield lock.fileno()


def run(profile: str, steps: dict[str, Step], targets: list[str], jobs: int, extra: list[str]) -> int:
    """Run what is not finished, say how it goes, write the index page; 0 when everything is done."""
    chosen = needed(steps, targets)
    waiting = [step for step in chosen if step.why]
    if len(waiting) < len(chosen):
        print(f"{len(chosen) - len(waiting)} of {len(chosen)} jobs are finished and will not run again")
    for line in _gpu_hours(waiting):
        print(line)
    with alone(profile) as lock:
        _write_plan(profile, steps, jobs)
        code = _snakemake(profile, waiting, targets, jobs, extra, lock) if waiting else 0
        page = index.write(profile, folder(profile), list(steps))
    print(f"{'done' if code == 0 else 'what there is'}: {page}")
    return code


def _write_plan(profile: str, steps: dict[str, Step], jobs: int) -> None:
    """Leave the plan where Snakemake and each job read it."""
    threads = int(os.environ.get("SYNPOS_THREADS") or max(1, len(os.sched_getaffinity(0)) // jobs))
    entries = {
        step.name: {
            "notebook": step.job.notebook,
            "parameters": step.job.parameters,
            "after": step.after,
            **asdict(step.cost),
        }
        for step in steps.values()
    }
    files.write_json(folder(profile) / "plan.json", {"profile": profile, "threads": threads, "jobs": entries})


def _snakemake(profile: str, waiting: list[Step], targets: list[str], jobs: int, extra: list[str], lock: int) -> int:
    """Start Snakemake on the waiting jobs and report until it ends."""
    here = folder(profile)
    for old in [*here.glob("jobs/*.running"), *here.glob("jobs/*.failed")]:
        old.unlink()
    threads = json.loads((here / "plan.json").read_text())["threads"]
    command = [sys.executable, "-m", "snakemake", *(f"jobs/{name}.json" for name in targets)]
    command += ["--snakefile", str(parameters.notebooks_folder() / "workflow.smk"), "--directory", str(here)]
    command += ["--keep-going", "--scheduler", "greedy"]
    command += ["--nolock", "--ignore-incomplete", "--drop-metadata", "--rerun-triggers", "params"]
    command += ["--cores", str(threads * jobs), "--jobs", str(jobs), *extra]
    command += ["--forcerun", *(f"jobs/{step.name}.json" for step in waiting)]
    log = here / "snakemake.log"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_python_path()), "SYNPOS_PARENT": str(os.getpid())}
    with log.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=(lock,),
            start_new_session=True,
        )
        report = watch.Report(here, waiting, jobs)
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
    report.look()
    return report.close(log)


def _python_path() -> list[str]:
    """This library first, so that jobs import the code that planned them."""
    return [str(runtime.REPOSITORY), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def end_with_parent(parent: int) -> None:
    """End this process soon after the one that started it is gone, even when that one was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
