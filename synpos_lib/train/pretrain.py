"""The only self-supervised training loop: any method, any encoder, one process or several.

    run = pretrain(folder, Config(method="clsp-simclr", epochs=200), images, positives, probe=knn_probe(train, val))
    encoder = load_encoder(run)

Everything random is drawn from the seed and the epoch, for the whole batch (but for dropout and the pairs of feature
transformation): a run that was killed goes on as if it had not been, and several processes compute what one would.
Within an epoch nothing waits for a GPU: images and positives are on it if they fit, and random numbers are drawn there.
Labels only reach the probe and SupCon. The learning rate changes every step, where the released code changes it
every epoch.
"""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.processes import Processes, processes
from synpos_lib.core.runs import Run, open_run
from synpos_lib.data import views
from synpos_lib.data.images import Images, images_fingerprint
from synpos_lib.methods.parts import Loss, Method, Wrapper
from synpos_lib.train import encoders, optim
from synpos_lib.train.frozen import Frozen

Probe = Callable[[Frozen], Mapping[str, float | str]]  # measures of an encoder; a "warning" among them is printed
OnEpoch = Callable[[list[dict]], None]  # receives the metrics of all epochs so far


class Diverged(Problem):
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Config:
    """What sets a run apart; None stands for the value in the method's recipe."""

    method: str = "clsp-simclr"
    encoder: str = "small"
    epochs: int = 200
    batch: int = 256  # images per step, over all processes
    optimizer: str | None = None  # sgd, lars or adamw
    learning_rate: float | None = None  # at this batch; None: the recipe's, in proportion to the batch
    weight_decay: float | None = None
    warmup: int | None = None  # epochs; None: 10, or a tenth of a short training
    views: tuple[str, str] | None = None  # names of augmentations
    normalization: str = "other"  # cifar10, cifar100, stl10, imagenet or other
    hyperparameters: dict[str, Any] = field(default_factory=dict)  # of the method, such as pull_weight or temperature
    probe_every: int = 10  # epochs between probes; the last epoch always has one
    save_every: int = 10  # epochs between checkpoints
    seed: int = 0


def pretrain(
    folder: Path,
    config: Config,
    images: Images,
    positives: Tensor | None = None,
    *,
    probe: Probe | None = None,
    on_epoch: OnEpoch | None = None,
) -> Run | None:
    """Train, continue or reuse the run of this configuration on these images; only the first process gets the run.

    `images` are as from `data.catalog.load`, `positives` (N, K, 3, H, W) as from `data.positives.read`. `probe`,
    such as `evaluate.probes.knn_probe`, measures the encoder every `probe_every` epochs.
    """
    recipe = resolved(config)
    _check(config, recipe, images, positives)
    here = processes()
    description = {
        **dataclasses.asdict(config),
        "recipe": dataclasses.asdict(recipe),
        "images": images.fingerprint,
        "positives": images_fingerprint(positives) if positives is not None and recipe.needs_positives else None,
    }
    code = ("synpos_lib.train.pretrain", *recipe.modules)
    opening: contextlib.AbstractContextManager[Run | None] = contextlib.nullcontext()
    with open_run(folder, description, code) if here.first else opening as run:
        if not here.from_first(run is not None and run.done):
            Training(config, images, positives, here).train(run, probe, on_epoch)
    return run


def resolved(config: Config) -> methods.Recipe:
    """The method's recipe, with what the configuration sets in its place."""
    recipe = methods.recipe(config.method)
    rate = recipe.learning_rate * config.batch / recipe.batch
    return dataclasses.replace(
        recipe,
        optimizer=config.optimizer or recipe.optimizer,
        learning_rate=rate if config.learning_rate is None else config.learning_rate,
        batch=config.batch,
        weight_decay=recipe.weight_decay if config.weight_decay is None else config.weight_decay,
        views=config.views or recipe.views,
    )


def load_encoder(run: Run) -> Frozen:
    """The trained encoder of a finished run, ready to be evaluated."""
    config = config_of(run)
    method, width = build(config)
    method.load_state_dict(run.final()["method"])
    return _frozen(config, method, width)


def untrained(run: Run) -> Frozen:
    """The encoder that a run started from, before its first step."""
    config = config_of(run)
    with runtime.own_randomness(config.seed):
        return _frozen(config, *build(config))


def _frozen(config: Config, method: Method | Wrapper, width: int) -> Frozen:
    device = runtime.device()
    network = method.encoder.to(memory_format=runtime.memory_format(device)).to(device).eval()
    return Frozen(network, width, *views.NORMALIZATION[config.normalization])


def config_of(run: Run) -> Config:
    """The configuration of a run."""
    return Config(**{field.name: run.config[field.name] for field in dataclasses.fields(Config)})


def build(config: Config) -> tuple[Method | Wrapper, int]:
    """The untrained method of a configuration, and the width of its features."""
    encoder, width = encoders.by_name(config.encoder)
    return methods.build(config.method, encoder, width, **config.hyperparameters), width


