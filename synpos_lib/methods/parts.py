"""What the methods share: the embedding step, heads, momentum copies, queues, Sinkhorn, gathering."""

import copy
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.core.errors import Problem

Loss = tuple[Tensor, dict[str, Tensor]]
Value = TypeVar("Value")
Network = TypeVar("Network", bound=nn.Module)


class Method(nn.Module):
    """An encoder with a projector and a rule that compares the projections of two views: `compare`."""

    target_encoder: nn.Module | None  # the momentum (EMA) encoder of the methods that have one

    def __init__(self, encoder: nn.Module, projector: nn.Module, *, batchnorm: str = "shared"):
        super().__init__()
        if batchnorm not in ("shared", "separate"):
            raise Problem(f"unknown batchnorm '{batchnorm}' (choose 'shared' or 'separate')")
        self.encoder, self.projector, self.target_encoder = encoder, projector, None
        self.batchnorm = batchnorm  # do batches embedded together share their BatchNorm statistics?

    def embed(self, *batches: Tensor) -> list[Tensor]:
        """Projections of each batch of images, gathered over all processes: (B, 3, H, W) -> (B, D)."""
        if len(batches[0]) < 2:
            raise Problem("a batch of 1 is too small for BatchNorm and for contrast: use at least 2 images per process")
        if self.batchnorm == "shared":
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
    """The share of the training that is over: a number on the CPU, so that reading it never waits for a GPU.

    It is part of a checkpoint.
    """

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

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, *, tau: tuple[float, float], batchnorm: str = "separate"
    ):
        super().__init__(encoder, projector, batchnorm=batchnorm)
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


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int = 3) -> Tensor:
    """Codes Q = diag(u) exp(scores / epsilon) diag(v) with rows that sum to 1 and columns used equally.

    In logarithms, so that no exponential overflows.
    """
    log_q = scores.float() / epsilon  # (B, K)
    for _ in range(iterations):
        log_q = log_q - log_q.logsumexp(0)
        log_q = log_q - log_q.logsumexp(1, keepdim=True)
    return log_q.exp()


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


class _Gather(torch.autograd.Function):
    """Concatenate over processes; the gradients of all processes are summed on the way back."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.batch = len(z)
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous()
        dist.all_reduce(grad)
        return grad[dist.get_rank() * ctx.batch :][: ctx.batch]


def gather(z: Tensor) -> Tensor:
    """The batches of all processes, in order of rank; the batch itself when there is only one process."""
    return _Gather.apply(z) if processes() > 1 else z


def share(z: Tensor) -> Tensor:
    """This process's part of something that all processes drew alike: the inverse of `gather`."""
    return z.chunk(processes())[dist.get_rank()] if processes() > 1 else z


def processes() -> int:
    """How many processes share this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class SyncedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on any device (torch's own needs GPUs)."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def _check_input_dim(self, x: Tensor) -> None:  # (B, C) and (B, C, H, W) alike
        pass

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.float()
            rest, total = [0, *range(2, x.dim())], x.numel() // x.shape[1] * processes()
            moments = torch.var_mean(wide, rest, correction=0)
            variances, means = gather(torch.stack(moments)[None]).unbind(1)  # (processes, C)
            mean = means.mean(0)
            variance = (variances + (means - mean).square()).mean(0)  # within the processes and between them
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * total / (total - 1), self.momentum)
                self.num_batches_tracked += 1
            shape = [1, -1, *[1] * (x.dim() - 2)]
            y = (wide - mean.view(shape)) * (variance + self.eps).rsqrt().view(shape)
            if self.affine:
                y = y * self.weight.view(shape) + self.bias.view(shape)
            return y.to(x.dtype)


def synchronise_batchnorm(module: Network) -> Network:
    """Let every BatchNorm see the batches of all processes, so that several equal one."""
    if next(module.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for child in module.modules():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            child.__class__ = SyncedBatchNorm
    return module
