"""The training of the diffusion model: a run whose steps are pure functions of (images, step, config).

    loss = || prediction(x_t, t) - target ||²,   x_t and the target as in `schedule`

A network with classes sees the label too, prediction(x_t, t, label), or for some images "no class" instead,
so that it can be sampled with classifier-free guidance. Without classes no label is looked at.

Everything random is drawn for the whole batch from the seed and the step, where the images are, so that a continued
training is the uninterrupted one and a GPU waits for nothing.

Differs from the reference in: the embedded data's network predicts v, and its learning rate falls at the end. With
classes: labels are dropped image by image (the released code drops those of a whole batch, in one batch of ten), the
network is the unconditional one with an embedding of the label added to that of t, and beta ends at 0.02 (released: a
network of its own, and 0.028).
"""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.core.processes import Processes, processes
from synpos_lib.core.runs import Run, open_run
from synpos_lib.data.images import Images, labels_fingerprint
from synpos_lib.data.pixels import scale
from synpos_lib.diffusion.schedule import T, q_sample, target
from synpos_lib.diffusion.unet import EMBEDDED, PAPER, UNet, UNetConfig, check_labels

PART = 128  # images that go through the network at once, for every PART_MEMORY of a GPU; a larger batch is cut up
PART_MEMORY = 8e9  # bytes; the paper's network needs two thirds of it for its activations
LABEL_DROPOUT = 0.1  # share of the images of a batch that are trained as "no class"; the released code's
RANGES = 10  # of t, over which the error is logged
CHECK = 100  # steps after which a GPU is asked whether the loss is still a number


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training of the diffusion model; the defaults are the embedded data's recipe."""

    unet: UNetConfig = field(default_factory=lambda: EMBEDDED)
    steps: int = 40_000
    batch: int = 32  # images per step, over all processes
    learning_rate: float = 1e-3
    warmup: int = 200  # steps
    decay: float = 0.4  # of the steps, at the end, over which the learning rate falls to 2 %
    weight_decay: float = 0.01
    ema: float = 0.999
    ema_warmup: bool = True  # follow faster at first: a short training would otherwise average its own beginning
    clip: float = 1.0  # largest norm of the gradient
    seed: int = 0


PAPER_TRAINING = TrainingConfig(  # the released code's: 2000 epochs of CIFAR-10's 50,000 images on 4 GPUs
    unet=PAPER,
    steps=2000 * 50_000 // 512,
    batch=512,
    learning_rate=2e-4,
    warmup=5000,
    decay=0.0,
    weight_decay=0.0,
    ema=0.9999,
    ema_warmup=False,
)
PAPER_CONDITIONAL = replace(  # the released code's class-conditional one, for CIFAR-10: 1000 epochs
    PAPER_TRAINING, unet=replace(PAPER, classes=10, dropout=0.15), steps=1000 * 50_000 // 512, learning_rate=2.5e-4
)


class Batch(NamedTuple):
    """Everything that the loss of one step depends on."""

    x0: Tensor  # (B, 3, H, W) in [-1, 1]
    t: Tensor  # (B,)
    noise: Tensor  # like x0
    labels: Tensor | None  # (B,) with `classes` for "no class"; None where the network has no classes

    def part(self, index: int, count: int) -> "Batch":
        """One of `count` parts: each `count`-th image."""
        return self._each(lambda values: values[index::count])

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return self._each(lambda values: values.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return self._replace(**{name: change(x) for name, x in self._asdict().items() if x is not None})


def draw(images: Tensor, step: int, config: TrainingConfig, labels: Tensor | None = None) -> Batch:
    """The batch of one step, from all images (N, 3, H, W) uint8 and labels (N,): any step can be drawn again.

    It is drawn and made on the device that holds the images, so that nothing has to wait for it.
    """
    rng = runtime.generator(config.seed, "diffusion", step, where=images.device)
    here: dict[str, Any] = dict(generator=rng, device=images.device)
    chosen = torch.randint(len(images), (config.batch,), **here)
    x0 = _flip(scale(images[chosen]), rng)
    t = torch.randint(T, (config.batch,), **here)
    noise = torch.randn(x0.shape, **here)
    if labels is not None:
        dropped = torch.rand(config.batch, **here) < LABEL_DROPOUT
        labels = labels[chosen].masked_fill(dropped, config.unet.classes)
    return Batch(x0, t, noise, labels)


def _flip(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=rng, device=x.device) < 0.5, x.flip(3), x)


