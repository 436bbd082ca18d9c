"""Generators whose model is one of the large published ones, read from a local folder or from the hub's cache.

    pipeline = load_pipeline(StableDiffusionImageVariationPipeline, "/models/sd-image-variations")
    generator = ImageVariations(pipeline)

They have the interface of `generators`. Nothing is downloaded unless downloads are allowed (--download).
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.data.pixels import quantize, unit

BATCH = 16  # images made at once: MixDiff's released code
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def load_pipeline(cls: Any, folder_or_name: str | Path, *, revision: str | None = None) -> Any:
    """The pipeline of this diffusers class, from a folder, or by its name on the hub, such as "lambdalabs/…".

    Half precision on a GPU and without the safety checker, as in the released code; weights that are
    no safetensors go through torch's restricted unpickler.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    folder = Path(folder_or_name).expanduser()
    if not folder.is_dir():
        folder = _from_hub(cls, str(folder_or_name), revision)
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # reading a model takes seconds
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        if (kind := index.pop("_class_name")) != cls.__name__:
            raise Problem(f"{folder} holds a {kind}: give the folder of a {cls.__name__}")
        parts = {name for name, part in index.items() if isinstance(part, list) and part[0]} - {"safety_checker"}
        if missing := [name for name in sorted(parts) if not any((folder / name).glob("*"))]:
            raise FileNotFoundError(f"{', '.join(missing)} is missing or empty")
        unchecked = dict(safety_checker=None, requires_safety_checker=False)
        pipeline = cls.from_pretrained(folder, local_files_only=True, **unchecked)
    except Problem:
        raise
    except Exception as error:  # from_pretrained raises nearly anything on files that are not whole
        raise Problem(
            f"{folder} is damaged, or only part of a {cls.__name__} ({_first_line(error)}): copy or download the whole "
            "model again, or use the embedded data's own generators"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    where = runtime.device()
    return pipeline.to(where, torch.float16 if where.type == "cuda" else torch.float32)


def pipeline_fingerprint(pipeline: Any) -> str:
    """A hash of the weights of all networks of a pipeline."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    prints = " ".join(f"{name} {weights_fingerprint(networks[name])}" for name in sorted(networks))
    return hashlib.sha256(prints.encode()).hexdigest()[:16]


def _from_hub(cls: Any, name: str, revision: str | None) -> Path:
    """The folder in the hub's cache that holds a model; it is downloaded there only if that is allowed."""
    missing = f"there is no folder '{name}'"
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise Problem(f"{missing}: name the folder of a {cls.__name__}, or a model on the hub as OWNER/NAME")
    allowed = "SYNPOS_DOWNLOAD" in os.environ
    version = f"'{name}'" + (f", revision {revision}," if revision else "")
    try:
        return Path(cls.download(name, revision=revision, local_files_only=not allowed))
    except Exception as error:  # what the hub's client raises has no common class
        if allowed:
            raise Problem(f"{missing}, and {version} could not be downloaded ({_first_line(error)})") from error
        raise Problem(
            f"{missing}, and {version} is not, or not whole, in the hub's cache, while downloads are not allowed: "
            f"give a folder with the model, or allow its download (--download)"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].strip()


# ------------------------------------------------------------------------------------- image variations


class ImageVariations:
    """MixDiff's generator: Stable Diffusion, conditioned on CLIP's view of the anchor instead of a text.

    Differs from the reference in: noise of its own for every batch, so that a store can be continued and sharded
    (released: one stream of noise for the whole run); images are brought back to the anchors' size here.
    """

    NAME = "lambdalabs/sd-image-variations-diffusers"  # what was released, on the hub
    REVISION: str | None = "v2.0"
    PIPELINE = "StableDiffusionImageVariationPipeline"

    def __init__(
        self,
        pipeline: Any,
        *,
        steps: int = 50,  # of sampling; the released value, as is the guidance
        guidance: float = 3.0,
    ) -> None:
        self.pipeline = pipeline
        self.options = {"num_inference_steps": steps, "guidance_scale": guidance}
        about = {"generator": "image variations", "weights": pipeline_fingerprint(pipeline)}
        self.settings = about | self.options

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """k variations of each anchor."""

        def draw(part: Tensor, noise: torch.Generator) -> Tensor:
            fixed = dict(num_images_per_prompt=k, generator=noise, output_type="pt")
            return self.pipeline(self.condition(part), **fixed, **self.options).images

        return in_batches(anchors, k, seed, "variations", draw)

    def condition(self, images: Tensor) -> Any:
        """CLIP's input: resized (bicubic, no antialiasing) to its 224 pixels, as in the released code."""
        size = self.pipeline.image_encoder.config.image_size
        x = F.interpolate(unit(images), (size, size), mode="bicubic", align_corners=False)
        mean, std = torch.tensor([CLIP_MEAN, CLIP_STD])[:, None, :, None, None]
        return ((x - mean) / std).to(self.pipeline.device)


class VersatileVariations(ImageVariations):
    """MixDiff's second generator, Versatile Diffusion; diffusers keeps it among its deprecated pipelines."""

    NAME, REVISION = "shi-labs/versatile-diffusion", None
    PIPELINE = "VersatileDiffusionImageVariationPipeline"
    SIZE = 512  # pixels of the pictures that it gets, as released

    def condition(self, images: Tensor) -> list:
        """Pictures, which its own feature extractor prepares for CLIP."""
        return [to_pil_image(image) for image in resize(images / 255, (self.SIZE, self.SIZE))]


def image_variations(folder_or_name: str = ImageVariations.NAME, **options: Any) -> ImageVariations:
    """MixDiff's generator, of the kind that the model is, with the model in a folder or of that name on the hub."""
    import diffusers

    index = Path(folder_or_name).expanduser() / "model_index.json"
    versatile = folder_or_name == VersatileVariations.NAME
    if index.is_file():
        versatile = VersatileVariations.PIPELINE in index.read_text(encoding="utf-8")
    kind = VersatileVariations if versatile else ImageVariations
    revision = kind.REVISION if folder_or_name == kind.NAME else None
    return kind(load_pipeline(getattr(diffusers, kind.PIPELINE), folder_or_name, revision=revision), **options)


def in_batches(
    anchors: Tensor, k: int, seed: int, name: str, draw: Callable[[Tensor, torch.Generator], Tensor]
) -> Tensor:
    """draw(anchors, noise), k images for each in [0, 1], for a batch at a time: uint8 (B, k, 3, H, W)."""
    parts = []
    for i, part in enumerate(anchors.split(max(1, BATCH // k))):
        x = draw(part, runtime.generator(seed, name, i))  # on the processor: the same noise on every device
        parts.append(resize(x, anchors.shape[-2:]).unflatten(0, (len(part), k)))
    return torch.cat(parts)


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Images in [0, 1], of any size, as uint8 ones of this size on the processor."""
    return quantize(F.interpolate(images.float().cpu(), size, mode="bicubic", antialias=True, align_corners=False))
