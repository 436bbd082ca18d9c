"""Images in files: no different from images in memory."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from synpos_lib.core import arrays, runtime
from synpos_lib.core.errors import Problem


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Arrays of more than 100 bytes are in files, in a folder that is not there yet."""
    monkeypatch.setattr(arrays, "IN_MEMORY", 100)
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path / "outputs"))
    return tmp_path / "outputs"


def test_what_is_mapped_is_what_was_stored(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 4), np.uint8)
    np.save(tmp_path / "images.npy", stored)
    assert np.array_equal(arrays.map_file(tmp_path / "images.npy"), stored)


def test_a_large_selection_is_in_a_file_without_a_name(small):
    whole = torch.randint(0, 256, (40, 5, 3, 2, 2), dtype=torch.uint8)
    rows, columns = torch.randperm(40)[:30], torch.tensor([3, 0])
    assert torch.equal(arrays.gather(whole, rows), whole[rows])
    chosen = arrays.gather(whole, columns, 1)
    assert torch.equal(chosen, whole[:, columns])
    assert list(small.iterdir()) == [], "a file that a kill would leave behind"
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert f"{small}/" in maps, "it takes memory"
    del chosen
    assert f"{small}/" not in Path("/proc/self/maps").read_text(encoding="utf-8"), "it does not end with its tensor"


def test_a_small_selection_is_in_memory(small):
    arrays.gather(torch.zeros(40, 3, 2, 2, dtype=torch.uint8), torch.arange(8))
    assert not small.exists()


def test_a_full_disk_is_a_sentence_and_no_crash(small, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(Problem, match="could not set 2 MB aside for images in .*No space left.*SYNPOS_OUTPUTS"):
        arrays.empty((2 * 10**6,))
    assert list(runtime.outputs().iterdir()) == []
