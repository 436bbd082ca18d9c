"""The only supervised loop: an encoder with one linear head per factor, trained on labelled images.

    run = train(folder, model, images, {"what": labels}, {"images": fingerprint}, **RECIPES["cifar"])

The defaults are those of the judges. What is mixed comes from outside: `source` says which image stands in for a
training image, `mix` changes a whole batch and its labels.
"""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import Run, open_run

CODE = ("synpos_lib.train.classify", "synpos_lib.train.encoders")

_SGD = {"optimizer": "sgd", "noise": 0.0, "shift": 1 / 8}
RECIPES = {  # cifar, fine-grained: near GuidedMixup's code, which DiffuseMix names as a source; its own are not known
    "embedded": {"noise": 0.0, "shift": 1 / 8},
    "cifar": {**_SGD, "epochs": 300, "batch": 100, "learning_rate": 0.1, "decay": 1e-4, "steps_at": (1 / 3, 2 / 3)},
    "fine-grained": {**_SGD, "epochs": 300, "batch": 32, "learning_rate": 0.01, "decay": 5e-4, "steps_at": (0.5, 0.75)},
}


class Classifier(nn.Module):
    """An encoder and one linear head per factor, such as *what* and *where*; images (B, 3, H, W) in [0, 1]."""

    def __init__(self, encoder: nn.Module, width: int, classes: dict[str, int], mean=(0.5,) * 3, std=(0.5,) * 3):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({factor: nn.Linear(width, count) for factor, count in classes.items()})
        self.normalize = torch.tensor([mean, std])[:, None, :, None, None]  # a plain tensor: not part of the weights

    def features(self, x: Tensor) -> Tensor:
        mean, std = self.normalize.to(x)
        return self.encoder(((x - mean) / std).contiguous(memory_format=torch.channels_last))  # (B, D)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        z = self.features(x)
        return {factor: head(z) for factor, head in self.heads.items()}


def train(
    folder: Path,
    model: Classifier,
    images: Tensor,
    targets: dict[str, Tensor],
    config: dict,
    *,
    source: Callable[[Tensor, torch.Generator], Tensor] | None = None,  # rows -> the images that stand for them
    mix: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]] | None = None,  # x, y -> x, y
    epochs: int = 10,
    batch: int = 256,
    optimizer: str = "adamw",  # or sgd, with Nesterov momentum 0.9
    learning_rate: float = 2e-3,  # AdamW, one cycle; the judges need no tuning
    decay: float = 0.05,
    steps_at: tuple[float, ...] = (),  # shares of the training after which the rate falls to a tenth; none: one cycle
    shift: float = 1 / 16,  # of the side: how far images are moved at most
    noise: float = 0.1,  # strength of the noise, so that a judge does not mind a sampler's grain
    seed: int = 0,
    save_every: int = 1,  # epochs between checkpoints
) -> Run:
    """Fit every head by cross-entropy, with flips and small shifts; `config` says what images and mixing are."""
    how = ("epochs", "batch", "optimizer", "learning_rate", "decay", "steps_at", "shift", "noise", "seed")
    settings = {name: value for name, value in locals().items() if name in how}
    where, steps = runtime.device(), len(images) // batch
    if not steps:
        raise Problem(f"a batch of {batch} is more than the {len(images)} images: choose a smaller one")
    with open_run(folder, {**config, **settings}, CODE + _modules(source, mix)) as run:
        model.to(where, memory_format=torch.channels_last)
        if run.done:
            model.load_state_dict(run.final()["model"])
            model.eval()
            return run
        parts = {"model": model, **_optimizer(model, optimizer, learning_rate, decay, steps_at, epochs * steps)}
        counts = [model.heads[factor].out_features for factor in targets]
        soft = torch.cat([F.one_hot(y, count) for y, count in zip(targets.values(), counts, strict=True)], 1).float()
        first = 0
        if state := run.load():
            first = state["epoch"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
        for epoch in runtime.progress(range(first, epochs), f"{run.name}: epochs"):
            draw = runtime.generator(seed, "classify", epoch)
            model.train()
            for rows in torch.randperm(len(images), generator=draw)[: steps * batch].split(batch):
                x = (images[rows] if source is None else source(rows, draw)).to(where)
                x, y = jitter(x.float() / 255, shift, draw), soft[rows].to(where)
                if mix is not None:
                    x, y = mix(x, y, draw)
                if noise:
                    level = noise / 2 * torch.rand(len(x), 1, 1, 1, generator=draw)
                    x = x + (level * torch.randn(x.shape, generator=draw)).to(where)
                with runtime.autocast(where):
                    logits = model(x)
                loss = sum(
                    F.cross_entropy(logits[factor].float(), part)
                    for factor, part in zip(targets, y.split(counts, 1), strict=True)
                )
                parts["optimizer"].zero_grad()
                loss.backward()
                parts["optimizer"].step()
                parts["schedule"].step()
            run.log(epoch=epoch, loss=round(loss.item(), 5))
            if (epoch + 1) % save_every == 0 or epoch + 1 == epochs:
                run.save({"epoch": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}})
        model.eval()
        run.finish(loss=run.metrics()[-1]["loss"])
    return run


def _optimizer(model, name: str, learning_rate: float, decay: float, steps_at, total: int) -> dict:
    """The optimiser, and how its rate changes over all steps."""
    if name not in (known := ("adamw", "sgd")):
        raise Problem(f"unknown optimizer '{name}' ({suggest(name, known)})")
    if name == "sgd":
        optimizer = torch.optim.SGD(model.parameters(), learning_rate, 0.9, weight_decay=decay, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=decay)
    if steps_at:
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * total) for share in steps_at], 0.1)
    else:
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total)
    return {"optimizer": optimizer, "schedule": schedule}


def _modules(*functions: Callable | None) -> tuple[str, ...]:
    """Where in the library the mixing comes from: a result depends on that code too."""
    return tuple(sorted({getattr(function, "func", function).__module__ for function in functions if function}))


def jitter(images: Tensor, shift: float, draw: torch.Generator) -> Tensor:
    """Flip half of the images and move each by up to a share of its side, mirrored at the border: float images."""
    n, channels, height, width = images.shape
    flip = (torch.rand(n, generator=draw) < 0.5).to(images.device)
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    reach = round(shift * min(height, width))
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1, 1, 1), generator=draw).to(images.device)
    padded = F.pad(images, [reach] * 4, mode="reflect")
    row, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    y = dy + torch.arange(height, device=images.device)[:, None]
    return padded[row.to(images.device), channel.to(images.device), y, dx + torch.arange(width, device=images.device)]


@torch.inference_mode()
def predict(model: Classifier, images: Tensor, batch: int = 500) -> dict[str, Tensor]:
    """Probabilities (N, classes) of each factor, and the encoder's features (N, D) under 'features'."""
    where = next(model.parameters()).device
    parts: dict[str, list] = {}
    for chunk in images.split(batch):
        with runtime.autocast(where):
            z = model.features(chunk.to(where).float() / 255)
            logits = {factor: head(z) for factor, head in model.heads.items()}
        parts.setdefault("features", []).append(z.float().cpu())
        for factor, values in logits.items():
            parts.setdefault(factor, []).append(values.float().softmax(1).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
