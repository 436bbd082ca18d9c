"""Diffusion models that others have published, as networks of this library: encode, decode, features, mixing.

    unet = published.load("google/ddpm-cifar10-32")     # on the hub; a folder saved by diffusers; CLSP's own file .pt

Differs from ours in: the published DDPM puts the sines of its time before the cosines, spaces their frequencies
otherwise, halves images with padding on one side only, and adds 1e-6 in its normalisations. So a network of diffusers
is wrapped unchanged; CLSP's weights are renamed and loaded into our own.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data.released import README
from synpos_lib.diffusion.schedule import T
from synpos_lib.diffusion.unet import PAPER, UNet, UNetConfig

DDPM = "google/ddpm-cifar10-32"
BLOCKS = ("DownBlock2D", "AttnDownBlock2D")  # that ours can describe
LINEAR = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def load(name: str) -> UNet:
    """The model of that name on the hub, or in that folder or file, ready to sample."""
    place = Path(name).expanduser()
    unet = read_clsp(place) if place.suffix in (".pt", ".pth") else _wrap(*_read_diffusers(name, place))
    device = runtime.device()
    return unet.to(device).to(memory_format=runtime.memory_format(device, "group"))


# --------------------------------------------------------------------------------------------- diffusers


def _read_diffusers(name: str, place: Path) -> tuple[Any, dict]:
    """A `UNet2DModel` and the settings of its scheduler, from a folder, or by its name on the hub."""
    from diffusers import DDPMScheduler, UNet2DModel

    here, download = bool(name) and place.is_dir(), "SYNPOS_DOWNLOAD" in os.environ
    if not here and not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise Problem(f"'{name}' is neither a folder, nor a .pt file, nor a model OWNER/NAME: give one, such as {DDPM}")
    origin = {"local_files_only": here or not download}

    def part(subfolder: str) -> dict[str, Any]:
        return origin | ({"subfolder": subfolder} if here and (place / subfolder).is_dir() else {})

    try:
        network, report = UNet2DModel.from_pretrained(
            place if here else name, low_cpu_mem_usage=False, output_loading_info=True, **part("unet")
        )
        if strange := [key for kind in ("missing_keys", "unexpected_keys") for key in report[kind]]:
            raise ValueError(f"its weights and its settings disagree on {strange[0]}")
        scheduler = DDPMScheduler.load_config(place if here else name, **part("scheduler"))
    except Exception as error:  # from_pretrained raises nearly anything on files that are missing or not whole
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        mend = "try again later" if download else "allow its download (--download), or give a folder with it"
        mend = "copy or download the whole model again" if here else mend
        raise Problem(f"the model '{name}' is not on this machine, or incomplete ({first}): {mend}") from error
    return network, dict(scheduler)


def _wrap(network: Any, scheduler: dict) -> UNet:
    """Our network around one of diffusers; refused if ours would compute something else."""
    about, size = network.config, network.config.sample_size
    kinds = tuple(about.down_block_types)
    mirror = tuple(kind.replace("Down", "Up") for kind in reversed(kinds))
    expected = {
        "channels": ((3, 3), (about.in_channels, about.out_channels)),
        "size": (size if isinstance(size, int) else "a whole number", size),
        "blocks": (BLOCKS, tuple(dict.fromkeys([*BLOCKS, *kinds]))),
        "decoder": (mirror, tuple(about.up_block_types)),
        "middle": ("UNetMidBlock2D", about.mid_block_type),
        "time": ("positional", about.time_embedding_type),
        "centre": (False, about.center_input_sample),
        "classes": (None, about.class_embed_type or about.num_class_embeds),
        "prediction": ("epsilon", scheduler.get("prediction_type", "epsilon")),
        "betas": (None, scheduler.get("trained_betas")),
        "rescaled": (False, scheduler.get("rescale_betas_zero_snr", False)),
        **{key: (value, scheduler.get(key)) for key, value in LINEAR.items()},
    }
    for part, (usual, value) in expected.items():
        if value != usual:
            raise Problem(
                f"the model is of another kind ({part}: {value}, not {usual}): take a DDPM of images like {DDPM}"
            )
    config = UNetConfig(
        image_size=size,
        channels=tuple(about.block_out_channels),
        attention=tuple(level for level, kind in enumerate(kinds) if kind.startswith("Attn")),
        middle_attention=about.add_attention,
        layers=about.layers_per_block,
        groups=about.norm_num_groups,
        dropout=about.dropout,
    )
    with torch.device("meta"):  # no memory and no random weights: its network is replaced
        unet = UNet(config)
    unet.unet = network
    settings = json.dumps(dict(about), sort_keys=True, default=str).encode()
    unet.register_buffer("settings", torch.tensor(list(settings), dtype=torch.uint8))  # so they count in a fingerprint
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
        raise Problem(f"there is no file {file}: download the diffusion model from the link in {README}")
    try:
        theirs = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the restricted unpickler and the archive reader raise nearly anything
        raise Problem(f"{file} holds no weights that can be read safely ({error}): download it again") from error
    unet = UNet(PAPER)
    names = clsp_names(unet)
    theirs = theirs if isinstance(theirs, dict) else {}
    faults = [f"it lacks {name}" for name in names.values() if name not in theirs]
    faults += [
        f"it has an unexpected {name}" for name in theirs if name not in names.values() and not name.startswith(UNUSED)
    ]
    weights = {}
    for ours, value in unet.unet.state_dict().items() if not faults else ():
        part = theirs[names[ours]]
        if ours == "time_embedding.linear_1.weight":  # theirs takes sine, cosine, sine, …; ours all cosines first
            part = torch.cat([part[:, 1::2], part[:, ::2]], 1)
        if part.shape[: value.ndim] != value.shape or part.numel() != value.numel():
            faults.append(f"{names[ours]} has the shape {tuple(part.shape)}, not {tuple(value.shape)}")
            break
        weights[ours] = part.reshape(value.shape)  # their attention is a convolution of 1 × 1, ours is linear
    if faults:
        raise Problem(f"{file} is not CLSP's unconditional model ({faults[0]}): give the file linked in {README}")
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
