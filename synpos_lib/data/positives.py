"""The store of synthetic positives: K candidates for every anchor, one memory-mapped array on disk.

    positives[n, k] is a synthetic image of the same thing as anchors[n]        # (N, K, 3, H, W) uint8

It is a run: made chunk by chunk, continued after a kill, and refused when it was made from other images.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.files import damaged
from synpos_lib.core.runs import Run, open_run, read_run

FILE = "positives.npy"
LAYOUT = "N K 3 H W"  # recorded in every store: those made before it was had the channels last
CHUNK = 64  # anchors generated and written at once; part of what is drawn, since each chunk has its own seed


def make(
    folder: Path,
    anchors,
    generator,
    *,
    k: int = 8,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    labels: torch.Tensor | None = None,  # of all anchors, only for a generator that works from labels
) -> Run:
    """Generate `k` candidates for each anchor, or for the `shard` (i, of n) of them; continues where it stopped."""
    start, stop = _range(len(anchors.images), *shard)
    config = {
        "images": anchors.fingerprint,
        "layout": LAYOUT,
        "generator": generator.settings,
        "k": k,
        "seed": seed,
        "rows": [start, stop],
        "of": len(anchors.images),
    }
    if labels is not None:
        if len(labels) != len(anchors.images):
            raise Problem(f"there are {len(labels)} labels for {len(anchors.images)} anchors: give one for each")
        config["labels"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
        labels = labels[start:stop]
    module = type(generator).__module__
    with open_run(folder, config, (module,) if module.startswith("synpos_lib.") else ()) as run:
        if not run.done:
            _fill(run, anchors.images[start:stop], labels, generator, k, seed, start)
    return run


def keep(folder: Path, anchors, candidates: torch.Tensor, how: dict) -> Run:
    """Store candidates (N, K, 3, H, W) that were not made from the anchors' pixels; `how` says where they are from."""
    n, k = candidates.shape[:2]
    config = {"images": anchors.fingerprint, "layout": LAYOUT, "generator": how, "k": k}
    config |= {"rows": [0, n], "of": len(anchors.images)}
    with open_run(folder, config) as run:
        if not run.done:
            array = _array(run, n, k, candidates.shape[-1])
            array[:] = candidates.numpy()
            array.flush()
            run.log(row=0, sha256=_digest(array))
            run.finish(n=n, k=k)
    return run


def read(folder: Path, anchors) -> torch.Tensor:
    """The candidates of these very anchors, memory-mapped: (N, K, 3, H, W)."""
    run = _finished(folder)
    if run.config["images"] != anchors.fingerprint:
        raise Problem(
            f"the positives in {folder} were made from other images ({run.config['images'][:12]}) than these "
            f"({anchors.fingerprint[:12]}): make them anew with notebook 05, or load the images they belong to"
        )
    if run.config["rows"] != [0, run.config["of"]]:
        raise Problem(
            f"{folder} holds only the rows {run.config['rows']} of {run.config['of']}: merge its shards first"
        )
    return torch.from_numpy(np.load(run.folder / FILE, mmap_mode="c"))  # copy on write: the file never changes


def _finished(folder: Path) -> Run:
    """A finished store, unless it is of the layout before this one."""
    run = read_run(folder)
    if run.config.get("layout") != LAYOUT:
        raise Problem(
            f"the positives in {folder} were stored by an earlier version, with the channels last: run the notebook "
            "that makes them again (05 for positives-…, 10 for its settings, 11 for variations-…, 12 for edits-…)"
        )
    return run


def merge(shards: Sequence[Path], folder: Path) -> Run:
    """Put the shards of one store together; they must agree in everything but their rows, and leave no gap."""
    parts = sorted((_finished(shard) for shard in shards), key=lambda run: run.config["rows"])
    first = parts[0].config
    expected = 0
    for part in parts:
        if {**part.config, "rows": 0} != {**first, "rows": 0}:
            raise Problem(f"{part.folder} was not made like {parts[0].folder}: make the shards with the same settings")
        if part.config["rows"][0] != expected:
            raise Problem(f"the shards leave a gap or overlap at row {expected}: {part.folder} is out of place")
        expected = part.config["rows"][1]
    if expected != first["of"]:
        raise Problem(f"the rows {expected} to {first['of']} are missing: add their shards")
    with open_run(folder, {**first, "rows": [0, first["of"]]}) as run:
        if not run.done:
            whole = _array(run, first["of"], first["k"], np.load(parts[0].folder / FILE, mmap_mode="r").shape[-1])
            for part in parts:
                whole[slice(*part.config["rows"])] = np.load(part.folder / FILE, mmap_mode="r")
            whole.flush()
            run.add_seconds(sum(part.results["seconds"] for part in parts))
            run.finish(n=first["of"], k=first["k"])
    return run


def _range(n: int, index: int, count: int) -> tuple[int, int]:
    """The rows of one shard, cut at chunk boundaries so that shards equal the whole bit for bit."""
    if not 0 <= index < count:
        raise Problem(f"shard {index} of {count} does not exist: the index runs from 0 to {count - 1}")
    chunks = -(-n // CHUNK)
    return tuple(min(n, chunks * i // count * CHUNK) for i in (index, index + 1))


def _array(run: Run, n: int, k: int, size: int) -> np.memmap:
    """The array on disk, created whole, in the format of `numpy.load`."""
    path, shape = run.folder / FILE, (n, k, 3, size, size)
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape or array.dtype != np.uint8:
            raise damaged(path, f"its shape is {array.shape}, not {shape}")
        return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)


def _fill(run: Run, images: torch.Tensor, labels, generator, k: int, seed: int, start: int) -> None:
    array = _array(run, len(images), k, images.shape[-1])
    whole = {row["row"]: row["sha256"] for row in run.metrics()}
    run.add_seconds(sum(row["seconds"] for row in run.metrics()))  # of earlier sittings
    for row in runtime.progress(range(0, len(images), CHUNK), f"{run.name}: chunks of {CHUNK} anchors"):
        part = array[row : row + CHUNK]
        if whole.get(row) == _digest(part):
            continue
        since = time.monotonic()
        told = {} if labels is None else {"labels": labels[row : row + CHUNK]}
        made = generator.generate(images[row : row + CHUNK], k, runtime.derive(seed, "positives", start + row), **told)
        part[:] = made.numpy()  # (B, K, 3, H, W)
        array.flush()
        run.log(row=row, sha256=_digest(part), seconds=round(time.monotonic() - since, 3))
    run.finish(n=len(images), k=k)


def _digest(part: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(part)).hexdigest()
