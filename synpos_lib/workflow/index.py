"""The index page of a profile: every executed notebook, figure and table, with what it cost."""

import html
import itertools
from pathlib import Path
from urllib.parse import quote

from synpos_lib.core import files, runtime
from synpos_lib.workflow.watch import try_read

REPORT = "13_report"
FOLDED = 3  # jobs of one notebook; more are folded away

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8884; --soft: #8882; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: auto; padding: 1rem; }}
h2 {{ margin: 2rem 0 .2rem; font-size: 1.15rem; border-top: 1px solid var(--line); padding-top: 1rem; }}
p {{ margin: .2rem 0; }} small {{ opacity: .75; }} .failed {{ color: #d33; font-weight: bold; }}
.figures {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); gap: 1rem; }}
figure {{ margin: .6rem 0; }} img {{ width: 100%; background: white; border: 1px solid var(--line); }}
figcaption {{ font-size: .9rem; }} .report {{ border: 1px solid var(--line); padding: .2rem 1rem 1rem; }}
.report a {{ font-size: 1.3rem; }} .report img {{ max-width: 40rem; margin-top: .6rem; }}
summary {{ margin: 1.5rem 0 0; }} a {{ overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{report}
{sections}
</html>
"""


def write(profile: str, here: Path, names: list[str]) -> Path:
    """Write outputs/<profile>/index.html for the jobs of a profile and return its path."""
    marks = {name: try_read(here / "jobs" / f"{name}.json") for name in names}
    notes: dict[str, list[Path]] = {}
    for note in sorted([*here.glob("figures/*.json"), *here.glob("tables/*.json")]):
        notes.setdefault(try_read(note).get("job", ""), []).append(note)
    sections = []
    for notebook, group in itertools.groupby(names, key=lambda name: name.split("-")[0]):
        parts = [_section(here, name, marks[name], notes.get(name, [])) for name in group]
        sections.append(f'<a id="{html.escape(notebook)}"></a>')  # links between notebooks lead here
        many = f"<details><summary>{html.escape(notebook)}: {len(parts)} jobs</summary>"
        sections += [many, *parts, "</details>"] if len(parts) > FOLDED else parts
    done = [mark for mark in marks.values() if mark]
    cost = runtime.minutes(sum(mark["seconds"] for mark in done))
    machines = ", ".join(sorted({mark["provenance"]["hardware"] for mark in done})) or "no machine yet"
    summary = f"{len(done)} of {len(names)} notebooks finished, {cost} of work on {machines}"
    page = PAGE.format(
        title=html.escape(f"synpos · profile {profile}"),
        summary=html.escape(summary),
        report=_report(here),
        sections="\n".join(sections),
    )
    path = here / "index.html"
    files.write_bytes(path, page.encode())
    return path


def _report(here: Path) -> str:
    """The way into the report, with its first picture."""
    page, picture = here / "notebooks" / f"{REPORT}.html", here / "figures" / f"{REPORT}.verdicts.png"
    if not page.exists() or (here / "jobs" / f"{REPORT}.failed").exists():
        return ""
    text = html.escape(try_read(picture.with_suffix(".json")).get("text", ""))
    image = f'<br><img src="{quote(str(picture.relative_to(here)))}" alt="{text}">' if picture.exists() else ""
    return f'<p class="report">{_link(here, page, "Read the report: " + _question(page))}{image}</p>'


def _section(here: Path, name: str, mark: dict, notes: list[Path]) -> str:
    """One job: its notebook, its cost, its figures and tables."""
    page = here / "notebooks" / f"{name}.html"
    title = _link(here, page, _question(page) or name) if page.exists() else html.escape(name)
    failure = try_read(here / "jobs" / f"{name}.failed")
    if failure:
        status = f'<span class="failed">failed</span>: {html.escape(failure["error"])}'
    elif mark:
        made = mark["provenance"]
        status = f"{runtime.minutes(mark['seconds'])} · {html.escape(made['time'])} · commit {made['commit']}"
    else:
        status = "not finished"
    figures = "".join(_figure(here, note) for note in notes if note.parent.name == "figures")
    tables = "".join(_table(here, note) for note in notes if note.parent.name == "tables")
    slides = page.with_suffix(".slides.html")
    present = f" · {_link(here, slides, 'slides')}" if slides.exists() else ""
    head = f"<h2>{title}</h2>\n<p><small>{html.escape(name)} · {status}{present}</small></p>\n"
    return f'{head}{tables}<div class="figures">{figures}</div>'


def _question(page: Path) -> str:
    """The title of an executed notebook; in front of that of a failed one, papermill has put a cell of its own."""
    texts = ["".join(cell["source"]) for cell in try_read(page.with_suffix(".ipynb")).get("cells", [])]
    return next((text.splitlines()[0].lstrip("# ") for text in texts if text.startswith("# ")), "")


def _figure(here: Path, note: Path) -> str:
    picture = note.with_name(f"{note.stem}.png")
    if not picture.exists():
        return ""
    text = html.escape(try_read(note)["text"])
    source = quote(str(picture.relative_to(here)))
    image = f'<a href="{source}"><img src="{source}" alt="{text}" loading="lazy"></a>'
    vector = note.with_name(f"{note.stem}.svg")
    other = f" ({_link(here, vector, 'SVG')})" if vector.exists() else ""
    return f"<figure>{image}<figcaption>{text}{other}</figcaption></figure>\n"


def _table(here: Path, note: Path) -> str:
    data = note.with_name(f"{note.stem}.csv")
    return f"<p>Table: {_link(here, data, try_read(note)['text'])}</p>\n" if data.exists() else ""


def _link(here: Path, path: Path, text: str) -> str:
    return f'<a href="{quote(str(path.relative_to(here)))}">{html.escape(text)}</a>'
