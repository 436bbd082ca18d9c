"""Generators turn anchors into synthetic images.

generate(anchors, k, seed):   uint8 (B, 3, H, W) -> (B, k, 3, H, W)

One that works from labels takes those of the anchors too: generate(anchors, k, seed, labels).
"""

import hashlib

import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.pixels import scale
from synpos_lib.diffusion.sampling import sample, to_uint8
from synpos_lib.diffusion.training import T, check_labels

BATCH = {"cpu": 128, "cuda": 1024}  # images sampled at once; each batch has its own seed
SAMPLER, STEPS = "dpm++", 10  # keeps as much of *what* as DDIM's 100 steps; KID 0.21 for 0.16, and DDIM's 20 has 0.29


class BottleneckMixing:
    """CLSP's generator: the sample's bottleneck is mixed with the anchor's, h = w h + (1 - w) h_anchor."""

    def __init__(
        self,
        unet,
        *,
        w: float = 0.1,  # share of the sample's own bottleneck; the paper's value
        steps: int = STEPS,  # of sampling; the released code takes 100
        window: tuple[int, int] = (0, T),  # timesteps at which it is mixed; the paper: all
        blocks: tuple[str, ...] = ("mid",),
        anchor_time: float = 0.5,  # the anchor is noised to this share of t, from notebook 04; the paper: 1, the same t
        anchor_noise: str = "fresh",  # or shared by the candidates of an anchor, which saves encoder passes
        sampler: str = SAMPLER,  # the released code: ddim
        eta: float = 0.1,  # of DDIM
    ):
        self.unet = unet
        self.how = {name: value for name, value in locals().items() if name not in ("self", "unet")}
        self.settings = {"generator": "bottleneck mixing", "weights": fingerprint(unet), **self.how}

    def generate(self, anchors: torch.Tensor, k: int, seed: int) -> torch.Tensor:
        """k candidates for each anchor."""
        where = next(self.unet.parameters()).device

        def draw(rows, seed):
            return sample(self.unet, anchors=scale(anchors[rows]).to(where), candidates=k, seed=seed, **self.how)

        return _in_parts(len(anchors), k, seed, where, draw)


class NoiseAndDenoise:
    """SDEdit: the anchor noised part-way and denoised again; what is coarse stays, what is fine is drawn anew.

    https://arxiv.org/abs/2108.01073
    """

    def __init__(
        self,
        unet,
        *,
        strength: float = 0.6,  # share of the steps that is taken: 1 begins in (nearly) pure noise
        steps: int = 20,  # of a whole sampling
        sampler: str = "ddim",
        eta: float = 0.1,
    ):
        self.unet = unet
        self.how = dict(strength=strength, steps=steps, sampler=sampler, eta=eta)
        self.settings = {"generator": "noise and denoise", "weights": fingerprint(unet), **self.how}

    def generate(self, anchors: torch.Tensor, k: int, seed: int) -> torch.Tensor:
        """k candidates for each anchor, each from its own noise."""

        def draw(rows, seed):
            return sample(self.unet, start=scale(anchors[rows]).repeat_interleave(k, 0), seed=seed, **self.how)

        return _in_parts(len(anchors), k, seed, next(self.unet.parameters()).device, draw)


class ClassConditional:
    """Images of the anchor's class and of nothing else of it, with classifier-free guidance.

    The comparison of the released code (generate_synthetic_dataset_conditional.py): unlike every other generator of
    positives, it has seen the labels. With a network trained on scenes, and scenes as labels, it draws the scene.
    """

    def __init__(
        self,
        unet,
        *,
        guidance: float = 1.8,  # (1 + guidance) * with the label - guidance * without; the released value
        steps: int = STEPS,  # of sampling; the released code takes 100
        sampler: str = SAMPLER,  # the released code: ddim
        eta: float = 0.1,  # of DDIM, the README's; its code samples this set with 1.0 whatever is asked for
    ):
        if not unet.config.classes:
            raise Problem("this network knows no classes: train one with model.recipe(name, classes=...)")
        self.unet = unet
        self.how = dict(guidance=guidance, steps=steps, sampler=sampler, eta=eta)
        self.settings = {"generator": "class-conditional", "weights": fingerprint(unet), **self.how}

    def generate(self, anchors: torch.Tensor, k: int, seed: int, labels: torch.Tensor | None = None) -> torch.Tensor:
        """k candidates for each anchor, of which only the label (B,) is used."""
        if labels is None:
            raise Problem("class-conditional images need their anchors' labels: pass labels, as in positives.make")
        check_labels(labels, len(anchors), self.unet.config.classes)

        def draw(rows, seed):
            told = labels[rows].repeat_interleave(k)
            return sample(self.unet, len(told), labels=told, seed=seed, **self.how)

        return _in_parts(len(anchors), k, seed, next(self.unet.parameters()).device, draw)


def _in_parts(n: int, k: int, seed: int, where, draw) -> torch.Tensor:
    """draw(rows, seed) for a batch of anchors at a time: (n, k, 3, H, W)."""
    made = []
    for i, rows in enumerate(torch.arange(n).split(max(1, BATCH[where.type] // k))):
        with runtime.autocast(where):
            x = draw(rows, runtime.derive(seed, i))
        made.append(to_uint8(x).cpu().view(len(rows), k, *x.shape[1:]))
    return torch.cat(made)


def draw_freely(unet, n: int, *, steps: int = STEPS, sampler: str = SAMPLER, eta: float = 0.1, seed: int = 0):
    """n images without an anchor: uint8 (n, 3, H, W)."""
    where = next(unet.parameters()).device
    images, batch = [], BATCH[where.type]
    for i in range(0, n, batch):
        with runtime.autocast(where):
            x = sample(unet, min(batch, n - i), steps=steps, sampler=sampler, eta=eta, seed=runtime.derive(seed, i))
        images.append(to_uint8(x).cpu())
    return torch.cat(images)


def fingerprint(unet) -> str:
    """Which weights these are."""
    digest = hashlib.sha256()
    for name, value in unet.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
