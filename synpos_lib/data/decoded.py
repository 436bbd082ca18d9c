"""Images decoded once into one memory-mapped array file, with a manifest that describes their source.

The array is NAME.npy, the manifest NAME.json beside it (labels, classes, fingerprints). A
cache that is truncated, edited or made from files that have changed since is never used.
"""

import fcntl
import glob
import hashlib
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
from torch import Tensor

from synpos_lib.core import files
from synpos_lib.core.arrays import map_file
from synpos_lib.core.errors import Damaged, Problem, printable
from synpos_lib.core.fingerprint import code_fingerprint
from synpos_lib.core.runtime import progress
from synpos_lib.data import pictures
from synpos_lib.data.images import images_fingerprint

CODE = ("synpos_lib.data.decoded", "synpos_lib.data.trees")  # what decodes; if it changes, images are decoded anew
ALWAYS_CHECKED = 2**30  # bytes; a larger cache is read again in full only when its size or time has changed


class Manifest(TypedDict):
    """What a cache file holds, and what it was made from."""

    signature: str
    shape: list[int]
    stat: list[int]
    splits: dict[str, list[int]]
    fingerprints: dict[str, str]
    classes: list[str]
    labels: list[int]


class Source(NamedTuple):
    """The images of one part before they are decoded, those for validation last."""

    items: Any  # a sequence of paths, or of (H, W, 3) uint8 arrays
    labels: np.ndarray  # (N,) int64
    classes: tuple[str, ...]
    n_val: int = 0

    def take(self, rows: np.ndarray) -> "Source":
        """Some of the images, none of them for validation."""
        return Source([self.items[i] for i in rows], self.labels[rows], self.classes)

    def with_val(self, val: "Source") -> "Source":
        """These images and, for validation, those of another part."""
        labels = np.concatenate([self.labels, val.labels])
        return Source([*self.items, *val.items], labels, self.classes, len(val.labels))


def _signature(folder: Path) -> str:
    """Changes when a file of the folder is added, removed or rewritten, or the code that decodes it."""
    digest = hashlib.sha256(repr(code_fingerprint(*CODE)).encode())
    for path in pictures.walk(folder):
        try:
            about = os.stat(path)
        except OSError:  # a link that leads nowhere
            about = os.lstat(path)
        name = path.removeprefix(str(folder))
        digest.update(os.fsencode(f"{name}\0{about.st_size} {about.st_mtime_ns}\0"))
    return digest.hexdigest()


def open_or_decode(
    path: Path, make: Callable[[], Source], folder: Path, part: str, size: int
) -> tuple[Tensor, Manifest]:
    """The images of a part from the cache file `path`, decoded first if that is missing, old or damaged."""
    signature = _signature(folder)
    if path.exists() and not os.access(path.parent, os.W_OK) and (found := _open(path, signature)):
        return found  # of somebody else, who has decoded for all
    with _lock(path):
        return _open(path, signature) or _fill(path, make(), size, part, folder, signature)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """One process at a time opens or fills a cache file, so any temporary file of it is a killed one's."""
    place = path.parent / ".locks" / path.name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = place.open("w", encoding="utf-8")
    except OSError as error:
        raise Problem(
            f"cannot write in {path.parent} ({error.strerror}): name a folder you can write in SYNPOS_DATA"
        ) from error
    with lock:  # released when this process ends, however it ends
        files.lock(lock, fcntl.LOCK_EX, f"another process is opening or decoding {path.stem}; waiting")
        for left in path.parent.glob(f".{glob.escape(path.stem)}.*"):
            left.unlink()
        yield


def _open(path: Path, signature: str) -> tuple[Tensor, Manifest] | None:
    """The decoded images and their manifest, if they are whole and made from the files that are there now."""
    note = path.with_suffix(".json")
    if not (path.exists() and note.exists()):
        return None
    try:
        manifest = files.read_json(note, Manifest)
        if manifest["signature"] != signature:
            return None
        images = map_file(path)
        _check(path, images, manifest)
        return images, manifest
    except ValueError as error:
        if isinstance(error, Problem) and not isinstance(error, Damaged):
            raise  # it cannot be read, which says nothing of its contents
        for file in (path, note):
            if file.exists():
                files.damaged(file, error)
        warnings.warn(f"{path} is damaged ({error}): set aside as {path.name}.damaged, decoding anew", stacklevel=4)
        return None


