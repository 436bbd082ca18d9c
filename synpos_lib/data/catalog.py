"""Images by name: `load("scenes", "train")`; embedded ones are drawn, real ones decoded once.

A name is an embedded set, a real one, or `folder:PATH` (an image-folder tree, one folder per class); any of
them followed by, say, `+fog-3` is that set under this corruption at severity 3. Splits are train, val, test
and, for real sets, train+val; what has no validation split of its own gets one from train, seeded and
stratified. The images of a split come at random (seeded), the classes taking turns, so the first so many are a fair
sample of all. Nothing is downloaded unless asked for.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.data.decoded import SUFFIXES, Source, fingerprint, open_or_decode

EMBEDDED = {  # name: what is drawn; the source set is `scenes`
    "scenes": {},
    "scenes-held-out": {"scenes": "HELD_OUT_SCENES"},
    "scenes-sketch": {"sketch": True},
    "new-species": {"species": "NEW_SPECIES"},
    "digits": "digits",
    "letters": "letters",
    "shapes": "shapes",
    "textures": "textures",
}
DRAWN = {"train": 10_000, "val": 2_000, "test": 2_000}  # how many embedded images, where n does not say


class NotHere(Problem):
    """A real set that is not on this machine."""


class Real(NamedTuple):
    dataset: str | None  # in torchvision.datasets; None: only as an image-folder tree
    folder: str  # where torchvision keeps it, under the data root
    splits: dict  # torchvision's arguments for each official split
    size: int
    instead: str  # the embedded set that stands in for it


_TRAIN_TEST = {"train": {"split": "train"}, "test": {"split": "test"}}
_CIFAR = {"train": {"train": True}, "test": {"train": False}}
REAL = {
    "cifar10": Real("CIFAR10", "cifar-10-batches-py", _CIFAR, 32, "scenes"),
    "cifar100": Real("CIFAR100", "cifar-100-python", _CIFAR, 32, "scenes"),
    "stl10": Real("STL10", "stl10_binary", {**_TRAIN_TEST, "unlabelled": {"split": "unlabeled"}}, 96, "scenes"),
    "pets": Real(
        "OxfordIIITPet",
        "oxford-iiit-pet",
        {**_TRAIN_TEST, "train": {"split": "trainval"}},
        224,
        "new-species",
    ),
    "flowers102": Real("Flowers102", "flowers-102", {**_TRAIN_TEST, "val": {"split": "val"}}, 224, "new-species"),
    "dtd": Real("DTD", "dtd", {**_TRAIN_TEST, "val": {"split": "val"}}, 224, "textures"),
    "caltech101": Real("Caltech101", "caltech101", {"all": {}}, 224, "shapes"),
    "food101": Real("Food101", "food-101", _TRAIN_TEST, 224, "new-species"),
    "cars": Real("StanfordCars", "stanford_cars", _TRAIN_TEST, 224, "new-species"),
    "imagenet100": Real(None, "imagenet100", {}, 224, "scenes"),
}
NO_DOWNLOAD = ("cars", "imagenet100")  # the first is no longer on its server, the second needs a licence
SIDE = 32  # pixels of own images, as the embedded recipe wants them
VAL_SHARE, TEST_SHARE = 0.1, 0.2  # of train; of a tree without train/ and test/
CALTECH_PER_CLASS = 30  # training images, the usual protocol; the rest is the test split


@dataclass(frozen=True)
class Images:
    """One split of one set; labels are for evaluation, `where` (the scene) only embedded images have."""

    images: Tensor  # (N, 3, H, W) uint8, memory-mapped where it was decoded from files
    labels: Tensor | None  # (N,) int64
    where: Tensor | None  # (N,) int64
    classes: tuple[str, ...]
    name: str
    split: str
    fingerprint: str
    scenes: tuple[str, ...] = ()  # the names of `where`

    def __len__(self) -> int:
        return len(self.images)

    @property
    def truth(self) -> Tensor:
        """The labels, refused where there are none."""
        if self.labels is None:
            raise Problem(f"'{self.name}' has no labels in '{self.split}', and they are needed here: name another set")
        return self.labels


def names() -> list[str]:
    """Every name that `load` knows, besides `folder:PATH`."""
    return [*EMBEDDED, *REAL]


def load(
    name: str,
    split: str = "train",
    *,
    n: int | None = None,  # images: so many are drawn, or the first are taken of a real set
    size: int | None = None,  # pixels: shorter side resized, centre cropped; None: the set's own, of own images 32
    seed: int = 0,  # of drawings, carved splits and the order; the data's own, not the run's
    root: str | Path | None = None,  # where real sets are; None: $SYNPOS_DATA, else ~/.cache/synpos
    download: bool = False,
    on_corrupt: str = "refuse",  # or "skip": unreadable images are named, counted and left out
) -> Images:
    """One split of the named set."""
    corrupted = re.fullmatch(r"(.+)\+(\w+)-(\d+)", name)
    if corrupted and not Path(name.removeprefix("folder:")).is_dir():
        return _corrupted(
            *corrupted.groups(),
            name,
            dict(split=split, n=n, size=size, seed=seed, root=root, download=download, on_corrupt=on_corrupt),
        )
    if on_corrupt not in ("refuse", "skip"):
        raise Problem(f"unknown on_corrupt '{on_corrupt}': {suggest(on_corrupt, ('refuse', 'skip'))}")
    if n is not None and n < 1:
        raise Problem(f"{n} images of '{name}' were asked for: n must be at least 1")
    if name in EMBEDDED:
        return _draw(name, split, n, size, seed)
    if name not in REAL and not name.startswith("folder:"):
        raise Problem(f"unknown data set '{name}': {suggest(name, names())} (or folder:PATH, an image-folder tree)")
    root = Path(root or os.environ.get("SYNPOS_DATA") or Path.home() / ".cache" / "synpos").expanduser()
    whole = _load_real(name, split, size, seed, root, download, on_corrupt)
    return whole if n is None else _first(whole, n)


# ----------------------------------------------------------------------------------------- embedded


def _draw(name: str, split: str, n: int | None, size: int | None, seed: int) -> Images:
    from synpos_lib.data import scenes, targets

    if split not in DRAWN:
        raise Problem(f"'{name}' has no split '{split}': {suggest(split, DRAWN)}")
    if size not in (None, scenes.SIZE):
        raise Problem(f"'{name}' is drawn at {scenes.SIZE} pixels, not at {size}: leave the size out")
    n, what = n or DRAWN[split], EMBEDDED[name]
    if isinstance(what, str):
        images, labels = targets.render(n, what, split=split, seed=seed)
        return Images(images, labels, None, targets.CLASSES[what], name, split, fingerprint(images, labels))
    options = {key: getattr(scenes, value) if isinstance(value, str) else value for key, value in what.items()}
    images, labels, where = scenes.render(n, split=split, seed=seed, **options)
    classes, places = options.get("species", scenes.SPECIES), options.get("scenes", scenes.SCENES)
    return Images(images, labels, where, classes, name, split, fingerprint(images, labels), places)


def _corrupted(base: str, corruption: str, severity: str, name: str, options: dict) -> Images:
    from synpos_lib.data.corruptions import corrupt, find

    find(corruption, int(severity))
    clean = load(base, **options)
    images = corrupt(clean.images, corruption, int(severity), options["seed"])
    return replace(clean, images=images, name=name, fingerprint=fingerprint(images, clean.labels))


# --------------------------------------------------------------------------------------------- real


def _load_real(name, split, size, seed, root, download, on_corrupt) -> Images:
    known = ["train", "val", "test", "train+val"] + ["unlabelled"] * (name == "stl10")
    if split not in known:
        raise Problem(f"'{name}' has no split '{split}': {suggest(split, known)}")
    part = "train" if split in ("val", "train+val") else split
    folder, is_tree = _find(name, root, download)
    size = size or (REAL[name].size if name in REAL else SIDE)
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]
    title = re.sub(r"\W+", "-", folder.name if name not in REAL else name)
    cache = _cache_folder(root) / f"{title}-{part}-{size}px-seed{seed}-in-turns-{place}.npy"

    def source() -> Source:
        found = _tree(folder, part, seed) if is_tree else _torchvision(name, folder, part, seed, root)
        return _in_turns(found, seed)

    images, manifest = open_or_decode(cache, source, folder, part, size)
    _report_unreadable(manifest["unreadable"], manifest["found"], name, folder, on_corrupt)
    start, stop = manifest["splits"][split]
    labels = torch.tensor(manifest["labels"][start:stop]) if split != "unlabelled" else None
    return Images(
        images[start:stop],
        labels,
        None,
        tuple(manifest["classes"]),
        name,
        split,
        manifest["fingerprints"][split],
    )


def _first(whole: Images, n: int) -> Images:
    if n > len(whole):
        raise Problem(f"'{whole.name}' has {len(whole)} images in '{whole.split}', not {n}: ask for fewer, or all")
    return take(whole, slice(n))


def take(whole: Images, rows: Tensor | slice) -> Images:
    """Some of the images."""
    parts = {name: getattr(whole, name) for name in ("images", "labels", "where")}
    parts = {name: None if part is None else part[rows] for name, part in parts.items()}
    return replace(whole, **parts, fingerprint=fingerprint(parts["images"], parts["labels"]))


def stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The sorted indices of n images drawn at random, with every class in proportion."""
    return np.sort(_turns(labels, seed)[:n])


