"""Sets larger than memory: they are opened and trained on, and memory does not grow with the set."""

import math
import sys
import tempfile
from pathlib import Path

import children
import numpy as np
import pytest
import torch

from synpos_lib.core import arrays, files
from synpos_lib.core.processes import processes
from synpos_lib.data import corruptions
from synpos_lib.data.decoded import open_or_decode
from synpos_lib.data.images import Images
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate import linear
from synpos_lib.evaluate.knn import part_size
from synpos_lib.train import classify, encoders
from synpos_lib.train.pretrain import Config, Training

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import memory  # noqa: E402 (beside the other benchmarks)

MARGIN = 12  # MB by which memory may differ; the larger set has 37 MB more than the smaller one
strict = Path("/proc/sys/vm/overcommit_memory").read_text(encoding="utf-8").strip() == "2"


def black(path, side=256):
    """A .npy file of black images, twice as large as memory and swap; it takes no room on the disk."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines())
    size = 1024 * sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    shape = (2 * size // (3 * side**2), 3, side, side)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + math.prod(shape))
    return shape


@pytest.mark.skipif(strict, reason="this system counts every mapping as if it were used")
def test_a_set_larger_than_memory_is_opened_as_it_is_and_trains(tmp_path):
    cache, empty = tmp_path / "images.npy", tmp_path / "none"
    memory.load(tmp_path, 8, cache=cache)
    manifest = files.read_json(cache.with_suffix(".json"), dict)
    shape = black(cache)
    stat = [cache.stat().st_size, cache.stat().st_mtime_ns]  # so large a cache is not read again to be checked
    files.write_json(cache.with_suffix(".json"), {**manifest, "shape": list(shape), "stat": stat})
    pixels, _ = open_or_decode(cache, None, empty, "test", shape[2])
    images = Images(pixels, None, None, (), "black", "test", "black")
    training = Training(Config(method="simclr", encoder="tiny", epochs=1, batch=8), images, None, processes())
    training.steps = 2
    training.train()
    pixels[-1] = 7
    assert (pixels[-1] == 7).all() and not arrays.map_file(cache)[-1].any(), "the file has changed"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sets of 1,000 and of 4,000 images, 12 and 49 MB, with positives."""
    UNet(memory.UNET)  # imports diffusers for all the processes
    folder = tmp_path_factory.mktemp("large")
    for n in (1000, 4000):
        memory.store(folder, memory.load(folder, n))
    return folder


def classes(folder, n):
    """Many classes, of which every image has one."""
    model = classify.Classifier(*encoders.by_name("tiny"), {"what": 1000})
    images, labels = torch.zeros(n, 3, 8, 8, dtype=torch.uint8), torch.arange(n) % 1000
    with tempfile.TemporaryDirectory() as place:
        classify.train(Path(place), model, images, {"what": labels}, {}, epochs=1, batch=500)


def corruption(folder, n):
    corruptions.corrupt(memory.load(folder, n).images, "contrast", 3)


LONG = ("simclr", "linear and kNN")
WORK = {name: memory.WORK[name] for name in memory.WORK if name not in LONG}
WORK |= {"a corrupted copy": corruption, "many classes": classes}


def grows(work, folder):
    def most(n):  # in all, since what earlier work has freed is used again
        return memory.memory()["RssAnon"] + memory.peak(lambda: work(folder, n))["RssAnon"]

    small, large = max(most(1000) for _ in range(3)), min(most(4000) for _ in range(3))
    assert large < small + MARGIN, f"{small} MB for 1,000 images, {large} MB for 4,000"


@pytest.mark.parametrize("name", WORK)
def test_memory_is_the_same_for_four_times_as_many_images(name, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "IN_MEMORY", 2**20)
    monkeypatch.setattr(corruptions, "CHUNK", 64)
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    said = tmp_path / "said"
    assert children.run(grows, WORK[name], folder, said=said) == 0, said.read_text()


def layer(folder):
    z = torch.rand(80_000, 128)
    taken = memory.peak(lambda: linear.sgd(z, z, torch.arange(len(z)) % 10, epochs=1))["RssAnon"]
    assert taken < 15, f"{taken} MB beside features of 41 MB"


def test_the_linear_layer_takes_no_copy_of_the_features(tmp_path):
    said = tmp_path / "said"
    assert children.run(layer, tmp_path, said=said) == 0, said.read_text()


@pytest.mark.parametrize("n", [1, 1000, 10**5, 10**6, 10**9])
def test_neighbours_are_sought_for_as_many_as_there_is_memory_for(n):
    assert 1 <= part_size(n) <= 1000 and (part_size(n) == 1 or part_size(n) * n * 4 <= 2**27)
