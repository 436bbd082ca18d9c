"""Generators that edit: each candidate of an anchor follows one prompt.

generate(anchors, k, seed):   uint8 (B, 3, H, W) -> (B, k, 3, H, W), k = the number of prompts, candidate j by prompt j

They have the interface of `generators`, so an edited set is a store that can be continued, sharded and verified.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.data.pixels import unit
from synpos_lib.data.scenes import SCENES
from synpos_lib.diffusion.generators import in_parts
from synpos_lib.diffusion.hub import in_batches, load_pipeline, pipeline_fingerprint
from synpos_lib.diffusion.model import load
from synpos_lib.diffusion.sampling import inverted
from synpos_lib.diffusion.unet import UNet


class SceneEdit:
    """The embedded data's edit: the anchor is turned into noise and back into an image with another scene.

    A diffusion model of the scenes has the prompts as its classes. The noise is the anchor's own: DDIM runs backwards
    without a class, so that an edit changes only what the prompt changes. New noise, as in SDEdit
    (https://arxiv.org/abs/2108.01073), loses the creature before it changes the scene.
    """

    def __init__(
        self,
        unet: UNet,
        prompts: Sequence[str] = SCENES,
        *,
        guidance: float = 2.0,  # towards the prompt: (1 + guidance) * with the label - guidance * without
        steps: int = 20,  # of a whole sampling
    ) -> None:
        _check_prompts(prompts)
        for prompt in prompts:
            if prompt not in SCENES:
                raise Problem(f"this model does not know the prompt '{prompt}' ({suggest(prompt, SCENES)})")
        if unet.config.classes != len(SCENES):
            raise Problem(
                f"a network that edits scenes knows the {len(SCENES)} of them as classes, and this one knows "
                f"{unet.config.classes}: load 'scenes-by-scene'"
            )
        self.unet, self.prompts, self.steps = unet, tuple(prompts), steps
        self.options: dict[str, Any] = dict(guidance=guidance, steps=steps, eta=0.0)
        about = {"generator": "scene edit", "weights": weights_fingerprint(unet), "prompts": list(prompts)}
        self.settings = about | self.options

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """One edit for each anchor and prompt."""
        _check_count(k, self.prompts)
        scenes = torch.tensor([SCENES.index(prompt) for prompt in self.prompts])

        def arguments(images: Tensor, rows: Tensor) -> dict[str, Any]:
            noise = inverted(self.unet, images[::k], steps=self.steps).repeat_interleave(k, 0)
            return {"start": images, "labels": scenes.repeat(len(images) // k), "noise": noise}

        return in_parts(self.unet, anchors, k, seed, self.options, arguments)


class InstructPix2Pix:
    """DiffuseMix's generator as released: InstructPix2Pix with the Euler ancestral sampler and one word as prompt.

    Differs from the released code in: noise of its own for every batch, so that a store can be continued and sharded
    (released: no seed); images are brought back to the anchors' size, whatever that is (released: all have 256 pixels).
    """

    NAME = "timbrooks/instruct-pix2pix"  # on the hub

    def __init__(
        self,
        pipeline: Any,
        prompts: Sequence[str],
        *,
        guidance: float = 4.0,  # the released value
        image_guidance: float = 1.5,  # this and the steps: not set in the released code, so diffusers' own
        steps: int = 100,
        size: int = 256,  # pixels that the model works on; the first release had 512
    ) -> None:
        _check_prompts(prompts)
        from diffusers import EulerAncestralDiscreteScheduler

        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
        self.pipeline, self.size = pipeline, size
        self.prompts = tuple(prompt.strip() for prompt in prompts)
        self.options = dict(guidance_scale=guidance, image_guidance_scale=image_guidance, num_inference_steps=steps)
        about = {"generator": "InstructPix2Pix", "weights": pipeline_fingerprint(pipeline)}
        self.settings = about | {"prompts": list(self.prompts)} | self.options | {"size": size}

    @classmethod
    def load(cls, prompts: Sequence[str], folder_or_name: str = NAME, **options: Any) -> "InstructPix2Pix":
        """The generator with the model in a folder, or of that name on the hub."""
        from diffusers import StableDiffusionInstructPix2PixPipeline

        return cls(load_pipeline(StableDiffusionInstructPix2PixPipeline, folder_or_name), prompts, **options)

    def generate(self, anchors: Tensor, k: int, seed: int) -> Tensor:
        """One edit for each anchor and prompt."""
        _check_count(k, self.prompts)

        def draw(part: Tensor, noise: torch.Generator) -> Tensor:
            images = F.interpolate(unit(part), (self.size, self.size), mode="bicubic", antialias=True).clamp(0, 1)
            fixed = dict(image=images.repeat_interleave(k, 0), generator=noise, output_type="pt")
            return self.pipeline(list(self.prompts) * len(part), **fixed, **self.options).images

        return in_batches(anchors, k, seed, "edits", draw)


def by_name(editor: str, folder: Path, prompts: dict[str, str], *, steps: int) -> SceneEdit | InstructPix2Pix:
    """The editor: "scenes-by-scene" with the prompts' short names, or InstructPix2Pix with their words."""
    if editor == "scenes-by-scene":
        return SceneEdit(load(editor, folder), list(prompts), steps=steps)
    return InstructPix2Pix.load(list(prompts.values()), editor, steps=steps)


def _check_prompts(prompts: Sequence[str]) -> None:
    if isinstance(prompts, str) or not prompts or not all(isinstance(p, str) and p.strip() for p in prompts):
        raise Problem(f"prompts must be a list of words, none of them empty, and not {prompts!r}")
    if len(set(prompts)) < len(prompts):
        raise Problem(f"the prompts {list(prompts)} name one twice: keep one")


def _check_count(k: int, prompts: Sequence[str]) -> None:
    if k != len(prompts):
        raise Problem(f"{k} candidates do not fit {len(prompts)} prompts: ask for one candidate per prompt")
