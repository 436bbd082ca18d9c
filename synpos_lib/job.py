"""One job: execute a notebook with its parameters, keep it as .ipynb and .html, and leave the done-mark last."""

import html
import json
import os
import re
import time
import traceback
import uuid
from pathlib import Path

from synpos_lib import files, profiles, runtime, workflow
from synpos_lib.errors import Problem


def run(plan: Path, name: str, threads: int, parent: int) -> int:
    """Execute one job of a plan; 0 when it succeeded."""
    workflow.end_with_parent(parent)
    here = plan.parent
    job = json.loads(plan.read_text())["jobs"][name]
    notebook = here / "notebooks" / f"{name}.ipynb"
    failure = here / "jobs" / f"{name}.failed"
    failure.unlink(missing_ok=True)
    running = here / "jobs" / f"{name}.running"
    start = time.time()
    try:
        files.write_json(running, {"pid": os.getpid()})
        job["code"] = workflow.notebook_fingerprint(job["notebook"])  # what runs, should it have been edited since
        error = _execute(job, name, notebook, threads)
        if not error:
            files.write_json(here / "jobs" / f"{name}.json", _mark(here, job, name, start))
    except Exception as problem:  # the kernel died, the disk is full, …: the command line says it in one line
        traceback.print_exc()
        error = str(problem) if isinstance(problem, Problem) else _one_line(f"{type(problem).__name__}: {problem}")
    running.unlink(missing_ok=True)
    if error:
        files.write_json(failure, {"error": error, "notebook": str(notebook)})
    return 1 if error else 0


def _execute(job: dict, name: str, target: Path, threads: int) -> str:
    """Run the notebook, keep it whole or failed, and return the error's last line, if any."""
    import papermill

    words = ("SYNPOS_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.environ.update({word: str(threads) for word in words})
    os.environ |= {"SYNPOS_JOB": name, "JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    source = profiles.notebooks_folder() / f"{job['notebook']}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}")
    os.environ["SYNPOS_OUTPUTS"] = str(target.parents[2])
    error = ""
    try:
        papermill.execute_notebook(
            str(source),
            str(unfinished),
            job["parameters"],
            progress_bar=False,
            log_output=False,
            cwd=str(source.parent),
            kernel_name="python3",
        )
    except papermill.PapermillExecutionError as problem:
        error = _one_line(f"{problem.ename}: {problem.evalue}")
    os.replace(unfinished, target)
    files.write_bytes(target.with_suffix(".html"), to_html(target).encode())
    return error


def _one_line(text: str) -> str:
    """The last line that says something, without terminal colours; a Problem's own name says nothing."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    return (lines or ["it failed without a message"])[-1].removeprefix("Problem: ")


def _mark(here: Path, job: dict, name: str, start: float) -> dict:
    """What the done-mark says; results that this job left earlier and no longer makes are removed."""
    made = [f"notebooks/{name}.ipynb", f"notebooks/{name}.html"]
    provenance = {"commit": runtime.commit(), "hardware": runtime.hardware(), "time": time.strftime("%FT%T%z")}
    for note in sorted([*here.glob("figures/*.json"), *here.glob("tables/*.json")]):
        said = json.loads(note.read_text())
        if said["job"] != name:
            continue
        group = [path for path in note.parent.iterdir() if path.stem == note.stem and path.suffix != ".tmp"]
        if note.stat().st_mtime < start - 1:
            for path in group:
                path.unlink()
        else:
            provenance = said["provenance"]  # the notebook's own knows of the GPU and of versions
            made += sorted(f"{note.parent.name}/{path.name}" for path in group)
    marks = {other: json.loads((here / "jobs" / f"{other}.json").read_text()) for other in job["after"]}
    return {
        "id": uuid.uuid4().hex,
        "seconds": round(time.time() - start, 1),
        "notebook": job["notebook"],
        "parameters": job["parameters"],
        "code": job["code"],
        "after": {other: mark["id"] for other, mark in marks.items()},
        "files": made,
        "provenance": provenance,
    }


TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}
{% block jupyter_widgets %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
"""  # what it leaves out would be loaded from the network


def to_html(path: Path) -> str:
    """A notebook as one HTML file that needs nothing else: no network, formulas as MathML."""
    import nbformat
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    notebook = nbformat.read(path, as_version=4)
    formulas: list[str] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = without_formulas(cell.source, formulas)
    exporter = HTMLExporter(
        template_file="alone.html.j2", extra_loaders=[DictLoader({"alone.html.j2": TEMPLATE})], embed_images=True
    )
    page = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})[0]
    if formulas:  # inside tags, such as the ids made from headings, they have no place
        page = re.sub(r"<[^>]*>", lambda tag: PLACE.sub("", tag[0]), page)
    return PLACE.sub(lambda place: formulas[int(place[1])], page)


PLACE = re.compile(r"formula(\d+)here")
FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`\n]+`)"
    r"|\$\$(?P<block>.+?)\$\$"
    r"|(?<![\\\w$])\$(?P<inline>[^\s$](?:[^$\n]*[^\s$])?)\$(?![\d$])",
    re.DOTALL,
)


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
