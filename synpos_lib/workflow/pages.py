"""The pages: an executed notebook to read and to present, and the index of a profile.

Each page is one file that loads nothing else. Code is folded, formulas are MathML, colours follow the reader's light
or dark setting, and no button is printed.
"""

import html
import io
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import jinja2

from synpos_lib.core import files, runtime
from synpos_lib.lab import parameters
from synpos_lib.lab.parameters import REPORT
from synpos_lib.workflow import marks

# A grammar that jsonschema loads for a second and never needs here.
sys.modules.setdefault("rfc3987_syntax", cast(ModuleType, None))

DATA = ("*.css", "*.html", "*.js")  # files that decide how a page looks
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
    slides = [markdown(cell["text"]) for cell in cells[:1] if cell["cell_type"] == "markdown"]
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
                heading = re.sub(r"^<p>|</p>$", "", markdown(title[1]).strip())
            elif "**What to see.**" in cell["text"]:
                slide(markdown(cell["text"]))
            if cell["id"] == "summary":
                slides.append(markdown(cell["text"]))
            continue
        for output in cell["outputs"]:
            page = "".join(output.get("data", {}).get("text/html", ""))
            if ("<img" in page or "<table" in page) and "explorer" not in page:
                results.append(f"<div>{page}</div>")
            elif output["output_type"] == "stream" and cell["id"].startswith("claim"):
                numbers.append("".join(output["text"]))
    slide()
    return _page(
        path, "pages.css", "slides.css", slides=slides, script=(HERE / "slides.js").read_text(encoding="utf-8")
    )


def _cells(path: Path) -> list[dict]:
    """The cells of a notebook, each with its text and its tags."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    extra = [{"text": "".join(cell["source"]), "tags": set(cell["metadata"].get("tags", ()))} for cell in cells]
    return [{"id": "", **cell, **more} for cell, more in zip(cells, extra, strict=True)]


def _page(path: Path, *sheets: str, **values: object) -> str:
    from pygments.formatters import HtmlFormatter

    style = "".join((HERE / sheet).read_text(encoding="utf-8") for sheet in sheets)
    for scheme, around in {
        "default": "{}",
        "github-dark": "@media screen and (prefers-color-scheme: dark) {{{}}}",
    }.items():
        rules = HtmlFormatter(style=scheme, nobackground=True).get_style_defs(".highlight").splitlines()
        style += around.format("\n".join(rule for rule in rules if rule.startswith(".highlight ."))) + "\n"
    return template("notebook.html").render(name=path.stem, style=style, **values)


def template(name: str) -> jinja2.Template:
    """A template of this folder, with the filters that it may use."""
    from nbconvert.filters import ansi2html
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    environment = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(HERE))
    environment.filters |= {"ansi": ansi2html, "markdown": markdown}
    environment.filters["highlight"] = lambda source: highlight(source, PythonLexer(), HtmlFormatter())
    return environment.get_template(name)


# ------------------------------------------------------------------------------------------ prose and formulas

PLACE = re.compile(r"formula(\d+)here")
FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\\w$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\d$])",
    re.DOTALL,
)


def markdown(text: str) -> str:
    """Markdown as HTML, with formulas as MathML; links between notebooks lead from page to page."""
    from nbconvert.filters import markdown2html

    formulas: list[str] = []
    page = markdown2html(without_formulas(text, formulas))
    page = re.sub(r"<[^>]*>", lambda tag: PLACE.sub("", tag[0]), page)  # such as the ids made from headings
    page = PLACE.sub(lambda place: formulas[int(place[1])], page)
    return re.sub(r'href="(\d\db?_\w+)\.ipynb"', r'href="../index.html#\1"', page)  # of several jobs, perhaps


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
    notes = marks.notes(here)
    jobs = [_entry(here, name, notes) for name in names]
    done = [job["mark"] for job in jobs if job["mark"]]
    cost = runtime.minutes(sum(mark["seconds"] for mark in done))
    machines = ", ".join(sorted({mark["provenance"]["hardware"] for mark in done})) or "no machine yet"
    reports = [job for job in jobs if job["name"] == REPORT and job["page"] and not job["failure"]]
    groups = itertools.groupby(jobs, lambda job: job["name"].split("-")[0])
    page = template("index.html").render(
        profile=profile,
        summary=f"{len(done)} of {len(names)} notebooks finished, {cost} of work on {machines}",
        report=next(iter(reports), None),
        notebooks=[(notebook, list(group)) for notebook, group in groups],
    )
    files.write_bytes(here / "index.html", page.encode())
    return here / "index.html"


def _entry(here: Path, name: str, notes: dict[Path, marks.Note]) -> dict:
    """One job: its pages, state, figures and tables, as the template needs them; a path is empty where nothing is."""

    def place(path: Path) -> str:
        return str(path.relative_to(here)) if path.exists() else ""

    page, mark = here / "notebooks" / f"{name}.html", files.try_json(marks.path(here, name), marks.Mark)
    notebook = name.split("-")[0]
    status = "not finished"
    if mark:
        origin = mark["provenance"]
        status = f"{runtime.minutes(mark['seconds'])} · {origin['time']} · commit {origin['commit']}"
    results = [
        {"text": note["text"]} | {kind: place(path.with_name(f"{path.stem}.{kind}")) for kind in ("png", "svg", "csv")}
        for path, note in notes.items()
        if note["job"] == name
    ]
    return {
        "name": name,
        "question": parameters.title(notebook),
        "page": place(page),
        "slides": place(page.with_suffix(".slides.html")),
        "mark": mark,
        "failure": files.try_json(marks.path(here, name, "failed"), marks.Failure),
        "status": status,
        "figures": [result for result in results if result["png"]],
        "tables": [result for result in results if result["csv"]],
    }


def small_picture(path: Path, width: int) -> bytes:
    """A PNG of at most `width` pixels and 128 colours."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    picture.thumbnail((width, 10 * width))
    data = io.BytesIO()
    picture.quantize(128).save(data, "png", optimize=True)
    return data.getvalue()
