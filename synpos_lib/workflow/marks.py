"""What jobs leave in the folder of a profile, as the rest of the workflow reads it.

plan.json           every job of the last start: its notebook, parameters and expected cost
jobs/NAME.json      the done-mark of a job; NAME.running while it runs, NAME.failed when it has failed
tables/NAME.x.json  the note beside a table, or in figures/ beside a figure: what made it
"""

import contextlib
import json
from pathlib import Path


def path(here: Path, name: str, kind: str = "json") -> Path:
    """Where a job's mark lies; `kind` is json, running or failed."""
    return here / "jobs" / f"{name}.{kind}"


def try_read(file: Path) -> dict:
    """JSON, or nothing where it is missing (yet) or unreadable."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(file.read_text(encoding="utf-8"))
    return {}


def planned(here: Path) -> dict[str, dict]:
    """The jobs of the last start; none when notebooks were only run by hand."""
    return try_read(here / "plan.json").get("jobs", {})


def note_paths(here: Path) -> list[Path]:
    """The notes beside all figures and tables."""
    return sorted([*here.glob("figures/*.json"), *here.glob("tables/*.json")])


def notes(here: Path) -> dict[Path, dict]:
    """The notes that can be read."""
    return {file: note for file in note_paths(here) if (note := try_read(file))}
