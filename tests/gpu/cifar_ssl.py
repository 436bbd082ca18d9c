"""Sitting 3: CLSP on CIFAR-10 in minutes: positives of sitting 2's model, then three arms with as many epochs each.

SimCLR, SimCLR-aug (a third view of the real image in the pull) and CLSP-SimCLR, ResNet-18 and the released recipe at
batch 512. One seed a sitting. A trial of every part says how many epochs fit, the same for all arms.
"""

import time

import torch
from cifar import load
from clock import Clock
from results import read_weights
from sitting import Sitting

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.images import Images, take
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.unet import UNet, UNetConfig
from synpos_lib.evaluate import collapse
from synpos_lib.evaluate.knn import knn_accuracy
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.evaluate.probes import linear_accuracy
from synpos_lib.train import pretrain

ARMS = ("clsp-simclr", "simclr", "simclr-aug")
K, W, ANCHOR_TIME = 2, 0.1, 1.0  # candidates; the paper's w, and its s = t
STEPS = (10, 5, 2)  # of sampling: as many as there is time for
POSITIVES_SHARE = 0.35  # of the time, at most
SAFETY = 0.9  # an epoch may turn out slower than in its trial
QUARTERS = 4  # the arms are asked after each quarter of their epochs
ANCHORS = 1024  # whose positives are made at once
NEEDS_GB = 30


def prepare(sitting: Sitting) -> tuple:
    """The images, and the diffusion model with the number of images that it has seen."""
    if sitting.weights is None:
        raise Problem(
            "cifar-ssl needs the weights of a cifar-diffusion for its positives: name its results with --weights"
        )
    weights, recipe = read_weights(sitting.weights, "cifar10")
    unet = UNet(UNetConfig(**{key: tuple(v) if isinstance(v, list) else v for key, v in recipe["unet"].items()}))
    unet.load_state_dict(weights)
    unet.to(sitting.device).eval().requires_grad_(False)
    return *load(sitting), unet, recipe["images_seen"] + recipe["images_before"]


def run(sitting: Sitting, learned: Images, test: Images, unet: UNet, seen: int) -> None:
    sitting.results.add("positives", measure="images that the diffusion model had seen", value=seen)
    store = positives(sitting, sitting.clock.part(POSITIVES_SHARE), unet, learned)
    epochs = affordable(sitting, learned, test, store)
    for arm in ARMS:
        sitting.results.add("training", arm=arm, seed=sitting.seed, measure="epochs", value=epochs)
        train_arm(sitting, arm, epochs, learned, test, store)
        sitting.results.save()


def positives(sitting: Sitting, clock: Clock, unet: UNet, anchors: Images):
    """One candidate after another for all anchors, in as many steps as there is time for: (N, K, 3, H, W)."""

    def candidate(steps: int, k: int, images: torch.Tensor) -> torch.Tensor:
        mixing = BottleneckMixing(unet, w=W, steps=steps, anchor_time=ANCHOR_TIME)
        parts = enumerate(images.split(ANCHORS))
        made = [mixing.generate(part, 1, runtime.derive(sitting.seed, "positives", k, i))[:, 0] for i, part in parts]
        return torch.cat(made)

    def seconds(steps: int) -> float:
        """Of one candidate for every anchor, by a trial."""
        some = anchors.images[: 16 if sitting.tiny else ANCHORS]
        start = time.perf_counter()
        candidate(steps, 0, some)
        return (time.perf_counter() - start) * len(anchors) / len(some)

    seconds(STEPS[-1])  # warms up
    steps = next((steps for steps in STEPS if not sitting.tiny and seconds(steps) < clock.left()), STEPS[-1])
    rounds, longest = [], 0.0
    while len(rounds) < K and clock.left() >= longest:
        began = clock.left()
        rounds.append(candidate(steps, len(rounds), anchors.images))
        longest = began - clock.left()
    sitting.results.add("positives", measure="candidates of each anchor", value=len(rounds))
    sitting.results.add("positives", measure="steps of sampling", value=steps)
    sitting.results.show("20 anchors", anchors.images[:20])
    for images in rounds:
        sitting.results.show("a positive of each", images[:20])
    return torch.stack(rounds, 1)


