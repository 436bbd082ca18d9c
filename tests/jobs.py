"""The done-mark of a job that never ran."""

from pathlib import Path

from synpos_lib.core import files

MARK = {"id": "1", "seconds": 1.0, "memory_mb": 1, "disk_mb": 1.0, "notebook": "01_a", "parameters": {}, "code": "c"}
MARK |= {"after": {}, "files": [], "provenance": {"commit": "c", "hardware": "h", "time": "t"}}


def write_mark(path: Path, **fields: object) -> None:
    """Write a mark with these fields, and some value in all others."""
    files.write_json(path, MARK | fields)
