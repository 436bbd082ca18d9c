"""Diffusion models that others have published, as networks of this library: encode, decode, features, mixing.

    unet = published.load("google/ddpm-cifar10-32")     # on the hub; a folder saved by diffusers; CLSP's own file .pt

Differs from ours in: the published DDPM names its sines first, spaces their frequencies otherwise, halves images with
padding on one side only, and adds 1e-6 in its normalisations. Its own network computes here, so all that is as it was.
"""

import os
import re
from pathlib import Path
from typing import Any

import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.diffusion.schedule import T
from synpos_lib.diffusion.unet import PAPER, UNet, UNetConfig

DDPM = "google/ddpm-cifar10-32"
LINEAR = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def load(name: str) -> UNet:
    """The model of that name on the hub, or in that folder or file, ready to sample."""
    place = Path(name).expanduser()
    unet = read_clsp(place) if place.suffix in (".pt", ".pth") else _wrap(*_diffusers(name))
    return unet.to(runtime.device(), memory_format=runtime.memory_format(runtime.device(), "group"))


# --------------------------------------------------------------------------------------------- diffusers


def _diffusers(name: str) -> tuple[Any, dict]:
    """A `UNet2DModel` and the settings of its scheduler."""
    from diffusers import DDPMScheduler, UNet2DModel

    place, allowed = Path(name).expanduser(), "SYNPOS_DOWNLOAD" in os.environ
    if not place.is_dir() and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise Problem(f"there is no folder or file '{name}': name one, or a model on the hub as OWNER/NAME")
    parts = {part: part for part in ("unet", "scheduler") if (place / part).is_dir()}
    try:
        network = UNet2DModel.from_pretrained(
            name, subfolder=parts.get("unet"), local_files_only=not allowed, low_cpu_mem_usage=False
        )
        scheduler = DDPMScheduler.load_config(name, subfolder=parts.get("scheduler"), local_files_only=not allowed)
    except Exception as error:  # from_pretrained raises nearly anything on files that are missing or not whole
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if place.is_dir():
            mend = "copy or download the whole model again"
        else:
            mend = "try again later" if allowed else "allow its download (--download), or give a folder with it"
        raise Problem(f"the model '{name}' is not here, or not whole ({first}): {mend}") from error
    return network, dict(scheduler)


def _wrap(network: Any, scheduler: dict) -> UNet:
    """Our network around one of diffusers; refused if ours could not describe it."""
    about = network.config
    kinds = tuple(about.down_block_types)
    mirror = tuple(kind.replace("Down", "Up") for kind in reversed(kinds))
    strange = [kind for kind in kinds if kind not in ("DownBlock2D", "AttnDownBlock2D")]
    expected = {
        "channels": ((3, 3), (about.in_channels, about.out_channels)),
        "unusual blocks": ([], strange),
        "decoder": (mirror, tuple(about.up_block_types)),
        "classes": (None, about.class_embed_type or about.num_class_embeds),
        "prediction": ("epsilon", scheduler.get("prediction_type", "epsilon")),
        **{key: (value, scheduler.get(key)) for key, value in LINEAR.items()},
    }
    for part, (wanted, found) in expected.items():
        if wanted != found:
            raise Problem(
                f"the model is of another kind ({part}: {found}, not {wanted}): take a DDPM of images, such as {DDPM}"
            )
    config = UNetConfig(
        image_size=about.sample_size,
        channels=tuple(about.block_out_channels),
        attention=tuple(level for level, kind in enumerate(kinds) if kind.startswith("Attn")),
        middle_attention=about.add_attention,
        layers=about.layers_per_block,
        groups=about.norm_num_groups,
        dropout=about.dropout,
    )
    unet = UNet(config)
    unet.unet = network
    return unet.eval().requires_grad_(False)


# -------------------------------------------------------------------------------------------------- CLSP

BLOCK = {  # a residual block's parts here and in CLSP's files
    "norm1": "block1.0",
    "conv1": "block1.2",
    "time_emb_proj": "temb_proj.1",
    "norm2": "block2.0",
    "conv2": "block2.3",
    "conv_shortcut": "shortcut",
}
ATTENTION = {
    "group_norm": "attn.group_norm",
    "to_q": "attn.proj_q",
    "to_k": "attn.proj_k",
    "to_v": "attn.proj_v",
    "to_out.0": "attn.proj",
}
ENDS = {
    "time_embedding.linear_1": "time_embedding.timembedding.1",
    "time_embedding.linear_2": "time_embedding.timembedding.3",
    "conv_in": "encoder.head",
    "conv_norm_out": "decoder.tail.0",
    "conv_out": "decoder.tail.2",
}
UNUSED = ("encoder.projector.", "time_embedding.timembedding.0.")  # a head that nothing reads; the table of sines


def read_clsp(file: Path) -> UNet:
    """The unconditional model that CLSP's authors publish, in our network of the paper's size."""
    if not file.is_file():
        raise Problem(f"there is no file {file}: download the diffusion model that CLSP's README links")
    try:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler and the archive reader raise nearly anything
        raise Problem(f"{file} holds no weights that can be read safely ({error}): download it again") from error
    unet = UNet(PAPER)
    names = clsp_names(unet)
    theirs = theirs if isinstance(theirs, dict) else {}
    faults = [f"it lacks {name}" for name in names.values() if name not in theirs]
    faults += [f"it has {name} too" for name in theirs if name not in names.values() and not name.startswith(UNUSED)]
    weights = {}
    for ours, value in unet.unet.state_dict().items() if not faults else ():
        found = theirs[names[ours]]
        if ours == "time_embedding.linear_1.weight":  # theirs takes sine, cosine, sine, …; ours all cosines first
            found = torch.cat([found[:, 1::2], found[:, ::2]], 1)
        if found.numel() != value.numel():
            faults.append(f"{names[ours]} has the shape {tuple(found.shape)}, not {tuple(value.shape)}")
            break
        weights[ours] = found.reshape(value.shape)  # their attention is a convolution of 1 × 1, ours is linear
    if faults:
        raise Problem(f"{file} is not CLSP's unconditional model ({faults[0]}): give the file that its README links")
    unet.unet.load_state_dict(weights)
    return unet.eval().requires_grad_(False)


def clsp_names(unet: UNet) -> dict[str, str]:
    """Our name -> theirs, for every weight; they number the blocks of all levels in one list."""
    places, net = dict(ENDS), unet.unet
    for side, theirs in {"down": "encoder.downblocks", "up": "decoder.upblocks"}.items():
        number = 0
        for i, level in enumerate(getattr(net, f"{side}_blocks")):
            for j in range(len(level.resnets)):
                places |= _block(f"{side}_blocks.{i}", j, f"{theirs}.{number}")
                number += 1
            if getattr(level, f"{side}samplers"):
                places[f"{side}_blocks.{i}.{side}samplers.0.conv"] = f"{theirs}.{number}.main"
                number += 1
    for j in range(2):
        places |= _block("mid_block", j, f"encoder.middleblocks.{j}")
    keys = net.state_dict()
    return {key: f"{places[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}" for key in keys}


def _block(level: str, number: int, theirs: str) -> dict[str, str]:
    """A residual block of ours, with the attention that may follow it, and where theirs are."""
    parts = {f"resnets.{number}.{part}": name for part, name in BLOCK.items()}
    parts |= {f"attentions.{number}.{part}": name for part, name in ATTENTION.items()}
    return {f"{level}.{part}": f"{theirs}.{name}" for part, name in parts.items()}
