"""Sitting 2: an unconditional diffusion model of all of CIFAR-10, a few minutes more of it at every sitting.

The paper's network at three quarters of its width (20 M parameters, so that its weights come home), its objective and
its noise; no label, no second view. It goes on from the weights of an earlier sitting, with a fresh optimiser.
"""

import dataclasses
import json

from cifar import load
from results import read_weights
from sitting import Sitting, ask, train

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.images import Images, take
from synpos_lib.diffusion.training import PAPER_TRAINING, TrainingConfig
from synpos_lib.diffusion.unet import PAPER
from synpos_lib.evaluate.judge import train_judge

VARIANT = "cifar10"
NETWORK = dataclasses.replace(PAPER, channels=(96, 192, 192, 192))
RECIPE = dataclasses.replace(
    PAPER_TRAINING, unet=NETWORK, learning_rate=4e-4, warmup=500, decay=0.3, ema=0.999, ema_warmup=True
)
SETTINGS = [(100, 1.0, 0.1), (10, 1.0, 0.1)]  # steps, share of t to which the anchor is noised, w
SETTINGS += [(100, 1.0, w) for w in (0.0, 0.3, 1.0, 0.6)] + [(10, 0.5, 0.1), (100, 0.5, 0.1)]
TRAINING_SHARE = 0.7  # of what is left after the judge
NEEDS_GB = 30


def prepare(sitting: Sitting) -> tuple:
    """The images, the recipe, and the weights to go on from with the number of images that they have seen."""
    learned, test = load(sitting)
    config = RECIPE
    if sitting.tiny:
        network = dataclasses.replace(NETWORK, channels=(8, 16), groups=4, layers=1)
        config = dataclasses.replace(config, batch=8, warmup=2, unet=network)
    start, before = None, 0
    if sitting.weights is not None:
        start, earlier = read_weights(sitting.weights, VARIANT)
        if earlier["unet"] != json.loads(json.dumps(dataclasses.asdict(config.unet))):
            raise Problem(f"the weights in {sitting.weights} are of another network: begin without --weights")
        before = earlier["images_seen"] + earlier["images_before"]
    seed = runtime.derive(sitting.seed, "after", before)  # other batches than the sittings before had
    return learned, test, dataclasses.replace(config, seed=seed), start, before


def run(sitting: Sitting, learned: Images, test: Images, config: TrainingConfig, start, before) -> None:
    anchors = take(test, slice(20 if sitting.tiny else 1000))
    widths = (8, 8, 16) if sitting.tiny else (128, 256, 512)
    judge = train_judge(sitting.scratch / "judge", learned, test, epochs=1 if sitting.tiny else 6, widths=widths)
    sitting.results.add("judge", factor="what", value=judge.accuracy["what"], n=len(test))
    sitting.results.add("training", variant=VARIANT, measure="images seen in earlier sittings", value=before)
    clock = sitting.clock.part(TRAINING_SHARE)
    unet = train(sitting, clock, VARIANT, learned.images, config, start, images_before=before)
    sitting.results.save()
    probed = take(learned, slice(5_000))
    ask(sitting, sitting.clock, VARIANT, unet, judge, probed, anchors, SETTINGS)
