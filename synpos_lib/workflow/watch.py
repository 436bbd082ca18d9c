"""What the command line says while jobs run, from the files that they leave, wherever they run."""

import contextlib
import json
import time
from pathlib import Path

from synpos_lib.core import runtime
from synpos_lib.workflow import planner

EVERY = 120.0  # seconds between two words about a job that runs


class Report:
    """Tells of the steps of a plan that are to run."""

    def __init__(self, here: Path, waiting: list, jobs: int):
        self.here, self.jobs = here, jobs
        self.waiting = {step.name: step for step in waiting}
        self.number = {name: f"[{i}/{len(waiting)}] {name}" for i, name in enumerate(self.waiting, 1)}
        self.started: dict[str, tuple[float, str]] = {}  # when each job was last told of, and its words
        self.done: set[str] = set()
        self.failed: set[str] = set()

    def look(self) -> None:
        """Say what has changed since the last look."""
        for name, step in self.waiting.items():
            if name in self.done | self.failed:
                continue
            path = self.here / "jobs" / name
            if name not in self.started and Path(f"{path}.running").exists():
                self.started[name] = time.monotonic(), ""
                expected = "" if step.seconds is None else f", takes {planner.time_for([step], 1)}"
                print(f"{self.number[name]} started{expected}", flush=True)
            mark = try_read(Path(f"{path}.json"))
            failure = try_read(Path(f"{path}.failed"))
            if mark and mark["id"] != step.mark.get("id"):
                self.done.add(name)
                print(f"{self.number[name]} done in {runtime.minutes(mark['seconds'])}{self._left()}", flush=True)
            elif failure:
                self.failed.add(name)
                print(f"{self.number[name]} failed: {failure['error']}\n    see {failure['notebook']}", flush=True)
            elif name in self.started:
                self._relay(name)

    def _relay(self, name: str) -> None:
        """What a long job last said of itself, now and then."""
        told, words = self.started[name]
        if time.monotonic() - told <= EVERY:
            return
        said = try_read(self.here / "jobs" / f"{name}.running").get("said", "")
        if said != words:
            self.started[name] = time.monotonic(), said
            print(f"{self.number[name]} … {said}", flush=True)

    def _left(self) -> str:
        left = [step for name, step in self.waiting.items() if name not in self.done | self.failed]
        return f"; {len(left)} left, time: {planner.time_for(left, self.jobs)}" if left else ""

    def close(self, log: Path) -> int:
        """Say what did not happen, and return the exit status."""
        for name in set(self.started) - self.done - self.failed:
            self.failed.add(name)
            print(f"{self.number[name]} ended without a word (killed, out of memory, or the disk is full?): see {log}")
        rest = [name for name in self.waiting if name not in self.done | self.failed]
        blocked = [name for name in rest if self._stands_on_failure(name)]
        if blocked:
            print(f"not run, since they build on what failed: {', '.join(blocked)}")
        if len(rest) > len(blocked):
            print(f"Snakemake stopped before {len(rest) - len(blocked)} jobs: {_last_error(log)} (see {log})")
        return 1 if rest or self.failed else 0

    def _stands_on_failure(self, name: str) -> bool:
        above = [other for other in self.waiting[name].after if other in self.waiting]
        return any(other in self.failed or self._stands_on_failure(other) for other in above)


def try_read(path: Path) -> dict:
    """JSON, or nothing where it is missing (yet) or unreadable."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text())
    return {}


def _last_error(log: Path) -> str:
    """The line of Snakemake's log that says most."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    telling = [i for i, line in enumerate(lines) if "Error" in line or "error" in line]
    last = telling[-1] if telling else len(lines) - 1
    return " ".join(lines[last : last + 1 + lines[last].endswith(":")]) if lines else "it said nothing"
