"""Read, replace or zero the output of any block of the U-Net, and always clean up.

with features(unet, ["mid"], edit=zero) as outputs:
    ...                                     # outputs["mid"] = h;  the pass goes on with edit("mid", h)
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.data.pixels import scale
from synpos_lib.diffusion.schedule import q_sample
from synpos_lib.diffusion.unet import UNet


def blocks(unet: UNet) -> dict[str, nn.Module]:
    """Name -> module, in the order of the forward pass: "down.1.0" is level 1, layer 0; "mid" the bottleneck.

    The last layer of a down level is its strided convolution. Every "in" and "down" output is also a skip.
    """
    net = unet.unet

    def layers(level: Any) -> Iterable[nn.Module]:
        return getattr(level, "attentions", level.resnets)  # where a level has attention, it follows its residual block

    down = [[*layers(level), *(level.downsamplers or [])] for level in net.down_blocks]
    named = {"in": net.conv_in}
    named |= {f"down.{i}.{j}": block for i, level in enumerate(down) for j, block in enumerate(level)}
    named["mid"] = net.mid_block
    return named | {
        f"up.{i}.{j}": block for i, level in enumerate(net.up_blocks) for j, block in enumerate(layers(level))
    }


def zero(name: str, h: Tensor) -> Tensor:
    """An edit for `features`: the block's output becomes 0."""
    return torch.zeros_like(h)


@contextmanager
def features(
    unet: UNet, names: Collection[str], edit: Callable[[str, Tensor], Tensor] | None = None
) -> Iterator[dict[str, Tensor]]:
    """Every pass inside the `with` stores each named h in the dictionary yielded, then continues with edit(name, h)."""
    known, outputs = blocks(unet), {}
    if unknown := [name for name in names if name not in known]:
        raise Problem(f"unknown block '{unknown[0]}' ({suggest(unknown[0], known)})")

    def hook(name: str) -> Callable:
        def read_and_edit(module: nn.Module, inputs: tuple, h: Tensor) -> Tensor | None:
            outputs[name] = h
            return None if edit is None else edit(name, h)

        return read_and_edit

    with ExitStack() as handles:
        for name in names:
            handles.callback(known[name].register_forward_hook(hook(name)).remove)
        yield outputs


def levels(unet: UNet) -> dict[str, list[str]]:
    """The bottleneck, then each level of skip connections from coarse to fine, with the blocks that feed it."""
    size, level = unet.config.image_size // unet.config.patch, 0
    skips: list[list[str]] = [[] for _ in unet.config.channels]
    for name, block in blocks(unet).items():
        level += type(block).__name__ == "Downsample2D"  # the strided convolution at the end of a level
        if name == "in" or name.startswith("down"):
            skips[level].append(name)
    named = {f"skips {size >> i}×{size >> i}": names for i, names in enumerate(skips)}
    return {"bottleneck": ["mid"]} | dict(reversed(named.items()))


@torch.no_grad()
def pooled(
    unet: UNet, images: Tensor, t: int, names: Collection[str], *, seed: int = 0, batch: int = 250
) -> dict[str, Tensor]:
    """Features of real images noised to timestep t, averaged over space: {name: (N, C)}."""
    device = next(unet.parameters()).device
    rng = runtime.generator(seed, "pooled", t)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    for chunk in images.split(batch):
        times = torch.full((len(chunk),), t)
        x = q_sample(scale(chunk), times, torch.randn(chunk.shape, generator=rng))
        with features(unet, parts) as outputs, runtime.autocast(device):
            unet(x.to(device), times.to(device))
        for name in parts:
            parts[name].append(outputs[name].float().mean((2, 3)).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
