"""The look of every figure: one style, three sizes, colours by name, and the kinds of charts that notebooks draw."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame
from torch import Tensor

from synpos_lib.data.pixels import tile

Colours = Mapping[str, str]  # name -> colour
Names = Sequence[str]

DATA = ("style.mplstyle",)  # a file that decides how a figure looks
HALF, WIDE, TALL = (5.2, 3.6), (9.6, 3.8), (9.6, 7.2)  # inches: half a slide, a band across it, the whole slide

# Paul Tol's 'muted' scheme: ten colours that stay apart for colour-blind readers, and in print.
TEN = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777")
WHAT, WHERE, NEUTRAL, DARK = "#CC3311", "#0077BB", "#777777", "#333333"
FACTORS = {"what": WHAT, "where": WHERE}  # the two factors, wherever they are drawn
BESIDE: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}  # a legend outside the axes


def use_style() -> None:
    """Apply the style to every later figure."""
    plt.style.use(Path(__file__).with_name("style.mplstyle"))


def colours(names: Names) -> dict[str, str]:
    """One colour per name, in order, from the ten."""
    return dict(zip(names, itertools.cycle(TEN), strict=False))


def grid(
    images: Tensor,
    columns: int,
    *,
    row_names: Names = (),
    column_names: Names = (),
    title: str = "",
    cell: float = 0.62,
) -> Figure:
    """Images (N, 3, H, W) row by row, with a name for each row and column."""
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


def heatmap(axis: Axes, frame: DataFrame, *, low: float, high: float, title: str = "") -> None:
    """A grid of shares in percent, from `low` (dark, usually chance) to `high`."""
    look = {"cmap": "viridis", "cbar": False, "annot": True, "fmt": ".0f", "annot_kws": {"fontsize": 9}}
    sns.heatmap(100 * frame, vmin=100 * low, vmax=100 * high, xticklabels=True, yticklabels=True, ax=axis, **look)
    axis.tick_params(axis="y", rotation=0)
    axis.set(title=title, xlabel="", ylabel="")


def frame(corner: tuple[float, float], width: float, height: float) -> Rectangle:
    """A red frame around a part of an image or a heat map."""
    return Rectangle(corner, width, height, fill=False, edgecolor=WHAT, linewidth=2.5, clip_on=False)


def training(runs: Sequence[Sequence[dict]], epochs: int, title: str = "") -> Figure:
    """The loss after each epoch and, for those with a probe, kNN accuracy, spread and rank; a line for each run."""
    panels = {"loss": "loss", "knn": "kNN, what", "std": "spread of features", "rank": "effective rank"}
    figure, axes = plt.subplots(1, len(panels), figsize=WIDE, sharex=True)
    for axis, (key, name), colour in zip(axes, panels.items(), (NEUTRAL, WHAT, TEN[3], TEN[1]), strict=True):
        highest = 0.0
        for rows in runs:
            part = [row for row in rows if key in row]
            values = [row[key] for row in part]
            axis.plot([row["epoch"] for row in part], values, color=colour, marker="o", markersize=4)
            highest = max([highest, *values])
        axis.set(title=name, xlabel="epoch", xlim=(0, epochs * 1.04))
        if key != "loss":
            axis.set_ylim(0, 1.15 * highest or 1)
    figure.suptitle(title, fontsize=10)
    return figure


def chance(axis: Axes, level: float, text: str = "chance", *, va: str = "center") -> None:
    """A dotted line at the level of guessing, with its name outside the axes."""
    axis.axhline(level, color=NEUTRAL, linestyle=":", linewidth=1.5)
    axis.annotate(f" {text}", (1, level), xycoords=("axes fraction", "data"), va=va, color=NEUTRAL, fontsize=9)


def scatter(axis: Axes, points: np.ndarray, labels: Iterable[int], names: Names) -> None:
    """Points coloured by class, with a legend; rasterised, so that vector copies stay small."""
    kinds = {"hue": [names[i] for i in labels], "hue_order": names, "palette": colours(names)}
    sns.scatterplot(x=points[:, 0], y=points[:, 1], s=7, linewidth=0, rasterized=True, ax=axis, **kinds)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.legend(markerscale=2.5, fontsize=9, handletextpad=0.1, **BESIDE)


def bars(axis: Axes, frame: DataFrame, *, x: str, group: str, colours: Colours = FACTORS) -> None:
    """Grouped bars of `value` with their interval from `low` to `high`, for the groups in `colours` that occur."""
    table = frame.pivot(index=x, columns=group, values=["value", "low", "high"]).loc[frame[x].unique()]
    groups = [name for name in colours if name in set(frame[group])]
    value, low, high = (table[key][groups] for key in ("value", "low", "high"))
    reach = np.stack([value - low, high - value]).transpose(2, 0, 1)  # (groups, 2, names)
    value.plot.bar(ax=axis, yerr=reach, color=colours, width=0.8, rot=0, xlabel="", error_kw={"ecolor": DARK})
    axis.legend(**BESIDE)


def forest(axis: Axes, frame: DataFrame, *, colours: Colours | None = None, unit: str = "percentage points") -> None:
    """Differences with their intervals, one line per `label`: `mean`, `low`, `high` (shares), `n`, and `group`, if any.

    The dot is filled if the interval excludes zero; it is open if not, and for a single run, which has no interval.
    """
    groups, labels = list(dict.fromkeys(frame.get("group", []))), list(dict.fromkeys(frame.label))
    colours = colours or dict(zip(groups, TEN, strict=False))
    axis.axvline(0, color=DARK, linewidth=1)
    for row in frame.to_dict("records"):
        group, clear = row.get("group"), row["low"] > 0 or row["high"] < 0
        place = labels.index(row["label"]) + (_shift(groups.index(group), len(groups)) if groups else 0)
        colour = colours.get(group, TEN[1])
        _difference(axis, row, place, color=colour, markerfacecolor=colour if clear else "white")
        interval = f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]" if row["low"] == row["low"] else ""
        text = f"{100 * row['mean']:+.1f}{interval}, n = {row['n']}"
        axis.text(1.02, place, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9, color=colour)
    _lines(axis, labels)
    axis.set_xlabel(unit)
    for group in groups:
        axis.plot([], [], "o-", color=colours[group], label=group)
    if groups:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(groups))


def gain_panels(frame: DataFrame, panel: str, names: Names, *, marked: Names = (), xlabel: str = "") -> Figure:
    """Differences `mean`, `low`, `high` of each method, a panel for each value of `panel`; the marked ones in red."""
    size = (2 + 1.7 * frame[panel].nunique(), 1.3 + 0.3 * len(names))
    figure, panels = _panels(frame, panel, figsize=size, sharey=True, title={"fontsize": 10})
    for axis, part in panels:
        axis.axvline(0, color=DARK, linewidth=1)
        for row in part.to_dict("records"):
            _difference(axis, row, names.index(row["method"]), color=WHAT if row["method"] in marked else NEUTRAL)
        _lines(axis, names)
    figure.supxlabel(xlabel, fontsize=10)
    return figure


def dots(axis: Axes, frame: DataFrame, names: Iterable[str], *, y: str, group: str, colours: Colours) -> None:
    """The `value` of every run as a small dot and the mean of each group as a large one, a line per name in `y`."""
    names = list(names)
    for i, (name, colour) in enumerate(colours.items()):
        part, shift = frame[frame[group] == name], _shift(i, len(colours))
        means = part.groupby(y, sort=False).value.mean()
        axis.plot(part.value, [names.index(v) + shift for v in part[y]], "o", color=colour, markersize=3.5, alpha=0.5)
        axis.plot(means, [names.index(v) + shift for v in means.index], "D", color=colour, markersize=7, label=name)
    _lines(axis, names)
    for i in range(1, len(names)):
        axis.axhline(i - 0.5, color="#e6e6e6", linewidth=1)


def dot_panels(
    frame: DataFrame, panel: str, *, y: str, group: str, colours: Colours, xlabel: str, title: str = ""
) -> Figure:
    """`dots` side by side, one panel for each value of the column `panel`, on the same axes."""
    lines = list(frame[y].unique())
    size = (2.6 + 3 * frame[panel].nunique(), 1.4 + 0.42 * len(lines))
    figure, panels = _panels(frame, panel, figsize=size, sharex=True, sharey=True)
    for axis, part in panels:
        dots(axis, part, lines, y=y, group=group, colours=colours)
        axis.set_xlabel(xlabel)
    panels[-1][0].legend(**BESIDE)
    figure.suptitle(title, fontsize=10)
    return figure


def radars(frame: DataFrame, panel: str, *, spoke: str, group: str, colours: Colours, title: str = "") -> Figure:
    """The mean `value` of each group on spokes around a centre, a chart for each panel; from 0.5 to 1.1, or wider."""
    means = frame.groupby([panel, spoke, group]).value.mean()
    low, high = min(0.5, means.min()), max(1.1, means.max())
    size = (3.9 * frame[panel].nunique() + 0.6, 4.2)
    figure, panels = _panels(frame, panel, figsize=size, subplot_kw={"projection": "polar"}, title={"pad": 18})
    for axis, part in panels:
        names = list(part[spoke].unique())
        angle = np.append(np.arange(len(names)), 0) * 2 * np.pi / len(names)
        table = part.pivot_table(index=spoke, columns=group, values="value")
        for name, line in table.reindex(index=[*names, names[0]], columns=list(colours)).items():
            axis.plot(angle, line.to_numpy(), color=colours[name], label=name, marker="o", markersize=4)
            axis.fill(angle, line.to_numpy(), color=colours[name], alpha=0.08)
        axis.set_xticks(angle[:-1], [name.replace(" ", "\n") for name in names], fontsize=9)
        axis.set(ylim=(low, high), theta_offset=np.pi / 2, theta_direction=-1)
        axis.tick_params(axis="x", pad=12)
        axis.tick_params(axis="y", labelsize=7, labelcolor=NEUTRAL)
        axis.yaxis.set_major_locator(MaxNLocator(4))
        axis.set_rlabel_position(180 / len(names))  # between the first two spokes
    panels[-1][0].legend(loc="center left", bbox_to_anchor=(1.15, 0.5))
    figure.suptitle(title, fontsize=10)
    return figure


def curve(axis: Axes, frame: DataFrame, *, x: str, colour: str, label: str) -> None:
    """The `value` of every run as a small dot, and a line through the means."""
    means = frame.groupby(x).value.mean()
    axis.plot(frame[x], frame.value, "o", color=colour, markersize=3.5, alpha=0.5)
    axis.plot(means.index, means, "D-", color=colour, markersize=7, label=label)


def curve_panels(
    frame: DataFrame, panel: str, labels: dict[str, str], *, x: str, group: str, colours: Colours
) -> Figure:
    """`curve` side by side: a panel for each value of the column `panel`, with the label of its horizontal axis."""
    figure, panels = _panels(frame, panel, labels, figsize=(3.9 * len(labels), 3.8), sharey=True)
    for (axis, part), label in zip(panels, labels.values(), strict=True):
        for key, runs in part.groupby(group):
            curve(axis, runs, x=x, colour=colours[key], label=key)
        axis.set_xlabel(label)
    panels[-1][0].legend()
    return figure


def ours_and_published(
    ours: DataFrame, published: DataFrame, *, x: str, xlabel: str, title: str, scale: str = "linear"
) -> Figure:
    """Our curves on the left, a line for each factor; the published ones on the right, on an axis of their own."""
    figure, axes = plt.subplots(1, 2, figsize=WIDE)
    for factor, part in ours.groupby("factor"):
        curve(axes[0], part, x=x, colour=FACTORS[factor], label=factor)
    for (name, part), colour in zip(published.groupby("dataset"), TEN, strict=False):
        curve(axes[1], part, x=x, colour=colour, label=f"{name}, one run each")
    axes[0].set(xlabel=xlabel, ylabel="linear accuracy, test", title=title)
    axes[1].set(xlabel=xlabel, title="Published")
    for axis, values in zip(axes, (ours[x], published[x]), strict=True):
        axis.legend()
        axis.set_xscale(scale)
        axis.set_xticks(ticks := sorted(set(values)), [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
    return figure


def _panels(
    frame: DataFrame, panel: str, names: Iterable[str] = (), *, title: dict | None = None, **settings: Any
) -> tuple[Figure, list[tuple[Any, DataFrame]]]:
    """Axes side by side, one for each value of the column `panel`, each with its title and its rows."""
    names = list(names) or list(frame[panel].unique())
    figure, axes = plt.subplots(1, len(names), squeeze=False, **settings)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name, **(title or {}))
    return figure, [(axis, frame[frame[panel] == name]) for axis, name in zip(axes[0], names, strict=True)]


def _difference(axis: Axes, row: dict, place: float, **look: Any) -> None:
    """A difference as a dot, with a line for its interval, in percentage points."""
    axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color=look["color"])
    axis.plot(100 * row["mean"], place, "o", markersize=7, **look)


def _lines(axis: Axes, names: Names) -> None:
    """A horizontal line of the figure for each name, the first at the top."""
    axis.set(yticks=range(len(names)), yticklabels=names, ylim=(max(len(names), 1) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)


def _shift(i: int, count: int) -> float:
    """How far group i of several lies from the middle of its line."""
    return (i - (count - 1) / 2) * 0.7 / count
