"""The latent map: t-SNE of any block at any timestep; a point shows its image under the mouse, without a script."""

import base64
import functools
import html
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import ipywidgets as widgets
import pandas as pd
from PIL import Image

from synpos_lib.data.images import Images
from synpos_lib.data.pixels import tile
from synpos_lib.diffusion.features import blocks, pooled
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate.linear_and_knn import factors
from synpos_lib.evaluate.neighbours import nearest
from synpos_lib.evaluate.probes import tsne
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import panel

COLUMNS, SIDE = 20, 96  # thumbnails in a row of the sheet; pixels of one, as shown

STYLE = """<style>
.latent-map { position: relative; max-width: 44rem; aspect-ratio: 10 / 7; border: 1px solid #8884; }
.latent-map i { position: absolute; width: 9px; height: 9px; margin: -5px; border-radius: 50%; cursor: pointer; }
.latent-map i:hover, .latent-map i:focus { outline: 2px solid; z-index: 1; }
.latent-map i:hover::after, .latent-map i:focus::after { content: ""; position: absolute; left: -44px; bottom: 12px;
  width: 96px; height: 96px; background: var(--sheet) var(--at) / 1920px auto; image-rendering: pixelated; }
.latent-map i:hover::before, .latent-map i:focus::before { content: attr(aria-label); position: absolute; left: -44px;
  bottom: 108px; font: 12px/1.4 sans-serif; white-space: nowrap; padding: 0 3px; color: #111; background: #fff; }
.latent-key span { display: inline-block; margin-right: 1em; white-space: nowrap; }
.latent-key i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: .3em; }
</style>"""  # a sheet of COLUMNS * SIDE = 1920 pixels


class Map(NamedTuple):
    """Where each image lies, and how often its neighbours in the full feature space agree: a picture is no evidence."""

    points: pd.DataFrame  # x and y from 0 to 1, what and, where known, where
    agreement: dict[str, float]  # share of the 10 nearest neighbours that have the same factor
    text: str  # block, timestep, n, perplexity, start and seed


def map_features(
    unet: UNet, real: Images, *, block: str = "mid", t: int = 50, perplexity: float = 30, seed: int = 0
) -> Map:
    """One forward pass per image at timestep t, the block averaged over space, t-SNE to the plane."""
    z = pooled(unet, real.images, t, [block], seed=seed)[block]  # (N, C)
    place = tsne(z, perplexity=perplexity, seed=seed)
    place = (place - place.min(0)) / (place.max(0) - place.min(0))
    points, agreement, near = pd.DataFrame(place, columns=["x", "y"]), {}, nearest(z, 10)
    names = {"what": real.classes, "where": real.scenes}
    for factor, (labels,) in factors(real).items():
        points[factor] = [names[factor][i] for i in labels]
        agreement[factor] = (labels[near] == labels[:, None]).double().mean().item()
    return Map(points, agreement, f"{block} at t = {t}: n = {len(z)}, perplexity {perplexity}, PCA start, seed {seed}")


def map_page(chart: Map, real: Images, colour: str = "what") -> str:
    """The map as HTML: hover over a point, or click it, and its image appears."""
    names = {"what": real.classes, "where": real.scenes}[colour]
    tones = figures.colours(names)
    spots = []
    for i, row in enumerate(chart.points.to_dict("records")):
        left, top = 8 + 84 * row["x"], 96 - 76 * row["y"]  # percent, with room for the thumbnails
        at = f"{-SIDE * (i % COLUMNS)}px {-SIDE * (i // COLUMNS)}px"
        label = html.escape(", ".join(row[factor] for factor in chart.agreement))
        style = f"left:{left:.1f}%;top:{top:.1f}%;background:{tones[row[colour]]};--at:{at}"
        spots.append(f'<i tabindex="-1" role="img" aria-label="{label}" style="{style}"></i>')
    key = "".join(f'<span><i style="background:{tone}"></i>{html.escape(name)}</span>' for name, tone in tones.items())
    share = chart.agreement[colour]
    note = f"{share:.0%} of the 10 nearest neighbours agree in {colour}, by chance {1 / len(names):.0%}"
    alt = html.escape(f"Map of {chart.text}, coloured by {colour}; {note}")
    sheet = io.BytesIO()
    Image.fromarray(tile(real.images, COLUMNS, gap=0)).save(sheet, "jpeg", quality=90)
    url = "data:image/jpeg;base64," + base64.b64encode(sheet.getvalue()).decode()
    frame = f'<div class="latent-map" role="group" aria-label="{alt}" style="--sheet:url({url})">'
    return f'{STYLE}<p><b>{chart.text}</b><br>{note}</p>{frame}{"".join(spots)}</div><p class="latent-key">{key}</p>'


def latent_map(unet: UNet, real: Images, *, timesteps: Iterable[int], **settings: Any) -> widgets.VBox | None:
    """Choose block, timestep and colour in JupyterLab; in batch the bottleneck at t = 50. 300 images take a second."""
    chart = functools.cache(functools.partial(map_features, unet, real, **settings))

    def draw(block: str = "mid", t: int = 50, colour: str = "what") -> str:
        return map_page(chart(block=block, t=t), real, colour)

    times = {"options": sorted({50, *timesteps}), "value": 50, "description": "timestep"}
    return panel(
        "latent",
        draw,
        lambda: {
            "block": widgets.Dropdown(options=list(blocks(unet)), value="mid"),
            "t": widgets.SelectionSlider(**times),
            "colour": widgets.ToggleButtons(options=list(factors(real)), description="colour by"),
        },
    )
