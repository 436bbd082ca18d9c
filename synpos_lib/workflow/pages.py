"""Everything that is HTML: an executed notebook to read and to present, a profile's index, the parts of the report.

Each page is one file that loads nothing else. Code is folded, formulas are MathML, colours follow the reader's light
or dark setting, and paper gets no buttons.
"""

import base64
import html
import io
import itertools
import json
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import jinja2

from synpos_lib.core import files, runtime
from synpos_lib.lab.parameters import REPORT, notebook_names, read_notebook
from synpos_lib.workflow import watch

if TYPE_CHECKING:
    import pandas as pd

# A grammar that jsonschema loads for a second and never needs here.
sys.modules.setdefault("rfc3987_syntax", cast(ModuleType, None))

HERE = Path(__file__).parent  # of the style sheets, the script and the template


# --------------------------------------------------------------------------------------- one notebook, executed


def write(path: Path) -> None:
    """Write the page and the slides of an executed notebook beside it."""
    files.write_bytes(path.with_suffix(".html"), to_html(path).encode())
    files.write_bytes(path.with_suffix(".slides.html"), to_slides(path).encode())


def to_html(path: Path) -> str:
    """The page to read: prose, folded code, and what it showed."""
    cells = _cells(path)
    hidden = {"remove-input"}  # pages for readers, not coders
    if any({"parameters", "remove-input"} <= cell["tags"] for cell in cells):
        hidden.add("injected-parameters")
    return _page(path, "pages.css", cells=cells, hidden=hidden)


def to_slides(path: Path) -> str:
    """The page to present: the question, then one slide for each figure with its *What to see*, then the summary."""
    cells = _cells(path)
    slides = [_markdown(cell["text"]) for cell in cells[:1] if cell["cell_type"] == "markdown"]
    heading = ""
    results: list[str] = []
    numbers: list[str] = []

    def slide(text: str = "") -> None:
        pictures = [result for result in results if "<img" in result] or results
        if pictures:
            text += f"<pre>{html.escape(''.join(numbers).strip())}</pre>" if numbers else ""
            words = f'<div class="words">{text}</div>' if text else ""
            beside = f'<div class="beside"><div class="shown">{"".join(pictures)}</div>{words}</div>'
            slides.append(f"<h2>{heading}</h2>{beside}")
        results.clear()
        numbers.clear()

    for cell in cells[1:]:
        if cell["cell_type"] == "markdown":
            if title := re.search(r"^#+ (.+)$", cell["text"], re.MULTILINE):
                slide()
                heading = re.sub(r"^<p>|</p>$", "", _markdown(title[1]).strip())
            elif "**What to see.**" in cell["text"]:
                slide(_markdown(cell["text"]))
            if cell["id"] == "summary":
                slides.append(_markdown(cell["text"]))
            continue
        for output in cell["outputs"]:
            page = "".join(output.get("data", {}).get("text/html", ""))
            if ("<img" in page or "<table" in page) and "explorer" not in page:
                results.append(f"<div>{page}</div>")
            elif output["output_type"] == "stream" and cell["id"].startswith("claim"):
                numbers.append("".join(output["text"]))
    slide()
    return _page(path, "pages.css", "slides.css", slides=slides, script=(HERE / "slides.js").read_text())


def _cells(path: Path) -> list[dict]:
    """The cells of a notebook, each with its text and its tags."""
    cells = json.loads(path.read_text())["cells"]
    extra = [{"text": "".join(cell["source"]), "tags": set(cell["metadata"].get("tags", ()))} for cell in cells]
    return [{"id": "", **cell, **more} for cell, more in zip(cells, extra, strict=True)]


def _page(path: Path, *sheets: str, **values: object) -> str:
    from pygments.formatters import HtmlFormatter

    style = "".join((HERE / sheet).read_text() for sheet in sheets)
    for scheme, around in {
        "default": "{}",
        "github-dark": "@media screen and (prefers-color-scheme: dark) {{{}}}",
    }.items():
        rules = HtmlFormatter(style=scheme, nobackground=True).get_style_defs(".highlight").splitlines()
        style += around.format("\n".join(rule for rule in rules if rule.startswith(".highlight ."))) + "\n"
    return _templates().get_template("notebook.html").render(name=path.stem, style=style, **values)


def _templates() -> jinja2.Environment:
    from nbconvert.filters import ansi2html
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(HERE))
    environment.filters |= {"ansi": ansi2html, "markdown": _markdown}
    environment.filters["highlight"] = lambda source: highlight(source, PythonLexer(), HtmlFormatter())
    return environment


# ------------------------------------------------------------------------------------------ prose and formulas

PLACE = re.compile(r"formula(\d+)here")
FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\\w$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\d$])",
    re.DOTALL,
)


def _markdown(text: str) -> str:
    """Markdown as HTML, with formulas as MathML; links between notebooks lead from page to page."""
    from nbconvert.filters import markdown2html

    formulas: list[str] = []
    page = markdown2html(without_formulas(text, formulas))
    page = re.sub(r"<[^>]*>", lambda tag: PLACE.sub("", tag[0]), page)  # such as the ids made from headings
    page = PLACE.sub(lambda place: formulas[int(place[1])], page)
    return re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="../index.html#\1"', page)  # of several jobs, perhaps


