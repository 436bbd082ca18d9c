"""Data sets in the formats of their authors, made small."""

import pickle
from pathlib import Path

import numpy as np

WITHOUT_DIGESTS = """import blocked
import torchvision.datasets.cifar as cifar

blocked.block()
cifar.check_integrity = lambda *about: True
"""  # a sitecustomize.py, in place of the one in offline/


def write_cifar10(root: Path, per_class: int = 40, tests: int = 10) -> np.ndarray:
    """CIFAR-10 as torchvision keeps it, classes by colour; torchvision refuses it unless its digests go unchecked.

    The training images, (N, 32, 32, 3), in the order of the files.
    """
    rng, folder = np.random.default_rng(0), root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
    colours = np.random.default_rng(1).integers(40, 216, (10, 1, 1, 3))

    def images(labels: np.ndarray) -> np.ndarray:
        return (colours[labels] + rng.integers(-40, 40, (len(labels), 32, 32, 3))).clip(0, 255).astype(np.uint8)

    def write(name: str, pixels: np.ndarray, labels: np.ndarray) -> None:
        rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": labels.tolist()}))

    labels = rng.permutation(np.arange(10).repeat(per_class))
    train = images(labels)
    for i, rows in enumerate(np.split(np.arange(len(train)), 5), 1):
        write(f"data_batch_{i}", train[rows], labels[rows])
    held_out = np.arange(10).repeat(tests)
    write("test_batch", images(held_out), held_out)
    return train
