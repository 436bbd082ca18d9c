"""The interpolation lab: choose an anchor, w, block, timesteps and a seed, and see what is drawn."""

from typing import NamedTuple

import torch

from synpos_lib.core.errors import Problem
from synpos_lib.diffusion.features import blocks
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import image, meters, panel

STEPS = (5, 10, 20, 25, 50, 100)


class Interpolated(NamedTuple):
    """What was drawn and what the judge sees in it."""

    images: torch.Tensor  # (K, 3, H, W) uint8
    seen: dict[str, list[str]]  # the judge's words for each factor
    kept: dict[str, float]  # share of the images that keep the anchor's factor


def interpolate(
    unet, judge, real, anchor: int, *, w=0.1, anchor_time=0.5, block="mid", window=(0, 1000), steps=10, seed=0, k=4
) -> Interpolated:
    """Draw k images for one anchor of `real` (as from data.catalog.load) and let the judge look at them."""
    if not 0 <= anchor < len(real):
        raise Problem(f"there is no anchor {anchor}: choose from 0 to {len(real) - 1}")
    generator = BottleneckMixing(unet, w=w, anchor_time=anchor_time, steps=steps, window=tuple(window), blocks=(block,))
    images = generator.generate(real.images[anchor : anchor + 1], k, seed)[0]
    names = {"what": real.classes, "where": real.scenes}
    truth = {"what": real.labels, "where": real.where}
    labels = judge.labels(images)
    seen = {factor: [names[factor][i] for i in values.tolist()] for factor, values in labels.items()}
    kept = {factor: (values == truth[factor][anchor]).double().mean().item() for factor, values in labels.items()}
    return Interpolated(images, seen, kept)


def picture(real, anchor: int, made: Interpolated):
    """The anchor and what was made of it, with the judge's words below."""
    images = torch.cat([real.images[anchor : anchor + 1], made.images])
    return figures.grid(images, len(images), column_names=["anchor", *made.seen["what"]], cell=1.2)


def interpolation_lab(unet, judge, real):
    """Sliders in JupyterLab; in batch and in HTML one still picture with the paper's settings."""

    def draw(anchor=0, **settings) -> str:
        made = interpolate(unet, judge, real, anchor, **settings)
        alt = f"Anchor {anchor}, {real.classes[real.labels[anchor]]}; drawn from it: {', '.join(made.seen['what'])}"
        return image(picture(real, anchor, made), alt) + meters({f"{name} kept": v for name, v in made.kept.items()})

    def controls() -> dict:
        import ipywidgets as widgets

        slow = {"continuous_update": False}
        every = {"min": 0, "max": 1000, "step": 50}
        return {
            "anchor": widgets.IntSlider(0, 0, len(real) - 1, description="anchor", **slow),
            "w": widgets.FloatSlider(0.1, min=0, max=1, step=0.05, description="w", **slow),
            "anchor_time": widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="anchor t ×", **slow),
            "block": widgets.Dropdown(options=list(blocks(unet)), value="mid", description="block"),
            "window": widgets.IntRangeSlider(value=(0, 1000), description="timesteps", **every, **slow),
            "steps": widgets.SelectionSlider(options=STEPS, value=10, description="steps", **slow),
            "seed": widgets.IntSlider(0, 0, 99, description="seed", **slow),
        }

    return panel("interpolation", draw, controls)
