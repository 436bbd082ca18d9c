"""The memory that a set of images takes in trainings and evaluations, which should not grow with the set.

python tests/benchmarks/memory.py [--images N ...]

Every row is a process of its own, which does the work on 1,000 images first and counts what it takes above that.
Anonymous memory is what the set costs; pages of mapped files are given back as soon as anything else needs the memory.
"""

import argparse
import ctypes
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.core.processes import processes
from synpos_lib.data import positives
from synpos_lib.data.cut_and_paste import CutAndPaste
from synpos_lib.data.decoded import Source, open_or_decode
from synpos_lib.data.images import Images, draw_images
from synpos_lib.diffusion import training
from synpos_lib.diffusion.unet import UNetConfig
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.train.frozen import Frozen
from synpos_lib.train.pretrain import Config, Training

SIDE, STEPS = 64, 3
UNET = UNetConfig(image_size=SIDE, channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4)


class Noise:
    """Images of noise that are made when they are asked for."""

    def __init__(self, n: int):
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, rows: slice) -> list[np.ndarray]:
        count = len(range(*rows.indices(self.n)))
        return list(np.random.default_rng(rows.start).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8))


def load(folder: Path, n: int, cache: Path | None = None) -> Images:
    """n images, decoded into a cache when they are opened for the first time."""
    classes = tuple("abcdefghij")
    make = lambda: Source(Noise(n), np.arange(n) % 10, classes)  # noqa: E731
    (folder / "none").mkdir(exist_ok=True)
    images, manifest = open_or_decode(cache or folder / f"{n}.npy", make, folder / "none", "test", SIDE)
    labels = torch.tensor(manifest["labels"])
    return Images(images, labels, None, classes, "noise", "test", manifest["fingerprints"]["test"])


def store(folder: Path, images: Images) -> torch.Tensor:
    """One positive for each image."""
    place = folder / f"positives-{len(images)}"
    if not place.exists():
        positives.keep(place, images, images.images[:, None], {"generator": "itself"})
    return positives.read(place, images)


def pretraining(method: str) -> Callable[[Path, int], object]:
    def work(folder: Path, n: int) -> None:
        images = load(folder, n)
        config = Config(method=method, encoder="tiny", epochs=1, batch=32)
        part = Training(config, images, store(folder, images) if method.startswith("clsp") else None, processes())
        part.steps = STEPS
        part.train()

    return work


def diffusion(folder: Path, n: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        training.train(Path(place), load(folder, n), training.TrainingConfig(unet=UNET, steps=STEPS, batch=8))


def evaluation(folder: Path, n: int) -> None:
    images = load(folder, n)
    network = nn.Sequential(nn.AvgPool2d(8), nn.Conv2d(3, 8, 1), nn.Flatten())  # 512 features: 2 kB for each image
    encoder = Frozen(network, 512, (0.5,) * 3, (0.25,) * 3)
    linear_and_knn(encoder, images, draw_images(images, 1000, seed=0))


def controls(folder: Path, n: int) -> None:
    images = load(folder, n)
    CutAndPaste(images.images).generate(images.images[:64], 2, seed=0)


WORK: dict[str, Callable[[Path, int], object]] = {
    "opening": load,
    "drawing half of them": lambda folder, n: draw_images(load(folder, n), n // 2, seed=0),
    "simclr": pretraining("simclr"),
    "clsp-simclr": pretraining("clsp-simclr"),
    "diffusion": diffusion,
    "cut-and-paste": controls,
    "linear and kNN": evaluation,
}


def memory() -> dict[str, int]:
    """Megabytes of this process: anonymous ones, and those of mapped files."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":\t") for line in lines if line.startswith("Rss"))
    return {name: int(values[name].split()[0]) // 1000 for name in ("RssAnon", "RssFile")}


def peak(work: Callable[[], object]) -> dict[str, int]:
    """The most memory at any time during some work, above that at its start."""
    sys.setswitchinterval(0.0005)  # seconds: the thread that watches soon has its turn
    ctypes.CDLL(None).mallopt(-3, 2**16)  # M_MMAP_THRESHOLD: what is freed goes back to the system at once
    start, stop = memory(), threading.Event()
    most = dict(start)

    def watch() -> None:
        while not stop.wait(0.005):
            most.update({name: max(most[name], value) for name, value in memory().items()})

    thread = threading.Thread(target=watch)
    thread.start()
    work()
    stop.set()
    thread.join()
    return {name: most[name] - start[name] for name in start}


def row(folder: Path, name: str, n: int) -> None:
    WORK[name](folder, 1000)
    start = time.perf_counter()
    above = peak(lambda: WORK[name](folder, n))
    size = n * 3 * SIDE * SIDE // 10**6
    seconds = time.perf_counter() - start
    print(f"{name:>20} {n:>9,} {size:>8,} {above['RssAnon']:>10,} {above['RssFile']:>8,} {seconds:>8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where the images are kept for the next time")
    arguments = parser.parse_args()
    runtime.use_threads()
    print(f"{'work':>20} {'images':>9} {'their MB':>8} {'anonymous':>10} {'mapped':>8} {'seconds':>8}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        for n in (1000, *arguments.images):
            store(folder, load(folder, n))
        for name in WORK:
            for n in arguments.images:
                child = multiprocessing.get_context("fork").Process(target=row, args=(folder, name, n))
                child.start()
                child.join()


if __name__ == "__main__":
    main()