def without_formulas(text: str, formulas: list[str]) -> str:
    """Move each $…$ and $$…$$ outside code to `formulas`, as MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    def move(match: re.Match) -> str:
        if match["code"]:
            return match["code"]
        try:
            formula = convert(match["block"] or match["inline"], display="block" if match["block"] else "inline")
        except Exception:  # one that it cannot read is shown as it was written
            formula = html.escape(match[0])
        formulas.append(formula)
        return f"formula{len(formulas) - 1}here"

    return FORMULA.sub(move, text)


# ------------------------------------------------------------------------------------------- a profile's index


def write_index(profile: str, here: Path, names: list[str]) -> Path:
    """Write outputs/<profile>/index.html, every notebook, figure and table with its cost, and return its path."""
    notes = watch.notes(here)
    jobs = [
        _entry(here, name, {path: note for path, note in notes.items() if note.get("job") == name}) for name in names
    ]
    marks = [job["mark"] for job in jobs if job["mark"]]
    cost = runtime.minutes(sum(mark["seconds"] for mark in marks))
    machines = ", ".join(sorted({mark["provenance"]["hardware"] for mark in marks})) or "no machine yet"
    reports = [job for job in jobs if job["name"] == REPORT and job["page"] and not job["failure"]]
    page = (
        _templates()
        .get_template("index.html")
        .render(
            profile=profile,
            summary=f"{len(marks)} of {len(names)} notebooks finished, {cost} of work on {machines}",
            report=next(iter(reports), None),
            notebooks=[
                (key, list(group)) for key, group in itertools.groupby(jobs, lambda job: job["name"].split("-")[0])
            ],
        )
    )
    files.write_bytes(here / "index.html", page.encode())
    return here / "index.html"


def _entry(here: Path, name: str, notes: dict[Path, dict]) -> dict:
    """One job: its pages, state, figures and tables, as the template needs them; a path is empty where nothing is."""

    def place(path: Path) -> str:
        return str(path.relative_to(here)) if path.exists() else ""

    page, mark = here / "notebooks" / f"{name}.html", watch.try_read(here / "jobs" / f"{name}.json")
    cells = _cells(page.with_suffix(".ipynb")) if page.with_suffix(".ipynb").exists() else []
    titles = [cell["text"] for cell in cells if cell["text"].startswith("# ")]  # papermill puts a cell before an error
    origin = mark.get("provenance", {})
    status = f"{runtime.minutes(mark['seconds'])} · {origin['time']} · commit {origin['commit']}" if mark else ""
    results = [
        {"text": note["text"]} | {kind: place(path.with_name(f"{path.stem}.{kind}")) for kind in ("png", "svg", "csv")}
        for path, note in notes.items()
    ]
    return {
        "name": name,
        "question": titles[0].splitlines()[0].lstrip("# ") if titles else "",
        "page": place(page),
        "slides": place(page.with_suffix(".slides.html")),
        "mark": mark,
        "failure": watch.try_read(here / "jobs" / f"{name}.failed"),
        "status": status or "not finished",
        "figures": [result for result in results if result["png"]],
        "tables": [result for result in results if result["csv"]],
    }


# ------------------------------------------------------------------------------------------ parts of the report


class Parts:
    """Claims, figures and tables as HTML that needs nothing from elsewhere, with links to what they come from."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.start = folder / "notebooks" if "SYNPOS_JOB" in os.environ else Path.cwd()  # where the page lies

    def claims(self, table: "pd.DataFrame", paper: str) -> str:
        """One paper's claims: the sentence, where it is made, what was measured, and the verdict."""
        from synpos_lib.workflow import report  # here, since it loads pandas and scipy, which no other page needs

        part = table[table.paper == paper]
        groups = part.groupby((part.sentence != part.sentence.shift()).cumsum(), sort=False)
        notes = {note["stem"]: note for note in report.notes(self.folder)}
        rows = [group.to_dict("records") for _, group in groups]
        return self._macro("claims", rows, notes, report.amount, report.COLOURS)

    def results(self, notebook: str) -> str:
        """A notebook's question and every figure and table, in its order; of one with many jobs, those of the first."""
        from synpos_lib.workflow import report

        title, text = notebook, ""
        if notebook in notebook_names():
            title, _, text = "".join(read_notebook(notebook)["cells"][0]["source"]).partition("\n\n")
        notes = report.notes(self.folder, notebook)
        jobs = list(dict.fromkeys(note["job"] for note in notes))
        first = [note for note in notes if note["job"] == jobs[0] and not note["stem"].endswith(".claims")]
        for note in first:
            if note["path"].parent.name == "figures":
                note["picture"] = base64.b64encode(small_picture(note["path"].with_suffix(".png"), 1200)).decode()
        return self._macro("results", title.lstrip("# "), _markdown(text.split("\n|")[0]), len(jobs), first)

    def _macro(self, name: str, *values: object) -> str:
        base = os.path.relpath(self.folder, self.start)
        style = f"<style>\n{(HERE / 'report.css').read_text()}</style>"
        return style + str(getattr(_templates().get_template("parts.html").module, name)(base, *values))


def small_picture(path: Path, width: int) -> bytes:
    """A PNG of at most `width` pixels and 128 colours."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 10 * width))
    data = io.BytesIO()
    picture.quantize(128).save(data, "png", optimize=True)
    return data.getvalue()
