"""The recordings as pages of Markdown beside them, to be read where the repository is shown, without running anything.

    showcase.write()    outputs/recorded/README.md, with every claim, and outputs/recorded/<name>/README.md

But for the titles of the notebooks, a page says nothing that the recorded tables and manifests do not say.
"""

import fnmatch
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pandas as pd

from synpos_lib.core import files
from synpos_lib.lab import parameters, recorded
from synpos_lib.results import claims as rules
from synpos_lib.results import published
from synpos_lib.workflow import report

PAGE = "README.md"
NOTEBOOKS = "../../../notebooks"  # as seen from a recording
INTRODUCTION = f"""# What was recorded

Each row of the tables below is a claim of a paper, or a question of our own, which the counts leave out. A
claim *holds* if the whole 95 % interval lies on the side that its rule names ("above 0" where none is given),
and is *{rules.REPRODUCED}* if that is so on the paper's own data with its settings. n counts seeds or images.
*After Holm* is the verdict after correcting for all measurements of a place; empty: unchanged. Of the pieces
named `thorough-…` the one with the most seeds judges a claim. What departs from a paper's setting decides
nothing and stands on the recording's own page. † means that code behind the numbers has changed.
"""
COUNTS = {
    "hold": (rules.REPRODUCED, rules.HOLDS),
    "do not hold": (rules.FAILS, rules.NOT_REPRODUCED),
    "undecided": report.UNDECIDED,
    "cannot be shown": (rules.CANNOT,),
    "not attempted": (rules.NOT_ATTEMPTED,),
}


def write() -> list[Path]:
    """Write the page of each recording and that of all; return their paths."""
    pages = texts()
    for path, text in pages.items():
        files.write_bytes(path, text.encode())
    return list(pages)


def texts() -> dict[Path, str]:
    """What each page says."""
    folders = sorted(path.parent for path in recorded.FOLDER.glob("*/manifest.json"))
    changed = recorded.load("*").groupby("recorded").changed.any()
    pages = {folder: page(folder, bool(changed.get(folder.name, False))) for folder in folders}
    return {folder / PAGE: text for folder, text in ({recorded.FOLDER: overview(folders)} | pages).items()}


def overview(folders: Iterable[Path]) -> str:
    """The page of all recordings: the verdicts counted, every claim with what was measured, and where to read more."""
    places = report.recorded_claims()
    parts = [INTRODUCTION, _table(("recorded in", *COUNTS), chain(*map(_counts, places, places.values())))]
    frames = [rows[(rows.n > 0) & (rows.departure == "")] for rows in places.values()]
    every = pd.concat(frames) if frames else pd.DataFrame(columns=["paper", "sentence", "original", "n"])
    every = every.sort_values(["original", "n"], ascending=False, kind="stable")
    measured = dict(iter(every.groupby(["paper", "sentence"], sort=False)))
    for paper, claims in published.load("claims").groupby("paper", sort=False):
        names = dict.fromkeys([*claims.claim, *every.sentence[every.paper == paper]])  # our own questions last
        lines = chain(*(_claim(measured[paper, name]) for name in names if (paper, name) in measured))
        parts += [f"## {paper}", _table(("claim", "measured", "verdict", "after Holm", "recorded in"), lines)]
        if missing := [name for name in names if (paper, name) not in measured]:
            parts.append("Not measured:\n\n" + "\n".join(f"- {name}" for name in missing))
    manifests = {folder: recorded.read_manifest(folder) for folder in folders}
    links = [
        (_link(folder.name), f"`{about['command']}`", len(about["figures"]), len(about["tables"]))
        for folder, about in manifests.items()
    ]
    parts += ["## The recordings", _table(("recording", "made by", "figures", "tables"), links)]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def page(folder: Path, changed: bool) -> str:
    """The page of one recording: notebook by notebook its claims, its figures, and links to its tables."""
    about = recorded.read_manifest(folder)
    results = [*about["tables"].values(), *about["figures"].values()]
    days = sorted(result["made"][:10] for result in results)
    origin = [" to ".join(dict.fromkeys(days[:1] + days[-1:])), *sorted({result["hardware"] for result in results})]
    parts = [f"# `{about['command']}`", about.get("purpose", ""), f"{'; '.join(origin)}. [All recordings](../{PAGE})"]
    parts.append("The tables linked here are tidy: mostly one row a seed, accuracies as shares from 0 to 1.")
    parts += ["† Code behind some of these numbers has changed since."] * changed
    for notebook in sorted({result["notebook"] or "" for result in results}):
        own = {kind: _of(notebook, about[kind]) for kind in ("tables", "figures")}
        parts.append(f"## {_heading(notebook)}")
        for name in fnmatch.filter(own["tables"], "*.claims.csv"):
            rows = pd.read_csv(folder / "tables" / name, dtype={"departure": str}).to_dict("records")
            lines = [_measurement(row) for row in rows if row["n"]]
            parts.append(_table(("claim", "measured", "verdict"), lines))
        parts += [f"![{text}](figures/{name})\n\n*{text}*" for name, text in own["figures"].items()]
        parts.append("\n".join(f"- [{text}](tables/{name})" for name, text in own["tables"].items()))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _of(notebook: str, results: dict[str, recorded.Result]) -> dict[str, str]:
    return {name: result["text"] for name, result in results.items() if (result["notebook"] or "") == notebook}


def _counts(place: str, rows: pd.DataFrame) -> list[tuple]:
    whole = report.overall(rows)
    columns = {place: whole.verdict, f"{place}, after Holm": whole.corrected}
    return [(name, *(int(each.isin(words).sum()) for words in COUNTS.values())) for name, each in columns.items()]


def _claim(rows: pd.DataFrame) -> list[tuple]:
    """A line for each measurement of one claim; the first has its sentence."""
    lines = []
    for i, row in enumerate(rows.to_dict("records")):
        sentence = "" if i else f"{row['sentence']} ({row['where']})"
        text = "" if row["claim"] == row["sentence"] else f"<br>{row['claim']}"
        corrected = "" if row["corrected"] == row["verdict"] else "undecided"  # which is all that Holm can leave
        place = _link(row["recorded"]) + " †" * bool(row["changed"])
        lines.append((sentence, f"{report.amount(row)}, on {row['on']}{text}", _verdict(row), corrected, place))
    return lines


def _measurement(row: dict) -> tuple:
    departure = "" if pd.isna(row["departure"]) else f"*departure, not counted ({row['departure']}):* "
    return departure + row["claim"], report.amount(row), _verdict(row)


def _verdict(row: dict) -> str:
    return row["verdict"] if row["rule"] == "above 0" else f"{row['verdict']} (rule: {report.limit(row['rule'])})"


def _heading(notebook: str) -> str:
    title = parameters.title(notebook)
    if not title:
        return notebook or "On a graphics card"
    return f"[{title}]({NOTEBOOKS}/{notebook}.ipynb)"


def _link(recording: str) -> str:
    return f"[{recording}]({recording}/{PAGE})"


def _table(head: Iterable[str], rows: Iterable[tuple]) -> str:
    lines = [[str(cell).replace("|", r"\|") for cell in line] for line in rows]
    body = [[*head], ["---"] * len([*head]), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in body) if lines else ""
