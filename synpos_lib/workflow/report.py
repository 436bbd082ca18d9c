"""What the report is made of: the claims of the papers beside what was measured, and every figure and table, verified.

    found = report.claims(folder)              # a row per claim and measurement; claims that nobody measured included
    report.claims_as_html(found, "CLSP", ...)

Nothing is typed: the sentences and their places are in published/claims.csv, the numbers in the tables named `claims`
that the notebooks keep. A file that is not as its notebook left it is refused, and so is a run that was edited.
"""

import base64
import html
import io
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import read_run
from synpos_lib.lab.parameters import notebook_names, read_notebook
from synpos_lib.results import claims as rules
from synpos_lib.results import published
from synpos_lib.workflow import pages

COLOURS = dict(zip(rules.VERDICTS, ("#00796B", "#C77700", "#6F7C99", "#CC3311", "#B4B4B4"), strict=True))
REPORT = "13_report"


# ------------------------------------------------------------------------------------- what was kept, verified


def read_note(path: Path) -> dict:
    """The note of a figure or table, if the files that it vouches for are what they were."""
    note = files.read_json(path)
    for name, digest in note.get("files", {}).items():
        kept = path.with_name(name)
        if not kept.exists():
            raise Problem(f"{kept} is missing: start the profile again to make it anew")
        if files.sha256(kept) != digest:
            raise files.damaged(kept, "it is not what its notebook wrote")
    return {"order": 0, **note, "path": path, "stem": path.stem}


def planned(folder: Path) -> list[str] | None:
    """The jobs of this profile; None when its notebooks were only run by hand."""
    plan = folder / "plan.json"
    return list(files.read_json(plan)["jobs"]) if plan.exists() else None


def notes(folder: Path, notebook: str = "") -> list[dict]:
    """The notes of everything that a notebook (or all, but the report) has kept in this profile, in its order."""
    jobs = planned(folder)
    found = []
    for path in sorted([*folder.glob("figures/*.json"), *folder.glob("tables/*.json")]):
        note = files.read_json(path)
        if note["notebook"] not in (notebook or note["notebook"],) or note["notebook"] == REPORT:
            continue
        if jobs is None or note["job"] in jobs:  # else it is left from another plan
            found.append(read_note(path))
    return sorted(found, key=lambda note: (note["notebook"], note["job"], note["order"]))


def check_runs(folder: Path, kept: Iterable[dict]) -> int:
    """Read every run that these results name, refusing edited or unfinished ones; how many there are."""
    names = sorted({run for note in kept for run in note["runs"]})
    for name in names:
        read_run(folder / "runs" / name)
    return len(names)


# ---------------------------------------------------------------------------------------------------- claims


