"""The only self-supervised training loop: any method, any encoder, one process or several.

    run = pretrain(folder, Config(method="clsp-simclr", epochs=200), images, positives, probe=knn_probe(train, val))
    encoder = load_encoder(run)

Everything random is drawn from the seed and the epoch, for the whole batch (but for dropout and the pairs of feature
transformation): a run that was killed goes on as if it had not been, and several processes compute what one would.
Within an epoch nothing waits for a GPU: images and positives are on it if they fit, and what is random is drawn there.
Labels only reach the kNN probe and SupCon. The learning rate changes every step, where the released code changes it
every epoch.
"""

import contextlib
import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.processes import Processes, processes
from synpos_lib.core.runs import Run, open_run
from synpos_lib.data import views
from synpos_lib.methods.adainf import inflate
from synpos_lib.train import collapse, encoders, optim
from synpos_lib.train.frozen import Frozen


@dataclass(frozen=True)
class Config:
    """What a run is; everything left at None comes from the method's recipe."""

    method: str = "clsp-simclr"
    encoder: str = "small"
    epochs: int = 200
    batch: int = 256  # images per step, over all processes
    accumulate: int = 1  # parts that a batch is cut into when memory is short; each part is its own contrast
    optimizer: str | None = None  # sgd, lars or adamw
    learning_rate: float | None = None  # at this batch; None: the recipe's, in proportion to the batch
    weight_decay: float | None = None
    warmup: int | None = None  # epochs; None: 10, or a tenth of a short training
    views: tuple[str, str] | None = None  # names of augmentations
    normalization: str = "other"  # cifar10, cifar100, stl10, imagenet or other
    hyperparameters: dict = field(default_factory=dict)  # of the method, such as lambda_ or temperature
    probe_every: int = 10  # epochs between kNN probes; the last epoch always has one
    save_every: int = 10  # epochs between checkpoints
    seed: int = 0


def pretrain(
    folder: Path,
    config: Config,
    images,
    positives: Tensor | None = None,
    *,
    probe: Callable[[Frozen], dict[str, float]] | None = None,
    on_epoch: Callable[[list[dict]], None] | None = None,
) -> Run | None:
    """Train, continue or reuse the run of this configuration on these images; only the first process gets the run.

    `images` are as from `data.catalog.load`, `positives` (N, K, 3, H, W) as from `data.positives.read`. `probe`,
    such as `evaluate.probes.knn_probe`, is asked every `probe_every` epochs; `on_epoch` sees all metrics.
    """
    recipe = methods.recipe(config.method)
    _check(config, recipe, images, positives)
    here = processes()
    described = {
        **dataclasses.asdict(config),
        "images": images.fingerprint,
        "positives": _fingerprint(positives) if recipe.needs_positives else None,
    }
    code = ("synpos_lib.train.pretrain", "synpos_lib.methods.clsp", "synpos_lib.methods.mixdiff", recipe.module)
    if not here.first:
        if not here.from_first(None):
            _Training(config, recipe, images, positives, here).train(None, None, None)
        return None
    with open_run(folder, described, code) as run:
        if not here.from_first(run.done):
            _Training(config, recipe, images, positives, here).train(run, probe, on_epoch)
    return run


def load_encoder(run: Run, which: str = "online") -> Frozen:
    """The trained encoder of a finished run, "online" or "ema" (the momentum copy), ready to be evaluated."""
    method, width = build(config_of(run))
    method.load_state_dict(run.final()["method"])
    if which not in ("online", "ema"):
        raise Problem(f"unknown encoder '{which}' ({suggest(which, ('online', 'ema'))})")
    network = method.encoder if which == "online" else method.target_encoder
    if network is None:
        raise Problem(f"{run.config['method']} has no momentum encoder: ask for the online one")
    network.to(runtime.device(), memory_format=torch.channels_last).eval()
    return Frozen(network, width, *views.NORMALIZATION[run.config["normalization"]], which)


def untrained(run: Run) -> Frozen:
    """The encoder that a run started from, before its first step."""
    config = config_of(run)
    with runtime.own_randomness(config.seed):
        method, width = build(config)
    network = method.encoder.to(runtime.device(), memory_format=torch.channels_last).eval()
    return Frozen(network, width, *views.NORMALIZATION[config.normalization])


def config_of(run: Run) -> Config:
    """The configuration that a run was made with."""
    return Config(**{field.name: run.config[field.name] for field in dataclasses.fields(Config)})


def build(config: Config):
    """The untrained method of a configuration, and the width of its features."""
    encoder, width = encoders.by_name(config.encoder)
    return methods.build(config.method, encoder, width, **config.hyperparameters), width


