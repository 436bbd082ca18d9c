"""Images by name: `load("scenes", "train")`; embedded ones are drawn, real ones decoded once.

A name is an embedded set, a real one, or `folder:PATH` (an image-folder tree, one folder per class); any of
them followed by, say, `+fog-3` is that set under this corruption at severity 3. Splits are train, val, test
and, for real sets, train+val, made as `trees` describes. Nothing is downloaded unless allowed.
"""

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from synpos_lib.core.errors import Problem, printable, suggest
from synpos_lib.core.files import safe_name
from synpos_lib.data import scenes, targets
from synpos_lib.data.corruptions import corrupt, find
from synpos_lib.data.decoded import Source, open_or_decode
from synpos_lib.data.images import Images, images_fingerprint, take
from synpos_lib.data.trees import in_turns, rank, read_tree, with_val

EMBEDDED: dict[str, dict[str, Any]] = {  # name: what is drawn; the source set is `scenes`
    "scenes": {},
    "scenes-held-out": {"scenes": scenes.HELD_OUT_SCENES},
    "scenes-sketch": {"sketch": True},
    "new-species": {"species": scenes.NEW_SPECIES},
    **{name: {"target": name} for name in targets.CLASSES},
}
DRAWN = {"train": 10_000, "val": 2_000, "test": 2_000}  # how many embedded images there are if n is None


class NotHere(Problem):
    """A real set that is not on this machine."""


class Real(NamedTuple):
    dataset: str | None  # in torchvision.datasets; None: only as an image-folder tree
    folder: str  # where torchvision keeps it, under the data root
    splits: dict[str, dict[str, Any]]  # torchvision's arguments for each official split
    size: int
    instead: str  # the embedded set that stands in for it


_TRAIN_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
_PETS = {**_TRAIN_TEST, "train": {"split": "trainval"}}
_CIFAR = {"train": {"train": True}, "test": {"train": False}}
REAL = {
    "cifar10": Real("CIFAR10", "cifar-10-batches-py", _CIFAR, 32, "scenes"),
    "cifar100": Real("CIFAR100", "cifar-100-python", _CIFAR, 32, "scenes"),
    "stl10": Real("STL10", "stl10_binary", {**_TRAIN_TEST, "unlabelled": {"split": "unlabeled"}}, 96, "scenes"),
    "pets": Real("OxfordIIITPet", "oxford-iiit-pet", _PETS, 224, "new-species"),
    "flowers102": Real("Flowers102", "flowers-102", {**_TRAIN_TEST, "val": {"split": "val"}}, 224, "new-species"),
    "dtd": Real("DTD", "dtd", {**_TRAIN_TEST, "val": {"split": "val"}}, 224, "textures"),
    "caltech101": Real("Caltech101", "caltech101", {"all": {}}, 224, "shapes"),
    "food101": Real("Food101", "food-101", _TRAIN_TEST, 224, "new-species"),
    "cars": Real("StanfordCars", "stanford_cars", _TRAIN_TEST, 224, "new-species"),
    "imagenet100": Real(None, "imagenet100", {}, 224, "scenes"),
}
NO_DOWNLOAD = ("cars", "imagenet100")  # the first is no longer on its server, the second needs a licence
SIDE = 32  # pixels of images in folder:PATH, as the embedded recipe expects them
CALTECH_PER_CLASS = 30  # training images, the usual protocol; the rest is the test split


