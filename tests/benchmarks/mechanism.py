"""What a diffusion model's bottleneck does, as one row of the table of tries that notebook 01 shows.

It measures on validation images: what the bottleneck holds (kNN, t = 50), what is lost when it is silenced, and what
is kept of an anchor at w = 0.1, in 10, 50 and 100 steps with the anchor noised to the sample's time, and in 100 steps
with half of its noise. Claims are counted in the notebooks, on test images and from other noise.

    python tests/benchmarks/mechanism.py "finest skips only" outputs/quick/runs/diffusion-scenes
    python tests/benchmarks/mechanism.py NAME WEIGHTS [--anchors 600] [--keep]     # --keep: adds the row to the table
"""

import argparse
import csv
import tempfile
from pathlib import Path

from synpos_lib.core import runtime
from synpos_lib.data import catalog
from synpos_lib.data.images import Images
from synpos_lib.diffusion import features, model, tries
from synpos_lib.diffusion.generators import BottleneckMixing, draw_freely
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate.judge import Judge, get_judge
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.evaluate.linear_and_knn import factors


def row(name: str, place: Path, judge: Judge, anchors: int) -> dict[str, object]:
    """The numbers of one model."""
    unet, about = model.read(place), model.about(place)
    real = catalog.load("scenes", "val", n=anchors)
    numbers: dict[str, object] = {
        "try": name,
        "images": about["results"]["images_seen"],
        "minutes": round(about["results"]["seconds"] / 60),
        "loss": about["results"]["loss"],
        **knn(unet, real),
        **silence(unet, judge, anchors),
    }
    for steps, share in ((10, 1.0), (50, 1.0), (100, 1.0), (100, 0.5)):
        mixing = BottleneckMixing(unet, steps=steps, anchor_time=share, sampler="ddim")
        for kept in judge.agreement(mixing.generate(real.images, 1, 0)[:, 0], real):
            numbers[f"{kept['kept']} kept, {steps} steps" + ", s = t/2" * (share < 1)] = round(kept["value"], 3)
    return numbers | {"n": anchors}


def knn(unet: UNet, real: Images) -> dict[str, float]:
    """How well the bottleneck's nearest neighbours agree in each factor."""
    train = catalog.load("scenes", "train", n=2000)
    z, z_real = (features.pooled(unet, part.images, 50, ["mid"], seed=i)["mid"] for i, part in enumerate((train, real)))
    pairs = factors(train, real).items()
    return {f"kNN {factor}": round(knn_accuracy(z, y, z_real, y_real), 3) for factor, (y, y_real) in pairs}


def silence(unet: UNet, judge: Judge, n: int) -> dict[str, float]:
    """How many samples stay what they were without the bottleneck."""
    whole = judge.labels(draw_freely(unet, n, steps=50, sampler="ddim", seed=1))
    with features.features(unet, ["mid"], edit=features.zero):
        rest = judge.labels(draw_freely(unet, n, steps=50, sampler="ddim", seed=1))
    return {
        f"same {factor}, silenced": round((rest[factor] == whole[factor]).double().mean().item(), 3) for factor in whole
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--anchors", type=int, default=600)
    parser.add_argument("--keep", action="store_true")
    words = parser.parse_args()
    runtime.use_threads()
    with tempfile.TemporaryDirectory() as folder:
        numbers = row(words.name, words.weights, get_judge(Path(folder), "scenes"), words.anchors)
    for key, value in numbers.items():
        print(f"{key}: {value}")
    if words.keep:
        new = not tries.FILE.exists()
        with tries.FILE.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(numbers), lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(numbers)


if __name__ == "__main__":
    main()
