"""diffusers' `UNet2DModel` in two halves: encode(x, t) -> (h, skips), decode(h, skips, t) -> prediction.

    unet(x, t) = decode(*encode(x, t), t);   h = output of the middle block (the bottleneck)

Differs from the reference in: the embedded data's network works on patches of 2 × 2 pixels, is narrow, has no
attention, and only the finest skips reach its decoder (`skips`), so that all that is coarse goes through the
bottleneck: a small decoder with all of them can do without it. Every network starts from PyTorch's initialisation
(released: Xavier's, with the last layer of each block near zero).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """What a network is; the defaults are the paper's, for 32 × 32 images."""

    image_size: int = 32
    patch: int = 1  # patch × patch pixels become channels before the first convolution
    channels: tuple[int, ...] = (128, 256, 256, 256)  # one per resolution; each is half the one before
    attention: tuple[int, ...] = (1,)  # levels with self-attention; level 1 is 16 × 16 pixels
    middle_attention: bool = True
    skips: tuple[int, ...] | None = None  # the levels, 0 = finest, whose skips reach the decoder; None: all
    layers: int = 2  # residual blocks per level
    groups: int = 32  # of GroupNorm
    dropout: float = 0.1
    classes: int = 0  # more than 0: class-conditional, with one more index for "no class"
    prediction: str = "epsilon"  # what the network predicts: epsilon or v_prediction

    def __post_init__(self) -> None:
        if self.prediction not in (known := ("epsilon", "v_prediction")):
            raise Problem(f"unknown prediction '{self.prediction}': {suggest(self.prediction, known)}")
        if self.image_size % (self.patch * 2 ** (len(self.channels) - 1)):
            raise Problem(
                f"images of {self.image_size} pixels in patches of {self.patch} can't be halved "
                f"{len(self.channels) - 1} times: use fewer levels or another size"
            )


PAPER = UNetConfig()
EMBEDDED = UNetConfig(
    patch=2,
    channels=(32, 64, 128),
    attention=(),
    middle_attention=False,
    skips=(0,),
    layers=1,
    groups=8,
    dropout=0.0,
    prediction="v_prediction",
)


class UNet(nn.Module):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = _diffusers_unet(config)
        self.to(memory_format=runtime.memory_format(runtime.device(), "group"))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Noisy images (B, 3, H, W) at timesteps t (B,) -> prediction; without labels, that for "no class"."""
        return self.decode(*self.encode(x, t, labels), t, labels)

    def encode(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Noisy images (B, 3, H, W) at timesteps t, (B,) or (1,), -> bottleneck h, and the skips, finest first."""
        emb = self._embed(t, labels)
        x = self.unet.conv_in(self._patches(x))  # (B, C, H / patch, W / patch)
        skips = (x,)
        for block in self.unet.down_blocks:
            x, outputs = block(hidden_states=x, temb=emb)
            skips += outputs
        return self.unet.mid_block(x, emb), skips

    def decode(self, h: Tensor, skips: tuple[Tensor, ...], t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Bottleneck and skips -> prediction (B, 3, H, W)."""
        emb = self._embed(t, labels)
        skips = self._reaching(skips)
        for block in self.unet.up_blocks:
            n = len(block.resnets)
            h = block(h, skips[-n:], emb)
            skips = skips[:-n]
        h = self.unet.conv_out(self.unet.conv_act(self.unet.conv_norm_out(h)))
        return F.pixel_shuffle(h, self.config.patch)

    def _reaching(self, skips: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Skips, finest first, with zeros in place of those that do not reach the decoder."""
        if self.config.skips is None:
            return skips
        sizes = [skips[0].shape[-1] >> level for level in self.config.skips]
        return tuple(skip if skip.shape[-1] in sizes else torch.zeros_like(skip) for skip in skips)

    def _patches(self, x: Tensor) -> Tensor:
        return F.pixel_unshuffle(x, self.config.patch).contiguous(
            memory_format=runtime.memory_format(x.device, "group")
        )

    def _embed(self, t: Tensor, labels: Tensor | None) -> Tensor:
        emb = self.unet.time_embedding(self.unet.time_proj(t).to(self.unet.dtype))
        if labels is None and self.config.classes:
            labels = torch.full_like(t, self.config.classes)  # "no class"
        return emb if labels is None else emb + self.unet.class_embedding(labels).to(emb.dtype)


def _diffusers_unet(config: UNetConfig) -> Any:
    from diffusers import UNet2DModel  # takes seconds to load

    down = ["AttnDownBlock2D" if i in config.attention else "DownBlock2D" for i in range(len(config.channels))]
    return UNet2DModel(
        sample_size=config.image_size // config.patch,
        in_channels=3 * config.patch**2,
        out_channels=3 * config.patch**2,
        block_out_channels=config.channels,
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        layers_per_block=config.layers,
        add_attention=config.middle_attention,
        attention_head_dim=None,  # one head over all channels
        norm_num_groups=config.groups,
        dropout=config.dropout,
        num_class_embeds=config.classes + 1 if config.classes else None,
    )


def check_labels(labels: Tensor, n: int, classes: int) -> None:
    """Refuse labels other than one whole number from 0 to classes - 1 for each of n images."""
    if len(labels) != n:
        raise Problem(f"there are {len(labels)} labels for {n} images: give one for each")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise Problem(
            f"the labels run from {low} to {high}, but a network with {classes} classes knows 0 to {classes - 1}: "
            "labels count from 0, one class for each"
        )
