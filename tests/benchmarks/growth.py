"""How time grows with images N, candidates K and seeds: linearly, which is an exponent of 1.

    time = c · size ^ exponent,   fitted on logarithms; the best of three for each size

python tests/benchmarks/growth.py
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from synpos_lib.core import runtime
from synpos_lib.data import catalog
from synpos_lib.data.images import take
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.unet import UNet, UNetConfig
from synpos_lib.train.pretrain import Config, pretrain

IMAGES = catalog.load("scenes", "train", n=2048)
STORE = IMAGES.images[:, None].expand(-1, 4, -1, -1, -1)  # a store of the right size, whatever it shows
UNET = UNet(UNetConfig(channels=(16, 32), attention=(), middle_attention=False, layers=1, groups=8)).eval()


def train(n: int, seeds: int = 1) -> None:
    """Two epochs of CLSP on n images, once for each seed."""
    images = take(IMAGES, slice(n))
    with TemporaryDirectory() as folder:
        for seed in range(seeds):
            config = Config(encoder="tiny", epochs=2, batch=64, seed=seed)
            pretrain(Path(folder) / f"seed{seed}", config, images, STORE[:n].contiguous())


def generate(k: int) -> None:
    """k positives for each of 16 anchors."""
    BottleneckMixing(UNET, steps=10).generate(IMAGES.images[:16], k, seed=0)


LAWS: dict[str, tuple[Callable[[int], None], tuple[int, ...]]] = {
    "images": (train, (256, 512, 1024, 2048)),
    "candidates": (generate, (1, 2, 4, 8)),
    "seeds": (lambda seeds: train(256, seeds), (1, 2, 4, 8)),
}


def seconds(work: Callable[[int], None], size: int) -> float:
    """The shortest of three times."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work(size)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{runtime.hardware()}, one thread")
    exponents = {}
    for name, (work, sizes) in LAWS.items():
        work(sizes[0])  # warm
        took = [seconds(work, size) for size in sizes]
        exponents[name] = round(float(np.polyfit(np.log(sizes), np.log(took), 1)[0]), 2)
        cells = "".join(f"{size:>6}: {each:6.2f} s" for size, each in zip(sizes, took, strict=True))
        print(f"{name:<11}{cells}   exponent {exponents[name]:.2f}")
    print(json.dumps(exponents))


if __name__ == "__main__":
    main()
