"""CIFAR-10 in a few files, for a card that is reached only with files: lossless WebP sheets in ZIP files.

A hundred images of 32 × 32 pixels make a sheet of 320 × 320, which WebP's lossless mode stores in 1.7 kB an image
where the pixels take 3. Each part holds some of the sheets, the labels of their images and the digest of their pixels.
What is packed is read again and compared pixel for pixel before a part is believed, and its digest is checked
whenever it is read.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.data.images import Images, images_fingerprint

SIDE, ROW = 32, 10  # pixels of an image; images in a row of a sheet, and rows of a sheet
SPLITS = ("train+val", "test")
PART_LIMIT = 40e6  # bytes


def pack(name: str, root: Path | None, out: Path, parts: int = 4) -> list[Path]:
    """Write a data set of 32 × 32 pixels as so many files, each compared with what it was made from."""
    sets = {split: catalog.load(name, split, root=root) for split in SPLITS}
    pixels = np.concatenate([images.images.permute(0, 2, 3, 1).numpy() for images in sets.values()])
    labels = np.concatenate([images.labels.numpy() for images in sets.values()])
    bounds = [round(i * len(pixels) / parts / ROW**2) * ROW**2 for i in range(parts)] + [len(pixels)]
    written = []
    for i, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False), 1):
        about = {
            "name": name,
            "part": i,
            "of": parts,
            "rows": [start, stop],
            "splits": {split: len(images) for split, images in sets.items()},
            "classes": list(sets["test"].classes),
            "labels": labels[start:stop].tolist(),
            "sha256": _digest(pixels[start:stop]),
        }
        data = _zipped(about, _sheets(pixels[start:stop]))
        if len(data) > PART_LIMIT:
            raise Problem(f"part {i} of {parts} has {len(data) / 1e6:.0f} MB, more than 40: pack more parts")
        again, _ = _read_part(io.BytesIO(data), f"part {i}")
        if not np.array_equal(again, pixels[start:stop]):
            raise Problem(f"part {i} does not give the pixels back that it was made from: this Pillow is not lossless")
        path = out / f"{name}-{i}of{parts}.zip"
        files.write_bytes(path, data)
        written.append(path)
        print(f"{path}: {stop - start} images, {len(data) / 1e6:.1f} MB, equal pixel for pixel", flush=True)
    return written


def is_packed(folder: Path, name: str) -> bool:
    return any(folder.glob(f"{name}-*of*.zip"))


def read(folder: Path, name: str) -> tuple[Images, Images]:
    """All training images and all test images of a packed data set."""
    paths = sorted(folder.glob(f"{name}-*of*.zip"))
    read_parts = [_read_part(path, str(path)) for path in paths]
    found = sorted(about["part"] for _, about in read_parts)
    first = read_parts[0][1]
    if missing := sorted(set(range(1, first["of"] + 1)) - set(found)):
        raise Problem(
            f"{folder} lacks part {missing[0]} of {first['of']} of {name}: bring {name}-{missing[0]}of{first['of']}.zip"
        )
    read_parts.sort(key=lambda part: part[1]["rows"])
    pixels = torch.from_numpy(np.concatenate([part for part, _ in read_parts])).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for _, about in read_parts for label in about["labels"]])
    sets, start = [], 0
    for split, count in first["splits"].items():
        images, y = pixels[start : start + count], labels[start : start + count]
        print(f"{name} {split}: {count} images", flush=True)
        digest = images_fingerprint(images, y)
        sets.append(Images(images, y, None, tuple(first["classes"]), name, split, digest))
        start += count
    return sets[0], sets[1]


def _sheets(pixels: np.ndarray) -> Iterator[bytes]:
    from PIL import Image

    def sheet(some: np.ndarray) -> bytes:
        blank = np.zeros((ROW**2, SIDE, SIDE, 3), np.uint8)
        blank[: len(some)] = some
        picture = blank.reshape(ROW, ROW, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(ROW * SIDE, ROW * SIDE, 3)
        webp = io.BytesIO()
        Image.fromarray(picture).save(webp, "webp", lossless=True, quality=100, method=4, exact=True)
        return webp.getvalue()

    with ThreadPoolExecutor() as pool:
        yield from pool.map(sheet, (pixels[i : i + ROW**2] for i in range(0, len(pixels), ROW**2)))


def _zipped(about: dict, sheets: Iterator[bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for i, sheet in enumerate(sheets):
            archive.writestr(f"{i:04d}.webp", sheet)
        archive.writestr("about.json", json.dumps(about), zipfile.ZIP_DEFLATED)
    return data.getvalue()


def _read_part(source: Path | io.BytesIO, where: str) -> tuple[np.ndarray, dict]:
    """Pixels (N, 32, 32, 3) and what is said of them; refused if anything is not as it was packed."""
    from PIL import Image

    def images(webp: bytes) -> np.ndarray:
        picture = np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"))
        return picture.reshape(ROW, SIDE, ROW, SIDE, 3).transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)

    try:
        with zipfile.ZipFile(source) as archive, ThreadPoolExecutor() as pool:
            about = json.loads(archive.read("about.json"))
            sheets = [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".webp")]
            pixels = np.concatenate(list(pool.map(images, sheets)))[: len(about["labels"])]
        whole = _digest(pixels) == about["sha256"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise Problem(f"{where} cannot be read ({error}): bring it again, or pack it anew") from error
    if not whole:
        raise Problem(f"the pixels in {where} do not match their digest: bring it again, or pack it anew")
    return pixels, about


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()
