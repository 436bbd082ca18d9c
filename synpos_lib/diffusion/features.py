"""Read, replace or zero the output of any block of the U-Net, and always clean up.

with features(unet, ["mid"], edit=zero) as seen:
    ...                                     # seen["mid"] = h;  the pass goes on with edit("mid", h)
"""

from contextlib import contextmanager

import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.pixels import scale
from synpos_lib.diffusion.training import q_sample


def blocks(unet):
    """Name -> module, in the order of the forward pass: "down.1.0" is level 1, layer 0; "mid" the bottleneck.

    The last layer of a down level is its strided convolution. Every "in" and "down" output is also a skip.
    """
    net, found = unet.unet, {"in": unet.unet.conv_in}
    for i, level in enumerate(net.down_blocks):
        found |= {f"down.{i}.{j}": block for j, block in enumerate([*_layers(level), *(level.downsamplers or [])])}
    found["mid"] = net.mid_block
    for i, level in enumerate(net.up_blocks):
        found |= {f"up.{i}.{j}": block for j, block in enumerate(_layers(level))}
    return found


def _layers(level):
    return getattr(level, "attentions", level.resnets)  # where a level has attention, it follows its residual block


def zero(name, h):
    return torch.zeros_like(h)


@contextmanager
def features(unet, names, edit=None):
    """Every pass inside the `with` stores each named h in the dictionary yielded, then continues with edit(name, h)."""
    known, seen, handles = blocks(unet), {}, []
    for name in names:
        if name not in known:
            raise Problem(f"unknown block '{name}': this U-Net has {', '.join(known)}")

    def hook(name):
        def read_and_edit(module, inputs, h):
            seen[name] = h
            return None if edit is None else edit(name, h)

        return read_and_edit

    try:
        handles += [known[name].register_forward_hook(hook(name)) for name in names]
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def levels(unet) -> dict[str, list[str]]:
    """The bottleneck, then each level of skip connections from coarse to fine, with the blocks that feed it."""
    size = unet.config.image_size // unet.config.patch
    made = {"bottleneck": ["mid"]}
    count = len(unet.config.channels)
    for i in reversed(range(count)):
        names = ["in"] * (i == 0)
        names += [name for name in blocks(unet) if name.startswith(f"down.{i}.") and not _halves(unet, name)]
        names += [name for name in blocks(unet) if name.startswith(f"down.{i - 1}.") and _halves(unet, name)]
        made[f"skips {size >> i}×{size >> i}"] = names
    return made


def _halves(unet, name: str) -> bool:
    """Whether a block is the strided convolution at the end of a level."""
    return type(blocks(unet)[name]).__name__ == "Downsample2D"


@torch.no_grad()
def pooled(unet, images: torch.Tensor, t: int, names, *, seed: int = 0, batch: int = 250) -> dict[str, torch.Tensor]:
    """Features of real images noised to timestep t, averaged over space: {name: (N, C)}."""
    where = next(unet.parameters()).device
    draw = runtime.generator(seed, "pooled", t)
    parts: dict[str, list] = {name: [] for name in names}
    for chunk in images.split(batch):
        times = torch.full((len(chunk),), t)
        x = q_sample(scale(chunk), times, torch.randn(chunk.shape, generator=draw))
        with features(unet, names) as seen, runtime.autocast(where):
            unet(x.to(where), times.to(where))
        for name in names:
            parts[name].append(seen[name].float().mean((2, 3)).cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
