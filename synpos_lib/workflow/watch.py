"""The progress of jobs, from the marks that they leave, on whichever machine they run."""

import time
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.workflow import marks, planner
from synpos_lib.workflow.planner import Step

EVERY = 120.0  # seconds between two lines about a job that runs


class Progress:
    """Prints the progress of the steps that run."""

    def __init__(self, here: Path, waiting: list[Step], jobs: int):
        self.here, self.jobs = here, jobs
        self.waiting = {step.name: step for step in waiting}
        self.number = {name: f"[{i}/{len(waiting)}] {name}" for i, name in enumerate(self.waiting, 1)}
        self.started: dict[str, tuple[float, str]] = {}  # when each job was last reported on, and its last line
        self.done: set[str] = set()
        self.failed: set[str] = set()

    def look(self) -> None:
        """Print what has changed since the last look."""
        for name in self._left():
            step = self.waiting[name]
            running = files.try_json(marks.path(self.here, name, "running"), marks.Running)
            mark = files.try_json(marks.path(self.here, name), marks.Mark)
            failure = files.try_json(marks.path(self.here, name, "failed"), marks.Failure)
            if name not in self.started and running:
                self.started[name] = time.monotonic(), ""
                expected = "" if step.cost.seconds is None else f", takes {planner.time_for([step.cost], 1)}"
                reason = f", since {step.reason}" if step.reason not in ("", planner.NOT_DONE) else ""
                print(f"{self.number[name]} started{expected}{reason}", flush=True)
            if mark and mark["id"] != step.id:
                self.done.add(name)
                left = [self.waiting[other].cost for other in self._left()]
                rest = f"; {len(left)} left, time: {planner.time_for(left, self.jobs)}" if left else ""
                print(f"{self.number[name]} done in {runtime.minutes(mark['seconds'])}{rest}", flush=True)
            elif failure:
                self.failed.add(name)
                print(f"{self.number[name]} failed: {failure['error']}\n    see {failure['notebook']}", flush=True)
            elif name in self.started:
                since, before = self.started[name]
                line = running["line"] if running else ""
                if time.monotonic() - since > EVERY and line not in ("", before):
                    self.started[name] = time.monotonic(), line
                    print(f"{self.number[name]} … {line}", flush=True)

    def _left(self) -> list[str]:
        return [name for name in self.waiting if name not in self.done | self.failed]

    def close(self, log: Path) -> int:
        """Report unfinished jobs, and return the exit status."""
        for name in self.started.keys() - self.done - self.failed:
            self.failed.add(name)
            print(f"{self.number[name]} ended without an error (killed? out of memory? disk full?): see {log}")
        left = self._left()
        blocked = [name for name in left if self._stands_on_failure(name)]
        if blocked:
            print(f"not run, since they build on what failed: {', '.join(blocked)}")
        if len(left) > len(blocked):
            print(f"Snakemake stopped before {len(left) - len(blocked)} jobs: {_last_error(log)} (see {log})")
        return 1 if left or self.failed else 0

    def _stands_on_failure(self, name: str) -> bool:
        above = [other for other in self.waiting[name].after if other in self.waiting]
        return any(other in self.failed or self._stands_on_failure(other) for other in above)


def _last_error(log: Path) -> str:
    """The most telling line of Snakemake's log."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [i for i, line in enumerate(lines) if "error" in line.lower()]
    last = errors[-1] if errors else len(lines) - 1
    return " ".join(lines[last : last + 1 + lines[last].endswith(":")]) if lines else "its log is empty"
