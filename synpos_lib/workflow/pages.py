"""An executed notebook as pages for readers: one to read, one to present. Each is one file that loads nothing else.

Code is folded, formulas are MathML, colours follow the reader's light or dark setting, and paper gets no buttons.
"""

import html
import re
import sys
from pathlib import Path

sys.modules.setdefault("rfc3987_syntax", None)  # a grammar that jsonschema loads for a second and never needs here

LOOK = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem; overflow-wrap: anywhere; }
p, li, h1, h2, h3, summary { max-width: 46rem; } h1 { font-size: 1.7rem; line-height: 1.25; }
h2 { margin-top: 2.2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
img { max-width: 100%; height: auto; } math[display=block] { overflow-x: auto; margin: 1rem 0; }
pre { overflow-x: auto; padding: .5rem .8rem; margin: .4rem 0; background: var(--soft); font-size: .85rem; }
.out { overflow-x: auto; margin: .6rem 0; } .out > pre { background: none; padding: 0; margin: 0; }
.stdout, .stderr { margin: 0; } table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal; }
main > div > table { display: block; overflow-x: auto; } th, td { padding: .2rem .9rem .2rem 0; text-align: left; }
tr { border-bottom: 1px solid var(--line); } td { font-variant-numeric: tabular-nums; }
details.code > summary { opacity: .6; font-size: .8rem; cursor: pointer; } .stderr, .error { color: #d33; }
.anchor-link { display: none; } nav { display: flex; gap: 1rem; font-size: .9rem; } button { font: inherit; }
@page { margin: 1.5cm; }
@media print { nav, details.code:not([open]) { display: none; } body { max-width: none; padding: 0; }
  img, table, pre, .out { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""

SLIDES = """
html { scroll-snap-type: y mandatory; } body { max-width: none; padding: 0; font-size: 1.1rem; }
section { box-sizing: border-box; min-height: 100vh; scroll-snap-align: start; padding: 1rem 4vw; display: flex;
  flex-direction: column; justify-content: center; gap: .6rem; break-after: page; }
section h1, section h2 { border: 0; margin: 0; padding: 0; max-width: none; } section p { margin: .2rem 0; }
.beside { display: flex; flex-wrap: wrap; gap: .6rem 2rem; align-items: center; }
.words { flex: 1 1 18rem; min-width: 0; }
.shown { display: flex; flex-wrap: wrap; gap: 1rem; overflow: auto; max-height: 68vh; } section p { max-width: none; }
.shown img { height: 53vh; width: auto !important; max-width: 92vw; object-fit: contain; }
section pre { font-size: .8rem; max-height: 12vh; overflow: auto; white-space: pre-wrap; }
@media print { section { min-height: auto; height: 95vh; } }
"""

KEYS = """
const slides = [...document.querySelectorAll("section")];
let at = Number(location.hash.slice(1)) || 1;
function go(to) {
  at = Math.max(1, Math.min(slides.length, to));
  slides[at - 1].scrollIntoView();
  history.replaceState(null, "", "#" + at);
}
const steps = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1};
onkeydown = key => { if (key.key in steps) { key.preventDefault(); go(at + steps[key.key]); } };
onload = () => go(at);
"""


def to_html(path: Path) -> str:
    """The page to read: prose, folded code, and what it showed."""
    cells = _read(path)
    hidden = {"remove-input"}  # pages for readers, not coders
    if any({"parameters", "remove-input"} <= _tags(cell) for cell in cells):
        hidden.add("injected-parameters")
    body = "\n".join(_prose(cell) if cell.cell_type == "markdown" else _code(cell, hidden) for cell in cells)
    fold = "document.querySelectorAll('details.code').forEach(code => code.open = !code.open)"
    links = f'<a href="../index.html">all results</a> <a href="{slides_of(path).name}">slides</a>'
    nav = f'<nav>{links} <button onclick="{fold}">show or fold code</button></nav>'
    return _page(path, f"{nav}\n<main>\n{body}\n</main>", LOOK + _highlighting())


def slides_of(path: Path) -> Path:
    """Where the slides of an executed notebook are kept."""
    return path.with_suffix(".slides.html")


def to_slides(path: Path) -> str:
    """The page to present: the question, then one slide for each figure with its *What to see*, then the summary."""
    cells = _read(path)
    slides = [_prose(cells[0])] if cells and cells[0].cell_type == "markdown" else []
    heading, shown, said = "", [], []

    def slide(text: str = "") -> None:
        pictures = [one for one in shown if "<img" in one] or shown
        if pictures:
            numbers = f"<pre>{html.escape(''.join(said).strip())}</pre>" if said else ""
            words = f'<div class="words">{text}{numbers}</div>' if text or numbers else ""
            slides.append(f'<h2>{heading}</h2><div class="beside">{_shown(pictures)}{words}</div>')
        shown.clear()
        said.clear()

    for cell in cells[1:]:
        if cell.cell_type == "markdown":
            title = re.search(r"^#+ (.+)$", cell.source, re.MULTILINE)
            if title:
                slide()
                heading = _inline(title[1])
            elif "**What to see.**" in cell.source:
                slide(_markdown(cell.source))
            if cell.get("id") == "summary":
                slides.append(_prose(cell))
            continue
        for output in cell.get("outputs", []):
            made = output.get("data", {}).get("text/html", "")
            if ("<img" in made or "<table" in made) and "explorer" not in made:
                shown.append(f"<div>{made}</div>")
            elif output.output_type == "stream" and cell.get("id", "").startswith("claim"):
                said.append(output.text)
    slide()
    body = "\n".join(f"<section>{text}</section>" for text in slides)
    return _page(path, f"{body}\n<script>{KEYS}</script>", LOOK + SLIDES + _highlighting())


def _shown(pictures: list[str]) -> str:
    return f'<div class="shown">{"".join(pictures)}</div>'


def _read(path: Path) -> list:
    import nbformat

    return nbformat.read(path, as_version=4).cells


def _tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", ()))


def _page(path: Path, body: str, style: str) -> str:
    head = '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">'
    title = html.escape(path.stem)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<title>{title}</title>\n<style>{style}</style>\n{body}\n</html>\n'
    )


def _highlighting() -> str:
    """Colours of code, for light and for dark."""
    from pygments.formatters import HtmlFormatter

    def rules(style: str) -> str:
        found = HtmlFormatter(style=style, nobackground=True).get_style_defs(".highlight").splitlines()
        return "\n".join(rule for rule in found if rule.startswith(".highlight ."))

    return f"{rules('default')}\n@media screen and (prefers-color-scheme: dark) {{ {rules('github-dark')} }}\n"


def _prose(cell) -> str:
    return f'<div id="{cell.get("id", "")}">{_markdown(cell.source)}</div>'


def _code(cell, hidden: set[str]) -> str:
    """A code cell: folded source, unless it is hidden, and its outputs."""
    made = "".join(_output(output) for output in cell.get("outputs", []))
    if _tags(cell) & hidden:
        return made
    name = "parameters of this run" if "injected-parameters" in _tags(cell) else html.escape(cell.get("id", ""))
    return f'<details class="code"><summary>code: {name}</summary>{_highlight(cell.source)}</details>{made}'


def _output(output) -> str:
    """One output, in the richest form that needs no script."""
    from nbconvert.filters import ansi2html

    if output.output_type == "stream":
        return f'<div class="out {output.name}"><pre>{ansi2html(output.text)}</pre></div>'
    if output.output_type == "error":
        return f'<div class="out error"><pre>{ansi2html(chr(10).join(output.traceback))}</pre></div>'
    data = output.data
    if "text/html" in data:
        return f'<div class="out">{data["text/html"]}</div>'
    if "image/png" in data:
        return f'<div class="out"><img src="data:image/png;base64,{data["image/png"].strip()}" alt="a picture"></div>'
    return f'<div class="out"><pre>{html.escape(data.get("text/plain", ""))}</pre></div>'


def _highlight(source: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(source, PythonLexer(), HtmlFormatter())


# ------------------------------------------------------------------------------------------ prose and formulas

PLACE = re.compile(r"formula(\d+)here")
FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\\w$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\d$])",
    re.DOTALL,
)


