"""The latent map: t-SNE of any block at any timestep; a point shows its image when it is touched. No scripts needed."""

import base64
import html
import io
from typing import NamedTuple

import pandas as pd

from synpos_lib.data.pixels import tile
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
    """Where each image lies, and what its neighbours in the full feature space agree on: a picture is no evidence."""

    points: pd.DataFrame  # x and y from 0 to 1, what and, where known, where
    agreement: dict[str, float]  # share of the 10 nearest neighbours that have the same factor
    text: str  # block, timestep, n, perplexity, start and seed


def factors_of(real) -> dict[str, tuple]:
    """Each known factor's labels and names."""
    return {"what": (real.labels, real.classes)} | ({} if real.where is None else {"where": (real.where, real.scenes)})


def map_features(unet, real, *, block="mid", t=50, perplexity=30, seed=0) -> Map:
    """One forward pass per image at timestep t, the block averaged over space, t-SNE to the plane."""
    from synpos_lib.diffusion.features import pooled
    from synpos_lib.evaluate.neighbours import nearest
    from synpos_lib.evaluate.probes import tsne

    z = pooled(unet, real.images, t, [block], seed=seed)[block]  # (N, C)
    place = tsne(z, perplexity=perplexity, seed=seed)
    place = (place - place.min(0)) / (place.max(0) - place.min(0))
    points, agreement = pd.DataFrame(place, columns=["x", "y"]), {}
    for factor, (labels, names) in factors_of(real).items():
        points[factor] = [names[i] for i in labels]
        agreement[factor] = (labels[nearest(z, 10)] == labels[:, None]).double().mean().item()
    return Map(points, agreement, f"{block} at t = {t}: n = {len(z)}, perplexity {perplexity}, PCA start, seed {seed}")


def map_page(made: Map, real, colour="what") -> str:
    """The map as HTML: hover over a point, or click it, and its image appears."""
    names = factors_of(real)[colour][1]
    tones = figures.colours(names)
    spots = []
    for i, row in enumerate(made.points.to_dict("records")):
        left, top = 8 + 84 * row["x"], 96 - 76 * row["y"]  # percent, with room for the thumbnails
        at = f"{-SIDE * (i % COLUMNS)}px {-SIDE * (i // COLUMNS)}px"
        label = html.escape(", ".join(row[factor] for factor in made.agreement))
        style = f"left:{left:.1f}%;top:{top:.1f}%;background:{tones[row[colour]]};--at:{at}"
        spots.append(f'<i tabindex="-1" role="img" aria-label="{label}" style="{style}"></i>')
    key = "".join(f'<span><i style="background:{tone}"></i>{html.escape(name)}</span>' for name, tone in tones.items())
    said = (
        f"{made.agreement[colour]:.0%} of the 10 nearest neighbours agree in {colour}, by chance {1 / len(names):.0%}"
    )
    alt = html.escape(f"Map of {made.text}, coloured by {colour}; {said}")
    frame = f'<div class="latent-map" role="group" aria-label="{alt}" style="--sheet:url({_sheet(real.images)})">'
    return f'{STYLE}<p><b>{made.text}</b><br>{said}</p>{frame}{"".join(spots)}</div><p class="latent-key">{key}</p>'


def _sheet(images) -> str:
    """All images on one sheet, as a data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(tile(images, COLUMNS, gap=0)).save(buffer, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def latent_map(unet, real, *, timesteps=(10, 50, 150, 300, 450, 600, 800), perplexity=30, seed=0):
    """Choose block, timestep and colour in JupyterLab; in batch the bottleneck at t = 50. 300 images take a second."""
    made: dict[tuple, Map] = {}

    def draw(block="mid", t=50, colour="what") -> str:
        if (block, t) not in made:
            made[block, t] = map_features(unet, real, block=block, t=t, perplexity=perplexity, seed=seed)
        return map_page(made[block, t], real, colour)

    def controls() -> dict:
        import ipywidgets as widgets

        from synpos_lib.diffusion.features import blocks

        return {
            "block": widgets.Dropdown(options=list(blocks(unet)), value="mid", description="block"),
            "t": widgets.SelectionSlider(
                options=sorted({50, *timesteps}), value=50, description="timestep", continuous_update=False
            ),
            "colour": widgets.ToggleButtons(options=list(factors_of(real)), description="colour by"),
        }

    return panel("latent", draw, controls)
