"""The interpolation lab: choose an anchor, w, block, timesteps and a seed, and see the images that are drawn."""

import html
from typing import Any, NamedTuple

import ipywidgets as widgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from synpos_lib.core.errors import Problem
from synpos_lib.data.images import Images
from synpos_lib.diffusion.features import blocks
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate.judge import Judge
from synpos_lib.evaluate.linear_and_knn import factors
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import SLOW, image, panel

STEPS = (5, 10, 20, 25, 50, 100)


class Interpolated(NamedTuple):
    """The images, and what the judge sees in them."""

    images: Tensor  # (K, 3, H, W) uint8
    names: dict[str, list[str]]  # the class in the judge's eyes, for each factor
    agreement: dict[str, float]  # share of the images that keep the anchor's factor


def interpolate(
    unet: UNet, judge: Judge, real: Images, anchor: int, *, block: str = "mid", seed: int = 0, k: int = 4, **mixing: Any
) -> Interpolated:
    """Draw k images for one anchor, with the settings of `BottleneckMixing`, and let the judge look at them."""
    if not 0 <= anchor < len(real):
        raise Problem(f"there is no anchor {anchor}: choose from 0 to {len(real) - 1}")
    images = BottleneckMixing(unet, blocks=(block,), **mixing).generate(real.images[anchor : anchor + 1], k, seed)[0]
    classes, names, agreement = {"what": real.classes, "where": real.scenes}, {}, {}
    for factor, labels in judge.labels(images).items():
        names[factor] = [classes[factor][i] for i in labels]
        agreement[factor] = (labels == factors(real)[factor][0][anchor]).double().mean().item()
    return Interpolated(images, names, agreement)


def picture(real: Images, anchor: int, result: Interpolated) -> Figure:
    """The anchor and the images drawn from it, with the judge's classes above."""
    images = torch.cat([real.images[anchor : anchor + 1], result.images])
    return figures.grid(images, len(images), column_names=["anchor", *result.names["what"]], cell=1.2)


def interpolation_lab(unet: UNet, judge: Judge, real: Images) -> widgets.VBox | None:
    """Sliders in JupyterLab; in batch and in HTML one still picture with the paper's settings."""

    def draw(anchor: int = 0, **settings: Any) -> str:
        result = interpolate(unet, judge, real, anchor, **settings)
        species = real.classes[factors(real)["what"][0][anchor]]
        alt = f"Anchor {anchor}, {species}; drawn from it: {', '.join(result.names['what'])}"
        bars = [
            f'<label>{html.escape(name)} kept <meter min="0" max="1" value="{share:.4f}"></meter> {share:.0%}</label>'
            for name, share in result.agreement.items()
        ]
        return f"{image(picture(real, anchor, result), alt)}<p>{' &emsp; '.join(bars)}</p>"

    return panel(
        "interpolation",
        draw,
        lambda: {
            "anchor": widgets.IntSlider(0, 0, len(real) - 1, description="anchor", **SLOW),
            "w": widgets.FloatSlider(0.1, min=0, max=1, step=0.05, description="w", **SLOW),
            "anchor_time": widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="anchor t ×", **SLOW),
            "block": widgets.Dropdown(options=list(blocks(unet)), value="mid", description="block"),
            "window": widgets.IntRangeSlider(value=(0, 1000), max=1000, step=50, description="timesteps", **SLOW),
            "steps": widgets.SelectionSlider(options=STEPS, value=10, description="steps", **SLOW),
            "seed": widgets.IntSlider(0, 0, 99, description="seed", **SLOW),
        },
    )
