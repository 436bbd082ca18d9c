"""The only supervised loop: an encoder with one linear head per factor, trained on labelled images.

    run = train(folder, model, images, {"what": labels}, {"images": fingerprint}, **SETTINGS["cifar"])

Mixing comes from outside: `source` returns the image to use for each training image, `mix` changes a whole batch and
its labels.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import identity, weights_fingerprint
from synpos_lib.core.runs import Run, open_run
from synpos_lib.data.pixels import unit
from synpos_lib.train import optim

CODE = ("synpos_lib.train.classify", "synpos_lib.train.encoders")

Source = Callable[[Tensor, torch.Generator], Tensor]  # rows -> the images to use for them
Mix = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]  # x, y -> x, y


@dataclass(frozen=True)
class Settings:
    """How a classifier is trained; the defaults are the judges', which need no tuning."""

    epochs: int = 10
    batch: int = 256
    optimizer: str = "adamw"  # or sgd, with Nesterov momentum 0.9
    learning_rate: float = 2e-3
    decay: float = 0.05
    steps_at: tuple[float, ...] = ()  # shares of the training after which the rate falls to a tenth; none: one cycle
    shift: float = 1 / 16  # the longest move, as a share of the side
    noise: float = 0.1  # strength of the noise, so that a judge does not mind a sampler's grain
    seed: int = 0


_SGD = {"optimizer": "sgd", "noise": 0.0, "shift": 1 / 8}
SETTINGS: dict[str, dict[str, Any]] = {  # near GuidedMixup's code, which DiffuseMix names as a source; its own: unknown
    "embedded": {"noise": 0.0, "shift": 1 / 8},
    "cifar": {**_SGD, "epochs": 300, "batch": 100, "learning_rate": 0.1, "decay": 1e-4, "steps_at": (1 / 3, 2 / 3)},
    "fine-grained": {**_SGD, "epochs": 300, "batch": 32, "learning_rate": 0.01, "decay": 5e-4, "steps_at": (0.5, 0.75)},
}


class Classifier(nn.Module):
    """An encoder and one linear head per factor, such as *what* and *where*; images (B, 3, H, W) in [0, 1]."""

    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        classes: dict[str, int],
        mean: tuple[float, ...] = (0.5,) * 3,
        std: tuple[float, ...] = (0.5,) * 3,
    ):
        super().__init__()
        self.encoder, self.classes = encoder, classes
        self.heads = nn.ModuleDict({factor: nn.Linear(width, count) for factor, count in classes.items()})
        self.normalize = torch.tensor([mean, std])[:, None, :, None, None]  # a plain tensor: not part of the weights

    def features(self, x: Tensor) -> Tensor:
        mean, std = self.normalize.to(x)
        return self.encoder(((x - mean) / std).contiguous(memory_format=runtime.memory_format(x.device)))  # (B, D)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.features(x)
        return {factor: head(z) for factor, head in self.heads.items()}


