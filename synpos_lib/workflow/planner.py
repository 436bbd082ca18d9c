"""What a job will cost: as measured here, else as recorded and scaled to this machine, else unknown.

The jobs that have run both here and in a recording give the one ratio that scales the times of that recording. What
another kind of machine has left in the same folder gives none, and neither does a job that shared this one with others.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.lab import recorded
from synpos_lib.workflow.marks import Entry, Mark
from synpos_lib.workflow.profiles import Job

TIMINGS = ("job", "seconds", "memory_mb", "disk_mb", "hardware", "parameters")  # columns of a recorded timings.csv
MEASURED = "as measured here"
NOT_DONE = "not done yet"  # the reason to run a job that needs no telling


@dataclass
class Cost:
    """What one job takes; None is unknown. `basis` says where the numbers come from."""

    seconds: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None
    basis: str = ""

    def __str__(self) -> str:
        if self.seconds is None:
            return "time unknown"
        memory = f"{size(self.memory_mb)} of memory" if self.memory_mb else "memory unknown"
        disk = f"{size(self.disk_mb)} on disk" if self.disk_mb is not None else "disk unknown"
        return f"about {runtime.minutes(self.seconds)}, {memory}, {disk}; {self.basis}"


@dataclass
class Step:
    """One job of the plan, before it runs."""

    job: Job
    after: list[str]  # names of the jobs it builds on
    code: str  # fingerprint of the notebook and the library modules it uses
    mark: Mark | None = None
    reason: str = ""  # to run it; empty when it is finished
    cost: Cost = field(default_factory=Cost)

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def id(self) -> str:
        """Which execution of the job is done; empty if none is."""
        return self.mark["id"] if self.mark else ""


def size(megabytes: float) -> str:
    """Megabytes for people."""
    return f"{megabytes / 1e3:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def digest(parameters: dict) -> str:
    """A short digest of a job's parameters."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]


def costs(jobs: Iterable[Job], marks: Iterable[tuple[str, Mark | Entry | None]]) -> dict[str, Cost]:
    """What each job should take; `marks` are what jobs have left on this machine, by name, the best ones first."""
    here: dict[tuple[str, str], Cost] = {}
    elsewhere: dict[tuple[str, str], Cost] = {}
    others: dict[str, Cost] = {}
    quiet: dict[tuple[str, str], float] = {}  # seconds that may be compared with a recording's
    this = runtime.hardware()
    for name, mark in marks:
        if mark and mark["seconds"] and mark.get("basis", MEASURED) == MEASURED:  # not an estimate of the last plan
            values, key = (mark["seconds"], mark["memory_mb"], mark["disk_mb"]), (name, digest(mark["parameters"]))
            origin: Any = mark.get("provenance", {})
            machine = origin.get("hardware", this)
            basis = MEASURED if machine == this else f"measured on {machine}"
            (here if machine == this else elsewhere).setdefault(key, Cost(*values, basis))
            others.setdefault(name, Cost(*values, f"{basis} with other parameters"))
            if machine == this and not mark.get("busy"):
                quiet.setdefault(key, mark["seconds"])
    known = _recordings(quiet) | elsewhere | here
    return {job.name: known.get((job.name, digest(job.parameters)), others.get(job.name, Cost())) for job in jobs}


def _recordings(here: dict[tuple[str, str], float]) -> dict[tuple[str, str], Cost]:
    """The recorded cost of every job, by its name and the digest of its parameters, scaled to this machine."""
    costs: dict[tuple[str, str], Cost] = {}
    for path in sorted(recorded.FOLDER.glob("*/timings.csv")):
        there = _timings(path)
        ratio, comparison = 1.0, "not scaled to this machine"
        if both := here.keys() & there.keys():
            ratio = sum(here[key] for key in both) / sum(there[key][0] for key in both)
            comparison = f"times {ratio:.2f} as of {len(both)} jobs finished here"
        for key, (seconds, memory, disk, hardware) in there.items():
            cost = Cost(seconds * ratio, memory, disk, f"recorded on {hardware}, {comparison}")
            costs.setdefault(key, cost)
    return costs


def _timings(path: Path) -> dict[tuple[str, str], tuple[float, float | None, float | None, str]]:
    """The seconds, memory, disk and hardware of each job in a recording, by its name and parameters."""
    data = files.read_bytes(path)
    try:
        timings = {}
        for row in csv.DictReader(data.decode().splitlines()):
            memory, disk = (float(row[name]) if row[name] else None for name in TIMINGS[2:4])
            timings[row["job"], row["parameters"]] = float(row["seconds"]), memory, disk, row["hardware"]
            if not float(row["seconds"]) > 0:
                raise ValueError(f"{row['job']} took {row['seconds']} s")
        return timings
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise Problem(f"{path} is damaged ({error}): restore it, for example with git checkout") from error


def _covering(values: list[float | None], words: Callable[[list[float]], str]) -> str:
    """An estimate from the known values, in order, with the number of jobs that it does not cover."""
    known = sorted(value for value in values if value is not None)
    missing = f", {len(values) - len(known)} unknown" if len(known) < len(values) else ""
    return words(known) + missing if known else "unknown"


def time_for(expected: list[Cost], jobs: int) -> str:
    """How long jobs of these costs should take, so many at once: at least as long as the longest."""
    seconds = [cost.seconds for cost in expected]
    return _covering(seconds, lambda known: f"about {runtime.minutes(max(sum(known) / jobs, known[-1]))}")


def memory_for(expected: list[Cost], jobs: int) -> str:
    """The memory that so many of the jobs should need at once."""
    return _covering([cost.memory_mb for cost in expected], lambda known: f"up to {size(sum(known[-jobs:]))} at once")


def disk_for(expected: list[Cost]) -> str:
    """The space that the results of these jobs should need."""
    return _covering([cost.disk_mb for cost in expected], lambda known: f"about {size(sum(known))}")
