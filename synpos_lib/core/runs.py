"""A run is one computation with its folder: config, metrics, checkpoint, done-mark. Killed anywhere, it continues.

with open_run(folder, config) as run:
    if not run.done:
        state = run.load()          # the last checkpoint, or None
        ...                         # run.log(step=3, loss=0.1); run.save(state)
        run.finish(accuracy=0.9)
    print(run.results["accuracy"])
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import code_fingerprint


class Mark(TypedDict):
    """The done-mark of a run."""

    results: dict[str, Any]
    seconds: float
    provenance: runtime.Provenance
    files: dict[str, str]  # with their digests


class Run:
    """One computation's folder; use it through `open_run`, or `read_run` to look at a finished one."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        self.folder, self.config, self.name = folder, config, folder.name
        self._metrics = folder / "metrics.jsonl"
        self._checkpoint = folder / "checkpoint.safetensors"
        self._done = folder / "done.json"
        self._seconds = 0.0  # spent in earlier sessions
        self._since = time.monotonic()
        self.results: dict[str, Any] = {}
        self.provenance: dict[str, Any] = {}  # of a finished run, like the next
        self.weights: str | None = None  # digest of the last checkpoint
        self._check()

    @property
    def done(self) -> bool:
        return bool(self.results)

    def _check(self) -> None:
        """Read the done-mark; it holds only while the files that it lists are as they were."""
        if not self._done.exists():
            return
        mark = read_mark(self.folder)
        for name, digest in mark["files"].items():
            path = self.folder / name
            if not path.exists() or files.sha256(path) != digest:
                change = "changed after the run ended" if path.exists() else "is missing"
                if self._checkpoint.exists() and path in (self._checkpoint, self._metrics):
                    files.damaged(self._checkpoint, change)  # set aside too, or the next start would load it
                raise files.damaged(self._done, f"{name} {change}, so its results cannot be believed")
        self.results = {"seconds": mark["seconds"], **mark["results"]}
        self.provenance = dict(mark["provenance"])
        self.weights = mark["files"].get(self._checkpoint.name)

    def add_seconds(self, seconds: float) -> None:
        """Count work that was done elsewhere, or in a session that left no checkpoint."""
        self._seconds += seconds

    def log(self, **row: float | int | str) -> None:
        """Append one line to the metrics."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """All lines logged so far."""
        return [row for line in self._lines() if (row := _row(line))]

    def _lines(self) -> list[str]:
        lines = files.read_bytes(self._metrics).decode(errors="replace") if self._metrics.exists() else ""
        return lines.splitlines()

    def save(self, state: dict[str, Any]) -> None:
        """Store a checkpoint; a run that is killed later continues from here."""
        lines = self._lines()
        about = {"config": files.digest(self.config), "rows": len(lines), "metrics": _digest(lines)}
        about["seconds"] = self._elapsed()
        files.save_tensors(self._checkpoint, {"state": state, **about})

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint's state, with the metrics rolled back to that moment; None if there is none."""
        lines, state = [], None
        if self._checkpoint.exists():
            stored = self._stored()
            if stored["config"] != files.digest(self.config):
                raise files.damaged(self._checkpoint, "it belongs to a run of another configuration")
            state, self._seconds, self._since = stored["state"], stored["seconds"], time.monotonic()
            lines = self._lines()[: stored["rows"]]
            if len(lines) < stored["rows"]:
                raise files.damaged(self._checkpoint, f"{self._metrics.name} has lost lines that belong to it")
            if stored["metrics"] != _digest(lines):
                raise files.damaged(self._checkpoint, f"lines of {self._metrics.name} that belong to it were changed")
            print(f"run '{self.name}': continued from its checkpoint after {self._seconds:.0f} s of work")
        files.write_bytes(self._metrics, "".join(line + "\n" for line in lines).encode())
        return state

    def final(self) -> dict[str, Any]:
        """The last checkpoint of a finished run: its weights."""
        return self._stored()["state"]

    def _stored(self) -> dict[str, Any]:
        """What `save` stored."""
        stored = files.load_tensors(self._checkpoint)
        if not isinstance(stored, dict) or not {"state", "config", "rows", "metrics", "seconds"} <= stored.keys():
            raise files.damaged(self._checkpoint, "no run has written it, or that of another version")
        return stored

    def finish(self, **results: object) -> None:
        """Mark the run as done, with its results and the digests of its files."""
        names = [path.name for path in sorted(self.folder.iterdir()) if not re.match(r"\.|done|.*\.damaged", path.name)]
        mark: Mark = {
            "results": results,
            "seconds": round(self._elapsed(), 2),
            "provenance": runtime.provenance(),
            "files": {name: files.sha256(self.folder / name) for name in names},
        }
        files.write_json(self._done, mark)
        self._check()

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._since

    def drop_torn_lines(self) -> None:
        """Remove lines that cannot be read, such as the half line that a kill in the middle of `log` leaves."""
        lines = self._lines()
        if not all(map(_row, lines)):
            files.write_bytes(self._metrics, "".join(line + "\n" for line in lines if _row(line)).encode())


