"""What a job will cost: as measured here, else as recorded and scaled to this machine, else unknown.

One number compares two machines: how many steps of a small convolutional network each makes in a second. It is
measured once, in three seconds, and kept in outputs/calibration.json, and in the manifest of a recording. Where a
recording has none, the jobs that have run both there and here are compared.
"""

import csv
import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.lab import recorded
from synpos_lib.workflow.profiles import Job

TIMINGS = ("job", "seconds", "memory_mb", "disk_mb", "hardware", "parameters")  # columns of a recorded timings.csv
MEASURED = "as measured here"
MEASURING = 3.0  # seconds that the comparison of machines takes


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


def size(megabytes: float) -> str:
    """Megabytes for people."""
    return f"{megabytes / 1e3:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def digest(parameters: dict) -> str:
    """A short digest of a job's parameters."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]


def costs(jobs: Iterable[Job], marks: Iterable[tuple[str, dict]]) -> dict[str, Cost]:
    """What each job should take; `marks` are what jobs have left on this machine, by name, the best ones first."""
    here: dict[tuple[str, str], Cost] = {}
    others: dict[str, Cost] = {}
    for name, mark in marks:
        if mark.get("seconds") and mark.get("basis", MEASURED) == MEASURED:  # not an estimate of the last plan
            values = mark["seconds"], mark.get("memory_mb"), mark.get("disk_mb")
            here.setdefault((name, digest(mark["parameters"])), Cost(*values, MEASURED))
            others.setdefault(name, Cost(*values, f"{MEASURED} with other parameters"))
    known = _recordings({key: cost.seconds for key, cost in here.items() if cost.seconds}) | here
    return {job.name: known.get((job.name, digest(job.parameters)), others.get(job.name, Cost())) for job in jobs}


def _recordings(here: dict[tuple[str, str], float]) -> dict[tuple[str, str], Cost]:
    """The recorded cost of every job, by its name and the digest of its parameters, scaled to this machine."""
    costs: dict[tuple[str, str], Cost] = {}
    for path in sorted(recorded.FOLDER.glob("*/timings.csv")):
        with path.open() as file:
            rows = {(row["job"], row["parameters"]): row for row in csv.DictReader(file)}
        there = {key: float(row["seconds"]) for key, row in rows.items()}
        ratio, comparison = _slowness(files.read_json(path.with_name("manifest.json")), there, here)
        for key, row in rows.items():
            memory, disk = (float(row[name]) if row[name] else None for name in TIMINGS[2:4])
            cost = Cost(there[key] * ratio, memory, disk, f"recorded on {row['hardware']}, {comparison}")
            costs.setdefault(key, cost)
    return costs


def _slowness(manifest: dict, there: dict, here: dict) -> tuple[float, str]:
    """How many times slower this machine is than that of a recording, and in words how that is known."""
    speed_there, speed_here, both = manifest.get("steps_per_second"), calibration(), here.keys() & there.keys()
    if speed_there and speed_here:
        return speed_there / speed_here, f"times {speed_there / speed_here:.2f} for this machine"
    if both:
        ratio = sum(here[key] for key in both) / sum(there[key] for key in both)
        return ratio, f"times {ratio:.2f} as of {len(both)} jobs finished here"
    return 1.0, "not scaled to this machine"


def _covering(values: list[float | None], words: Callable[[list[float]], str]) -> str:
    """An estimate from the known values, in order, with the number of jobs that it does not cover."""
    known = sorted(value for value in values if value is not None)
    missing = f", {len(values) - len(known)} unknown" if len(known) < len(values) else ""
    return words(known) + missing if known else "unknown"


def time_for(expected: list[Cost], jobs: int) -> str:
    """How long jobs of these costs should take, so many at once."""
    return _covering([cost.seconds for cost in expected], lambda known: f"about {runtime.minutes(sum(known) / jobs)}")


def memory_for(expected: list[Cost], jobs: int) -> str:
    """The memory that so many of the jobs should need at once."""
    return _covering([cost.memory_mb for cost in expected], lambda known: f"up to {size(sum(known[-jobs:]))} at once")


def disk_for(expected: list[Cost]) -> str:
    """The space that the results of these jobs should need."""
    return _covering([cost.disk_mb for cost in expected], lambda known: f"about {size(sum(known))}")


def calibration() -> float | None:
    """Steps per second of this machine, if they were measured on it."""
    path = _calibration_file()
    known = files.read_json(path) if path.exists() else {}
    return known.get("steps_per_second") if known.get("hardware") == runtime.hardware() else None


def calibrate() -> float:
    """Measure this machine's speed, once."""
    speed = calibration()
    if speed is None:
        print(f"measuring this machine, once, {MEASURING:.0f} s")
        speed = round(_steps_per_second(), 2)
        files.write_json(_calibration_file(), {"hardware": runtime.hardware(), "steps_per_second": speed})
    return speed


def calibration_pays(expected: Iterable[Cost]) -> bool:
    """Whether a recording that knows its machine's speed waits to be scaled by this one's."""
    speeds = any("steps_per_second" in files.read_json(path) for path in recorded.FOLDER.glob("*/manifest.json"))
    return speeds and calibration() is None and any(cost.basis.startswith("recorded") for cost in expected)


def _calibration_file() -> Path:
    return runtime.outputs() / "calibration.json"


def _steps_per_second() -> float:
    """Training steps per second of a small convolutional network on noise, with all the cores of one job."""
    import torch
    from torch import nn

    runtime.use_threads()
    where = runtime.device()
    layers = [nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 128, 3, stride=2), nn.BatchNorm2d(128), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)).to(where)
    images = torch.randn(64, 3, 32, 32, device=where)

    def step() -> None:
        with runtime.autocast(where):
            loss = network(images).square().mean()
        loss.backward()
        loss.item()  # waits for a GPU

    step()  # fills caches
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < MEASURING:
        step()
        count += 1
    return count / (time.perf_counter() - start)
