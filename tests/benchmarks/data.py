"""Images per second: drawing the embedded sets, decoding a folder, and reading its memory-mapped copy.

python tests/benchmarks/data.py [--images N]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image

from synpos_lib.core import runtime
from synpos_lib.data import catalog, scenes, targets
from synpos_lib.data.images import Images

BATCH = 256


def rate(n: int, work: Callable[[], object], repeats: int = 3) -> float:
    """Images per second, best of a few."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return n / min(seconds)


def write_tree(folder: Path, images: torch.Tensor, labels: torch.Tensor) -> None:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / "train" / f"{label:02d}" / f"{i:05d}.webp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, lossless=True)


def read_batches(images: torch.Tensor) -> None:
    """Shuffled batches as an augmentation wants them: float in [0, 1]."""
    for rows in torch.randperm(len(images)).split(BATCH):
        images[rows].float().div_(255)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    n = parser.parse_args().images
    result = {"threads": runtime.use_threads(), "images": n}
    scenes.render(BATCH)
    result["scenes"] = rate(n, lambda: scenes.render(n))
    for name in targets.CLASSES:
        targets.render(BATCH, name)
        result[name] = rate(n, lambda name=name: targets.render(n, name))
    with tempfile.TemporaryDirectory() as folder:
        drawn = scenes.render(n)
        write_tree(Path(folder) / "fish", drawn.images, drawn.what)
        name = f"folder:{folder}/fish"

        def load(**options: object) -> Images:
            return catalog.load(name, "train+val", root=folder, **options)

        seeds = iter(range(10))  # another seed is another split, so another copy
        result["folder_decode"] = rate(n, lambda: load(seed=next(seeds)), repeats=2)
        result["cached_open"] = rate(n, lambda: load(seed=0))
        images = load(seed=0).images
        result["cached_to_batches"] = rate(n, lambda: read_batches(images))
    for name, value in result.items():
        print(f"{name:>18}: {value:>12,.0f}" + ("" if name in ("threads", "images") else " images/s"))
    print(json.dumps({name: round(value) for name, value in result.items()}))


if __name__ == "__main__":
    main()
