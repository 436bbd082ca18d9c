"""The table explorer: sort and filter the results of many runs, and compare two rows seed by seed."""

import html

import ipywidgets as widgets
import pandas as pd

from synpos_lib.core.errors import Problem
from synpos_lib.lab.explore.panel import panel
from synpos_lib.results import tables

NAMES = ("dataset", "target", "method", "variant", "factor", "metric")  # a row of the table is the mean over seeds


def names_in(frame: pd.DataFrame) -> list[str]:
    """The columns that distinguish the rows of the table."""
    return [name for name in NAMES if name in frame and (name == "method" or frame[name].nunique() > 1)]


def labels(rows: pd.DataFrame, names: list[str]) -> pd.Series:
    """The label of each row, from its values in these columns."""
    return rows.apply(lambda row: " · ".join(str(row[name]) for name in names if row[name] != ""), axis=1)


def select_rows(frame: pd.DataFrame, sort: str = "mean", falling: bool = True, having: str = "") -> pd.DataFrame:
    """Means over seeds with their interval; only rows that contain every word of `having`, sorted by one column."""
    names = names_in(frame)
    rows = tables.summary(frame, names)
    text = labels(rows, names).str.lower()
    rows = rows[[all(word in label for word in having.lower().split()) for label in text]]
    if rows.empty:
        raise Problem(f"no row contains '{having}': use fewer words")
    return rows.sort_values(sort, ascending=not falling, ignore_index=True)


def compare_rows(frame: pd.DataFrame, first: str, second: str) -> tables.Estimate:
    """First minus second over the seeds that both have, with its 95 % interval."""
    frame = frame.assign(label=labels(frame, names_in(frame)))
    one, other = (frame[frame.label == label] for label in (first, second))
    for name in ("target", "factor", "metric"):
        if name in frame and set(one[name]) != set(other[name]):
            raise Problem(f"'{first}' and '{second}' differ in their {name}: compare two rows that measure the same")
    if (gap := tables.gain(frame, first, second, "label")) is None:
        raise Problem(f"'{first}' and '{second}' have no seed in common: there is nothing to compare")
    return gap


def table_explorer(frame: pd.DataFrame) -> widgets.VBox | None:
    """Sort, filter and compare in JupyterLab; in batch the whole table. Each row of `frame` is the value of one run."""
    rows = select_rows(frame)

    def draw(sort: str = "mean", falling: bool = True, having: str = "", first: str = "", second: str = "") -> str:
        selected = select_rows(frame, sort, falling, having)
        page = selected.to_html(index=False, border=0, float_format="{:.3f}".format, na_rep="")
        if not first or not second or first == second:
            return page
        gap = compare_rows(frame, first, second)
        interval = f"[{100 * gap.low:+.1f}, {100 * gap.high:+.1f}]" if gap.n > 1 else "(one seed: no interval)"
        text = f"{100 * gap.value:+.1f} points {interval}, paired over {gap.n} seed{'s' * (gap.n > 1)}"
        return f"<p><b>{html.escape(first)}</b> minus <b>{html.escape(second)}</b>: {text}</p>{page}"

    names = {"options": ["", *labels(rows, names_in(frame))], "layout": {"width": "32rem"}}
    return panel(
        "table",
        draw,
        lambda: {
            "sort": widgets.Dropdown(options=list(rows), value="mean", description="sort by"),
            "falling": widgets.Checkbox(True, description="highest first"),
            "having": widgets.Text(placeholder="words a row must contain", description="filter"),
            "first": widgets.Dropdown(description="compare", **names),
            "second": widgets.Dropdown(description="with", **names),
        },
        live=["having"],
    )