def synchronise_batchnorm(method: Method | Wrapper) -> Method | Wrapper:
    """Let every BatchNorm see the batches of all processes, so that several equal one; torch has it for GPUs only."""
    if not torch.cuda.is_available():
        raise Problem("several processes need a GPU each, and there is none here: start one process, without torchrun")
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(method)


class Training:
    """One process's part of a training."""

    def __init__(self, config: Config, images: Images, positives: Tensor | None, here: Processes):
        self.config, self.recipe, self.here = config, resolved(config), here
        self.images, self.labels = images.images, images.labels if self.recipe.needs_labels else None
        self.positives = positives if self.recipe.needs_positives else None  # (N, K, 3, H, W)
        if runtime.fits(self.images.nbytes + (0 if self.positives is None else self.positives.nbytes), here.device):
            self.images = self.images.to(here.device)
            self.labels = None if self.labels is None else self.labels.to(here.device)
            self.positives = None if self.positives is None else self.positives.to(here.device)
        self.augmentations = [views.by_name(name) for name in self.recipe.views]
        self.mean, self.std = views.NORMALIZATION[config.normalization]
        self.steps = len(images) // config.batch
        runtime.seed_all(config.seed)
        self.method, self.width = build(config)
        self.method.to(memory_format=runtime.memory_format(here.device)).to(here.device)
        if here.count > 1:
            self.method = synchronise_batchnorm(self.method)
        rate, decay = self.recipe.learning_rate, self.recipe.weight_decay
        self.optimizer = optim.make(self.recipe.optimizer, self.method, learning_rate=rate, weight_decay=decay)
        self.compiled = here.count == 1 and runtime.compile_pays(config.epochs * self.steps, here.device)
        if self.compiled:
            for encoder in filter(None, (self.method.encoder, self.method.target_encoder)):
                encoder.compile()

    def train(self, run: Run | None = None, probe: Probe | None = None, on_epoch: OnEpoch | None = None) -> None:
        """Train the epochs that are left; only the first process has a run, and probes and logs."""
        config, first = self.config, self._restore(run)
        rows = run.metrics() if run else []
        epochs: Iterable[int] = range(first, config.epochs)
        for epoch in runtime.progress(epochs, f"{run.name}: epochs") if run and not runtime.in_batch() else epochs:
            start = time.monotonic()
            losses, parts = self._epoch(epoch)
            if run is None:
                continue
            self._refuse_nan(run, epoch, losses)
            done, last = epoch + 1, epoch + 1 == config.epochs
            row = {"epoch": done, "loss": losses.mean().item(), **parts}
            if probe is not None and (last or done % config.probe_every == 0):
                row |= self.measure(probe)
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            row["images_per_second"] = round(self.steps * config.batch / (time.monotonic() - start), 1)
            row = {key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()}
            run.log(**row)
            rows.append(row)
            self._report(run, row)
            if on_epoch:
                on_epoch(rows)
            if last or done % config.save_every == 0:
                run.save(self._state(done))
        if run is not None:
            excluded = ("epoch", "learning_rate", "images_per_second")
            run.finish(**{key: v for key, v in rows[-1].items() if key not in excluded}, epochs=config.epochs)

    # ---------------------------------------------------------------------------------------- one epoch

    def _epoch(self, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """Train one epoch; the losses of its steps, and the mean of each part of the loss."""
        draw = runtime.generator(self.config.seed, "epoch", epoch)
        rows, candidates = (part.to(self.images.device) for part in self.order(draw))
        config, total_steps = self.config, self.config.epochs * self.steps
        warmup = config.warmup if config.warmup is not None else min(10, config.epochs // 10)
        losses, parts = [], []
        self.method.train()
        for i in range(self.steps):
            step = epoch * self.steps + i
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * optim.warmup_cosine(step, total_steps, warmup * self.steps)
            batch = slice(i * config.batch, (i + 1) * config.batch)
            loss, part = self.step(rows[batch], candidates[batch], draw)
            self.method.after_step((step + 1) / total_steps)
            losses.append(loss)
            parts.append(part)
        means = {name: torch.stack([part[name] for part in parts]).mean().item() for name in parts[0]}
        return torch.stack(losses), means

    def order(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images of an epoch and, for each, which of its candidates; -1: the image itself."""
        n, k = len(self.images), 1 if self.positives is None else self.positives.shape[1]
        if self.recipe.role == "unpaired":
            return methods.load("adainf.inflate")(n, k, generator=draw)
        return torch.randperm(n, generator=draw), torch.randint(k, (n,), generator=draw)

    def step(self, rows: Tensor, candidates: Tensor, draw: torch.Generator) -> Loss:
        """One optimiser step on these images: the loss and its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        inputs = self.inputs(rows, candidates, draw)
        with runtime.autocast(self.here.device):
            loss, parts = self.method.loss(*inputs)
        loss.backward()
        self.here.average_gradients(self.method)
        self.optimizer.step()
        return loss.detach(), parts

    def inputs(self, rows: Tensor, candidates: Tensor, draw: torch.Generator) -> tuple:
        """The arguments of the method's loss for the process's share of a batch: two views, and what its role needs."""
        size, device, role = self.images.shape[2:], self.here.device, self.recipe.role
        augmentations = (*self.augmentations, self.augmentations[1])
        transforms = [
            views.draw(len(rows), augmentation, size[0], size[1], draw, device) for augmentation in augmentations
        ]
        share = len(rows) // self.here.count
        own = slice(self.here.rank * share, (self.here.rank + 1) * share)
        rows, candidates = rows[own], candidates[own]
        real = self.images[rows].to(device, non_blocking=True)
        synthetic = real
        if self.positives is not None:
            synthetic = self.positives[rows, candidates.clamp_min(0)].to(device, non_blocking=True)
        if role in ("both views", "unpaired"):
            paired = (candidates >= 0).to(device, non_blocking=True)
            real = torch.where(paired[:, None, None, None], synthetic, real)
        pair = [views.apply(real, view.part(own), self.mean, self.std) for view in transforms[:2]]
        if self.labels is not None:
            return pair, None, self.labels[rows].to(device, non_blocking=True)
        if role in ("pull", "second view", "third view"):
            return pair, views.apply(synthetic, transforms[2].part(own), self.mean, self.std)
        return (pair,)

    # ---------------------------------------------------------------------------------- state and messages

    def measure(self, probe: Probe) -> Mapping[str, float | str]:
        """The probe's measures of the online encoder as it is now, with a random state of their own."""
        eager = torch.compiler.set_stance("force_eager") if self.compiled else contextlib.nullcontext()
        with runtime.own_randomness(0), eager:
            return probe(Frozen(self.method.encoder, self.width, self.mean, self.std))

    def _report(self, run: Run, row: dict) -> None:
        if runtime.in_batch():
            print(
                f"{run.name}: epoch {row['epoch']}/{self.config.epochs}  loss {row['loss']:.4f}",
                *([f"kNN {row['knn']:.3f}  rank {row['rank']:.1f}"] if "knn" in row else []),
                f"{row['images_per_second']:.0f} images/s",
                sep="  ",
                flush=True,
            )
        if "warning" in row:
            print(f"{run.name}: {row['warning']}", flush=True)

    def _refuse_nan(self, run: Run, epoch: int, losses: Tensor) -> None:
        if losses.isfinite().all():
            return
        step = int((~losses.isfinite()).nonzero()[0])
        saved = epoch // self.config.save_every * self.config.save_every
        raise Diverged(
            f"the loss became {losses[step].item()} at step {step + 1} of epoch {epoch + 1} (learning rate "
            f"{self.optimizer.param_groups[0]['lr']:.3g}): lower learning_rate or lengthen warmup; "
            + (f"the last good checkpoint, epoch {saved}, is in {run.folder}" if saved else "nothing was saved yet")
        )

    def _state(self, epoch: int) -> dict[str, Any]:
        state = {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"epoch": epoch, **state, "random": runtime.random_state()}

    def _restore(self, run: Run | None) -> int:
        """Go on from the checkpoint, if there is one; the epoch to start with."""
        state: Any = self.here.from_first(run.load() if run else None)
        if state is None:
            return 0
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        runtime.align(self.optimizer)
        runtime.restore_random_state(state["random"])
        return state["epoch"]


def _check(config: Config, recipe: methods.Recipe, images: Images, positives: Tensor | None) -> None:
    """Refuse a configuration that cannot be trained on these images before anything starts."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    if config.batch > len(images):
        raise Problem(f"a batch of {config.batch} is more than the {len(images)} images of '{images.name}'")
    if config.batch % count or config.batch // count < 2:
        raise Problem(
            f"a batch of {config.batch} cannot be shared out evenly among {count} processes with at least 2 images "
            f"each: choose a multiple of {count}"
        )
    if config.normalization not in views.NORMALIZATION:
        near = suggest(config.normalization, views.NORMALIZATION)
        raise Problem(f"unknown normalization '{config.normalization}' ({near})")
    if recipe.needs_labels and images.labels is None:
        raise Problem(f"{config.method} needs labels, and '{images.name}' has none: choose another method")
    if not recipe.needs_positives:
        return
    if positives is None:
        raise Problem(f"{config.method} needs positives: make them with notebook 05, or choose a method without")
    height, width = images.images.shape[2:]
    if positives.shape[0] != len(images) or tuple(positives.shape[2:]) != (3, height, width):
        raise Problem(
            f"the positives are for {positives.shape[0]} images of {positives.shape[3]}×{positives.shape[4]} pixels, "
            f"not for these {len(images)} of {height}×{width}: make them from these images"
        )