class _Training:
    """One process's part of a training."""

    def __init__(self, config: Config, recipe: methods.Recipe, images, positives, here: Processes):
        self.config, self.recipe, self.here = config, recipe, here
        self.labels = images.labels if recipe.needs_labels else None
        self.images, self.positives = images.images, positives  # (N, 3, H, W), (N, K, 3, H, W)
        positives = positives if recipe.needs_positives else None
        if runtime.fits(images.images.nbytes + (0 if positives is None else positives.nbytes), here.device):
            self.images = images.images.to(here.device)
            self.labels = None if self.labels is None else self.labels.to(here.device)
            self.positives = None if positives is None else positives.to(here.device)
        self.augmentations = [views.by_name(name) for name in config.views or recipe.views]
        self.mean, self.std = views.NORMALIZATION[config.normalization]
        self.steps = len(images) // config.batch
        runtime.seed_all(config.seed)
        self.method, self.width = build(config)
        self.method.to(here.device, memory_format=torch.channels_last)
        if here.count > 1:
            from synpos_lib.methods.parts import synchronise_batchnorm

            self.method = synchronise_batchnorm(self.method)
        decay = recipe.weight_decay if config.weight_decay is None else config.weight_decay
        self.learning_rate = config.learning_rate or recipe.learning_rate * config.batch / recipe.batch
        self.optimizer = optim.make(
            config.optimizer or recipe.optimizer, self.method, learning_rate=self.learning_rate, weight_decay=decay
        )
        self.wrapped = here.accelerator.prepare(self.method) if here.accelerator else self.method
        self.compiled = here.count == 1 and runtime.compile_pays(config.epochs * self.steps, here.device)
        if self.compiled:
            for encoder in filter(None, (self.method.encoder, self.method.target_encoder)):
                encoder.compile()

    def train(self, run: Run | None, probe, on_epoch) -> None:
        first = self._restore(run)
        rows = run.metrics() if run else []
        epochs = range(first, self.config.epochs)
        quiet = run is None or runtime.in_batch()
        for epoch in epochs if quiet else runtime.progress(epochs, f"{run.name}: epochs"):
            since = time.monotonic()
            losses, parts = self._epoch(epoch)
            if run is None:
                continue
            self._refuse_nan(run, epoch, losses)
            row = {"epoch": epoch + 1, "loss": losses.mean().item(), **parts}
            last = epoch + 1 == self.config.epochs
            if probe is not None and (last or (epoch + 1) % self.config.probe_every == 0):
                row |= self.ask(probe)
            row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
            row["images_per_second"] = round(self.steps * self.config.batch / (time.monotonic() - since), 1)
            row = {key: round(v, 5) if isinstance(v, float) else v for key, v in row.items()}
            run.log(**row)
            rows.append(row)
            self._say(run, row)
            if on_epoch:
                on_epoch(rows)
            if last or (epoch + 1) % self.config.save_every == 0:
                run.save(self._state(epoch + 1))
        if run is not None:
            passing = ("epoch", "learning_rate", "images_per_second")
            run.finish(**{key: v for key, v in rows[-1].items() if key not in passing}, epochs=self.config.epochs)

    # ---------------------------------------------------------------------------------------- one epoch

    def _epoch(self, epoch: int) -> tuple[Tensor, dict[str, float]]:
        """Train one epoch; the losses of its steps, and the mean of each part of the loss."""
        draw = runtime.generator(self.config.seed, "epoch", epoch)
        rows, candidates = (drawn.to(self.images.device) for drawn in self._order(draw))
        total_steps = self.config.epochs * self.steps
        warmup = self.config.warmup if self.config.warmup is not None else min(10, self.config.epochs // 10)
        losses, parts = [], []
        self.wrapped.train()
        for i in range(self.steps):
            step = epoch * self.steps + i
            factor = optim.warmup_cosine(step, total_steps, warmup * self.steps)
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * factor
            batch = slice(i * self.config.batch, (i + 1) * self.config.batch)
            loss, part = self.step(rows[batch], candidates[batch], draw)
            self.method.after_step((step + 1) / total_steps)
            losses.append(loss)
            parts.append(part)
        means = {name: torch.stack([part[name] for part in parts]).mean().item() for name in parts[0]}
        return torch.stack(losses), means

    def _order(self, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images of an epoch and, for each, which of its candidates; -1: the image itself."""
        n = len(self.images)
        if self.recipe.role == "unpaired":
            return inflate(n, self.positives.shape[1], generator=draw)
        k = self.positives.shape[1] if self.recipe.needs_positives else 1
        return torch.randperm(n, generator=draw), torch.randint(k, (n,), generator=draw)

    def step(self, rows: Tensor, candidates: Tensor, draw: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """One optimiser step on these images: the loss and its parts."""
        self.optimizer.zero_grad(set_to_none=True)
        share = len(rows) // self.config.accumulate
        total, parts = 0.0, {}
        for start in range(0, share * self.config.accumulate, share):
            chunk = slice(start, start + share)
            inputs = self._views(rows[chunk], candidates[chunk], draw)
            with runtime.autocast(self.here.device):
                loss, part = self.wrapped(*inputs)
            loss = loss / self.config.accumulate
            if self.here.accelerator:
                self.here.accelerator.backward(loss)
            else:
                loss.backward()
            total = total + loss.detach()
            parts = {key: parts.get(key, 0.0) + value / self.config.accumulate for key, value in part.items()}
        self.optimizer.step()
        return total, parts

    def _views(self, rows: Tensor, candidates: Tensor, draw: torch.Generator) -> tuple:
        """What the method is given, for this process's share of a batch: two views, and what its role asks for."""
        size, where = self.images.shape[2:], self.here.device
        drawn = [views.draw(len(rows), how, *size, draw, where) for how in (*self.augmentations, self.augmentations[1])]
        share = len(rows) // self.here.count
        mine = slice(self.here.rank * share, (self.here.rank + 1) * share)
        rows, candidates = rows[mine], candidates[mine]
        real = self.images[rows].to(where, non_blocking=True)
        role = self.recipe.role
        made = self._made(rows, candidates) if role in ("pull", "second view", "both views", "unpaired") else None
        if role in ("both views", "unpaired"):
            synthetic = (candidates >= 0).to(where, non_blocking=True)
            real = torch.where(synthetic[:, None, None, None], made, real)
        sources = [real, real, real if role == "third view" else made]
        pair = [views.apply(sources[v], drawn[v].part(mine), self.mean, self.std) for v in range(2)]
        if self.labels is not None:
            return pair, None, self.labels[rows].to(where, non_blocking=True)
        if role in ("pull", "second view", "third view"):
            return pair, views.apply(sources[2], drawn[2].part(mine), self.mean, self.std)
        return (pair,)

    def _made(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """Synthetic images: (B, 3, H, W) uint8."""
        return self.positives[rows, candidates.clamp_min(0)].to(self.here.device, non_blocking=True)

    # ----------------------------------------------------------------------------------- state and words

    def ask(self, probe: Callable[[Frozen], dict[str, float]]) -> dict[str, float]:
        """What the probe says of the online encoder as it is now, from a random state of its own."""
        as_it_is = torch.compiler.set_stance("force_eager") if self.compiled else contextlib.nullcontext()
        with runtime.own_randomness(0), as_it_is:
            return probe(Frozen(self.method.encoder, self.width, self.mean, self.std))

    def _say(self, run: Run, row: dict) -> None:
        if runtime.in_batch():
            extra = f"  kNN {row['knn']:.3f}  rank {row['rank']:.1f}" if "knn" in row else ""
            print(
                f"{run.name}: epoch {row['epoch']}/{self.config.epochs}  loss {row['loss']:.4f}{extra}"
                f"  {row['images_per_second']:.0f} images/s",
                flush=True,
            )
        if "rank" in row and (trouble := collapse.verdict(row)):
            print(f"{run.name}: {trouble}; a lower learning rate or a longer warm-up is the usual cure", flush=True)

    def _refuse_nan(self, run: Run, epoch: int, losses: Tensor) -> None:
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            saved = epoch // self.config.save_every * self.config.save_every
            good = f"the last good checkpoint, epoch {saved}, is in {run.folder}" if saved else "nothing was saved yet"
            rate = self.optimizer.param_groups[0]["lr"]
            raise Problem(
                f"the loss became {losses[bad[0, 0]].item()} at step {bad[0, 0].item() + 1} of epoch {epoch + 1} "
                f"(learning rate {rate:.3g}): lower learning_rate or lengthen warmup; {good}"
            )

    def _state(self, epoch: int) -> dict:
        return {
            "epoch": epoch,
            "method": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": runtime.random_state(),
        }

    def _restore(self, run: Run | None) -> int:
        """Go on from the checkpoint, if there is one; the epoch to start with."""
        state = self.here.from_first(run.load() if run else None)
        if state is None:
            return 0
        self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        runtime.restore_random_state(state["random"])
        return state["epoch"]


def _check(config: Config, recipe: methods.Recipe, images, positives) -> None:
    """One clear sentence before anything starts."""
    count = int(os.environ.get("WORLD_SIZE", 1))
    parts = config.accumulate * count
    if config.batch > len(images):
        raise Problem(f"a batch of {config.batch} is more than the {len(images)} images of '{images.name}'")
    if config.batch % parts or config.batch // parts < 2:
        raise Problem(
            f"a batch of {config.batch} cannot be cut into {config.accumulate} accumulated parts for {count} "
            f"processes with at least 2 images each"
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


def _fingerprint(positives: Tensor) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for start in range(0, len(positives), 1000):
        digest.update(positives[start : start + 1000].contiguous().numpy())
    return digest.hexdigest()
