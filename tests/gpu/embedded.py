"""Sitting 1: does a plain diffusion model of the embedded images listen to its bottleneck, after millions of them?

Several small U-Nets, one after another with equal time, as they are shipped and without each of the helps that the
shipped one has. For each: throughput, error, what every block knows of *what* and *where*, and what is kept of an
anchor against w, with the anchor noised to the sample's time and to half of it, in 10 and in 100 steps.
"""

import dataclasses

from sitting import Sitting, ask, train

from synpos_lib.data import catalog
from synpos_lib.data.images import Images, take
from synpos_lib.diffusion.training import TrainingConfig
from synpos_lib.diffusion.unet import EMBEDDED
from synpos_lib.evaluate.judge import train_judge

PLAIN = dataclasses.replace(EMBEDDED, pooled=False, heard=False)
VARIANTS = {  # what differs from the recipe of the shipped weights; other embedded images would be one more
    "as shipped": {},
    "no second view": {"second_view": 0.0},
    "skips dropped": {"second_view": 0.0, "skip_drop": 0.5},
    "plain": {"second_view": 0.0, "unet": PLAIN},
}
SETTINGS = [(steps, s, w) for steps in (100, 10) for w in (0.1, 0.0, 0.3, 0.6, 1.0) for s in (1.0, 0.5)]
TRAINING_SHARE = 0.7  # of the time of a variant; the rest is for the questions
NEEDS_GB = 8  # of free memory


def prepare(sitting: Sitting) -> tuple:
    """As many images as the shipped weights saw, and held-out anchors."""
    sizes = (512, 40) if sitting.tiny else (20_000, 1_000)
    return tuple(catalog.load("scenes", split, n=n) for split, n in zip(("train", "val"), sizes, strict=True))


def run(sitting: Sitting, learned: Images, anchors: Images) -> None:
    shown = take(learned, slice(8_000))
    judge = train_judge(sitting.scratch / "judge", shown, anchors, epochs=1 if sitting.tiny else 8)
    for factor, accuracy in judge.accuracy.items():
        sitting.results.add("judge", factor=factor, value=accuracy, n=len(anchors))
    probed = take(learned, slice(3_000))
    for i, (variant, changes) in enumerate(VARIANTS.items()):
        slot = sitting.clock.part(0.98 / (len(VARIANTS) - i))
        config = recipe(sitting, **changes)
        unet = train(sitting, slot.part(TRAINING_SHARE), variant, learned.images, config)
        ask(sitting, slot, variant, unet, judge, probed, anchors, SETTINGS)
        sitting.results.save()


def recipe(sitting: Sitting, **changes: object) -> TrainingConfig:
    """A batch that fills a card, and a rate for it; the rest is the shipped weights' recipe."""
    config = TrainingConfig(batch=1024, learning_rate=2e-3, warmup=200, seed=sitting.seed, **changes)
    if sitting.tiny:
        smaller = dataclasses.replace(config.unet, channels=(8, 16), groups=4)
        config = dataclasses.replace(config, batch=8, warmup=2, unet=smaller)
    return config
