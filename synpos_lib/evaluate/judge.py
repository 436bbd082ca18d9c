"""The judge: a classifier of *what* and *where*, trained on real images, that looks at the made ones.

A judge is only as good as its accuracy on held-out real images, so that is part of what it says of itself.
"""

import re
from pathlib import Path

import torch

from synpos_lib.core import runtime
from synpos_lib.results.tables import share
from synpos_lib.train import classify
from synpos_lib.train.encoders import small_encoder


class Judge:
    """Says which species and scene it sees in an image, how sure it is, and gives features to measure in."""

    def __init__(self, model: classify.Classifier, accuracy: dict[str, float], run):
        self.model, self.accuracy, self.run = model, accuracy, run

    def __str__(self) -> str:
        return ", ".join(f"{factor} {share:.1%}" for factor, share in self.accuracy.items())

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Probabilities of each factor, and 'features': uint8 (N, 3, H, W) -> (N, classes), (N, D)."""
        return classify.predict(self.model, images)

    def labels(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The most probable class of each factor: (N,)."""
        return {factor: p.argmax(1) for factor, p in self(images).items() if factor != "features"}

    def kept(self, images: torch.Tensor, anchors) -> list[dict]:
        """For each factor, the share of images, one for each anchor, in which it is the anchor's, with its interval."""
        truth = {"what": anchors.labels, "where": anchors.where}
        seen = self.labels(images)
        return [{"kept": factor, **share(seen[factor] == truth[factor])._asdict()} for factor in seen]


def entropy(p: torch.Tensor) -> torch.Tensor:
    """How unsure a prediction is, in nats: (N, classes) -> (N,)."""
    return torch.special.entr(p).sum(1)


def chance_agreement(labels: torch.Tensor) -> float:
    """How often two images drawn from these would get the same label: sum over classes of share²."""
    return (labels.bincount().double() / len(labels)).square().sum().item()


def train_judge(
    folder: Path, train, held_out, *, epochs: int = 8, widths: tuple[int, int, int] = (32, 64, 128), seed: int = 0
) -> Judge:
    """Train (or reuse) a judge on labelled images; factors without labels are left out."""
    targets = {"what": train.labels} | ({"where": train.where} if train.where is not None else {})
    truth = {"what": held_out.labels, "where": held_out.where}
    torch.manual_seed(runtime.derive(seed, "judge"))
    encoder, width = small_encoder(widths)
    model = classify.Classifier(encoder, width, {factor: int(y.max()) + 1 for factor, y in targets.items()})
    described = {"images": train.fingerprint, "widths": list(widths)}
    run = classify.train(folder, model, train.images, targets, described, epochs=epochs, seed=seed)
    seen = classify.predict(model, held_out.images)
    accuracy = {factor: (seen[factor].argmax(1) == truth[factor]).double().mean().item() for factor in targets}
    return Judge(model, accuracy, run)


def get_judge(folder: Path, dataset: str, *, n: int = 8000, epochs: int = 8) -> Judge:
    """The judge of a dataset, a run in `folder`: trained on its training split, tried on its validation split."""
    from synpos_lib.data import catalog

    train = catalog.load(dataset, "train", n=n)
    name = "judge-" + re.sub(r"\W+", "_", dataset)
    return train_judge(folder / "runs" / name, train, catalog.load(dataset, "val"), epochs=epochs)
