"""What the methods share: the embedding step, heads, momentum copies, queues, gathering over processes."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from synpos_lib.core.errors import Problem

Loss = tuple[Tensor, dict[str, Tensor]]
Value = TypeVar("Value")


class Method(nn.Module):
    """An encoder with a projector and a rule that compares the projections of two views: `compare`."""

    target_encoder: nn.Module | None  # the momentum (EMA) encoder of the methods that have one

    shared_batchnorm = True  # whether batches that are embedded together share their BatchNorm statistics

    def __init__(self, encoder: nn.Module, projector: nn.Module):
        super().__init__()
        self.encoder, self.projector, self.target_encoder = encoder, projector, None

    def embed(self, *batches: Tensor) -> list[Tensor]:
        """Projections of each batch of images, gathered over all processes: (B, 3, H, W) -> (B, D)."""
        if len(batches[0]) < 2:
            raise Problem("a batch of 1 is too small for BatchNorm and for contrast: use at least 2 images per process")
        if self.shared_batchnorm:
            z = self.projector(self.encoder(torch.cat(batches))).float().chunk(len(batches))
        else:
            z = [self.projector(self.encoder(x)).float() for x in batches]
        return [gather(part) for part in z]

    def compare(self, z0: Tensor, z1: Tensor, views: list[Tensor]) -> Loss:
        """The loss of two views' projections, and its parts as detached scalars."""
        raise NotImplementedError

    def loss(self, views: list[Tensor], positive: Tensor | None = None) -> Loss:
        """The loss of two views of a batch; `positive` is for the wrappers (`CLSP`, `MixDiff`)."""
        if positive is not None:
            raise Problem(f"{type(self).__name__} has no use for positives: wrap it in CLSP or MixDiff")
        z0, z1 = self.embed(*views)
        return self.compare(z0, z1, views)

    def after_step(self, progress: float) -> None:
        """What the paper does after every optimiser step; `progress` is the share of the training done."""
        for part in self.children():
            if isinstance(part, Queue | Progress):
                part.after_step(progress)


class Progress(nn.Module):
    """The share of the training that is over, as a part of checkpoints; it is read without waiting for a GPU."""

    share = 0.0

    def after_step(self, progress: float) -> None:
        self.share = progress

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.share, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.share = state.item()


class Wrapper(nn.Module):
    """What a paper does with positives around any method."""

    def __init__(self, base: Method):
        super().__init__()
        self.base = base

    def loss(self, views: list[Tensor], positive: Tensor | None = None) -> Loss:
        """The loss of two views of a batch and their positives."""
        raise NotImplementedError

    @property
    def encoder(self) -> nn.Module:
        return self.base.encoder

    @property
    def target_encoder(self) -> nn.Module | None:
        return self.base.target_encoder

    def after_step(self, progress: float) -> None:
        self.base.after_step(progress)


class Momentum(Method):
    """A method with a second network that follows the first as an exponential moving average.

    theta' <- tau theta' + (1 - tau) theta,   tau = tau_1 - (tau_1 - tau_0) (cos(pi progress) + 1) / 2
    """

    target_encoder: nn.Module
    shared_batchnorm = False

    def __init__(self, encoder: nn.Module, projector: nn.Module, *, tau: tuple[float, float]):
        super().__init__(encoder, projector)
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projector = copy.deepcopy(projector).requires_grad_(False)
        self.tau = tau

    @torch.no_grad()
    def embed_target(self, *batches: Tensor) -> list[Tensor]:
        """The momentum network's projections, without gradient."""
        return [gather(self.target_projector(self.target_encoder(x)).float()) for x in batches]

    def after_step(self, progress: float) -> None:
        """Move the second network."""
        super().after_step(progress)
        tau = cosine(*self.tau, progress)
        ema_update(self.target_encoder, self.encoder, tau)
        ema_update(self.target_projector, self.projector, tau)


# ------------------------------------------------------------------------------------------ networks


def mlp(
    *widths: int,
    norm: bool = True,
    norm_last: bool = False,
    activation: type[nn.Module] = nn.ReLU,
    bias: bool = True,
) -> nn.Sequential:
    """Linear layers of these widths, with BatchNorm and an activation between them: `mlp(512, 2048, 256)`."""
    layers: list[nn.Module] = []
    for i, (inside, outside) in enumerate(zip(widths, widths[1:], strict=False)):
        layers.append(nn.Linear(inside, outside, bias=bias))
        if i < len(widths) - 2:
            layers += [nn.BatchNorm1d(outside), activation()] if norm else [activation()]
    if norm_last:
        layers.append(nn.BatchNorm1d(widths[-1]))
    return nn.Sequential(*layers)


@torch.no_grad()
def ema_update(target: nn.Module, online: nn.Module, tau: float) -> None:
    """theta' <- tau theta' + (1 - tau) theta, for parameters; BatchNorm statistics stay each network's own."""
    averages: list[Tensor] = list(target.parameters())
    torch._foreach_mul_(averages, tau)
    torch._foreach_add_(averages, [*online.parameters()], alpha=1 - tau)


def cosine(start: float, end: float, progress: float) -> float:
    """From `start` to `end` along half a cosine."""
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


class Queue(nn.Module):
    """The last `size` unit vectors, first in, first out; a batch may wrap around the end."""

    keys: Tensor
    pointer: Tensor
    waiting: Tensor | None = None

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, width), dim=1))  # (K, D)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def push(self, z: Tensor) -> None:
        """Replace the oldest vectors by these."""
        size = len(self.keys)
        if len(z) > size:
            raise Problem(f"a queue of {size} cannot take a batch of {len(z)}: raise queue_size or lower the batch")
        place = (self.pointer + torch.arange(len(z), device=z.device)) % size
        self.keys[place] = z
        self.pointer.copy_((self.pointer + len(z)) % size)

    def enqueue(self, z: Tensor) -> None:
        """Push these vectors after the optimiser step: the loss under way still sees the queue as it is."""
        self.waiting = z.detach()

    def after_step(self, progress: float) -> None:
        if self.waiting is not None:
            self.push(self.waiting)
        self.waiting = None

    def nearest(self, z: Tensor, k: int = 1) -> Tensor:
        """The k most similar vectors of the queue: (B, D) -> (B, k, D)."""
        return self.keys[(F.normalize(z, dim=1) @ self.keys.T).topk(k, dim=1).indices]


def off_diagonal(matrix: Tensor) -> Tensor:
    """The sum of the squares off the diagonal of a square matrix."""
    return matrix.square().sum() - matrix.diagonal().square().sum()


def full_precision(loss: Callable[..., Value]) -> Callable[..., Value]:
    """Compute a loss in float32, also when the networks run in bfloat16."""

    @functools.wraps(loss)
    def wrapped(*tensors: Tensor, **settings: Any) -> Value:
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*[t.float() if t.is_floating_point() else t for t in tensors], **settings)

    return wrapped


# ----------------------------------------------------------------------------------------- processes


def gather(z: Tensor) -> Tensor:
    """The batches of all processes, in order of rank; the batch itself when there is only one process."""
    return torch.cat(all_gather(z)) if processes() > 1 else z


def processes() -> int:
    """How many processes share this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
