"""The look of every figure: one style, three sizes, one dictionary of colours, and the few shapes we draw."""

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

HALF, WIDE, TALL = (5.2, 3.6), (9.6, 3.8), (9.6, 7.2)  # inches: half a slide, a band of it, the whole of it

STYLE = {
    "figure.dpi": 110,
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "svg.fonttype": "none",
}

# Paul Tol's 'muted' scheme: ten colours that stay apart for colour-blind readers, and in print.
TEN = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777")
WHAT, WHERE, NEUTRAL = "#CC3311", "#0077BB", "#777777"
FACTORS = {"what": WHAT, "where": WHERE}  # the two factors, wherever they are drawn


def use_style() -> None:
    """Apply the style to every figure from here on."""
    mpl.rcParams.update(STYLE)


def colours(names: Sequence[str]) -> dict[str, str]:
    """One colour per name, the same in every figure."""
    return {name: TEN[i % len(TEN)] for i, name in enumerate(names)}


def tile(images, columns: int, gap: int = 1) -> np.ndarray:
    """Lay uint8 images (N, 3, H, W) out as one picture with `columns` a row and thin white gaps."""
    pixels = np.asarray(images).transpose(0, 2, 3, 1)  # (N, H, W, 3)
    n, height, width, _ = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def grid(images, columns: int, *, row_names=(), column_names=(), title: str = "", cell: float = 0.62) -> Figure:
    """A gallery: images (N, 3, H, W) row by row, with a name on each row and column."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    figure, axis = plt.subplots(figsize=(columns * cell + 1.2 * bool(len(row_names)), rows * cell + 0.5))
    axis.imshow(tile(images, columns), interpolation="nearest")
    axis.set_yticks([i * (height + 1) + height / 2 for i in range(len(row_names))], row_names)
    axis.set_xticks([i * (width + 1) + width / 2 for i in range(len(column_names))], column_names)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.set_title(title)
    return figure


def heatmap(axis, values, row_names, column_names, *, low: float, high: float, title: str = "") -> None:
    """A labelled grid of percentages; `low` is chance, so that pale means 'nothing here'."""
    values = np.asarray(values)
    axis.imshow(values, vmin=low, vmax=high, cmap="viridis", aspect="auto")
    axis.set_xticks(range(len(column_names)), column_names)
    axis.set_yticks(range(len(row_names)), row_names)
    axis.grid(False)
    axis.set_title(title)
    for (i, j), value in np.ndenumerate(values):
        shade = "white" if value < (low + high) / 2 else "black"
        axis.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize=9)


def training(rows: Sequence[dict], epochs: int, title: str = "") -> Figure:
    """A training so far: the loss, and wherever it was probed, kNN accuracy, spread and effective rank."""
    panels = {"loss": "loss", "knn": "kNN, what", "std": "spread of features", "rank": "effective rank"}
    figure, axes = plt.subplots(1, len(panels), figsize=WIDE, sharex=True)
    for axis, (key, name), colour in zip(axes, panels.items(), (NEUTRAL, WHAT, TEN[3], TEN[1]), strict=True):
        part = [row for row in rows if key in row]
        axis.plot([row["epoch"] for row in part], [row[key] for row in part], color=colour, marker="o", markersize=4)
        axis.set(title=name, xlabel="epoch", xlim=(0, epochs * 1.04))
        if key != "loss":
            axis.set_ylim(0, 1.15 * max([row[key] for row in part], default=1))
    figure.suptitle(title, fontsize=10)
    return figure


def chance(axis, level: float, text: str = "chance") -> None:
    """A dotted line where guessing would be."""
    axis.axhline(level, color=NEUTRAL, linestyle=":", linewidth=1.5)
    axis.annotate(
        text, (0.99, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=NEUTRAL, fontsize=9
    )


def scatter(axis, points, labels, names: Sequence[str]) -> None:
    """Points coloured by class, with a legend; rasterised, so that vector copies stay small."""
    for i, (name, colour) in enumerate(colours(names).items()):
        part = points[np.asarray(labels) == i]
        axis.scatter(part[:, 0], part[:, 1], s=7, color=colour, label=name, linewidths=0, rasterized=True)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2.5, fontsize=9, handletextpad=0.1)


def bars(axis, frame, *, x: str, group: str, colours: dict[str, str] = FACTORS) -> None:
    """Grouped bars of `value` with their interval from `low` to `high`; groups that do not occur are left out."""
    names = list(dict.fromkeys(frame[x]))
    colours = {name: colour for name, colour in colours.items() if name in set(frame[group])}
    width = 0.8 / len(colours)
    for i, (name, colour) in enumerate(colours.items()):
        part = frame[frame[group] == name].set_index(x).reindex(names)
        place = np.arange(len(names)) + (i - (len(colours) - 1) / 2) * width
        reach = np.stack([part.value - part.low, part.high - part.value])
        axis.bar(place, part.value, width, yerr=reach, color=colour, label=name, error_kw={"ecolor": "#333333"})
    axis.set_xticks(range(len(names)), names)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))


def frame(row: int, columns: int):
    """A red frame around one row of a heat map."""
    return plt.Rectangle((-0.5, row - 0.5), columns, 1, fill=False, edgecolor="#CC3311", linewidth=2.5)