def _turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order in which the classes take turns, each of them in a random order of its own."""
    return np.lexsort((labels, (_rank(labels, seed) + 0.5) / np.bincount(labels)[labels]))


def _in_turns(source: Source, seed: int) -> Source:
    """The same images in turns, those for validation still last."""
    start = len(source.items) - source.n_val
    labels = source.labels - min(0, source.labels.min(initial=0))  # STL-10's unlabelled images have label -1
    order = np.concatenate([_turns(labels[:start], seed), start + _turns(labels[start:], seed)])
    return source._replace(items=[source.items[i] for i in order], labels=source.labels[order])


def _rank(labels: np.ndarray, seed: int) -> np.ndarray:
    """Each image's place in a random order of its class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    count = np.bincount(labels)
    rank = np.empty(len(labels), int)
    rank[by_class] = np.arange(len(labels)) - np.repeat(count.cumsum() - count, count)
    return rank


def _with_val(items: Sequence, labels: Sequence, classes: Sequence, seed: int) -> Source:
    """A part with its last tenth for validation, carved out of every class."""
    labels = np.asarray(labels, np.int64)
    val = np.zeros(len(labels), bool)
    val[stratified(labels, round(VAL_SHARE * len(labels)), seed)] = True
    order = np.concatenate([np.flatnonzero(~val), np.flatnonzero(val)])
    return Source([items[i] for i in order], labels[order], tuple(classes), int(val.sum()))