def train(
    folder: Path,
    model: Classifier,
    images: Tensor,
    targets: dict[str, Tensor],
    config: dict[str, Any],
    *,
    source: Source | None = None,
    mix: Mix | None = None,
    save_every: int = 1,  # epochs between checkpoints
    **options: Any,  # as in Settings
) -> Run:
    """Fit every head by cross-entropy, with flips and small shifts; `config` identifies the images and the mixing."""
    settings = Settings(**options)
    if settings.batch > len(images):
        raise Problem(f"a batch of {settings.batch} is more than the {len(images)} images: choose a smaller one")
    functions = [identity(function) for function in (source, mix) if function]
    about = {"start": weights_fingerprint(model), "functions": [name for _, name in functions]}
    code = sorted({module for module, _ in functions})
    with open_run(folder, {**config, **about, **asdict(settings)}, (*CODE, *code)) as run:
        device = runtime.device()
        model.to(memory_format=runtime.memory_format(device)).to(device)
        if run.done:
            model.load_state_dict(run.final()["model"])
            model.eval()
            return run
        rate, total = settings.learning_rate, settings.epochs * (len(images) // settings.batch)
        optimizer = optim.make(
            settings.optimizer, model, learning_rate=rate, weight_decay=settings.decay, nesterov=True
        )
        milestones = [round(share * total) for share in settings.steps_at]
        schedule: LRScheduler
        schedule = MultiStepLR(optimizer, milestones, 0.1) if milestones else OneCycleLR(optimizer, rate, total)
        parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "schedule": schedule}
        counts = [model.classes[factor] for factor in targets]
        labels = torch.stack(list(targets.values()), 1)  # (N, factors)
        first = 0
        if state := run.load():
            first = state["epoch"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
            runtime.align(optimizer)
        for epoch in runtime.progress(range(first, settings.epochs), f"{run.name}: epochs"):
            model.train()
            for x, y in _batches(images, labels, counts, source, mix, settings, epoch):
                with runtime.autocast(x.device):
                    logits = model(x)
                truth = zip(targets, y.split(counts, 1), strict=True)
                loss = torch.stack([F.cross_entropy(logits[factor].float(), part) for factor, part in truth]).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            run.log(epoch=epoch, loss=round(loss.item(), 5))
            if (epoch + 1) % save_every == 0 or epoch + 1 == settings.epochs:
                run.save({"epoch": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}})
        model.eval()
        run.finish(loss=run.metrics()[-1]["loss"])
    return run


def _batches(
    images: Tensor,
    labels: Tensor,
    counts: list[int],
    source: Source | None,
    mix: Mix | None,
    settings: Settings,
    epoch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of an epoch as the network sees them: flipped, moved, mixed and noisy images, and their labels."""
    device, draw = runtime.device(), runtime.generator(settings.seed, "classify", epoch)
    order = torch.randperm(len(images), generator=draw).split(settings.batch)
    for rows in order[: len(images) // settings.batch]:
        x = (images[rows] if source is None else source(rows, draw)).to(device)
        soft = torch.cat([F.one_hot(y, n) for y, n in zip(labels[rows].unbind(1), counts, strict=True)], 1)
        x, y = jitter(unit(x), settings.shift, draw), soft.float().to(device)
        if mix is not None:
            x, y = mix(x, y, draw)
        if settings.noise:
            level = settings.noise / 2 * torch.rand(len(x), 1, 1, 1, generator=draw)
            x = x + (level * torch.randn(x.shape, generator=draw)).to(device)
        yield x, y


def jitter(images: Tensor, shift: float, draw: torch.Generator) -> Tensor:
    """Flip half of the images and move each by up to a share of its side, mirrored at the border: float images."""
    (n, channels, height, width), device = images.shape, images.device
    flip = (torch.rand(n, generator=draw) < 0.5).to(device)
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    reach = round(shift * min(height, width))
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1, 1, 1), generator=draw).to(device)
    y, x = dy + torch.arange(height, device=device)[:, None], dx + torch.arange(width, device=device)
    row, channel = torch.arange(n, device=device)[:, None, None, None], torch.arange(channels, device=device)
    return F.pad(images, [reach] * 4, mode="reflect")[row, channel[:, None, None], y, x]


@torch.inference_mode()
def predict(model: Classifier, images: Tensor, batch: int = 500) -> dict[str, Tensor]:
    """Probabilities (N, classes) of each factor, and the encoder's features (N, D) under 'features'."""
    device = next(model.parameters()).device
    parts: dict[str, list[Tensor]] = {name: [] for name in ("features", *model.heads)}
    for chunk in images.split(batch):
        with runtime.autocast(device):
            z = model.features(unit(chunk.to(device)))
            logits = {factor: head(z) for factor, head in model.heads.items()}
        parts["features"].append(z.float().cpu())
        for factor, values in logits.items():
            parts[factor].append(values.float().softmax(1).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
