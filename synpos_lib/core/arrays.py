"""Arrays of images that take no memory: in files, of which the system holds no more than it has room for."""

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.core.runtime import outputs

IN_MEMORY = 2**27  # bytes; an array of this size is an ordinary tensor
NORESERVE = 0x4000  # mmap.MAP_NORESERVE, which Python names from 3.13 on


def map_file(path: Path) -> Tensor:
    """A .npy file as a tensor; what is written to the tensor never reaches the file.

    The file may be larger than memory: without NORESERVE, Linux would refuse to map it for writing.
    """
    array = open_array(path, "r")
    with path.open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE | NORESERVE)
    return torch.from_numpy(np.ndarray(array.shape, array.dtype, memory, array.offset))


def open_array(path: Path, mode: Literal["r", "r+"]) -> np.memmap:
    """A .npy file as it lies on the disk; a ValueError says that it is none."""
    try:
        return np.lib.format.open_memmap(path, mode=mode)
    except OSError:
        raise
    except Exception as error:  # of the parser of Python that reads its head
        raise ValueError(f"it is not an array: {error}") from error


def gather(whole: Tensor, index: Tensor, dim: int = 0) -> Tensor:
    """These rows of uint8 images, or these columns for dim 1."""
    return torch.index_select(whole, dim, index, out=empty([*whole.shape[:dim], len(index), *whole.shape[dim + 1 :]]))


def empty(shape: Sequence[int]) -> Tensor:
    """A uint8 tensor to be filled; a large one is in a file without a name, which ends with it."""
    size = math.prod(shape)
    if size <= IN_MEMORY:
        return torch.empty(shape, dtype=torch.uint8)
    try:
        outputs().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs()) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, and would be a crash later
            memory = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise Problem(
            f"could not set {size / 1e6:.0f} MB aside for images in {outputs()} ({error.strerror}): "
            f"make room there, name another folder in SYNPOS_OUTPUTS, or use fewer images"
        ) from error
    return torch.from_numpy(np.ndarray(shape, np.uint8, memory))
