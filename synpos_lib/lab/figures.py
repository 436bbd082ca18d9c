"""The look of every figure: one style, three sizes, one dictionary of colours, and the few shapes we draw."""

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from synpos_lib.data.pixels import tile

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


def chance(axis, level: float, text: str = "chance", *, va: str = "center") -> None:
    """A dotted line where guessing would be, named beside the axis, where it hides nothing."""
    axis.axhline(level, color=NEUTRAL, linestyle=":", linewidth=1.5)
    axis.annotate(f" {text}", (1, level), xycoords=("axes fraction", "data"), va=va, color=NEUTRAL, fontsize=9)


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


def forest(axis, frame, *, colours: dict[str, str] | None = None, unit: str = "percentage points") -> None:
    """Differences with their intervals, one line per `label`: `mean`, `low`, `high` (shares), `n`, and `group`, if any.

    A filled dot has an interval that leaves out zero; an open dot does not, or is a single run without one.
    """
    groups = list(dict.fromkeys(frame.get("group", [])))
    colours = colours or (dict(zip(groups, TEN, strict=False)) if groups else {})
    labels = list(dict.fromkeys(frame.label))
    axis.axvline(0, color="#333333", linewidth=1)
    for row in frame.to_dict("records"):
        group = row.get("group")
        shift = (groups.index(group) - (len(groups) - 1) / 2) * 0.7 / len(groups) if groups else 0.0
        place, colour = labels.index(row["label"]) + shift, colours.get(group, TEN[1])
        clear = row["low"] > 0 or row["high"] < 0
        axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, linewidth=2)
        axis.plot(
            100 * row["mean"], place, "o", color=colour, markersize=7, markerfacecolor=colour if clear else "white"
        )
        interval = f" [{100 * row['low']:+.1f}, {100 * row['high']:+.1f}]" if row["low"] == row["low"] else ""
        words = f"{100 * row['mean']:+.1f}{interval}, n = {row['n']}"
        axis.text(1.02, place, words, transform=axis.get_yaxis_transform(), va="center", fontsize=9, color=colour)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlabel=unit, ylim=(max(len(labels), 1) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    for group in groups:
        axis.plot([], [], "o-", color=colours[group], label=group)
    if groups:
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(groups))


def dots(axis, frame, names: Sequence[str], *, y: str, group: str, colours: dict[str, str]) -> None:
    """The `value` of every run as a small dot and the mean of each group as a large one, a line per name in `y`."""
    names = list(names)
    for i, (name, colour) in enumerate(colours.items()):
        shift = (i - (len(colours) - 1) / 2) * 0.7 / len(colours)
        part = frame[frame[group] == name]
        axis.plot(part.value, [names.index(v) + shift for v in part[y]], "o", color=colour, markersize=3.5, alpha=0.5)
        means = part.groupby(y, sort=False).value.mean()
        axis.plot(means, [names.index(v) + shift for v in means.index], "D", color=colour, markersize=7, label=name)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    for i in range(1, len(names)):
        axis.axhline(i - 0.5, color="#e6e6e6", linewidth=1)


def radar(axis, frame, *, spoke: str, group: str, colours: dict[str, str], low: float, high: float) -> None:
    """The mean `value` of each group on spokes around a centre, on a polar axis that runs from low to high."""
    names = list(dict.fromkeys(frame[spoke]))
    angle = np.append(np.arange(len(names)), 0) * 2 * np.pi / len(names)
    for name, colour in colours.items():
        means = frame[frame[group] == name].groupby(spoke).value.mean().reindex(names).to_numpy()
        axis.plot(angle, np.append(means, means[0]), color=colour, label=name, marker="o", markersize=4)
        axis.fill(angle, np.append(means, means[0]), color=colour, alpha=0.08)
    axis.set_xticks(angle[:-1], [name.replace(" ", "\n") for name in names], fontsize=9)
    axis.set(ylim=(low, high), theta_offset=np.pi / 2, theta_direction=-1)
    axis.tick_params(axis="x", pad=12)
    axis.tick_params(axis="y", labelsize=7, labelcolor=NEUTRAL)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    axis.set_rlabel_position(180 / len(names))  # between the first two spokes


def dot_panels(
    frame, panel: str, *, y: str, group: str, colours: dict[str, str], xlabel: str, title: str = ""
) -> Figure:
    """`dots` side by side, one panel for each value of the column `panel`, on the same axes."""
    names, lines = list(dict.fromkeys(frame[panel])), list(dict.fromkeys(frame[y]))
    height = 1.4 + 0.42 * len(lines)
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.6 + 3 * len(names), height), sharex=True, sharey=True, squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        dots(axis, frame[frame[panel] == name], lines, y=y, group=group, colours=colours)
        axis.set(title=name, xlabel=xlabel)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title, fontsize=10)
    return figure


def radars(frame, panel: str, *, spoke: str, group: str, colours: dict[str, str], title: str = "") -> Figure:
    """`radar` side by side, one chart for each value of the column `panel`; circles from 0.5 to 1.1, or wider."""
    names = list(dict.fromkeys(frame[panel]))
    means = frame.groupby([panel, spoke, group]).value.mean()
    ends = {"low": min(0.5, means.min()), "high": max(1.1, means.max())}
    size = (3.9 * len(names) + 0.6, 4.2)
    figure, axes = plt.subplots(1, len(names), figsize=size, subplot_kw={"projection": "polar"}, squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        radar(axis, frame[frame[panel] == name], spoke=spoke, group=group, colours=colours, **ends)
        axis.set_title(name, pad=18)
    axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.15, 0.5))
    figure.suptitle(title, fontsize=10)
    return figure


def beside(ours, published, *, x: str, xlabel: str, title: str):
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
        axis.set_xticks(sorted(set(values)))
    return figure


def curve(axis, frame, *, x: str, colour: str, label: str) -> None:
    """The `value` of every run as a small dot, and a line through the means."""
    means = frame.groupby(x).value.mean()
    axis.plot(frame[x], frame.value, "o", color=colour, markersize=3.5, alpha=0.5)
    axis.plot(means.index, means, "D-", color=colour, markersize=7, label=label)


def curve_panels(frame, panel: str, labels: dict[str, str], *, x: str, group: str, colours: dict[str, str]) -> Figure:
    """`curve` side by side: a panel for each value of the column `panel`, with the label of its horizontal axis."""
    figure, axes = plt.subplots(1, len(labels), figsize=(3.9 * len(labels), 3.8), sharey=True, squeeze=False)
    for axis, (name, label) in zip(axes[0], labels.items(), strict=True):
        for key, part in frame[frame[panel] == name].groupby(group):
            curve(axis, part, x=x, colour=colours[key], label=key)
        axis.set(xlabel=label, title=name)
    axes[0, -1].legend()
    return figure


def gain_panels(frame, panel: str, names: Sequence[str], *, marked: Sequence[str] = (), xlabel: str = "") -> Figure:
    """Differences `mean`, `low`, `high` of each method, a panel for each value of `panel`; the marked ones in red."""
    panels = list(dict.fromkeys(frame[panel]))
    size = (2 + 1.7 * len(panels), 1.3 + 0.3 * len(names))
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, title in zip(axes[0], panels, strict=True):
        axis.axvline(0, color="#333333", linewidth=1)
        for row in frame[frame[panel] == title].to_dict("records"):
            place, colour = names.index(row["method"]), WHAT if row["method"] in marked else NEUTRAL
            axis.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, alpha=0.6)
            axis.plot(100 * row["mean"], place, "o", color=colour)
        axis.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        axis.set_title(title, fontsize=10)
    figure.supxlabel(xlabel, fontsize=10)
    return figure
