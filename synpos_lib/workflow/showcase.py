"""The recordings as pages of Markdown beside them, to be read where the repository is shown, without running anything.

    showcase.write()    outputs/recorded/README.md, with every claim, and outputs/recorded/<name>/README.md

A page says nothing that the recorded tables and manifests do not say.
"""

from collections.abc import Iterable
from itertools import chain, takewhile
from pathlib import Path

import pandas as pd

from synpos_lib.core import files
from synpos_lib.lab import recorded
from synpos_lib.lab.parameters import notebook_names, notebooks_folder, read_notebook
from synpos_lib.results import claims as rules
from synpos_lib.workflow import report

PAGE = "README.md"
NOTEBOOKS = "../../../notebooks"  # as seen from a recording
INTRODUCTION = """# What was recorded

Each line of the tables below is a sentence of a paper, what was measured of it, and the verdict that follows from the
numbers by a rule (notebook 13). A claim *holds* if the whole 95 % interval keeps its rule. That is said of the images
that it was measured on, small drawn ones unless the recording's name has *cifar* in it, and carries over to no others.
*After Holm*: what is left when all measurements of a recording are judged as one family. A † marks recordings that code
has made which has changed since. The pieces named `thorough-` are judged together.
"""


def write() -> list[Path]:
    """Write the page of each recording and that of all; return their paths."""
    texts = pages()
    for path, text in texts.items():
        files.write_bytes(path, text.encode())
    return list(texts)


def pages() -> dict[Path, str]:
    """The text of every page."""
    folders = sorted(path.parent for path in recorded.FOLDER.glob("*/manifest.json"))
    changed = recorded.load("*").groupby("recorded").changed.any()
    texts = {recorded.FOLDER: overview(folders)} | {f: page(f, bool(changed.get(f.name, False))) for f in folders}
    return {folder / PAGE: text for folder, text in texts.items()}


def overview(folders: Iterable[Path]) -> str:
    """The page of all recordings: the verdicts counted, every claim with what was measured, and where to read more."""
    places = report.recorded_claims()
    parts = [INTRODUCTION, _table(("recorded in", *_COUNTS), map(_counts, places, places.values()))]
    every = pd.concat([rows.assign(place=place) for place, rows in places.items()], ignore_index=True)
    every = every[every.departure == ""]
    for paper in every.paper.unique():
        part = every[every.paper == paper].iloc[::-1]  # the last place, the most thorough one, first
        names = every[every.paper == paper].sentence.unique()
        rows = [_claim(part[(part.sentence == name) & (part.n > 0)]) for name in names]
        parts += [f"## {paper}", _table(("claim", "measured", "verdict", "after Holm", "recorded in"), chain(*rows))]
        if missing := [name for name, row in zip(names, rows, strict=True) if not row]:
            parts.append("Not measured in any recording:\n\n" + "\n".join(f"- {name}" for name in missing))
    manifests = {folder: recorded.read_manifest(folder) for folder in folders}
    links = [
        (f"[{folder.name}]({folder.name}/{PAGE})", f"`{about['command']}`", len(about["figures"]), len(about["tables"]))
        for folder, about in manifests.items()
    ]
    parts += ["## The recordings", _table(("recording", "made by", "figures", "tables"), links)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def page(folder: Path, changed: bool) -> str:
    """The page of one recording: notebook by notebook its claims, its figures, and links to its tables."""
    about = recorded.read_manifest(folder)
    made = {name: result["notebook"] or "" for kind in ("tables", "figures") for name, result in about[kind].items()}
    days = sorted({result["made"][:10] for kind in ("tables", "figures") for result in about[kind].values()})
    parts = [f"# `{about['command']}`", _purpose(about["profile"])]
    parts.append(f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, {_machines(about)}. [All recordings](../{PAGE})")
    if changed:
        parts.append("† Code that made some of these numbers has changed since.")
    for notebook in sorted(set(made.values())):
        parts.append(f"## {_heading(notebook)}")
        tables = [name for name in about["tables"] if made[name] == notebook]
        for name in (name for name in tables if name.endswith(".claims.csv")):
            rows = pd.read_csv(folder / "tables" / name, dtype={"departure": str})
            if lines := [_measurement(row) for row in rows.to_dict("records") if row["n"]]:
                parts.append(_table(("claim", "measured", "verdict"), lines))
        figures = {name: about["figures"][name]["text"] for name in about["figures"] if made[name] == notebook}
        parts += [f"![{text}](figures/{name})\n\n*{text}*" for name, text in figures.items()]
        parts.append("\n".join(f"- [{about['tables'][name]['text']}](tables/{name})" for name in tables))
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


_COUNTS = {
    "hold": (rules.REPRODUCED, rules.HOLDS),
    "do not": (rules.FAILS, rules.NOT_REPRODUCED),
    "undecided": report.UNDECIDED,
    "cannot be shown": (rules.CANNOT,),
    "not attempted": (rules.NOT_ATTEMPTED,),
}


def _counts(place: str, rows: pd.DataFrame) -> tuple:
    whole = report.overall(rows)
    counts = [int(whole.verdict.isin(words).sum()) for words in _COUNTS.values()]
    held = int(whole.corrected.isin(_COUNTS["hold"]).sum())
    return f"`{place}`", f"{counts[0]} ({held} after Holm)", *counts[1:]


def _claim(rows: pd.DataFrame) -> list[tuple]:
    """A line for each measurement of one claim; the first has its sentence."""
    lines = []
    for i, row in enumerate(rows.to_dict("records")):
        sentence = "" if i else f"{row['sentence']} ({row['where']})"
        corrected = "" if row["corrected"] == row["verdict"] else row["corrected"].partition(":")[0]
        lines.append((sentence, report.amount(row), _short(row["verdict"]), corrected, f"`{row['place']}`"))
    return lines


def _measurement(row: dict) -> tuple:
    claim = row["claim"] if pd.isna(row["departure"]) else f"*departs from the paper's setting:* {row['claim']}"
    return claim, report.amount(row), _short(row["verdict"])


def _short(verdict: str) -> str:
    return verdict.removesuffix(" on these images")


def _purpose(profile: str) -> str:
    """What a profile says of itself: the comment that its file begins with."""
    path = notebooks_folder() / "profiles" / f"{profile}.yaml"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return " ".join(line.lstrip("# ") for line in takewhile(lambda line: line.startswith("#"), lines))


def _heading(notebook: str) -> str:
    if notebook not in notebook_names():
        return notebook or "On a graphics card"
    title = "".join(read_notebook(notebook)["cells"][0]["source"]).partition("\n")[0].lstrip("# ")
    return f"[{title}]({NOTEBOOKS}/{notebook}.ipynb)"


def _machines(about: recorded.Manifest) -> str:
    results = [*about["tables"].values(), *about["figures"].values()]
    return "; ".join(sorted({result["hardware"] for result in results}))


def _table(head: Iterable[str], rows: Iterable[tuple]) -> str:
    lines = [tuple(head), *rows]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '·') for cell in line)} |" for line in lines)
