"""The store of synthetic positives: K candidates for every anchor, one memory-mapped array on disk.

    positives[n, k] is a synthetic image of the same thing as anchors[n]        # (N, K, 3, H, W) uint8

It is a run: made chunk by chunk, continued after a kill, and refused when it was made from other images.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict

import numpy as np
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.core.arrays import map_file, open_array
from synpos_lib.core.errors import Problem
from synpos_lib.core.files import damaged, misfit
from synpos_lib.core.fingerprint import identity, weights_fingerprint
from synpos_lib.core.runs import Run, open_run, read_run
from synpos_lib.data.images import Images, labels_fingerprint

FILE = "positives.npy"
CHUNK = 64  # anchors generated and written at once; with another size, chunks have other seeds and so other images


class Chunk(TypedDict):
    """A line of the metrics: a chunk that is in the store."""

    row: int  # its first
    sha256: str
    seconds: float


class Generator(Protocol):
    """What makes candidates: its settings, and `generate`, which may take the anchors' labels too."""

    settings: dict[str, Any]

    @property
    def generate(self) -> Callable[..., Tensor]:
        """generate(anchors, k, seed): uint8 (B, 3, H, W) -> (B, k, 3, H, W)."""


def make(
    folder: Path,
    anchors: Images,
    generator: Generator,
    *,
    k: int = 8,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    labels: Tensor | None = None,  # of all anchors, only for a generator that works from labels
) -> Run:
    """Generate `k` candidates for each anchor, or for the `shard` (i, of n) of them; continues where it stopped."""
    n, (start, stop) = len(anchors.images), _range(len(anchors.images), *shard)
    module, name = identity(type(generator))
    config = _config(anchors, generator.settings, k, start, stop) | {"seed": seed, "class": name}
    if labels is not None:
        if len(labels) != n:
            raise Problem(f"there are {len(labels)} labels for {n} anchors: give one for each")
        config["labels"] = labels_fingerprint(labels)
        labels = labels[start:stop]
    with open_run(folder, config, ("synpos_lib.data.positives", module)) as run:
        if not run.done:
            _fill(run, anchors.images[start:stop], labels, generator, k, seed, start)
    return run


def keep(folder: Path, anchors: Images, candidates: Tensor, origin: dict) -> Run:
    """Store candidates (N, K, 3, H, W) that were not made from the anchors' pixels; `origin` describes their source."""
    n, k = candidates.shape[:2]
    config = _config(anchors, origin, k, 0, n) | {"candidates": _digest(candidates.numpy())}
    with open_run(folder, config, ("synpos_lib.data.positives",)) as run:
        if not run.done:
            array = _array(run, n, k, candidates.shape[-1])
            array[:] = candidates.numpy()
            array.flush()
            run.log(row=0, sha256=_digest(array))
            run.finish(n=n, k=k)
    return run


def read(folder: Path, anchors: Images, unet: nn.Module | None = None) -> Tensor:
    """The candidates of these anchors, memory-mapped: (N, K, 3, H, W); refused if not made by the network, if given."""
    if not folder.exists():
        raise Problem(f"there are no positives in {folder}: make them with notebook 05")
    run = read_run(folder)
    if run.config["images"] != anchors.fingerprint:
        raise Problem(
            f"the positives in {folder} were made from other images ({run.config['images'][:12]}) than these "
            f"({anchors.fingerprint[:12]}): make them anew with notebook 05, or load the images they belong to"
        )
    weights = weights_fingerprint(unet) if unet is not None else None
    if weights and (maker := run.config["generator"].get("weights", "none")) != weights:
        raise Problem(
            f"the positives in {folder} were made by another model ({maker[:12]}) than this one ({weights[:12]}): "
            f"make them anew with notebook 05"
        )
    if run.config["rows"] != [0, run.config["of"]]:
        raise Problem(
            f"{folder} holds only the rows {run.config['rows']} of {run.config['of']}: merge its shards first"
        )
    return map_file(run.folder / FILE)


def merge(shards: Sequence[Path], folder: Path) -> Run:
    """Put the shards of one store together; they must agree in everything but their rows, and leave no gap."""
    parts = sorted(map(read_run, shards), key=lambda run: run.config["rows"])
    first, expected = parts[0].config, 0
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
            arrays = [np.load(part.folder / FILE, mmap_mode="r") for part in parts]
            whole = _array(run, first["of"], first["k"], arrays[0].shape[-1])
            for part, array in zip(parts, arrays, strict=True):
                whole[slice(*part.config["rows"])] = array
            whole.flush()
            run.add_seconds(sum(part.results["seconds"] for part in parts))
            run.finish(n=first["of"], k=first["k"])
    return run


def _config(anchors: Images, origin: dict, k: int, start: int, stop: int) -> dict[str, Any]:
    about = {"images": anchors.fingerprint, "generator": origin}
    return about | {"k": k, "rows": [start, stop], "of": len(anchors.images)}


def _range(n: int, index: int, count: int) -> tuple[int, int]:
    """The rows of one shard, cut at chunk boundaries so that shards equal the whole bit for bit."""
    if not 0 <= index < count:
        raise Problem(f"shard {index} of {count} does not exist: the index runs from 0 to {count - 1}")
    chunks = -(-n // CHUNK)
    return min(n, chunks * index // count * CHUNK), min(n, chunks * (index + 1) // count * CHUNK)


def _array(run: Run, n: int, k: int, size: int) -> np.memmap:
    """The array on disk, created whole, in the format of `numpy.load`."""
    path, shape = run.folder / FILE, (n, k, 3, size, size)
    try:
        if not path.exists():
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        array = open_array(path, "r+")
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)  # a full disk is an error here, later a crash
    except ValueError as error:
        raise damaged(path, error) from error
    except OSError as error:
        size_mb = math.prod(shape) / 1e6
        raise Problem(f"could not store {path} ({error.strerror}): it takes {size_mb:.0f} MB, make room") from error
    if array.shape != shape or array.dtype != np.uint8:
        raise damaged(path, f"its shape is {array.shape}, not {shape}")
    return array


def _fill(run: Run, images: Tensor, labels: Tensor | None, generator: Generator, k: int, seed: int, start: int) -> None:
    array = _array(run, len(images), k, images.shape[-1])
    earlier: list[Any] = [row for row in run.metrics() if not misfit(row, Chunk)]  # before an interruption
    whole = {row["row"]: row["sha256"] for row in earlier}
    run.add_seconds(sum(row["seconds"] for row in earlier))
    for row in runtime.progress(range(0, len(images), CHUNK), f"{run.name}: chunks of {CHUNK} anchors"):
        rows = slice(row, row + CHUNK)
        if whole.get(row) == _digest(array[rows]):
            continue
        since = time.monotonic()
        arguments = [images[rows], k, runtime.derive(seed, "positives", start + row)]
        array[rows] = generator.generate(*arguments, *([] if labels is None else [labels[rows]])).numpy()
        array.flush()
        run.log(row=row, sha256=_digest(array[rows]), seconds=round(time.monotonic() - since, 3))
    run.finish(n=len(images), k=k)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