def markdown(text: str) -> str:
    """Markdown as HTML."""
    from nbconvert.filters import markdown2html

    return markdown2html(text)


def _markdown(text: str) -> str:
    """Markdown as HTML, with formulas as MathML; links between notebooks lead from page to page."""
    formulas: list[str] = []
    page = markdown(without_formulas(text, formulas))
    page = re.sub(r"<[^>]*>", lambda tag: PLACE.sub("", tag[0]), page)  # such as the ids made from headings
    page = PLACE.sub(lambda place: formulas[int(place[1])], page)
    return re.sub(r'href="(\d\d_\w+)\.ipynb"', r'href="../index.html#\1"', page)  # of several jobs, perhaps


def _inline(text: str) -> str:
    """One line of Markdown without the paragraph around it."""
    return re.sub(r"^<p>|</p>$", "", _markdown(text).strip())


def without_formulas(text: str, formulas: list[str]) -> str:
    """Move each $…$ and $$…$$ outside code to `formulas`, as MathML, which browsers draw by themselves."""
    from latex2mathml.converter import convert

    def move(found: re.Match) -> str:
        if found["code"]:
            return found["code"]
        try:
            formula = convert(found["block"] or found["inline"], display="block" if found["block"] else "inline")
        except Exception:  # one that it cannot read is shown as it was written
            formula = html.escape(found[0])
        formulas.append(formula)
        return f"formula{len(formulas) - 1}here"

    return FORMULA.sub(move, text)
