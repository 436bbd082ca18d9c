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


def to_html(path: Path) -> str:
    """The page to read: prose, folded code, and what it showed."""
    cells = _cells(path)
    hidden = {"remove-input"}  # pages for readers, not coders
    if any({"parameters", "remove-input"} <= _tags(cell) for cell in cells):
        hidden.add("injected-parameters")
    body = "\n".join(_prose(cell) if cell["cell_type"] == "markdown" else _code(cell, hidden) for cell in cells)
    fold = "document.querySelectorAll('details.code').forEach(code => code.open = !code.open)"
    links = f'<a href="../index.html">all results</a> <a href="{slides_of(path).name}">slides</a>'
    nav = f'<nav>{links} <button onclick="{fold}">show or fold code</button></nav>'
    return _page(path, f"{nav}\n<main>\n{body}\n</main>", "pages.css")


def slides_of(path: Path) -> Path:
    """Where the slides of an executed notebook are kept."""
    return path.with_suffix(".slides.html")


def to_slides(path: Path) -> str:
    """The page to present: the question, then one slide for each figure with its *What to see*, then the summary."""
    cells = _cells(path)
    slides = [_prose(cells[0])] if cells and cells[0]["cell_type"] == "markdown" else []
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
            text = _text(cell)
            if title := re.search(r"^#+ (.+)$", text, re.MULTILINE):
                slide()
                heading = re.sub(r"^<p>|</p>$", "", _markdown(title[1]).strip())
            elif "**What to see.**" in text:
                slide(_markdown(text))
            if cell["id"] == "summary":
                slides.append(_prose(cell))
            continue
        for output in cell["outputs"]:
            page = "".join(output.get("data", {}).get("text/html", ""))
            if ("<img" in page or "<table" in page) and "explorer" not in page:
                results.append(f"<div>{page}</div>")
            elif output["output_type"] == "stream" and cell["id"].startswith("claim"):
                numbers.append("".join(output["text"]))
    slide()
    body = "\n".join(f"<section>{text}</section>" for text in slides)
    script = (HERE / "slides.js").read_text()
    return _page(path, f"{body}\n<script>\n{script}</script>", "pages.css", "slides.css")


def _cells(path: Path) -> list[dict]:
    return [{"id": "", **cell} for cell in json.loads(path.read_text())["cells"]]


def _text(cell: dict) -> str:
    return "".join(cell["source"])


def _tags(cell: dict) -> set[str]:
    return set(cell["metadata"].get("tags", ()))


def _page(path: Path, body: str, *sheets: str) -> str:
    from pygments.formatters import HtmlFormatter

    style = "".join((HERE / sheet).read_text() for sheet in sheets)
    for name, around in {
        "default": "{}",
        "github-dark": "@media screen and (prefers-color-scheme: dark) {{ {} }}",
    }.items():
        rules = HtmlFormatter(style=name, nobackground=True).get_style_defs(".highlight").splitlines()
        style += around.format("\n".join(rule for rule in rules if rule.startswith(".highlight ."))) + "\n"
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
    head += f"\n<title>{html.escape(path.stem)}</title>\n<style>\n{style}</style>"
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _prose(cell: dict) -> str:
    return f'<div id="{cell["id"]}">{_markdown(_text(cell))}</div>'


def _code(cell: dict, hidden: set[str]) -> str:
    """A code cell: folded source, unless it is hidden, and its outputs."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    outputs = "".join(_output(output) for output in cell["outputs"])
    if _tags(cell) & hidden:
        return outputs
    name = "parameters of this run" if "injected-parameters" in _tags(cell) else html.escape(cell["id"])
    source = highlight(_text(cell), PythonLexer(), HtmlFormatter())
    return f'<details class="code"><summary>code: {name}</summary>{source}</details>{outputs}'


def _output(output: dict) -> str:
    """One output, in the richest form that needs no script."""
    from nbconvert.filters import ansi2html

    if output["output_type"] == "stream":
        return f'<div class="out {output["name"]}"><pre>{ansi2html("".join(output["text"]))}</pre></div>'
    if output["output_type"] == "error":
        return f'<div class="out error"><pre>{ansi2html(chr(10).join(output["traceback"]))}</pre></div>'
    data = {kind: "".join(lines) for kind, lines in output["data"].items() if kind.startswith(("text/", "image/"))}
    if "text/html" in data:
        return f'<div class="out">{data["text/html"]}</div>'
    if "image/png" in data:
        return f'<div class="out"><img src="data:image/png;base64,{data["image/png"].strip()}" alt="a picture"></div>'
    return f'<div class="out"><pre>{html.escape(data.get("text/plain", ""))}</pre></div>'


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
    cells = watch.try_read(page.with_suffix(".ipynb")).get("cells", [])
    titles = [text for cell in cells if (text := _text(cell)).startswith("# ")]  # papermill puts a cell before an error
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
        "slides": place(slides_of(page)),
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
            title, _, text = _text(read_notebook(notebook)["cells"][0]).partition("\n\n")
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


def _templates() -> jinja2.Environment:
    return jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(HERE))


def small_picture(path: Path, width: int) -> bytes:
    """A PNG of at most `width` pixels and 128 colours."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 10 * width))
    data = io.BytesIO()
    picture.quantize(128).save(data, "png", optimize=True)
    return data.getvalue()
