"""Sitting 3: CLSP on CIFAR-10 in minutes: positives of sitting 2's model, then three arms with as many epochs each.

SimCLR, SimCLR-aug (a third view of the real image in the pull) and CLSP-SimCLR, ResNet-18 and the released recipe at
batch 512. One seed a sitting. The epochs follow from a short trial of each arm's speed, and are the same for all.
"""

import torch
from cifar import load
from clock import Clock
from results import read_weights
from sitting import Sitting

from synpos_lib import methods, pretrain, runtime
from synpos_lib.data import catalog
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.unet import UNet, UNetConfig
from synpos_lib.errors import Problem
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.evaluate.probes import knn_probe, linear_accuracy

ARMS = ("clsp-simclr", "simclr", "simclr-aug")
K, STEPS, W, ANCHOR_TIME = 2, 10, 0.1, 1.0  # candidates; of sampling; the paper's w, and its s = t
POSITIVES_SHARE, FINAL_SECONDS = 0.35, 12  # of the time; the last questions of an arm
SAFETY = 0.92  # an epoch may turn out slower than in the trial
SHARES = 4  # the arms are asked after each quarter of their epochs
ANCHORS = 500  # whose positives are made at once
NEEDS_GB = 30


def run(sitting: Sitting) -> None:
    if sitting.weights is None:
        raise Problem(
            "cifar-ssl makes its positives with the weights of cifar-diffusion: name its results with --weights"
        )
    learned, test = load(sitting)
    weights, recipe = read_weights(sitting.weights, "cifar10")
    unet = UNet(UNetConfig(**{key: tuple(v) if isinstance(v, list) else v for key, v in recipe["unet"].items()}))
    unet.load_state_dict(weights)
    unet.to(sitting.device).eval().requires_grad_(False)
    store = positives(sitting, sitting.clock.part(POSITIVES_SHARE), unet, learned)
    seen = recipe["images_seen"] + recipe.get("images_before", 0)
    sitting.results.add("positives", measure="images that the diffusion model had seen", value=seen)
    epochs = affordable(sitting, learned, store)
    for arm in ARMS:
        sitting.results.add("training", arm=arm, seed=sitting.seed, measure="epochs", value=epochs)
        train_arm(sitting, arm, epochs, learned, test, store)
        sitting.results.save()


def positives(sitting: Sitting, clock: Clock, unet: UNet, anchors):
    """One candidate after another for all anchors, as many as there is time for, at least one: (N, K, H, W, 3)."""
    mixing = BottleneckMixing(unet, w=W, steps=2 if sitting.tiny else STEPS, anchor_time=ANCHOR_TIME)
    rounds: list[torch.Tensor] = []
    for k in range(K):
        began, made = clock.left(), []
        for i, part in enumerate(anchors.images.split(ANCHORS)):
            made.append(mixing.generate(part, 1, runtime.derive(sitting.seed, "positives", k, i))[:, 0])
            if k and not clock.left():
                break
        if sum(map(len, made)) == len(anchors):
            rounds.append(torch.cat(made))
        if clock.left() < began - clock.left():  # the next round would not end in time
            break
    sitting.results.add("positives", measure="candidates of each anchor", value=len(rounds))
    sitting.results.show("20 anchors", anchors.images[:20])
    for made in rounds:
        sitting.results.show("a positive of each", made[:20])
    return torch.stack(rounds, 1).permute(0, 1, 3, 4, 2).contiguous().numpy()


def config(sitting: Sitting, arm: str, epochs: int) -> pretrain.Config:
    small = dict(encoder="tiny", batch=16, hyperparameters={"hidden": 16, "out": 8}) if sitting.tiny else {}
    large = dict(encoder="resnet18", batch=512)
    settings = dict(method=arm, epochs=epochs, normalization="cifar10", seed=sitting.seed)
    return pretrain.Config(**settings, probe_every=max(1, epochs // SHARES), save_every=epochs, **(small or large))


def affordable(sitting: Sitting, images, store) -> int:
    """How many epochs of all arms fit in what is left, by a trial of each on a part of the images."""
    n = 32 if sitting.tiny else 512 * 16
    some = catalog.take(images, slice(n))
    seconds, clock = 0.0, Clock(sitting.clock.left(), sitting.clock.now)
    for arm in ARMS:
        run = pretrain.pretrain(sitting.scratch / f"trial-{arm}", config(sitting, arm, 3), some, store[:n])
        speed = run.metrics()[-1]["images_per_second"]
        sitting.results.add("training", arm=arm, seed=sitting.seed, measure="images per second, trial", value=speed)
        seconds += len(images) / speed
    if sitting.tiny:
        return 2
    epochs = int(SAFETY * (clock.left() - FINAL_SECONDS * len(ARMS)) / seconds)
    if epochs < 1:
        raise Problem(
            f"{clock.left():.0f} s are left, and an epoch of the three arms takes {seconds:.0f}: give more minutes"
        )
    return epochs


def train_arm(sitting: Sitting, arm: str, epochs: int, learned, test, store) -> None:
    """Train one arm; kNN and linear accuracy at its quarters on a part, at its end on all images."""
    votes, asked = (catalog.take(images, slice(2_000 if images is test else 10_000)) for images in (learned, test))
    knn = knn_probe(votes, asked)

    def probe(encoder) -> dict[str, float]:
        z, z_asked = encoder(votes.images), encoder(asked.images)
        return {**knn(encoder), "linear": linear_accuracy(z, votes.labels, z_asked, asked.labels)}

    needs = methods.recipe(arm).needs_positives
    folder = sitting.scratch / f"ssl-{arm}"
    run = pretrain.pretrain(folder, config(sitting, arm, epochs), learned, store if needs else None, probe=probe)
    about = dict(arm=arm, seed=sitting.seed)
    for row in run.metrics():
        sitting.results.add("curve", **about, epoch=row["epoch"], measure="loss", value=row["loss"])
        for measure in ("pull", "knn", "linear", "rank"):
            if measure in row:
                sitting.results.add(
                    "curve", **about, epoch=row["epoch"], measure=measure, value=row[measure], n=len(asked)
                )
    for row in linear_and_knn(pretrain.load_encoder(run), learned, test, seed=sitting.seed):
        sitting.results.add("accuracy", **about, epoch=epochs, measure=row["metric"], value=row["value"], n=row["n"])
    sitting.results.add("training", **about, measure="seconds", value=run.results["seconds"])
