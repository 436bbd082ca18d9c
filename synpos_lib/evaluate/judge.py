"""The judge: a classifier of *what* and *where*, trained on real images, that labels the synthetic ones.

A judge is only as good as its accuracy on held-out real images, so it carries that accuracy.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.files import safe_name
from synpos_lib.core.runs import Run
from synpos_lib.data import catalog
from synpos_lib.data.images import Images
from synpos_lib.evaluate.linear_and_knn import factors
from synpos_lib.results.tables import share
from synpos_lib.train import classify
from synpos_lib.train.encoders import small_encoder


@dataclass
class Judge:
    """Predicts the species and scene of an image with probabilities, and gives features to measure distances in."""

    model: classify.Classifier
    run: Run
    accuracy: dict[str, float] = field(default_factory=dict)  # of each factor, on held-out images

    def __str__(self) -> str:
        return ", ".join(f"{factor} {value:.1%}" for factor, value in self.accuracy.items())

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Probabilities of each factor, and 'features': uint8 (N, 3, H, W) -> (N, classes), (N, D)."""
        return classify.predict(self.model, images)

    def labels(self, images: Tensor) -> dict[str, Tensor]:
        """The most probable class of each factor: (N,)."""
        return {factor: p.argmax(1) for factor, p in self(images).items() if factor != "features"}

    def agreement(self, images: Tensor, anchors: Images) -> list[dict]:
        """For each factor, the share of images (one per anchor) that keep the anchor's class, with its interval."""
        labels, truth = self.labels(images), factors(anchors)
        return [{"kept": f, **share(labels[f] == truth[f][0])._asdict()} for f in labels if f in truth]


def entropy(p: Tensor) -> Tensor:
    """How unsure a prediction is, in nats: (N, classes) -> (N,)."""
    return torch.special.entr(p).sum(1)


def chance_agreement(labels: Tensor) -> float:
    """The probability that two images drawn from these have the same label: the sum over classes of share²."""
    return (labels.bincount().double() / len(labels)).square().sum().item()


def train_judge(
    folder: Path,
    train: Images,
    held_out: Images,
    *,
    epochs: int = 8,
    widths: tuple[int, int, int] = (32, 64, 128),
    seed: int = 0,
) -> Judge:
    """Train (or reuse) a judge on labelled images; factors without labels are left out."""
    known = factors(train, held_out)
    targets = {factor: y for factor, (y, _) in known.items()}
    torch.manual_seed(runtime.derive(seed, "judge"))
    encoder, width = small_encoder(widths)
    model = classify.Classifier(encoder, width, {factor: int(y.max()) + 1 for factor, y in targets.items()})
    config = {"images": train.fingerprint, "widths": list(widths)}
    run = classify.train(folder, model, train.images, targets, config, epochs=epochs, seed=seed)
    judge = Judge(model, run)
    for factor, labels in judge.labels(held_out.images).items():
        judge.accuracy[factor] = (labels == known[factor][1]).double().mean().item()
    return judge


def get_judge(folder: Path, dataset: str, *, n: int = 8000, epochs: int = 8) -> Judge:
    """The judge of a dataset, a run in `folder`: trained on its training split, tested on its validation split."""
    train, held_out = catalog.load(dataset, "train", n=n), catalog.load(dataset, "val")
    return train_judge(folder / "runs" / f"judge-{safe_name(dataset)}", train, held_out, epochs=epochs)