def losses(unet: UNet, batch: Batch, errors: Callable[..., Tensor] | None = None) -> Tensor:
    """The squared error of every image of the batch, (B,); `errors` may be the compiled function of that name."""
    noised = q_sample(batch.x0, batch.t, batch.noise)
    truth = target(batch.x0, batch.t, batch.noise, unet.config.prediction)
    return (errors or squared_errors)(unet, noised, truth, batch)


def squared_errors(unet: UNet, noised: Tensor, truth: Tensor, batch: Batch) -> Tensor:
    """|| prediction(x_t, t) - target ||² of every image, (B,): what is compiled where that pays."""
    return (unet(noised, batch.t, batch.labels).float() - truth).square().mean((1, 2, 3))


def learning_rate(step: int, config: TrainingConfig, progress: float | None = None) -> float:
    """Linear warm-up, constant, then linear to 2 % over the last `decay` of the training.

    `progress`, from 0 to 1, is the share of the training that is over; by default, that of its steps.
    """
    past = step if progress is None else progress * config.steps
    left = (config.steps - past) / max(1, config.decay * config.steps)
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * max(0.02, min(1.0, left))


@torch.no_grad()
def update_ema(ema: UNet, unet: UNet, step: int, config: TrainingConfig) -> None:
    """theta_ema <- d theta_ema + (1 - d) theta,   d = ema, or min(ema, (1 + step) / (10 + step)) with warm-up."""
    d = min(config.ema, (1 + step) / (10 + step)) if config.ema_warmup else config.ema
    torch._foreach_lerp_(list(ema.parameters()), list(unet.parameters()), 1 - d)


def make_optimizer(unet: UNet, config: TrainingConfig) -> torch.optim.Optimizer:
    betas = (0.9, 0.99 if config.weight_decay else 0.999)
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(unet.parameters(), config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True)


def part_size(device: torch.device) -> int:
    """How many images go through the network at once on this device."""
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return PART * max(1, int(memory / PART_MEMORY))


