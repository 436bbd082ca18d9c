"""Sitting 1: does a plain diffusion model of the embedded images listen to its bottleneck, after millions of them?

Several small U-Nets, one after another with equal time: the shipped one, to whose decoder only the finest skips pass,
the same with more of them, and one built like the paper's. For each: throughput, error, what every block knows of
*what* and *where*, and what is kept of an anchor against w, with the anchor noised to the sample's time and to half of
it, in 10 and in 100 steps.
"""

import dataclasses

from sitting import Sitting, ask, train

from synpos_lib.data import catalog
from synpos_lib.data.images import Images, take
from synpos_lib.diffusion import model
from synpos_lib.diffusion.training import TrainingConfig
from synpos_lib.diffusion.unet import EMBEDDED, PAPER, UNetConfig
from synpos_lib.evaluate.judge import train_judge

NARROW = dataclasses.replace(PAPER, channels=(32, 64, 64, 64), groups=8, dropout=0.0, prediction="v_prediction")
VARIANTS = {
    "finest skips": EMBEDDED,
    "all but the coarsest skips": dataclasses.replace(EMBEDDED, skips=(0, 1)),
    "all skips": dataclasses.replace(EMBEDDED, skips=None),
    "like the paper's, narrow": NARROW,
}
SETTINGS = [(steps, s, w) for steps in (100, 10) for w in (0.1, 0.0, 0.3, 0.6, 1.0) for s in (1.0, 0.5)]
TRAINING_SHARE = 0.7  # of the time of a variant; the rest is for the questions
NEEDS_GB = 8  # of free memory


def prepare(sitting: Sitting) -> tuple:
    """Images for the judge, of which the shipped weights saw the first, and held-out anchors."""
    sizes = (512, 40) if sitting.tiny else (8_000, 1_000)
    return tuple(catalog.load("scenes", split, n=n) for split, n in zip(("train", "val"), sizes, strict=True))


def run(sitting: Sitting, learned: Images, anchors: Images) -> None:
    judge = train_judge(sitting.scratch / "judge", learned, anchors, epochs=1 if sitting.tiny else 8)
    for factor, accuracy in judge.accuracy.items():
        sitting.results.add("judge", factor=factor, value=accuracy, n=len(anchors))
    probed = take(learned, slice(3_000))
    learned = take(learned, slice(model.SHIPPED_IMAGES))
    for i, (variant, unet_config) in enumerate(VARIANTS.items()):
        slot = sitting.clock.part(0.98 / (len(VARIANTS) - i))
        config = recipe(sitting, unet_config)
        unet = train(sitting, slot.part(TRAINING_SHARE), variant, learned.images, config)
        ask(sitting, slot, variant, unet, judge, probed, anchors, SETTINGS)
        sitting.results.save()


def recipe(sitting: Sitting, unet: UNetConfig) -> TrainingConfig:
    """A batch that fills a card, and a rate for it; the rest is the shipped weights' recipe."""
    config = TrainingConfig(unet=unet, batch=1024, learning_rate=2e-3, warmup=200, seed=sitting.seed)
    if sitting.tiny:
        smaller = dataclasses.replace(unet, channels=(8, 16), groups=4)
        config = dataclasses.replace(config, batch=8, warmup=2, unet=smaller)
    return config
