"""The positives that CLSP's authors publish for CIFAR-10 and CIFAR-100, as a generator.

    positives[n, k] = released[i, k];   i: the place of anchor n in the original files, found by its pixels

Their file is an array (N, K, 32, 32, 3) of uint8 in the order of the original training files, which is not the order
of our images.
"""

import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.core.files import sha256
from synpos_lib.data import catalog
from synpos_lib.data.images import row_finder

README = "https://github.com/dewenzeng/clsp"


class Released:
    """A generator of positives: the published ones of each anchor."""

    def __init__(self, file: Path, originals: Tensor) -> None:  # all training images in their original order
        self.images, self.rows = read(file, originals), row_finder(originals)
        self.settings = {"generator": "released", "file": sha256(file)[:16]}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """The first k candidates of each anchor; nothing is drawn: uint8 (B, 3, H, W) -> (B, k, 3, H, W)."""
        if k > self.images.shape[1]:
            raise Problem(f"{self.images.shape[1]} positives are published for each image, not {k}: ask for fewer")
        candidates = self.images[self.rows(anchors).numpy(), :k]
        return torch.from_numpy(np.ascontiguousarray(candidates.transpose(0, 1, 4, 2, 3)))


def read(file: Path, originals: Tensor) -> np.ndarray:
    """The published array, memory-mapped; refused if its type or shape does not fit the images."""
    if not file.is_file():
        raise Problem(f"there is no file {file}: download the positives from the link in {README}, and give their path")
    try:
        array = np.load(file, mmap_mode="r")
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise Problem(f"{file} is not a complete .npy file ({error}): download it again") from error
    if not isinstance(array, np.ndarray):
        raise Problem(f"{file} holds several arrays (.npz): give the .npy file linked in {README}")
    n, channels, height, width = originals.shape
    if array.dtype != np.uint8 or array.ndim != 5 or (array.shape[0], *array.shape[2:]) != (n, height, width, channels):
        raise Problem(
            f"{file} holds {array.dtype} of shape {array.shape}, but these images need uint8 of shape "
            f"({n}, K, {height}, {width}, {channels}): give the file that belongs to this data set"
        )
    return array


def original_images(name: str) -> Tensor:
    """All training images of CIFAR-10 or CIFAR-100 in the order of their files: (50000, 3, 32, 32)."""
    from torchvision import datasets

    if name not in ("cifar10", "cifar100"):
        raise Problem(f"positives are published for cifar10 and cifar100, not for '{name}': take one of them")
    catalog.load(name, "train", n=1)  # says what to do if the set is not here
    root = Path(os.environ.get("SYNPOS_DATA") or Path.home() / ".cache" / "synpos").expanduser()
    if not (root / catalog.REAL[name].folder).is_dir():
        raise Problem(
            f"'{name}' lies in {root} as a tree of pictures, which has lost the original order that the published "
            f"positives follow: put {catalog.REAL[name].folder}/ there, as torchvision keeps it"
        )
    whole = getattr(datasets, str(catalog.REAL[name].dataset))(root, train=True)
    return torch.from_numpy(whole.data).permute(0, 3, 1, 2).contiguous()


def check_classes(answers: Tensor, labels: Tensor, frequencies: Tensor, file: Path) -> None:
    """Refuse positives that show the classes of their anchors no more often than chance.

    `answers` (n, K) are what a judge sees, `labels` (n,) the anchors' classes, `frequencies` the share of each class
    among all images. The limit is chance plus three standard errors over n anchors: the K of one may be alike.
    """
    shares = (answers == labels[:, None]).double().mean(1)
    chance = frequencies[answers].mean().item()
    if shares.mean() <= chance + 3 * (chance * (1 - chance) / len(labels)) ** 0.5:
        raise Problem(
            f"a judge sees the anchor's class in only {shares.mean():.1%} of the positives of {len(labels)} anchors "
            f"({file}), and {chance:.1%} is chance: the file may belong to the other CIFAR set or be in another order; "
            "give the right one, or set skip_check to True"
        )
