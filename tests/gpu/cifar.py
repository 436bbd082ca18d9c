"""CIFAR-10 for a sitting: from packed parts, or from a data root as everywhere else."""

import os

import packed
from sitting import Sitting

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.data.images import Images, take

NAME = "cifar10"


def load(sitting: Sitting) -> tuple[Images, Images]:
    """All training images, and all test images."""
    if sitting.data is not None and packed.is_packed(sitting.data, NAME):
        sets = packed.read(sitting.data, NAME)
    else:
        if sitting.data is None and "SYNPOS_DATA" not in os.environ:
            raise Problem("this sitting needs CIFAR-10: name its packed parts, or a folder that holds it, with --data")
        sets = tuple(catalog.load(NAME, split, root=sitting.data) for split in packed.SPLITS)
    if sitting.tiny:
        sets = tuple(take(images, slice(300)) for images in sets)
    return sets
