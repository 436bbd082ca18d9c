"""The interpolation lab: choose an anchor, w, block, timesteps and a seed, and see the images drawn with them."""

from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from synpos_lib.data.images import Images
from synpos_lib.diffusion.features import blocks
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate.judge import Judge
from synpos_lib.evaluate.linear_and_knn import factors
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import image, panel

STEPS = (5, 10, 20, 25, 50, 100)


def interpolate(
    unet: UNet, judge: Judge, anchor: Tensor, *, block: str = "mid", seed: int = 0, k: int = 4, **mixing: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """k images for one anchor, with the settings of `BottleneckMixing`, and the judge's labels for each factor."""
    images = BottleneckMixing(unet, blocks=(block,), **mixing).generate(anchor[None], k, seed)[0]
    return images, judge.labels(images)


def interpolation_lab(unet: UNet, judge: Judge, real: Images) -> widgets.VBox | None:
    """Sliders in JupyterLab; in batch and in HTML one still picture with the paper's settings."""

    def draw(anchor: int = 0, **settings: Any) -> str:
        images, labels = interpolate(unet, judge, real.images[anchor], **settings)
        names, bars = [real.classes[i] for i in labels["what"]], []
        for factor, (truth,) in factors(real).items():
            share = (labels[factor] == truth[anchor]).double().mean().item()
            meter = f'<meter min="0" max="1" value="{share:.4f}"></meter>'
            bars.append(f"<label>{factor} kept {meter} {share:.0%}</label>")
        sheet = torch.cat([real.images[anchor][None], images])
        figure = figures.grid(sheet, len(sheet), column_names=["anchor", *names], cell=1.2)
        alt = f"Anchor {anchor}, {real.classes[real.truth[anchor]]}; drawn from it: {', '.join(names)}"
        return f"{image(figure, alt)}<p>{' &emsp; '.join(bars)}</p>"

    return panel(
        "interpolation",
        draw,
        lambda: {
            "anchor": widgets.IntSlider(0, 0, len(real) - 1),
            "w": widgets.FloatSlider(0.1, min=0, max=1, step=0.05),
            "anchor_time": widgets.FloatSlider(1.0, min=0, max=1, step=0.05, description="anchor t ×"),
            "block": widgets.Dropdown(options=list(blocks(unet)), value="mid"),
            "window": widgets.IntRangeSlider(value=(0, 1000), max=1000, step=50, description="timesteps"),
            "steps": widgets.SelectionSlider(options=STEPS, value=10),
            "seed": widgets.IntSlider(0, 0, 99),
        },
    )
