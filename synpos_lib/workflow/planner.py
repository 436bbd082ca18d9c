"""What a job will cost: as measured here, else as recorded and scaled to this machine, else unknown.

One number compares two machines: how many steps of a small convolutional network each makes in a second. It is
measured once, in three seconds, and kept in outputs/calibration.json, and in the manifest of a recording. Where a
recording has none, the jobs that have run both there and here are compared.
"""

import csv
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.lab import recorded
from synpos_lib.workflow.profiles import Job

TIMINGS = ("job", "seconds", "memory_mb", "disk_mb", "hardware", "parameters")  # columns of a recorded timings.csv
MEASURED = "as measured here"
MEASURING = 3.0  # seconds


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


def costs(jobs: Iterable[Job], marks: Mapping[str, list[dict]]) -> dict[str, Cost]:
    """What each job should take; `marks` are what earlier runs of it on this machine have left."""
    measured = {name: [mark for mark in of_job if _is_measured(mark)] for name, of_job in marks.items()}
    recordings = _recordings(measured)
    return {job.name: _cost(job, measured.get(job.name, []), recordings) for job in jobs}


def _is_measured(mark: dict) -> bool:
    return bool(mark.get("seconds")) and mark.get("basis", MEASURED) == MEASURED  # an estimate of the last plan is not


def _cost(job: Job, marks: list[dict], recordings: dict[tuple[str, str], Cost]) -> Cost:
    for mark in marks:
        if mark["parameters"] == job.parameters:
            return _from_mark(mark, MEASURED)
    others = [_from_mark(mark, f"{MEASURED} with other parameters") for mark in marks]
    return next((cost for cost in [recordings.get((job.name, digest(job.parameters))), *others] if cost), Cost())


def _from_mark(mark: dict, basis: str) -> Cost:
    return Cost(mark["seconds"], mark.get("memory_mb"), mark.get("disk_mb"), basis)


def _recordings(measured: Mapping[str, list[dict]]) -> dict[tuple[str, str], Cost]:
    """The recorded cost of every job, by its name and the digest of its parameters, scaled to this machine."""
    here = {(name, digest(mark["parameters"])): mark["seconds"] for name, marks in measured.items() for mark in marks}
    found: dict[tuple[str, str], Cost] = {}
    for path in sorted(recorded.FOLDER.glob("*/timings.csv")):
        with path.open() as file:
            rows = {(row["job"], row["parameters"]): row for row in csv.DictReader(file)}
        there = {key: float(row["seconds"]) for key, row in rows.items()}
        ratio, comparison = _slowness(files.read_json(path.with_name("manifest.json")), there, here)
        for key, row in rows.items():
            memory, disk = (float(row[name]) if row[name] else None for name in TIMINGS[2:4])
            cost = Cost(there[key] * ratio, memory, disk, f"recorded on {row['hardware']}, {comparison}")
            found.setdefault(key, cost)
    return found


def _slowness(manifest: dict, there: dict, here: dict) -> tuple[float, str]:
    """How many times slower this machine is than that of a recording, and in words how that is known."""
    speeds, both = (manifest.get("steps_per_second"), calibration()), here.keys() & there.keys()
    if speeds[0] and speeds[1]:
        return speeds[0] / speeds[1], f"times {speeds[0] / speeds[1]:.2f} for this machine"
    if both:
        ratio = sum(here[key] for key in both) / sum(there[key] for key in both)
        return ratio, f"times {ratio:.2f} as of {len(both)} jobs finished here"
    return 1.0, "not scaled to this machine"


def covering(known: int, total: int, words: str) -> str:
    """An estimate, with the number of jobs it does not cover."""
    return "unknown" if not known else words + f", {total - known} unknown" * (known < total)


def time_for(expected: list[Cost], jobs: int) -> str:
    """How long jobs of these costs should take, so many at once."""
    known = [cost.seconds for cost in expected if cost.seconds is not None]
    return covering(len(known), len(expected), f"about {runtime.minutes(sum(known) / jobs)}")


def summary(expected: list[Cost], jobs: int) -> list[str]:
    """Memory and disk that jobs of these costs should need, so many at once."""
    memory = sorted(cost.memory_mb for cost in expected if cost.memory_mb is not None)
    disk = [cost.disk_mb for cost in expected if cost.disk_mb is not None]
    return [
        "memory: " + covering(len(memory), len(expected), f"up to {size(sum(memory[-jobs:]))} at once"),
        "disk: " + covering(len(disk), len(expected), f"about {size(sum(disk))}"),
    ]


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
    manifests = [files.read_json(path) for path in recorded.FOLDER.glob("*/manifest.json")]
    fast = any("steps_per_second" in manifest for manifest in manifests)
    return fast and calibration() is None and any(cost.basis.startswith("recorded") for cost in expected)


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
