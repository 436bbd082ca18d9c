"""The contents of the report: the papers' claims beside our measurements, and every figure and table, verified.

    table = report.claims(folder)              # a row per claim and measurement; claims that nobody measured included
    Parts(folder).claims(table, "CLSP")        # as HTML

No number is typed by hand: sentences, their places and the data they are about are in published/claims.csv, numbers in
the tables named `claims` that the notebooks keep. A file that is not as its notebook left it is refused, and so is an
edited run.
"""

import base64
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from synpos_lib.core import files, runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import read_run
from synpos_lib.lab import recorded
from synpos_lib.lab.parameters import REPORT, notebook_names, read_notebook
from synpos_lib.results import claims as rules
from synpos_lib.results import published
from synpos_lib.workflow import marks, pages, profiles

PAPER = "paper"  # the profile with the papers' settings
UNDECIDED = (rules.ONE_RUN, rules.CROSSES)
COLOURS = dict(
    zip(
        rules.VERDICTS,
        ("#004D40", "#00897B", "#8792AB", "#5C6885", "#CC3311", "#7F1D0C", "#C77700", "#B4B4B4"),
        strict=True,
    )
)
COLUMNS = ["claim", "measured", "low", "high", "n", "needs", "p", "verdict", "corrected", "rule"]
COLUMNS += ["departure", "on", "original"]
MEASURES = {"seconds": "sum", "memory_mb": "max", "disk_mb": "sum"}  # of a done-mark, and how they add up


def notes(folder: Path, notebook: str = "") -> list[dict]:
    """The notes of all results of a notebook, or of all notebooks but the report, in their order."""
    jobs = marks.planned(folder)
    chosen = []
    for path in marks.note_paths(folder):
        note = files.read_json(path, marks.Note)
        current = not jobs or note["job"] in jobs  # else it is left from another plan
        if current and note["notebook"] != REPORT and notebook in ("", note["notebook"]):
            chosen.append({**marks.read_note(path), "path": path, "stem": path.stem})
    return sorted(chosen, key=lambda note: (note["notebook"], note["job"], note["order"]))


def check_runs(folder: Path, results: Iterable[dict]) -> int:
    """Read every run that these results name, refusing edited or unfinished ones, and return how many there are."""
    names = sorted({run for note in results for run in note["runs"]})
    for name in names:
        read_run(folder / "runs" / name)
    return len(names)


def claims(folder: Path) -> pd.DataFrame:
    """Every claim of the papers with its measurements in this folder; see `judge`."""
    tables, settings = [], _papers_settings()
    for note in notes(folder):
        if note["stem"].endswith(".claims"):
            path, about = note["path"].with_suffix(".csv"), {"job": note["job"], "table": note["stem"]}
            tables.append(_measurements(pd.read_csv(path), path, note["parameters"], settings, about))
    return judge(tables)


def recorded_claims() -> dict[str, pd.DataFrame]:
    """The same for each recording; the pieces of `thorough` are one, and each claim is judged by that with most seeds.

    A † marks a recording whose code has changed since.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    measured = recorded.load("*.claims")
    settings = _papers_settings() if len(measured) else []
    for name, part in measured.groupby("recorded"):
        folder = recorded.FOLDER / name
        jobs = recorded.read_manifest(folder)["jobs"]
        for table, rows in part.groupby("table"):
            path, job = folder / "tables" / f"{table}.csv", table.removesuffix(".claims")
            rows = _measurements(rows, path, jobs[job]["parameters"], settings, {"job": job, "table": table})
            tables.setdefault(re.sub("^thorough-.*", "thorough", name), []).append(rows)
    places = {}
    for place, parts in tables.items():
        rows = pd.concat(parts)
        key = [rows.of.where(rows.of != "", rows.claim), rows.on, rows.departure]
        most = rows.groupby([*key, rows.recorded], sort=False).n.transform("max")
        best = rows.assign(most=most).groupby(key, sort=False).most.transform("max")
        chosen = rows[most == best]
        places[place + " †" * bool(chosen.changed.any())] = judge([chosen])
    return places


def _papers_settings() -> list[dict]:
    return [job.parameters for job in profiles.jobs(PAPER)]


def _measurements(
    rows: pd.DataFrame, path: Path, parameters: dict, settings: list[dict], about: dict[str, str]
) -> pd.DataFrame:
    """The measured rows of a table of claims, with the images of each and whether its settings are the papers'."""
    unknown = rows[~rows.verdict.isin(rules.MEASURED)]
    if len(unknown):
        raise Problem(
            f"the verdict '{unknown.verdict.iloc[0]}' in {path} is not one that a rule gives: "
            f"run notebook {about['job']} again"
        )
    empty = {"of": "", "departure": "", "on": str(parameters.get("dataset", ""))}
    rows = rows.astype(dict.fromkeys(empty, object)).fillna(empty)
    needs = rows.get("needs", float("nan"))  # tables of earlier versions lack it
    return rows[rows.n > 0].assign(needs=needs, settings=parameters in settings, **about)


