"""A run is one computation with its folder: config, metrics, checkpoint, done-mark. Killed anywhere, it continues.

with open_run(folder, config) as run:
    if not run.done:
        state = run.load()          # the last checkpoint, or None
        ...                         # run.log(step=3, loss=0.1); run.save(state)
        run.finish(accuracy=0.9)
    print(run.results["accuracy"])
"""

import fcntl
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import code_fingerprint


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
        mark = files.read_json(self._done)
        for name, digest in mark["files"].items():
            path = self.folder / name
            if not path.exists() or files.sha256(path) != digest:
                change = "changed after the run ended" if path.exists() else "is missing"
                if path == self._checkpoint and path.exists():
                    files.damaged(path, change)  # set aside too, or the next start would load it
                raise files.damaged(self._done, f"{name} {change}, so its results cannot be believed")
        self.results = {"seconds": mark["seconds"], **mark["results"]}
        self.provenance = mark["provenance"]
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
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        return self._metrics.read_text(encoding="utf-8").splitlines() if self._metrics.exists() else []

    def save(self, state: dict[str, Any]) -> None:
        """Store a checkpoint; a run that is killed later continues from here."""
        lines = self._lines()
        about = {"rows": len(lines), "metrics": _digest(lines), "seconds": self._elapsed()}
        files.save_tensors(self._checkpoint, {"state": state, **about})

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint's state, with the metrics rolled back to that moment; None if there is none."""
        lines, state = [], None
        if self._checkpoint.exists():
            stored = files.load_tensors(self._checkpoint)
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
        return files.load_tensors(self._checkpoint)["state"]

    def finish(self, **results: object) -> None:
        """Mark the run as done, with its results and the digests of its files."""
        names = [path.name for path in sorted(self.folder.iterdir()) if not path.name.startswith((".", "done"))]
        mark = {
            "results": results,
            "seconds": round(self._elapsed(), 2),
            "provenance": runtime.provenance(),
            "files": {name: files.sha256(self.folder / name) for name in names},
        }
        files.write_json(self._done, mark)
        self._check()

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._since

    def drop_torn_line(self) -> None:
        """Remove the half line that a kill in the middle of `log` leaves."""
        if self._metrics.exists() and not (text := self._metrics.read_bytes()).endswith(b"\n"):
            files.write_bytes(self._metrics, text[: text.rfind(b"\n") + 1])


@contextmanager
def open_run(folder: Path, config: dict[str, Any], code: tuple[str, ...] = ()) -> Iterator[Run]:
    """Open the run of `config`: reuse it if it is done, continue it if it was cut short, else start it.

    `code` names the modules that compute the results (see `fingerprint`). When the configuration or the code has
    changed, the earlier run is moved to `.earlier/` beside it, where nothing is ever deleted, and the reason is
    printed; a run of this configuration that lies there is moved back. One process writes at a time, several may read.
    """
    config = json.loads(json.dumps({**config, "code": code_fingerprint(*code)} if code else config))
    place = folder.parent / ".locks" / folder.name  # not in the folder, which may be moved
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w", encoding="utf-8") as lock:  # released when this process ends, however it ends
        _lock(lock, fcntl.LOCK_SH)
        while not _is_done(folder, config):
            _lock(lock, fcntl.LOCK_EX)
            if not _is_done(folder, config):
                _make_room(folder, config)
            if not _is_done(folder, config):
                break
            _lock(lock, fcntl.LOCK_SH)  # since another process has finished it, or it was moved back
        run = Run(folder, config)
        if run.done:
            print(f"run '{run.name}': reused, same configuration and code (computed in {run.results['seconds']:.0f} s)")
        else:
            run.drop_torn_line()
        yield run


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _lock(lock: TextIO, kind: int) -> None:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"run '{Path(lock.name).name}': another process is computing it; waiting", flush=True)
        fcntl.flock(lock, kind)


def _is_done(folder: Path, config: dict[str, Any]) -> bool:
    path = folder / "config.json"
    return path.exists() and files.read_json(path) == config and (folder / "done.json").exists()


def _make_room(folder: Path, config: dict[str, Any]) -> None:
    """Move a run of another configuration aside; then move this one back, if it was moved aside once, or start it."""
    path = folder / "config.json"
    if path.exists() and (before := files.read_json(path)) != config:
        aside = _free_place(folder)
        aside.parent.mkdir(exist_ok=True)
        os.replace(folder, aside)
        print(f"run '{folder.name}': not reused, since {_differences(before, config)} (kept in {aside})")
    if not folder.exists() and (place := _find_earlier(folder, config)):
        os.replace(place, folder)
        print(f"run '{folder.name}': moved back from {place}, same configuration and code")
    if not path.exists():
        files.write_json(path, config)


def _free_place(folder: Path) -> Path:
    """The first free place of a run that is moved aside: NAME, NAME-2, NAME-3, … in `.earlier`."""
    names = (folder.name + (f"-{number}" if number > 1 else "") for number in itertools.count(1))
    return next(place for name in names if not (place := folder.parent / ".earlier" / name).exists())


def _find_earlier(folder: Path, config: dict[str, Any]) -> Path | None:
    """A run of this name and configuration that was moved aside."""
    for path in sorted(folder.parent.glob(".earlier/*/config.json")):
        if re.fullmatch(re.escape(folder.name) + r"(-\d+)?", path.parent.name) and files.read_json(path) == config:
            return path.parent
    return None


def read_run(folder: Path) -> Run:
    """A finished run; refused when it is not finished, damaged or edited."""
    if not (folder / "config.json").exists():
        raise Problem(f"there is no run in {folder}: start the notebook that computes it")
    run = Run(folder, files.read_json(folder / "config.json"))
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
