"""What jobs leave in the folder of a profile, as the rest of the workflow reads it.

plan.json           every job of the last start: its notebook, parameters and expected cost
jobs/NAME.json      the done-mark of a job; NAME.running while it runs, NAME.failed when it has failed
tables/NAME.x.json  the note beside a table, or in figures/ beside a figure: what made it
"""

from pathlib import Path
from typing import Any, NotRequired, TypedDict

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem


class Mark(TypedDict):
    """The done-mark of a job."""

    id: str
    seconds: float
    busy: NotRequired[bool]  # whether others took the processor from it
    memory_mb: float
    disk_mb: float
    notebook: str
    parameters: dict[str, Any]
    code: str
    after: dict[str, str]  # the ids of the jobs that it was built on
    files: list[str]  # results, and the done-marks of runs
    provenance: runtime.Origin


class Entry(TypedDict):
    """A job of the plan."""

    notebook: str
    parameters: dict[str, Any]
    after: list[str]
    waits_for: list[str]
    seconds: float | None
    memory_mb: float | None
    disk_mb: float | None
    basis: str


class Plan(TypedDict):
    """The last start of a profile."""

    profile: str
    threads: int
    jobs: dict[str, Entry]


class Note(TypedDict):
    """What made a figure or table."""

    text: str
    job: str
    notebook: str
    parameters: dict[str, Any]
    order: int
    runs: list[str]
    files: dict[str, str]  # with their digests
    provenance: runtime.Provenance


class Running(TypedDict):
    """A job at work, and the last line that it has printed."""

    pid: int
    line: str


class Failure(TypedDict):
    """A job that has failed."""

    error: str
    notebook: str


def path(here: Path, name: str, kind: str = "json") -> Path:
    """Where a job's mark lies; `kind` is json, running or failed."""
    return here / "jobs" / f"{name}.{kind}"


def start_folder(here: Path) -> Path:
    """Where the files of one start lie that do not outlive it."""
    return here / ".start"


def planned(here: Path) -> dict[str, Entry]:
    """The jobs of the last start; none when notebooks were only run by hand."""
    plan = files.try_json(here / "plan.json", Plan)
    return plan["jobs"] if plan else {}


def note_paths(here: Path) -> list[Path]:
    """The notes beside all figures and tables."""
    return sorted([*here.glob("figures/*.json"), *here.glob("tables/*.json")])


def read_note(file: Path) -> Note:
    """The note of a figure or table; refused when a file that it lists is missing or changed."""
    note = files.read_json(file, Note)
    for name, digest in note["files"].items():
        result = file.with_name(name)
        if not result.exists():
            raise Problem(f"{result} is missing: start the profile again to make it anew")
        if files.sha256(result) != digest:
            if files.try_json(file, Note) != note:
                raise Problem(f"{result} is being made anew: wait until its notebook has ended")
            raise files.damaged(result, "it is not what its notebook wrote")
    return note


def notes(here: Path) -> dict[Path, Note]:
    """The notes that can be read."""
    return {file: note for file in note_paths(here) if (note := files.try_json(file, Note))}