def judge(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Every claim of the papers, a row for each measurement of it in these tables, and those that were not attempted.

    `verdict` is that of the row by itself, `corrected` what Holm's correction leaves of it, all measurements being one
    family. `original` says whether the row was measured on the paper's own data and settings; where one was, those on
    other images or settings count as departures.
    """
    none = pd.DataFrame(columns=[*rules.COLUMNS, "settings", "job", "table"]).astype({"p": float, "settings": bool})
    evidence = pd.concat([rows for rows in tables if len(rows)] or [none], ignore_index=True)
    paper = published.load("claims").set_index("id")
    for name in evidence.of[evidence.of != ""].unique():
        if name not in paper.index:
            raise Problem(f"there is no claim '{name}' in published/claims.csv ({suggest(name, paper.index)})")
    evidence["corrected"] = rules.correct(evidence)
    data = [paper.data.get(of, "").split() for of in evidence.of]
    fits = pd.Series([on in names for on, names in zip(evidence.on, data, strict=True)], evidence.index, dtype=bool)
    evidence["original"] = fits & evidence.settings & (evidence.departure == "")
    for column in ("verdict", "corrected"):
        evidence[column] = evidence[column].mask(evidence.original, evidence[column].replace(rules.ORIGINAL))
    parts = []
    for name, about in paper.iterrows():
        rows = evidence[evidence.of == name].copy()
        if rows.original.any():
            rows.loc[~rows.original & (rows.departure == ""), "departure"] = "other images or settings than the paper's"
        rows = rows.sort_values("departure", key=lambda texts: texts != "", kind="stable")
        if not (rows.departure == "").any():
            why = f"{about.measured_in} would measure it" if about.measured_in else "no notebook measures it"
            none = {**rules.claim(why, about.paper, None), "rule": "", "corrected": rules.NOT_ATTEMPTED}
            none |= {"original": False, "job": "", "table": ""}
            rows = pd.DataFrame([none, *rows.to_dict("records")])
        parts.append(rows.assign(id=name, sentence=about.claim, where=about["where"], source=about.source))
    own = evidence[evidence.of == ""]
    if len(own):
        parts.append(own.assign(id="", sentence=own.claim, where="our own question", source=""))
    every = pd.concat(parts, ignore_index=True)
    origin = [column for column in ("recorded", "changed") if column in every]
    every = every[["paper", "id", "sentence", "where", "source", *COLUMNS, "job", "table", *origin]]
    order = {name: i for i, name in enumerate(paper.paper.unique())}
    return every.sort_values("paper", key=lambda names: names.map(order), kind="stable", ignore_index=True)


def overall(table: pd.DataFrame) -> pd.DataFrame:
    """One row per claim of the papers, with the verdict on all its measurements together, departures left out.

    `beyond`: it is undecided, and no n that can be afforded would decide it.
    """
    counted = table[(table.id != "") & (table.departure == "")]
    undecided = counted[counted.verdict.isin(UNDECIDED)]
    whole = counted.groupby("id", sort=False).agg(
        paper=("paper", "first"),
        claim=("sentence", "first"),
        verdict=("verdict", rules.together),
        corrected=("corrected", rules.together),
        measurements=("table", lambda names: int((names != "").sum())),
    )
    beyond = undecided.needs.eq(float("inf")).groupby(undecided.id).all().reindex(whole.index, fill_value=False)
    return whole.assign(beyond=beyond & (whole.verdict == rules.CROSSES))


def counts(table: pd.DataFrame, column: str = "verdict") -> pd.DataFrame:
    """How many claims of each paper have which verdict, or which corrected one."""
    whole = overall(table)
    order = {"index": list(whole.paper.unique()), "columns": list(rules.VERDICTS)}
    return pd.crosstab(whole.paper, whole[column]).reindex(**order, fill_value=0).rename_axis(columns=None)


def images(table: pd.DataFrame) -> str:
    """Which images the verdicts of a table speak of, and how many measurements are a paper's own."""
    measured = table[table.n > 0]
    names = ", ".join(sorted(measured.on.unique())) or "none yet"
    if measured.original.any():
        share = f"{measured.original.sum()} of {len(measured)} measurements are on a paper's own data and settings"
        return f"“These images”: {names}. {share}: their claims are reproduced or not."
    none = "No measurement is on a paper's own data and settings, so none can reproduce a claim."
    return f"“These images”: {names}. {none}"


def amount(row: dict) -> str:
    """A measured number for people: points for a difference (its rule is about zero or near it), else percent."""
    if row["n"] == 0:
        return ""
    number, unit = _units(row["rule"])
    measured, low, high = (number.format(100 * row[key]) for key in ("measured", "low", "high"))
    interval = f" [{low}, {high}]" if pd.notna(row["low"]) else ""
    return f"{measured}{unit}{interval}, n = {int(row['n'])}"


def limit(rule: str) -> str:
    """A rule for people, in the unit of what it judges."""
    word, value = rule.split()
    return f"{word} {100 * float(value):g}{_units(rule)[1]}"


def _units(rule: str) -> tuple[str, str]:
    word, limit = rule.split()
    difference = word == "within" or abs(float(limit)) < 0.1
    return ("{:+.1f}", " points") if difference else ("{:.1f}", " %")


def shortfall(row: dict) -> str:
    """What an undecided measurement lacks, in words; empty for others."""
    if row["verdict"] != rules.CROSSES:
        return ""
    if row["needs"] == float("inf"):
        return f"cannot be shown here: it would take over {rules.MOST_RUNS} runs or {rules.MOST_IMAGES} images"
    return f"n = {int(row['needs'])} would decide, mean and spread being equal" if row["needs"] > 0 else ""


def cost(folder: Path) -> pd.DataFrame:
    """What each notebook took in this profile: jobs, time, memory, disk."""
    jobs = marks.planned(folder)
    paths = [path for path in sorted(folder.glob("jobs/*.json")) if not jobs or path.stem in jobs]
    done = pd.DataFrame([files.read_json(path, marks.Mark) for path in paths], columns=["notebook", *MEASURES])
    groups = done[done.notebook != REPORT].groupby("notebook")
    table = groups.agg(jobs=("seconds", "size"), **{name: (name, function) for name, function in MEASURES.items()})
    return table.rename(columns={"memory_mb": "peak memory, MB", "disk_mb": "written, MB"})


def origins(folder: Path) -> pd.DataFrame:
    """The origin of the results: every commit, machine, precision and version among their notes."""
    numbers: Counter[tuple[str, str]] = Counter()
    for note in notes(folder):
        about = note["provenance"]
        numbers.update((part, str(about[part])) for part in ("commit", "hardware", "precision", "python"))
        numbers.update(about["versions"].items())
    rows = [{"part": part, "is": value, "results": n} for (part, value), n in numbers.items()]
    return pd.DataFrame(rows, columns=["part", "is", "results"]).set_index("part")


def caveats(folder: Path) -> list[str]:
    """What to know before the verdicts are read: on which images they rest, and what is missing."""
    sentences = [images(claims(folder))]
    jobs = marks.planned(folder)
    missing = [name for name in jobs if not name.startswith(REPORT) and not marks.path(folder, name).exists()]
    if missing:
        sentences.append(f"{len(missing)} of {len(jobs)} jobs of this profile are not finished: {', '.join(missing)}.")
    return sentences


def total(costs: pd.DataFrame) -> str:
    """The whole cost as text."""
    return f"{int(costs.jobs.sum())} jobs, {runtime.minutes(costs.seconds.sum())} of work"


class Parts:
    """Claims, figures and tables as HTML without external files, with links to their origin."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start = folder / "notebooks" if "SYNPOS_JOB" in os.environ else Path.cwd()  # where the page lies

    def claims(self, table: pd.DataFrame, paper: str) -> str:
        """One paper's claims: the sentence, where it is made, what was measured, and the verdicts."""
        part = table[table.paper == paper]
        groups = part.groupby((part.sentence != part.sentence.shift()).cumsum(), sort=False)
        origin = {note["stem"]: note for note in notes(self.folder)}
        rows = [group.to_dict("records") for _, group in groups]
        whole = overall(part).to_dict("index")
        return self._macro("claims", images(part), rows, whole, origin, amount, shortfall, limit, COLOURS)

    def results(self, notebook: str) -> str:
        """A notebook's question and every figure and table, in its order; of one with many jobs, those of the first."""
        title, text = notebook, ""
        if notebook in notebook_names():
            title, _, text = "".join(read_notebook(notebook)["cells"][0]["source"]).partition("\n\n")
        everything = notes(self.folder, notebook)
        jobs = list(dict.fromkeys(note["job"] for note in everything))
        first = [note for note in everything if note["job"] == jobs[0] and not note["stem"].endswith(".claims")]
        for note in first:
            if note["path"].parent.name == "figures":
                note["picture"] = base64.b64encode(pages.small_picture(note["path"].with_suffix(".png"), 1200)).decode()
        return self._macro("results", title.lstrip("# "), pages.markdown(text.split("\n|")[0]), len(jobs), first)

    def _macro(self, name: str, *values: object) -> str:
        base = os.path.relpath(self.folder, self.start)
        style = f"<style>\n{(pages.HERE / 'report.css').read_text(encoding='utf-8')}</style>"
        return style + str(getattr(pages.template("parts.html").module, name)(base, *values))
