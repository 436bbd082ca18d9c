"""Generators turn anchors into synthetic images.

generate(anchors, k, seed):   uint8 (B, 3, H, W) -> (B, k, 3, H, W)

One that works from labels takes those of the anchors too: generate(anchors, k, seed, labels).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.data.pixels import scale, truncate
from synpos_lib.diffusion.sampling import sample
from synpos_lib.diffusion.schedule import T
from synpos_lib.diffusion.unet import UNet, check_labels

BATCH = {"cpu": 128, "cuda": 1024}  # images sampled at once; each batch has its own seed
SAMPLER, STEPS = "dpm++", 10  # keep as much of *what* as DDIM with 100 steps: tests/benchmarks/positives.py --quality


class BottleneckMixing:
    """CLSP's generator: the sample's bottleneck is mixed with the anchor's, h = w h + (1 - w) h_anchor."""

    def __init__(
        self,
        unet: UNet,
        *,
        w: float = 0.1,  # share of the sample's own bottleneck; the paper's value
        steps: int = STEPS,  # of sampling; the released code takes 100
        window: tuple[int, int] = (0, T),  # timesteps at which it is mixed; the paper: all
        blocks: tuple[str, ...] = ("mid",),
        anchor_time: float = 1.0,  # the anchor is noised to this share of t; the paper: 1, the same t
        sampler: str = SAMPLER,  # the released code: ddim
    ) -> None:
        self.unet = unet
        self.options = dict(w=w, steps=steps, window=window, blocks=blocks, anchor_time=anchor_time, sampler=sampler)
        self.settings = {"generator": "bottleneck mixing", "weights": weights_fingerprint(unet), **self.options}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k candidates for each anchor."""
        return in_parts(
            self.unet, anchors, k, seed, self.options, lambda images, rows: {"n": len(rows), "anchors": images[::k]}
        )


class NoiseAndDenoise:
    """SDEdit: the anchor noised part-way and denoised again; what is coarse stays, what is fine is drawn anew.

    https://arxiv.org/abs/2108.01073
    """

    def __init__(
        self,
        unet: UNet,
        *,
        strength: float = 0.6,  # share of the steps that is taken: 1 begins in (nearly) pure noise
        steps: int = 20,  # of a whole sampling
    ) -> None:
        self.unet = unet
        self.options = dict(strength=strength, steps=steps, sampler="ddim")
        self.settings = {"generator": "noise and denoise", "weights": weights_fingerprint(unet), **self.options}

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k candidates for each anchor, each from its own noise."""
        return in_parts(self.unet, anchors, k, seed, self.options, lambda images, rows: {"start": images})


class ClassConditional:
    """Images of the anchor's class and of nothing else of it, with classifier-free guidance.

    The comparison of the released code (generate_synthetic_dataset_conditional.py): unlike every other generator of
    positives, it uses the labels. With a network trained on scenes, and scenes as labels, it draws the scene.
    DDIM has eta 0.1, as in the README of the released code (its code: 1.0, whatever its option says).
    """

    def __init__(
        self,
        unet: UNet,
        *,
        guidance: float = 1.8,  # (1 + guidance) * with the label - guidance * without; the released value
        steps: int = STEPS,  # of sampling; the released code takes 100
        sampler: str = SAMPLER,  # the released code: ddim
    ) -> None:
        if not unet.config.classes:
            raise Problem("this network knows no classes: train one with model.recipe(name, classes=...)")
        self.unet = unet
        self.options = dict(guidance=guidance, steps=steps, sampler=sampler)
        self.settings = {"generator": "class-conditional", "weights": weights_fingerprint(unet), **self.options}

    def generate(self, anchors: Tensor, k: int, seed: int, labels: Tensor | None = None) -> Tensor:
        """k candidates for each anchor, of which only the label (B,) is used."""
        if labels is None:
            raise Problem("class-conditional images need their anchors' labels: pass labels, as in positives.make")
        check_labels(labels, len(anchors), self.unet.config.classes)
        return in_parts(self.unet, anchors, k, seed, self.options, lambda images, rows: {"labels": labels[rows]})


def in_parts(
    unet: UNet,
    anchors: Tensor,
    k: int,
    seed: int,
    options: dict[str, Any],
    arguments: Callable[[Tensor, Tensor], dict[str, Any]],  # further ones of `sample`, from anchors and their rows
) -> Tensor:
    """Sample k images for each anchor, a batch at a time: uint8 (B, k, 3, H, W).

    `arguments` gets the anchors of a batch as floats, each of them k times, and their numbers, (k * n,).
    """
    device, parts = next(unet.parameters()).device, []
    for i, rows in enumerate(torch.arange(len(anchors)).split(max(1, BATCH[device.type] // k))):
        rows = rows.repeat_interleave(k)
        with runtime.autocast(device):
            x = sample(unet, seed=runtime.derive(seed, i), **arguments(scale(anchors[rows]), rows), **options)
        parts.append(truncate(x).cpu().unflatten(0, (-1, k)))
    return torch.cat(parts)


def draw_freely(unet: UNet, n: int, *, steps: int = STEPS, sampler: str = SAMPLER, seed: int = 0) -> Tensor:
    """n images without an anchor: uint8 (n, 3, H, W)."""
    device, parts = next(unet.parameters()).device, []
    for rows in torch.arange(n).split(BATCH[device.type]):
        with runtime.autocast(device):
            x = sample(unet, len(rows), steps=steps, sampler=sampler, seed=runtime.derive(seed, int(rows[0])))
        parts.append(truncate(x).cpu())
    return torch.cat(parts)