def _find(name: str, root: Path, download: bool) -> tuple[Path, bool]:
    """The folder of a real set and whether it is a tree, or the error that says what was expected."""
    if name.startswith("folder:"):
        folder = Path(name.removeprefix("folder:")).expanduser()
        if not folder.is_dir():
            raise Problem(
                f"no folder {folder}: '{name}' needs an image-folder tree there (train/CLASS/*.png and "
                "test/CLASS/*.png, or just CLASS/*.png); correct the path, or use the embedded 'scenes'"
            )
        return folder, True
    real = REAL[name]
    if (root / name / "train").is_dir():
        return root / name, True
    folder = root / real.folder
    allowed = download or "SYNPOS_DOWNLOAD" in os.environ
    if real.dataset and allowed and name not in NO_DOWNLOAD and not folder.is_dir():
        _download(name, root)
    if real.dataset and folder.is_dir():
        return folder, False
    expected = f"{name}/train/CLASS/*.png with {name}/test/ beside it"
    if real.dataset:
        expected = f"{real.folder}/ as torchvision keeps it, or {expected}"
    allow = "" if name in NO_DOWNLOAD else "allow its download (download=True, --download), "
    raise NotHere(
        f"no '{name}' in {root}: expected {expected}; put it there, name another folder in SYNPOS_DATA, "
        f"{allow}or use the embedded '{real.instead}'"
    )


def _download(name: str, root: Path) -> None:
    from torchvision import datasets

    root.mkdir(parents=True, exist_ok=True)
    first = next(iter(REAL[name].splits.values()))
    try:
        getattr(datasets, REAL[name].dataset)(root, download=True, **first)
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
            key: _contents(getattr(datasets, real.dataset)(root, **arguments))
            for key, arguments in real.splits.items()
            if key in (part, "all") or (part, key) == ("train", "val")
        }
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise Problem(
            f"'{name}' in {folder} is incomplete or damaged ({error}): move that folder away and get it "
            f"anew, or use the embedded '{real.instead}'"
        ) from error
    if "all" in official:
        items, labels, classes = official["all"]
        few = _rank(labels, seed) < CALTECH_PER_CLASS
        rows = np.flatnonzero(few if part == "train" else ~few)
        official = {part: ([items[i] for i in rows], labels[rows], classes)}
    items, labels, classes = official[part]
    if part != "train":
        return Source(items, labels, tuple(classes))
    if "val" not in official:
        return _with_val(items, labels, classes, seed)
    more, more_labels, _ = official["val"]
    return Source([*items, *more], np.concatenate([labels, more_labels]), tuple(classes), len(more))