@contextlib.contextmanager
def open_run(folder: Path, config: dict[str, Any], code: tuple[str, ...] = ()) -> Iterator[Run]:
    """Open the run of `config`: reuse it if it is done, continue it if it was cut short, else start it.

    `code` names the modules that compute the results (see `fingerprint`). When the configuration or the code has
    changed, the earlier run is moved to `.earlier/` beside it, where nothing is ever deleted, and the reason is
    printed; a run of this configuration that lies there is moved back. One process writes at a time, several may read.
    """
    config = json.loads(json.dumps({**config, "code": code_fingerprint(*code)} if code else config))
    place = folder.parent / ".locks" / folder.name  # not in the folder, which may be moved
    place.parent.mkdir(parents=True, exist_ok=True)
    wait = f"run '{folder.name}': another process is computing it; waiting"
    with place.open("w", encoding="utf-8") as lock:  # released when this process ends, however it ends
        files.lock(lock, fcntl.LOCK_SH, wait)
        while not _is_done(folder, config):
            files.lock(lock, fcntl.LOCK_EX, wait)
            if not _is_done(folder, config):
                _make_room(folder, config)
            if not _is_done(folder, config):
                break
            files.lock(lock, fcntl.LOCK_SH, wait)  # since another process has finished it, or it was moved back
        run = Run(folder, config)
        if run.done:
            print(f"run '{run.name}': reused, same configuration and code (computed in {run.results['seconds']:.0f} s)")
        else:
            run.drop_torn_lines()
            files.clear_parts(folder)
        yield run


def _row(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        row = json.loads(line)
        return row if isinstance(row, dict) else None
    return None


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_done(folder: Path, config: dict[str, Any]) -> bool:
    return _try_config(folder) == config and (folder / "done.json").exists()


def _try_config(folder: Path) -> dict[str, Any] | None:
    return files.try_json(folder / "config.json", dict[str, Any])


def _make_room(folder: Path, config: dict[str, Any]) -> None:
    """Move a run of another configuration aside; then move this one back, if it was moved aside once, or start it."""
    before = _try_config(folder)
    if before != config and any(not path.name.startswith(".") for path in folder.glob("*")):
        reason = _differences(before, config) if before else "its configuration is lost or of an earlier version"
        aside = files.free_name(folder.parent / ".earlier" / folder.name)
        aside.parent.mkdir(exist_ok=True)
        os.replace(folder, aside)
        print(f"run '{folder.name}': not reused, since {reason} (kept in {aside})")
    if not folder.exists() and (place := _find_earlier(folder, config)):
        os.replace(place, folder)
        print(f"run '{folder.name}': moved back from {place}, same configuration and code")
    if not (folder / "config.json").exists():
        files.write_json(folder / "config.json", config)


def _find_earlier(folder: Path, config: dict[str, Any]) -> Path | None:
    """A run of this name and configuration that was moved aside."""
    for path in sorted(folder.parent.glob(".earlier/*/config.json")):
        if re.fullmatch(re.escape(folder.name) + r"(-\d+)?", path.parent.name) and _try_config(path.parent) == config:
            return path.parent
    return None


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run."""
    return files.read_json(folder / "config.json", dict[str, Any])


def read_mark(folder: Path) -> Mark:
    """The done-mark of a run, whose files are not looked at."""
    return files.read_json(folder / "done.json", Mark)


def read_run(folder: Path) -> Run:
    """A finished run; refused when it is not finished, damaged or edited."""
    if not (folder / "config.json").exists():
        raise Problem(f"there is no run in {folder}: start the notebook that computes it")
    run = Run(folder, read_config(folder))
    if not run.done:
        raise Problem(f"the run in {folder} is not finished: start its notebook again to continue it")
    return run


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Name the fields that differ, with both values, and the files of code that have changed."""
    old, new = _flat(before), _flat(now)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    code = list(dict.fromkeys(key.partition(".")[2] for key in changed if key.endswith(".py")))
    words = [f"{key} was {old.get(key)} and is now {new.get(key)}" for key in changed if not key.endswith(".py")]
    if code:
        names = " and ".join(code) if len(code) < 4 else f"{len(code)} files of its code"
        words.append(f"{names} {'has' if len(code) == 1 else 'have'} changed")
    return "; ".join(words)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