def load(
    name: str,
    split: str = "train",
    *,
    n: int | None = None,  # how many images to draw, or to take from the start of a real set; None: DRAWN, or all
    size: int | None = None,  # pixels: shorter side resized, centre cropped; None: the set's own, for folder:PATH 32
    seed: int = 0,  # of the drawing, the split and the order; it belongs to the data, not to a run
    root: str | Path | None = None,  # where real sets are; None: $SYNPOS_DATA, else ~/.cache/synpos
) -> Images:
    """One split of the named set."""
    if (readable := printable(name)) != name:
        raise Problem(f"the data set {readable} has a name that cannot be printed: rename its folder")
    corrupted = re.fullmatch(r"(.+)\+(\w+)-(\d+)", name)
    if corrupted and not Path(name.removeprefix("folder:")).is_dir():
        base, corruption, severity = corrupted[1], corrupted[2], int(corrupted[3])
        find(corruption, severity)  # refuses an unknown one before anything is loaded
        clean = load(base, split, n=n, size=size, seed=seed, root=root)
        images = corrupt(clean.images, corruption, severity, seed)
        return replace(clean, images=images, name=name, fingerprint=images_fingerprint(images, clean.labels))
    if n is not None and n < 1:
        raise Problem(f"n is {n} for '{name}': ask for at least 1 image")
    if name in EMBEDDED:
        return _draw(name, split, n, size, seed)
    if name not in REAL and not name.startswith("folder:"):
        raise Problem(
            f"unknown data set '{name}': {suggest(name, [*EMBEDDED, *REAL])} (or folder:PATH, an image-folder tree)"
        )
    place = Path(root or os.environ.get("SYNPOS_DATA") or Path.home() / ".cache" / "synpos").expanduser()
    whole = _load_real(name, split, size, seed, place)
    if n is None:
        return whole
    if n > len(whole):
        raise Problem(f"'{name}' has {len(whole)} images in '{split}', not {n}: ask for fewer, or all")
    return take(whole, slice(n))


def load_test(name: str, n: int | None, seed: int) -> Images:
    """Test images for a run of this seed: embedded ones are drawn anew, a real set has only its own."""
    return load(name, "test", n=n, seed=seed if name in EMBEDDED else 0)


def _draw(name: str, split: str, n: int | None, size: int | None, seed: int) -> Images:
    if split not in DRAWN:
        raise Problem(f"'{name}' has no split '{split}': {suggest(split, DRAWN)}")
    if size not in (None, scenes.SIZE):
        raise Problem(f"'{name}' is drawn at {scenes.SIZE} pixels, not at {size}: leave the size out")
    n, options = n or DRAWN[split], EMBEDDED[name]
    if target := options.get("target"):
        images, labels = targets.render(n, target, split=split, seed=seed)
        where, classes, places = None, targets.CLASSES[target], ()
    else:
        images, labels, where = scenes.render(n, split=split, seed=seed, **options)
        classes, places = options.get("species", scenes.SPECIES), options.get("scenes", scenes.SCENES)
    return Images(images, labels, where, classes, name, split, images_fingerprint(images, labels), places)


# --------------------------------------------------------------------------------------------- real


def _load_real(name: str, split: str, size: int | None, seed: int, root: Path) -> Images:
    splits = ["train", "val", "test", "train+val"] + ["unlabelled"] * (name == "stl10")
    if split not in splits:
        raise Problem(f"'{name}' has no split '{split}': {suggest(split, splits)}")
    part = "train" if split in ("val", "train+val") else split
    folder, is_tree = _find(name, root)
    size = size or (REAL[name].size if name in REAL else SIDE)
    place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]
    title = safe_name(name if name in REAL else folder.name)
    cache = _cache_folder(root) / f"{title}-{part}-{size}px-seed{seed}-in-turns-{place}.npy"
    too_few = Problem(
        f"'{name}' has too few images for the split '{split}': add some to {folder} until there are 10, "
        "or use another split"
    )

    def source() -> Source:
        whole = read_tree(folder, part, seed) if is_tree else _torchvision(name, folder, part, seed, root)
        if not len(whole.items):
            raise too_few
        return in_turns(whole, seed)

    images, manifest = open_or_decode(cache, source, folder, part, size)
    start, stop = manifest["splits"][split]
    if start == stop:
        raise too_few
    labels = torch.tensor(manifest["labels"][start:stop]) if split != "unlabelled" else None
    classes, fingerprint = tuple(manifest["classes"]), manifest["fingerprints"][split]
    return Images(images[start:stop], labels, None, classes, name, split, fingerprint)


