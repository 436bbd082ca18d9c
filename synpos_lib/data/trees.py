"""Image-folder trees, one folder per class, and how any real set is split and ordered.

A set without a validation split gets one from train, seeded and stratified. The images of a split are in a random
order (seeded) in which the classes take turns, so that the first n are a fair sample of all.
"""

import unicodedata
from pathlib import Path

import numpy as np

from synpos_lib.core.errors import Problem, printable
from synpos_lib.data import pictures
from synpos_lib.data.decoded import Source

VAL_SHARE, TEST_SHARE = 0.1, 0.2  # of train; of a tree without train/ and test/


def read_tree(folder: Path, part: str, seed: int) -> Source:
    """A part of an image-folder tree: its train/ and test/ (and val/), or a seeded split of just one tree."""
    if not (folder / "train").is_dir():
        rest, test = _split(_class_files(folder), TEST_SHARE, seed, folder)
        return test if part == "test" else with_val(rest, seed, folder)
    train = _class_files(folder / "train")
    if part == "test":
        test_folder = folder / ("test" if (folder / "test").is_dir() else "val")  # ImageNet's public test is called val
        if not test_folder.is_dir():
            raise Problem(f"{folder} has train/ but no test/: add it, or give the tree without train/ to have it split")
        return _class_files(test_folder, train.classes)
    if (folder / "val").is_dir() and (folder / "test").is_dir():
        return train.with_val(_class_files(folder / "val", train.classes))
    return with_val(train, seed, folder)


def _class_files(folder: Path, classes: tuple[str, ...] = ()) -> Source:
    """The image files of a tree with one folder per class, sorted; `classes` must hold all of them.

    A folder without images is no class.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = {path: found for path in folders if (found := pictures.below(path))}
    if not images:
        suffixes = ", ".join(sorted(pictures.SUFFIXES))
        raise Problem(f"no images in {folder}: expected one folder per class with {suffixes} files")
    names = {path: _class_name(path) for path in images}
    classes = classes or tuple(sorted(set(names.values())))
    if unknown := set(names.values()) - set(classes):
        raise Problem(f"{folder} has classes that train/ lacks ({', '.join(sorted(unknown)[:3])}): make them agree")
    labels = [classes.index(names[path]) for path, found in images.items() for _ in found]
    return Source([image for found in images.values() for image in found], np.array(labels), classes)


def _class_name(folder: Path) -> str:
    """The name of a folder, in the one spelling of its accents that is the same on every system."""
    name = unicodedata.normalize("NFC", folder.name)
    if (readable := printable(name)) != name:
        raise Problem(f"the class folder {readable} in {folder.parent} has a name that cannot be printed: rename it")
    return name


def with_val(source: Source, seed: int, folder: Path) -> Source:
    """A part with its last tenth for validation, carved out of every class."""
    rest, val = _split(source, VAL_SHARE, seed, folder)
    return rest.with_val(val)


def _split(source: Source, share: float, seed: int, folder: Path) -> tuple[Source, Source]:
    """Most of the images, and a share of every class; refused if a class would only be in the share."""
    chosen = stratified(source.labels, round(share * len(source.labels)), seed)
    rest, part = source.take(np.setdiff1d(np.arange(len(source.labels)), chosen)), source.take(chosen)
    if lost := [source.classes[label] for label in sorted(set(part.labels) - set(rest.labels))]:
        raise Problem(
            f"{folder} has too few images of {', '.join(lost[:3])} to learn from some and test with others: add some, "
            "or remove the class"
        )
    return rest, part


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
