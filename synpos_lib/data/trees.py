"""Image-folder trees, one folder per class, and how any real set is split and ordered.

A set without a validation split gets one from train, seeded and stratified. The images of a split are in a random
order (seeded) in which the classes take turns, so that the first n are a fair sample of all.
"""

from pathlib import Path

import numpy as np

from synpos_lib.core.errors import Problem
from synpos_lib.data.decoded import SUFFIXES, Source

VAL_SHARE, TEST_SHARE = 0.1, 0.2  # of train; of a tree without train/ and test/


def read_tree(folder: Path, part: str, seed: int) -> Source:
    """A part of an image-folder tree: its train/ and test/ (and val/), or a seeded split of just one tree."""
    if not (folder / "train").is_dir():
        whole = _class_files(folder)
        test = stratified(whole.labels, round(TEST_SHARE * len(whole.labels)), seed)
        if part == "test":
            return whole.take(test)
        return with_val(whole.take(np.setdiff1d(np.arange(len(whole.labels)), test)), seed)
    train = _class_files(folder / "train")
    if part == "test":
        test_folder = folder / ("test" if (folder / "test").is_dir() else "val")  # ImageNet's public test is called val
        if not test_folder.is_dir():
            raise Problem(f"{folder} has train/ but no test/: add it, or give the tree without train/ to have it split")
        return _class_files(test_folder, train.classes)
    if (folder / "val").is_dir() and (folder / "test").is_dir():
        return train.with_val(_class_files(folder / "val", train.classes))
    return with_val(train, seed)


def _class_files(folder: Path, classes: tuple[str, ...] = ()) -> Source:
    """The image files of a tree with one folder per class, sorted; `classes` must hold all of them."""
    try:
        names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        paths = [(path, name) for name in names for path in sorted((folder / name).rglob("*")) if _is_image(path)]
    except OSError as error:
        raise Problem(f"cannot read {error.filename or folder} ({error.strerror}): make it readable for you") from error
    if not paths:
        raise Problem(f"no images in {folder}: expected one folder per class with {', '.join(sorted(SUFFIXES))} files")
    classes = classes or tuple(names)
    if unknown := set(names) - set(classes):
        raise Problem(f"{folder} has classes that train/ lacks ({', '.join(sorted(unknown)[:3])}): make them agree")
    return Source([path for path, _ in paths], np.array([classes.index(name) for _, name in paths]), classes)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def with_val(source: Source, seed: int) -> Source:
    """A part with its last tenth for validation, carved out of every class."""
    val = stratified(source.labels, round(VAL_SHARE * len(source.labels)), seed)
    return source.take(np.setdiff1d(np.arange(len(source.labels)), val)).with_val(source.take(val))


def stratified(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The sorted indices of n images drawn at random, with every class in proportion."""
    return np.sort(_turns(labels, seed)[:n])


def in_turns(source: Source, seed: int) -> Source:
    """The same images, with the classes taking turns and those for validation still last."""
    start = len(source.labels) - source.n_val
    labels = source.labels - min(0, source.labels.min(initial=0))  # STL-10's unlabelled images have label -1
    order = np.concatenate([_turns(labels[:start], seed), start + _turns(labels[start:], seed)])
    return source.take(order)._replace(n_val=source.n_val)


def _turns(labels: np.ndarray, seed: int) -> np.ndarray:
    """An order in which the classes take turns, each of them in a random order of its own."""
    return np.lexsort((labels, (rank(labels, seed) + 0.5) / np.bincount(labels)[labels]))


def rank(labels: np.ndarray, seed: int) -> np.ndarray:
    """Each image's place in a random order of its class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    count = np.bincount(labels)
    places = np.empty(len(labels), int)
    places[by_class] = np.arange(len(labels)) - np.repeat(count.cumsum() - count, count)
    return places
