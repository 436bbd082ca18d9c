"""The only supervised loop: an encoder with one linear head per factor, trained on labelled images."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from synpos_lib import runtime
from synpos_lib.runs import Run, open_run

CODE = ("synpos_lib.classify", "synpos_lib.encoders")


class Classifier(nn.Module):
    """An encoder and one linear head per factor, such as *what* and *where*."""

    def __init__(self, encoder: nn.Module, width: int, classes: dict[str, int]):
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleDict({factor: nn.Linear(width, count) for factor, count in classes.items()})

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        z = self.encoder(x)  # (B, D)
        return {factor: head(z) for factor, head in self.heads.items()}


def scale(images: torch.Tensor) -> torch.Tensor:
    """uint8 [0, 255] to float [-1, 1]."""
    return images.float() / 127.5 - 1


def train(
    folder: Path,
    model: Classifier,
    images: torch.Tensor,
    targets: dict[str, torch.Tensor],
    config: dict,
    *,
    epochs: int = 10,
    batch: int = 256,
    learning_rate: float = 2e-3,  # AdamW, one cycle; the judges need no tuning
    noise: float = 0.1,  # strength of the noise, so that a judge does not mind a sampler's grain
    seed: int = 0,
) -> Run:
    """Fit every head by cross-entropy, with flips, small shifts and noise; `config` says what the images are."""
    settings = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "noise": noise, "seed": seed}
    where = runtime.device()
    with open_run(folder, {**config, **settings}, CODE) as run:
        model.to(where, memory_format=torch.channels_last)
        if run.done:
            model.load_state_dict(run.final()["model"])
            model.eval()
            return run
        steps = len(images) // batch
        optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, epochs * steps)
        parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
        first = 0
        if state := run.load():
            first = state["epoch"]
            for name, part in parts.items():
                part.load_state_dict(state[name])
        for epoch in runtime.progress(range(first, epochs), f"{run.name}: epochs"):
            draw = runtime.generator(seed, "classify", epoch)
            model.train()
            for index in torch.randperm(len(images), generator=draw)[: steps * batch].split(batch):
                x = scale(jitter(images[index], draw)).to(where)
                x = x + noise * torch.rand(len(x), 1, 1, 1, generator=draw).to(where) * torch.randn(
                    x.shape, generator=draw
                ).to(where)
                with runtime.autocast(where):
                    logits = model(x.contiguous(memory_format=torch.channels_last))
                loss = sum(F.cross_entropy(logits[f].float(), targets[f][index].to(where)) for f in logits)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            run.log(epoch=epoch, loss=round(loss.item(), 5))
            run.save({"epoch": epoch + 1, **{name: part.state_dict() for name, part in parts.items()}})
        model.eval()
        run.finish(loss=loss.item())
    return run


def jitter(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Flip half of the images and shift the batch by up to two pixels."""
    flip = torch.rand(len(images), generator=draw) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    dy, dx = torch.randint(0, 5, (2,), generator=draw).tolist()
    height, width = images.shape[2:]
    padded = F.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(images.dtype)
    return padded[:, :, dy : dy + height, dx : dx + width]


@torch.inference_mode()
def predict(model: Classifier, images: torch.Tensor, batch: int = 500) -> dict[str, torch.Tensor]:
    """Probabilities (N, classes) of each factor, and the encoder's features (N, D) under 'features'."""
    where = next(model.parameters()).device
    parts: dict[str, list] = {}
    for chunk in images.split(batch):
        with runtime.autocast(where):
            z = model.encoder(scale(chunk).to(where, memory_format=torch.channels_last))
            logits = {factor: head(z) for factor, head in model.heads.items()}
        parts.setdefault("features", []).append(z.float().cpu())
        for factor, values in logits.items():
            parts.setdefault(factor, []).append(values.float().softmax(1).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