def train_step(
    unet: UNet,
    ema: UNet,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    step: int,
    config: TrainingConfig,
    here: Processes,
    *,
    progress: float | None = None,
    errors: Callable[..., Tensor] | None = None,
) -> Tensor:
    """One update of the network and of its average; returns the loss of every image, (B,).

    Nothing in it waits for a GPU.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, config, progress)
    optimizer.zero_grad()
    error = torch.empty(len(batch.x0), device=batch.x0.device)
    parts = -(-len(error) // part_size(error.device))
    for i in range(parts):
        with runtime.autocast(error.device):
            loss = losses(unet, batch.part(i, parts), errors)
        (loss.mean() * (len(loss) / len(error))).backward()
        error[i::parts] = loss.detach()
    here.average_gradients(unet)
    torch.nn.utils.clip_grad_norm_(unet.parameters(), config.clip)
    optimizer.step()
    update_ema(ema, unet, step, config)
    return error


# ------------------------------------------------------------------------------------- the whole training


def train(
    folder: Path,
    images: Images,
    config: TrainingConfig,
    *,
    labels: Tensor | None = None,  # of a network with classes: what or where; by default the images' labels
    init: UNet | None = None,  # start from these weights; the classes they lack start at zero, so nothing is lost
    save_every: int = 500,  # steps between checkpoints
    on_save: Callable[[int, UNet], None] | None = None,
) -> Run | None:
    """Train, continue or reuse the model of this recipe on these images; `on_save(step, ema)` at each checkpoint."""
    here, classes = processes(), config.unet.classes
    if config.batch % here.count:
        raise Problem(f"a batch of {config.batch} cannot be shared by {here.count} processes: choose a multiple")
    settings = {**asdict(config), "images": images.fingerprint}
    if classes:
        labels = images.labels if labels is None else labels
        if labels is None:
            raise Problem(
                f"a network with {classes} classes needs labels, and these images have none: set classes to 0"
            )
        check_labels(labels, len(images.images), classes)
        settings["labels"] = labels_fingerprint(labels)
    elif labels is not None:
        raise Problem("labels were given to a network without classes: set unet.classes, or leave them out")
    if init is not None:
        same = replace(init.config, classes=classes, dropout=config.unet.dropout) == config.unet
        if not same or init.config.classes not in (0, classes):  # only classes may be added, and dropout changed
            raise Problem(
                f"init is a network with {init.config}, and this recipe trains {config.unet}: give one that fits"
            )
        settings["init"] = weights_fingerprint(init)
    code = ("synpos_lib.diffusion.training",)
    with open_run(folder, settings, code) if here.first else contextlib.nullcontext() as run:
        if not here.from_first(run.done if run else None):
            _loop(run, images.images, labels, config, here, init, save_every, on_save)
    return run


def _loop(
    run: Run | None,  # None in all processes but the first
    images: Tensor,
    labels: Tensor | None,
    config: TrainingConfig,
    here: Processes,
    init: UNet | None,
    save_every: int,
    on_save: Callable[[int, UNet], None] | None,
) -> None:
    torch.manual_seed(config.seed)
    unet = UNet(config.unet).to(here.device)
    if init is not None:
        zeros = {name: torch.zeros_like(value) for name, value in unet.state_dict().items()}
        unet.load_state_dict(zeros | init.state_dict())  # what init lacks, the embedding of the classes, becomes zero
    ema = copy.deepcopy(unet).requires_grad_(False).eval()
    optimizer = make_optimizer(unet, config)
    parts: dict[str, Any] = {"unet": unet, "ema": ema, "optimizer": optimizer}
    steps = range(_restore(run, here, parts), config.steps)
    if runtime.fits(images.numel(), here.device):
        images, labels = images.to(here.device), None if labels is None else labels.to(here.device)
    errors = torch.compile(squared_errors) if runtime.compile_pays(config.steps, here.device) else None
    sums = torch.zeros(2, RANGES, device=here.device)  # of the error, and of how often, in ranges of t
    bad = torch.full((), -1, device=here.device)  # the first step whose loss was not a number
    unet.train()
    for step in runtime.progress(steps, f"{run.name}: steps") if run else steps:
        torch.manual_seed(runtime.derive(config.seed, "dropout", step, here.rank))
        batch = draw(images, step, config, labels).part(here.rank, here.count).to(here.device)
        error = train_step(unet, ema, optimizer, batch, step, config, here, errors=errors)
        if not run:
            continue
        sums.index_add_(1, batch.t * RANGES // T, torch.stack([error, torch.ones_like(error)]))
        bad = torch.where((bad < 0) & ~error.isfinite().all(), step, bad)
        saving = (step + 1) % save_every == 0 or step + 1 == config.steps
        if (saving or (step + 1) % CHECK == 0) and bad >= 0:
            raise Problem(
                f"the loss was no longer a number at step {int(bad) + 1} of run '{run.name}' (learning rate "
                f"{learning_rate(int(bad), config):.2g}): lower it; the last checkpoint is kept"
            )
        if saving:
            loss = round(float(sums[0].sum() / sums[1].sum()), 5)
            by_t: Any = [round(value, 5) for value in (sums[0] / sums[1].clamp_min(1)).tolist()]
            run.log(step=step + 1, loss=loss, by_t=by_t)
            if runtime.in_batch():
                print(f"{run.name}: step {step + 1}/{config.steps}  loss {loss:.4f}", flush=True)
            sums.zero_()
            run.save({"step": step + 1, **{name: part.state_dict() for name, part in parts.items()}})
            if on_save:
                on_save(step + 1, ema)
    if run:
        run.finish(loss=run.metrics()[-1]["loss"], steps=config.steps, images_seen=config.steps * config.batch)


def _restore(run: Run | None, here: Processes, parts: dict[str, Any]) -> int:
    """Go on from the checkpoint of the first process, if there is one; the step to start with."""
    state: Any = here.from_first(run.load() if run else None)
    if not state:
        return 0
    for name, part in parts.items():
        part.load_state_dict(state[name])
    runtime.align(parts["optimizer"])
    return state["step"]