def config(sitting: Sitting, arm: str, epochs: int) -> pretrain.Config:
    small = dict(encoder="tiny", batch=16, hyperparameters={"hidden": 16, "out": 8})
    size = small if sitting.tiny else dict(encoder="resnet18", batch=512)
    settings = dict(method=arm, epochs=epochs, normalization="cifar10", seed=sitting.seed, save_every=epochs)
    return pretrain.Config(**settings, **size, probe_every=-(-epochs // QUARTERS))


def affordable(sitting: Sitting, learned: Images, test: Images, store) -> int:
    """How many epochs of all arms fit in what is left, with their questions, by a trial of everything.

    The last questions are tried on an encoder that has learned nothing: the control that belongs beside the arms.
    """
    clock, n = Clock(sitting.clock.left(), sitting.clock.now), 32 if sitting.tiny else 512 * 16
    some, epoch = take(learned, slice(n)), 0.0
    for arm in ARMS:
        run = pretrain.pretrain(sitting.scratch / f"trial-{arm}", config(sitting, arm, 3), some, store[:n])
        speed = run.metrics()[-1]["images_per_second"]
        sitting.results.add("training", arm=arm, seed=sitting.seed, measure="images per second, trial", value=speed)
        epoch += len(learned) / speed
    encoder = pretrain.untrained(run)
    began = clock.left()
    questions(learned, test)(encoder)
    middle, began = began - clock.left(), clock.left()
    accuracy(sitting, "untrained", 0, encoder, learned, test)
    last = began - clock.left()
    left = clock.left() - len(ARMS) * (last + QUARTERS * middle)
    epochs = 2 if sitting.tiny else int(SAFETY * left / epoch)
    if epochs < 1:
        raise Problem(
            f"{left:.0f} s are left to train, and an epoch of the three arms takes {epoch:.0f}: give more minutes"
        )
    return epochs


def questions(learned: Images, test: Images):
    """For pretrain: kNN and linear accuracy on a part of the images, and whether the features are healthy."""
    votes, asked = take(learned, slice(10_000)), take(test, slice(2_000))

    def probe(encoder) -> dict[str, float]:
        z, z_asked, mirrored = encoder(votes.images), encoder(asked.images), encoder(asked.images, flip=True)
        return {
            "knn": knn_accuracy(z, votes.labels, z_asked, asked.labels),
            "linear": linear_accuracy(z, votes.labels, z_asked, asked.labels),
            **collapse.monitor(z_asked[:1000], mirrored[:1000]),
        }

    return probe


def accuracy(sitting: Sitting, arm: str, epoch: int, encoder, learned: Images, test: Images) -> None:
    """The official protocols, on all images."""
    for row in linear_and_knn(encoder, learned, test, seed=sitting.seed):
        about = dict(arm=arm, seed=sitting.seed, epoch=epoch, measure=row["metric"])
        sitting.results.add("accuracy", **about, value=row["value"], n=row["n"])


def train_arm(sitting: Sitting, arm: str, epochs: int, learned: Images, test: Images, store) -> None:
    """Train one arm; what it says at its quarters is kept at once, and at its end it is asked on all images."""
    save_now = sitting.clock.every(60)

    def keep(rows: list[dict]) -> None:
        for measure in ("loss", "pull", "knn", "linear", "rank"):
            if measure in rows[-1]:
                about = dict(arm=arm, seed=sitting.seed, epoch=rows[-1]["epoch"], measure=measure)
                sitting.results.add("curve", **about, value=rows[-1][measure])
        if save_now():
            sitting.results.save()

    store = store if methods.recipe(arm).needs_positives else None
    settings = dict(probe=questions(learned, test), on_epoch=keep)
    run = pretrain.pretrain(sitting.scratch / f"ssl-{arm}", config(sitting, arm, epochs), learned, store, **settings)
    accuracy(sitting, arm, epochs, pretrain.load_encoder(run), learned, test)
    sitting.results.add("training", arm=arm, seed=sitting.seed, measure="seconds", value=run.results["seconds"])