def claims(folder: Path) -> pd.DataFrame:
    """Every claim of the papers, a row for each measurement of it, and those that were not attempted."""
    paper = published.load("claims").set_index("id")
    measured = []
    for note in notes(folder):
        if note["stem"].endswith(".claims"):
            rows = pd.read_csv(note["path"].with_suffix(".csv"), keep_default_na=True).fillna({"of": ""})
            measured.append(rows.assign(job=note["job"], table=note["stem"]))
    known = (
        pd.concat(measured, ignore_index=True) if measured else pd.DataFrame(columns=[*rules.COLUMNS, "job", "table"])
    )
    for name in known.of[known.of != ""].unique():
        if name not in paper.index:
            raise Problem(f"there is no claim '{name}' in published/claims.csv ({suggest(name, paper.index)})")
    parts = []
    for name, about in paper.iterrows():
        rows = known[(known.of == name) & (known.n > 0)]
        if rows.empty:
            why = f"{about.measured_in} would measure it" if about.measured_in else "no notebook measures it"
            rows = pd.DataFrame([{**rules.claim(why, about.paper, None), "rule": "", "job": "", "table": ""}])
        parts.append(rows.assign(id=name, sentence=about.claim, where=about["where"], source=about.source))
    own = known[(known.of == "") & (known.n > 0)]
    parts.append(own.assign(id="", sentence=own.claim, where="our own question", source=""))
    columns = [
        "paper",
        "id",
        "sentence",
        "where",
        "source",
        *(key for key in rules.COLUMNS if key not in ("paper", "of")),
    ]
    order = {name: i for i, name in enumerate(paper.paper.unique())}
    every = pd.concat([part for part in parts if len(part)], ignore_index=True)[[*columns, "job", "table"]]
    return every.sort_values("paper", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def overall(found: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of the papers, with the verdict on all its measurements together."""
    theirs = found[found.id != ""]
    return theirs.groupby("id", sort=False).agg(
        paper=("paper", "first"),
        claim=("sentence", "first"),
        verdict=("verdict", rules.together),
        measurements=("table", lambda t: int((t != "").sum())),
    )


def counts(found: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each paper have which verdict."""
    table = overall(found)
    order = {"index": list(table.paper.unique()), "columns": list(rules.VERDICTS)}
    counted = pd.crosstab(table.paper, table.verdict).reindex(**order, fill_value=0)
    return counted.rename_axis(columns=None)


def amount(row) -> str:
    """A measured number for people: points for a difference (its rule is about zero or near it), else percent."""
    if row.n == 0:
        return ""
    word, limit = row.rule.split()
    difference = word == "within" or abs(float(limit)) < 0.1
    words, unit = ("{:+.1f}", " points") if difference else ("{:.1f}", " %")
    interval = f" [{words.format(100 * row.low)}, {words.format(100 * row.high)}]" if row.low == row.low else ""
    return words.format(100 * row.measured) + unit + interval + f", n = {int(row.n)}"


# ------------------------------------------------------------------------------------------------ as a page


class Pages:
    """Claims, figures and tables as HTML that needs nothing from elsewhere, with links to what they come from."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start = folder / "notebooks" if "SYNPOS_JOB" in os.environ else Path.cwd()  # where the page lies

    def link(self, path: Path, text: str) -> str:
        return f'<a href="{quote(os.path.relpath(path, self.start))}">{html.escape(text)}</a>'

    def runs(self, names: list[str]) -> str:
        """Links to run folders; many of them are folded away."""
        links = ", ".join(self.link(self.folder / "runs" / name, name) for name in names)
        return links if len(names) < 4 else f"<details><summary>{len(names)} runs</summary>{links}</details>"

    def traces(self, note: dict) -> str:
        """From a result to the page, the numbers and the runs that made it."""
        page = self.folder / "notebooks" / f"{note['job']}.html"
        words = [self.link(page, note["notebook"])]
        if note["path"].parent.name == "tables":
            words.append(self.link(note["path"].with_suffix(".csv"), "numbers"))
        runs = self.runs(note["runs"]) if note["runs"] else ""
        return f'<small class="traces">{" · ".join(words)}{" · " if runs else ""}{runs}</small>'

    def claims(self, found: pd.DataFrame, paper: str) -> str:
        """One paper's claims: the sentence, where it is made, what was measured, and the verdict."""
        tables = {note["stem"]: note for note in notes(self.folder)}
        lines = [
            '<table class="claims"><thead><tr><th>claim</th><th>measured here</th><th>verdict</th></tr></thead><tbody>'
        ]
        part = found[found.paper == paper]
        for _, rows in part.groupby((part.sentence != part.sentence.shift()).cumsum(), sort=False):
            first = rows.iloc[0]
            where = html.escape(first["where"])
            told = f"{html.escape(first.sentence)}<br><small>{where}</small>"
            for i, row in enumerate(rows.itertuples()):
                head = f'<td rowspan="{len(rows)}">{told}</td>' if i == 0 else ""
                lines.append(f"<tr>{head}<td>{self._measured(row, tables)}</td><td>{verdict_as_html(row)}</td></tr>")
        return "\n".join([STYLE, *lines, "</tbody></table>"])

    def _measured(self, row, tables: dict) -> str:
        if row.n == 0:
            return html.escape(row.claim)
        text = f"<b>{html.escape(amount(row))}</b>"
        text += f"<br>{html.escape(row.claim)}" if row.claim != row.sentence else ""
        return f"{text}<br>{self.traces(tables[row.table])}"

    def results(self, notebook: str) -> str:
        """A notebook's question and every figure and table, in its order; of one with many jobs, those of the first."""
        head = heading(notebook) if notebook in notebook_names() else f"<h4>{notebook}</h4>"
        kept = notes(self.folder, notebook)
        if not kept:
            return f"{head}<p>Nothing was kept: this notebook has not run in this profile.</p>"
        jobs = list(dict.fromkeys(note["job"] for note in kept))
        shown = [note for note in kept if note["job"] == jobs[0] and not note["stem"].endswith(".claims")]
        more = (
            f"<p>This is the first of {len(jobs)} jobs; the others are on the index page.</p>" if len(jobs) > 1 else ""
        )
        return STYLE + head + more + "\n".join(self._result(note) for note in shown)

    def _result(self, note: dict) -> str:
        if note["path"].parent.name == "tables":
            table = note["path"].with_suffix(".html").read_text()
            return f'<div class="kept">{table}{self.traces(note)}</div>'
        source = base64.b64encode(small_picture(note["path"].with_suffix(".png"), 1200)).decode()
        text = html.escape(note["text"])
        picture = f'<img src="data:image/png;base64,{source}" alt="{text}">'
        return f"<figure>{picture}<figcaption>{text}<br>{self.traces(note)}</figcaption></figure>"


STYLE = """<style>
.kept { overflow-x: auto; margin: 1em 0 } figure { margin: 1em 0 } figure img { max-width: 100%; background: white }
figcaption { font-size: 0.9em } .claims { border-collapse: collapse; width: 100% } .claims th { text-align: left }
.claims td { text-align: left; vertical-align: top; max-width: 34em; padding: 0.4em 1em 0.4em 0 }
.traces details, .traces summary { display: inline; cursor: pointer } .traces details[open] { display: block }
</style>"""


def heading(notebook: str) -> str:
    """The question in a notebook's title and the paragraph below it."""
    question, _, text = "".join(read_notebook(notebook)["cells"][0]["source"]).partition("\n\n")
    return f"<h4>{html.escape(question.lstrip('# '))}</h4>" + pages.markdown(text.split("\n|")[0])


def verdict_as_html(row) -> str:
    """A verdict in its colour, with the rule that it follows from."""
    rule = f"<br><small>rule: {html.escape(row.rule)}</small>" if row.rule else ""
    return f'<b style="color:{COLOURS[row.verdict]}">{row.verdict}</b>{rule}'


def small_picture(path: Path, width: int) -> bytes:
    """A PNG of at most `width` pixels and 128 colours."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 10 * width))
    data = io.BytesIO()
    picture.quantize(128).save(data, "png", optimize=True)
    return data.getvalue()


# ------------------------------------------------------------------------------------------ cost and origin


def cost(folder: Path) -> pd.DataFrame:
    """What each notebook took in this profile: jobs, time, memory, disk."""
    jobs = planned(folder)
    paths = [path for path in sorted((folder / "jobs").glob("*.json")) if jobs is None or path.stem in jobs]
    marks = [files.read_json(path) for path in paths]
    rows = [
        {
            "notebook": mark["notebook"],
            "jobs": 1,
            "seconds": mark["seconds"],
            "peak memory, MB": mark.get("memory_mb"),
            "written, MB": mark.get("disk_mb"),
        }
        for mark in marks
        if mark["notebook"] != REPORT
    ]
    frame = pd.DataFrame(rows, columns=["notebook", "jobs", "seconds", "peak memory, MB", "written, MB"])
    how = {"jobs": "sum", "seconds": "sum", "peak memory, MB": "max", "written, MB": "sum"}
    return frame.groupby("notebook").agg(how)


def origins(folder: Path) -> pd.DataFrame:
    """With what the results were made: every commit, machine, precision and version among their notes."""
    made = Counter()
    for note in notes(folder):
        about = note["provenance"]
        made.update((part, str(about[part])) for part in ("commit", "hardware", "precision", "python"))
        made.update(about["versions"].items())
    rows = [{"part": part, "is": value, "results": n} for (part, value), n in made.items()]
    return pd.DataFrame(rows, columns=["part", "is", "results"]).set_index("part")


def caveats(folder: Path) -> list[str]:
    """What to know before the verdicts are read: on which images they rest, and what is missing."""
    kept = notes(folder)
    data = sorted({str(note["parameters"]["dataset"]) for note in kept if "dataset" in note["parameters"]})
    said = [f"Measured on: {', '.join(data) or 'nothing yet'}."]
    jobs = planned(folder) or []
    missing = [name for name in jobs if not name.startswith(REPORT) and not (folder / "jobs" / f"{name}.json").exists()]
    if missing:
        said.append(f"{len(missing)} of {len(jobs)} jobs of this profile are not finished: {', '.join(missing)}.")
    return said


def total(costs: pd.DataFrame) -> str:
    """The whole cost in words."""
    return f"{int(costs.jobs.sum())} jobs, {runtime.minutes(costs.seconds.sum())} of work"
