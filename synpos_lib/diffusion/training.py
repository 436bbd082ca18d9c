"""The diffusion model: one step of its training, as pure functions of (images, step, config).

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise,   loss = || prediction(x_t, t) - target ||²
    target = noise (epsilon)   or   sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0 (v_prediction)

A network with classes is told the label too, prediction(x_t, t, label), or for some images "no class" instead,
so that it can be sampled with classifier-free guidance. Without classes no label is looked at.

Everything random is drawn for the whole batch from the seed and the step, where the images are, so that a continued
training is the uninterrupted one and a GPU waits for nothing.

Differs from the reference in: the embedded data's network predicts v, and learns to listen to a bottleneck that is
not its own (`second_view`). For that share of every batch, h comes from another view of the same image: its middle,
flipped and moved, in the surroundings of another image, with noise of its own. So h pays off for what both have in
common, the thing in the middle, and not for the place. The paper's network needs no such help: it is 8 times larger
and saw 100 million images. No label is used, but one assumption: things are in the middle. With classes: labels
are dropped image by image (the released code drops those of a whole batch, in one batch of ten), the network is the
unconditional one with an embedding of the label added to that of t, and beta ends at 0.02 (released: a network of
its own, and 0.028).
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.diffusion.unet import EMBEDDED, PAPER, UNetConfig

T = 1000  # timesteps
PART = 128  # images that go through the network at once, for every PART_MEMORY of a GPU; a larger batch is cut up
PART_MEMORY = 8e9  # bytes; the paper's network needs two thirds of it for its activations
LABEL_DROPOUT = 0.1  # share of the images of a batch that are trained as "no class"; the released code's


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training of the diffusion model; the defaults are the embedded data's recipe."""

    unet: UNetConfig = field(default_factory=lambda: EMBEDDED)
    steps: int = 22_000
    batch: int = 32  # images per step, over all processes
    learning_rate: float = 1e-3
    warmup: int = 200  # steps
    decay: float = 0.4  # of the steps, at the end, over which the learning rate falls to 2 %
    weight_decay: float = 0.01
    ema: float = 0.999
    ema_warmup: bool = True  # follow faster at first: a short training would otherwise average its own beginning
    clip: float = 1.0  # largest norm of the gradient
    second_view: float = 0.8  # share of the batch whose bottleneck comes from another view of the same image
    view_time: float = 1.0  # those views are noised to a timestep uniform in [(1 - view_time) t, t]
    skip_drop: float = 0.0  # share of the images that lose the skips of a resolution, each resolution by its own coin
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
    second_view=0.0,
)
PAPER_CONDITIONAL = replace(  # the released code's class-conditional one, for CIFAR-10: 1000 epochs
    PAPER_TRAINING, unet=replace(PAPER, classes=10, dropout=0.15), steps=1000 * 50_000 // 512, learning_rate=2.5e-4
)


class Batch(NamedTuple):
    x0: torch.Tensor  # (B, 3, H, W) in [-1, 1]
    t: torch.Tensor  # (B,)
    noise: torch.Tensor  # like x0
    views: torch.Tensor  # (V, 3, H, W) noised views of the first V images, V = second_view * B
    view_t: torch.Tensor  # (V,)
    own: torch.Tensor  # (V, 1, 1, 1) how much of its own bottleneck each of the first V images keeps
    labels: torch.Tensor | None  # (B,) with `classes` for "no class"; None where the network has no classes
    skips: torch.Tensor | None  # (B, levels) 1 where the skips of a resolution are kept, 0 where dropped; None: kept


@lru_cache
def alpha_bar(where="cpu") -> torch.Tensor:
    """The linear schedule: alpha_bar_t = prod_{s <= t} (1 - beta_s), beta from 1e-4 to 0.02. (T,)"""
    return (1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64)).cumprod(0).float().to(where)


def _at(t):
    a = alpha_bar(t.device)[t][:, None, None, None]
    return a.sqrt(), (1 - a).sqrt()