def _check(path: Path, images: Tensor, manifest: Manifest) -> None:
    """Refuse a cache that is not what its manifest says."""
    stat = path.stat()
    if images.dtype != torch.uint8 or list(images.shape) != manifest["shape"]:
        raise ValueError("it does not have the recorded shape")
    if stat.st_size > ALWAYS_CHECKED and manifest["stat"] == [stat.st_size, stat.st_mtime_ns]:
        return
    labels = torch.tensor(manifest["labels"], dtype=torch.int64)
    parts = {split: rows for split, rows in manifest["splits"].items() if split != "train+val"}
    if not _fingerprints(images, labels, parts).items() <= manifest["fingerprints"].items():
        raise ValueError("its contents do not match their fingerprint")


def _fingerprints(images: Tensor, labels: Tensor, splits: dict) -> dict[str, str]:
    return {
        split: images_fingerprint(images[start:stop], None if split == "unlabelled" else labels[start:stop])
        for split, (start, stop) in splits.items()
    }


def _fill(path: Path, source: Source, size: int, part: str, folder: Path, signature: str) -> tuple[Tensor, Manifest]:
    """Decode a part into one array file and its manifest; whole or absent, whatever happens on the way."""
    note, temporary = path.with_suffix(".json"), path.with_name(f".{path.name}.part")
    shape = (len(source.items), 3, size, size)
    try:
        unreadable = _write(temporary, _decoded(source.items, size, f"decoding {folder.name} ({part})"), shape)
        if unreadable:
            named = sorted((os.path.relpath(source.items[i], folder), why) for i, why in unreadable.items())
            names = [f"{printable(path)} ({printable(why)})" for path, why in named]
            first = ", ".join(names[:3]) + ", …" * (len(names) > 3)
            raise Problem(
                f"{len(names)} of {shape[0]} images in {folder} cannot be read: {first}; replace or remove them"
            )
        note.unlink(missing_ok=True)
        os.replace(temporary, path)
    except OSError as error:
        raise Problem(
            f"could not store the decoded images of {folder} in {path.parent} ({error.strerror}): "
            f"that takes {math.prod(shape) / 1e6:.0f} MB in a folder you can write, which SYNPOS_DATA can name"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)

    n, labels = len(source.items), torch.from_numpy(np.asarray(source.labels, np.int64))
    cut = n - source.n_val
    splits = {"train": [0, cut], "val": [cut, n], "train+val": [0, n]} if part == "train" else {part: [0, n]}
    images = map_file(path)
    manifest: Manifest = {
        "signature": signature,
        "shape": list(shape),
        "stat": [path.stat().st_size, path.stat().st_mtime_ns],
        "splits": splits,
        "fingerprints": _fingerprints(images, labels, splits),
        "classes": list(source.classes),
        "labels": labels.tolist(),
    }
    files.write_json(note, manifest)
    return images, manifest


def _write(path: Path, rows: Iterator[np.ndarray | str], shape: tuple[int, ...]) -> dict[int, str]:
    """Write images as a .npy file, one after the other, so that a full disk is an ordinary error.

    Returns the numbers of those that could not be read, with the reason.
    """
    unreadable = {}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for i, row in enumerate(rows):
            if isinstance(row, str):
                unreadable[i] = row
            else:
                file.write(np.ascontiguousarray(row).data)
        file.flush()
        os.fsync(file.fileno())
    return unreadable


def _decoded(items: Sequence, size: int, label: str) -> Iterator[np.ndarray | str]:
    """Every item as (3, size, size) uint8, or why it cannot be read; in order, by parallel threads."""
    with ThreadPoolExecutor(int(os.environ.get("SYNPOS_THREADS") or len(os.sched_getaffinity(0)))) as pool:
        blocks = (items[start : start + 256] for start in range(0, len(items), 256))  # bounds what waits in memory
        decoded = (pixels for block in blocks for pixels in pool.map(lambda item: _decode(item, size), block))
        yield from progress(decoded, label, total=len(items))


def _decode(item: Path | np.ndarray, size: int) -> np.ndarray | str:
    """A picture file or an array as (3, size, size), or why it cannot be read."""
    if isinstance(item, Path):
        try:
            return pictures.read(item, size)
        except ValueError as error:
            return str(error).replace(str(item), item.name)
    if item.shape[:2] == (size, size):
        return item.transpose(2, 0, 1)
    from PIL import Image

    return pictures.fit(Image.fromarray(item), size)