def _find(name: str, root: Path) -> tuple[Path, bool]:
    """The folder of a real set and whether it is a tree; refused with what was expected if there is none."""
    if name.startswith("folder:"):
        folder = Path(name.removeprefix("folder:")).expanduser()
        if not folder.is_dir():
            fault = f"{folder} is a file" if folder.exists() else f"no folder {Path.cwd() / folder}"
            raise Problem(
                f"{fault}: '{name}' needs an image-folder tree there (train/CLASS/*.png and "
                "test/CLASS/*.png, or just CLASS/*.png); correct the path, or use the embedded 'scenes'"
            )
        return folder, True
    real = REAL[name]
    if (root / name / "train").is_dir():
        return root / name, True
    folder = root / real.folder
    if real.dataset and "SYNPOS_DOWNLOAD" in os.environ and name not in NO_DOWNLOAD and not folder.is_dir():
        _download(name, root)
    if real.dataset and folder.is_dir():
        return folder, False
    expected = f"{name}/train/CLASS/*.png with {name}/test/ beside it"
    if real.dataset:
        expected = f"{real.folder}/ as torchvision keeps it, or {expected}"
    allow = "" if name in NO_DOWNLOAD else "allow its download (--download), "
    raise NotHere(
        f"no '{name}' in {root}: expected {expected}; put it there, name another folder in SYNPOS_DATA, "
        f"{allow}or use the embedded '{real.instead}'"
    )


def _download(name: str, root: Path) -> None:
    from torchvision import datasets

    root.mkdir(parents=True, exist_ok=True)
    first = next(iter(REAL[name].splits.values()))
    try:
        getattr(datasets, str(REAL[name].dataset))(root, download=True, **first)
    except (OSError, RuntimeError, ValueError) as error:
        raise Problem(
            f"could not download '{name}' into {root} ({error}): try again later, "
            f"or use the embedded '{REAL[name].instead}'"
        ) from error


def _torchvision(name: str, folder: Path, part: str, seed: int, root: Path) -> Source:
    """A part as torchvision reads it; its official validation split where there is one."""
    from torchvision import datasets

    real = REAL[name]
    try:
        official = {
            key: _contents(getattr(datasets, str(real.dataset))(root, **arguments))
            for key, arguments in real.splits.items()
            if key in (part, "all") or (part, key) == ("train", "val")
        }
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise Problem(
            f"'{name}' in {folder} is incomplete or damaged ({error}): move that folder away and "
            f"download it again, or use the embedded '{real.instead}'"
        ) from error
    if "all" in official:
        few = rank(official["all"].labels, seed) < CALTECH_PER_CLASS
        official[part] = official["all"].take(np.flatnonzero(few if part == "train" else ~few))
    if part != "train":
        return official[part]
    return official[part].with_val(official["val"]) if "val" in official else with_val(official[part], seed, folder)


def _contents(dataset: Any) -> Source:
    """The files or pixels, labels and class names of a torchvision data set, without decoding an image."""
    kind = type(dataset).__name__
    if kind == "Caltech101":
        classes, base = dataset.categories, Path(dataset.root) / "101_ObjectCategories"
        items = [base / classes[y] / f"image_{i:04d}.jpg" for i, y in zip(dataset.index, dataset.y, strict=True)]
        labels = dataset.y
    elif kind == "StanfordCars":
        paths, labels = zip(*dataset._samples, strict=True)
        items, classes = [Path(path) for path in paths], dataset.classes
    elif kind == "STL10":
        items, labels, classes = dataset.data.transpose(0, 2, 3, 1), dataset.labels, dataset.classes
    elif kind.startswith("CIFAR"):
        items, labels, classes = dataset.data, dataset.targets, dataset.classes
    else:
        items = dataset._images if kind == "OxfordIIITPet" else dataset._image_files
        labels, classes = dataset._labels, dataset.classes
    return Source(items, np.array(labels, np.int64), tuple(classes))


def _cache_folder(root: Path) -> Path:
    """Where decoded images are stored: beside the data, or in the home folder if the data can only be read."""
    writable = os.access(root, os.W_OK) if root.exists() else True
    return (root if writable else Path.home() / ".cache" / "synpos") / "decoded"