def q_sample(x0, t, noise):
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise."""
    signal, sigma = _at(t)
    return signal * x0 + sigma * noise


def target(x0, t, noise, prediction):
    """What the network should say: the noise, or v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0."""
    if prediction == "epsilon":
        return noise
    signal, sigma = _at(t)
    return signal * noise - sigma * x0


def draw(images, step, config, labels=None) -> Batch:
    """The batch of one step, from all images (N, 3, H, W) uint8 and labels (N,): any step can be drawn again.

    It is drawn and made on the device that holds the images, so that nothing has to wait for it.
    """
    here = dict(generator=runtime.generator(config.seed, "diffusion", step, where=images.device), device=images.device)
    chosen = torch.randint(len(images), (config.batch,), **here)
    x0 = images[chosen].float() / 127.5 - 1
    x0 = _flip(x0, **here)
    t = torch.randint(T, (config.batch,), **here)
    noise = torch.randn(x0.shape, **here)
    n = round(config.second_view * config.batch)
    views = other_view(x0[:n], here["generator"])
    view_t = (t[:n] * (1 - config.view_time * torch.rand(n, **here))).long()
    views = q_sample(views, view_t, torch.randn(views.shape, **here))
    own = 0.3 * torch.rand(n, **here) * (torch.rand(n, **here) < 0.5)
    skips = None
    if labels is not None:
        dropped = torch.rand(config.batch, **here) < LABEL_DROPOUT
        labels = labels[chosen].masked_fill(dropped, config.unet.classes)
    if config.skip_drop:
        skips = (torch.rand(config.batch, len(config.unet.channels), **here) >= config.skip_drop).float()
    return Batch(x0, t, noise, views, view_t, own[:, None, None, None], labels, skips)


def share(batch: Batch, index, count) -> Batch:
    """One of `count` parts of a batch: each `count`-th image, so that all get as many with a second view."""
    return Batch(*(None if field is None else field[index::count] for field in batch))


def check_labels(labels, n, classes):
    """Labels are one whole number from 0 to classes - 1 for each of n images."""
    if len(labels) != n:
        raise Problem(f"there are {len(labels)} labels for {n} images: give one for each")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise Problem(
            f"the labels run from {low} to {high}, but a network with {classes} classes knows 0 to {classes - 1}: "
            "labels count from 0, one class for each"
        )


def _flip(x, generator, device):
    return torch.where(torch.rand(len(x), 1, 1, 1, generator=generator, device=device) < 0.5, x.flip(3), x)


def other_view(x, rng):
    """The same things elsewhere: the middle of each image amid the next one; flipped, zoomed ± 8 %, moved ± 10 %."""
    n, _, height, width = x.shape
    if not n:  # no second views, as in the paper
        return x
    here = dict(generator=rng, device=x.device)
    cx, cy, a, b = torch.rand(4, n, 1, 1, **here)
    middle = _ellipse(0.12 * (cx - 0.5), 0.12 * (cy - 0.5), 0.56 + 0.32 * a, 0.34 + 0.22 * b, height, width)
    x = x.roll(1, 0) + middle[:, None] * (x - x.roll(1, 0))
    zoom, *move = torch.rand(3, n, **here) - 0.5
    zoom, none = 1 + 0.16 * zoom, torch.zeros(n, device=x.device)
    affine = torch.stack([zoom, none, 0.2 * move[0], none, zoom, 0.2 * move[1]], 1).view(n, 2, 3)
    grid = F.affine_grid(affine, x.shape, align_corners=False)
    return F.grid_sample(_flip(x, **here), grid, padding_mode="reflection", align_corners=False)


def _ellipse(cx, cy, a, b, height, width):
    """1 within ((x - cx) / a)² + ((y - cy) / b)² < 1, for x and y from -1 to 1; 0 outside; soft between. (n, H, W)"""
    y, x = ((torch.arange(k, device=cx.device) + 0.5) / k * 2 - 1 for k in (height, width))
    y, x = y[:, None], x[None]
    inside = 1 - ((x - cx) / a) ** 2 - ((y - cy) / b) ** 2
    return (0.5 + inside * b * height / 4).clamp(0, 1)


def losses(unet, batch: Batch, errors=None):
    """The squared error of every image of the batch, (B,); `errors` may be the compiled function of that name."""
    noised = q_sample(batch.x0, batch.t, batch.noise)
    wanted = target(batch.x0, batch.t, batch.noise, unet.config.prediction)
    return (errors or squared_errors)(unet, noised, wanted, batch)


def squared_errors(unet, noised, wanted, batch: Batch):
    """|| prediction(x_t, t) - target ||² of every image, (B,): what is compiled where that pays."""
    labels = batch.labels
    h, skips = unet.encode(noised, batch.t, labels)
    if n := len(batch.views):
        h_view, _ = unet.encode(batch.views, batch.view_t, None if labels is None else labels[:n])
        h = torch.cat([torch.lerp(h_view, h[:n], batch.own.to(h.dtype)), h[n:]])
    if batch.skips is not None:
        skips = drop(skips, batch.skips)
    return (unet.decode(h, skips, batch.t, labels).float() - wanted).square().mean((1, 2, 3))


def drop(skips, kept):
    """Skips, finest first, without those of the resolutions that an image loses: kept (B, levels) of 0 and 1."""
    finest = skips[0].shape[-1]
    level = [(finest // skip.shape[-1]).bit_length() - 1 for skip in skips]
    return tuple(skip * kept[:, i, None, None, None].to(skip.dtype) for i, skip in zip(level, skips, strict=True))


def learning_rate(step, config, progress=None):
    """Linear warm-up, constant, then linear to 2 % over the last `decay` of the training.

    `progress`, from 0 to 1, is the share of the training that is over: of its steps, if nothing else is said.
    """
    gone = step if progress is None else progress * config.steps
    left = (config.steps - gone) / max(1, config.decay * config.steps)
    return config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup)) * max(0.02, min(1.0, left))


@torch.no_grad()
def update_ema(ema, unet, step, config):
    """theta_ema <- d theta_ema + (1 - d) theta,   d = ema, or min(ema, (1 + step) / (10 + step)) with warm-up."""
    d = min(config.ema, (1 + step) / (10 + step)) if config.ema_warmup else config.ema
    torch._foreach_lerp_(list(ema.parameters()), list(unet.parameters()), 1 - d)


def make_optimizer(unet, config):
    betas = (0.9, 0.99 if config.weight_decay else 0.999)
    kind = torch.optim.AdamW if config.weight_decay else torch.optim.Adam
    return kind(unet.parameters(), config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True)


def part_size(where) -> int:
    """How many images go through the network at once on this device."""
    if where.type != "cuda":
        return PART
    return PART * max(1, int(torch.cuda.get_device_properties(where).total_memory / PART_MEMORY))


def train_step(unet, ema, optimizer, batch: Batch, step, config, here, *, progress=None, errors=None):
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
            loss = losses(unet, share(batch, i, parts), errors)
        (loss.mean() * (len(loss) / len(error))).backward()
        error[i::parts] = loss.detach()
    here.average_gradients(unet)
    torch.nn.utils.clip_grad_norm_(unet.parameters(), config.clip)
    optimizer.step()
    update_ema(ema, unet, step, config)
    return error
