"""One split of one set of images, and the fingerprint that tells it from every other."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.arrays import gather
from synpos_lib.core.errors import Problem


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


def take(whole: Images, rows: Tensor | slice) -> Images:
    """Some of the images."""
    images = whole.images[rows] if isinstance(rows, slice) else gather(whole.images, rows)
    labels, where = (None if part is None else part[rows] for part in (whole.labels, whole.where))
    fingerprint = images_fingerprint(images, labels)
    return replace(whole, images=images, labels=labels, where=where, fingerprint=fingerprint)


def draw_images(whole: Images, n: int | None, seed: int) -> Images:
    """n of the images, other ones for every seed, each at most once and in their order; None: all, for every seed."""
    n = len(whole) if n is None else n
    if not 1 <= n <= len(whole):
        raise Problem(f"{n} images cannot be drawn from {len(whole)} of '{whole.name}': ask for 1 to {len(whole)}")
    if n == len(whole):
        return whole
    rows = torch.randperm(len(whole), generator=runtime.generator(seed, "images of a run"))[:n]
    return take(whole, rows.sort().values)


def row_finder(whole: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from images (B, 3, H, W) to their rows in the whole, (N, 3, H, W): (B,)."""
    row = {_digest(image): i for i, image in enumerate(whole.numpy())}

    def find(images: Tensor) -> Tensor:
        try:
            return torch.tensor([row[_digest(image)] for image in images.numpy()])
        except KeyError:
            raise Problem("an anchor is not among the training images: give the images that it comes from") from None

    return find


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()


def images_fingerprint(images: Tensor, labels: Tensor | None = None) -> str:
    """SHA-256 of the shape, the pixels and the labels."""
    digest = hashlib.sha256(str(tuple(images.shape)).encode())
    for part in [*images.split(1024), *([] if labels is None else [labels])]:
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def labels_fingerprint(labels: Tensor) -> str:
    """SHA-256 of labels that come without their images."""
    return hashlib.sha256(labels.numpy().tobytes()).hexdigest()