def _contents(dataset) -> tuple[Sequence, np.ndarray, Sequence[str]]:
    """The files or pixels, labels and class names of a torchvision data set, without decoding an image."""
    kind = type(dataset).__name__
    if kind == "Caltech101":
        classes = dataset.categories
        base = Path(dataset.root) / "101_ObjectCategories"
        items = [base / classes[y] / f"image_{i:04d}.jpg" for i, y in zip(dataset.index, dataset.y, strict=True)]
        return items, np.array(dataset.y), classes
    if kind == "StanfordCars":
        paths, labels = zip(*dataset._samples, strict=True)
        return [Path(path) for path in paths], np.array(labels, np.int64), dataset.classes
    if kind == "STL10":
        return dataset.data.transpose(0, 2, 3, 1), dataset.labels.astype(np.int64), dataset.classes
    if kind.startswith("CIFAR"):
        return dataset.data, np.array(dataset.targets), dataset.classes
    paths = dataset._images if kind == "OxfordIIITPet" else dataset._image_files
    return paths, np.array(dataset._labels), dataset.classes


def _tree(folder: Path, part: str, seed: int) -> Source:
    """A part of an image-folder tree: its train/ and test/ (and val/), or a seeded split of just one tree."""
    if not (folder / "train").is_dir():
        items, labels, classes = _class_files(folder)
        test = np.zeros(len(items), bool)
        test[stratified(labels, round(TEST_SHARE * len(items)), seed)] = True
        rows = np.flatnonzero(test if part == "test" else ~test)
        chosen = [items[i] for i in rows]
        return (
            Source(chosen, labels[rows], classes) if part == "test" else _with_val(chosen, labels[rows], classes, seed)
        )
    if part == "test":
        test = folder / ("test" if (folder / "test").is_dir() else "val")  # ImageNet's public test is called val
        if not test.is_dir():
            raise Problem(f"{folder} has train/ but no test/: add it, or give the tree without train/ to have it split")
        classes = _class_files(folder / "train")[2]
        return Source(*_class_files(test, classes))
    items, labels, classes = _class_files(folder / "train")
    if not ((folder / "val").is_dir() and (folder / "test").is_dir()):
        return _with_val(items, labels, classes, seed)
    more, more_labels, _ = _class_files(folder / "val", classes)
    return Source([*items, *more], np.concatenate([labels, more_labels]), classes, len(more))


def _class_files(
    folder: Path, classes: tuple[str, ...] | None = None
) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """The image files of a tree with one folder per class, sorted."""
    try:
        found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        paths = [(path, name) for name in found for path in sorted((folder / name).rglob("*")) if _is_image(path)]
    except OSError as error:
        raise Problem(f"cannot read {error.filename or folder} ({error.strerror}): make it readable for you") from error
    if not paths:
        raise Problem(f"no images in {folder}: expected one folder per class with {', '.join(sorted(SUFFIXES))} files")
    classes = classes or tuple(found)
    if unknown := set(found) - set(classes):
        raise Problem(f"{folder} has classes that train/ lacks ({', '.join(sorted(unknown)[:3])}): make them agree")
    return [path for path, _ in paths], np.array([classes.index(name) for _, name in paths]), classes


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _report_unreadable(unreadable: list, found: int, name: str, folder: Path, on_corrupt: str) -> None:
    if not unreadable:
        return
    first = ", ".join(f"{file} ({reason})" for file, reason in sorted(unreadable)[:3])
    which = f"{len(unreadable)} of {found} images of '{name}' in {folder} cannot be read: {first}"
    which += ", …" * (len(unreadable) > 3)
    if on_corrupt == "refuse":
        raise Problem(f"{which}; replace them, or leave them out with on_corrupt='skip'")
    print(f"{which}; left out")


def _cache_folder(root: Path) -> Path:
    """Beside the data; in the home folder where the data can only be read."""
    writable = os.access(root, os.W_OK) if root.exists() else True
    return (root if writable else Path.home() / ".cache" / "synpos") / "decoded"
