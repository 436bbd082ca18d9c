"""What a notebook needs from the library: `open`, `figure`, `table` and `close`.

nb = notebook.open("02_latent_tsne", globals())
nb.figure(fig, "tsne", "Bottleneck features fall into ten groups, one per species")
nb.table(frame, "probes", "kNN accuracy by block and timestep")
nb.close()
"""

import base64
import hashlib
import html
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
from IPython.display import HTML, display
from matplotlib.figure import Figure
from pandas import DataFrame

from synpos_lib.core import files, runtime
from synpos_lib.core.runs import Run
from synpos_lib.lab import figures
from synpos_lib.lab.parameters import check_value, notebook_names, notebook_parameters, read_notebook

Runs = Iterable[Run | str]  # or their names


class Notebook:
    """An open notebook: its parameters, where its results go, and how they are shown and kept."""

    def __init__(self, name: str, parameters: dict):
        self.name, self.parameters = name, parameters
        self.job = os.environ.get("SYNPOS_JOB", name)
        self.folder = runtime.outputs() / parameters["profile"]
        self._since = time.monotonic()
        self._results: list[str] = []

    def run_folder(self, name: str) -> Path:
        """The folder of the run of that name in this profile."""
        return self.folder / "runs" / files.safe_name(name)

    def figure(self, figure: Figure, name: str, alt: str, runs: Runs = ()) -> None:
        """Show a figure and keep it as PNG and SVG, with a note of what made it; `alt` describes what it shows."""
        buffers = {"png": io.BytesIO(), "svg": io.BytesIO()}
        for kind, buffer in buffers.items():
            figure.savefig(buffer, format=kind)
        plt.close(figure)
        source = "data:image/png;base64," + base64.b64encode(buffers["png"].getvalue()).decode()
        style = f"width:{int(figure.get_figwidth() * 96)}px;max-width:100%;background:white"
        page = f'<img src="{source}" style="{style}" alt="{html.escape(alt)}">'
        self._keep("figures", name, {kind: buffer.getvalue() for kind, buffer in buffers.items()}, alt, runs, page)

    def table(self, frame: DataFrame, name: str, caption: str, runs: Runs = (), tidy: DataFrame | None = None) -> None:
        """Show a DataFrame and keep it as CSV; `tidy` is the form kept when it differs from the form shown."""
        page, data = _as_html(frame, caption), frame if tidy is None else tidy
        forms = {"csv": data.to_csv(index=_indexed(data)).encode(), "html": page.encode()}
        self._keep("tables", name, forms, caption, runs, page)

    def close(self) -> None:
        """Print which results were kept and how long they took."""
        seconds = time.monotonic() - self._since
        print(f"{self.job}: {len(self._results)} results in {self.folder}, {runtime.minutes(seconds)}")
        for name in self._results:
            print("  ", name)

    def _keep(self, kind: str, name: str, forms: dict[str, bytes], text: str, runs: Runs, page: str) -> None:
        """Write a result in every form, with a note of what made it, and show its page."""
        folder, stem = self.folder / kind, f"{self.job}.{name}"
        (folder / f"{stem}.json").unlink(missing_ok=True)  # the note of what is replaced
        for ending, data in forms.items():
            files.write_bytes(folder / f"{stem}.{ending}", data)
        note = {
            "text": text,
            "job": self.job,
            "notebook": self.name,
            "parameters": self.parameters,
            "order": len(self._results),
            "runs": [run if isinstance(run, str) else run.name for run in runs],
            "files": {f"{stem}.{ending}": hashlib.sha256(data).hexdigest() for ending, data in forms.items()},
            "provenance": runtime.provenance(),
        }
        files.write_json(folder / f"{stem}.json", note)
        self._results.append(f"{kind}/{stem}")
        display(HTML(page))


def _indexed(frame: DataFrame) -> bool:
    """Whether the index carries information: it has a name or several levels."""
    return frame.index.name is not None or frame.index.nlevels > 1


def _as_html(frame: DataFrame, caption: str) -> str:
    """A table as it is shown; columns of recorded numbers are dimmed, so that nobody takes them for this run's."""
    indexed = _indexed(frame)
    first = 1 + frame.index.nlevels * indexed  # of the columns, in every row
    dim = [i for i, column in enumerate(frame.columns, first) if "recorded" in str(column)]
    style = "".join(f".dim{i} td:nth-child({i}) {{ opacity: 0.55 }} " for i in dim)
    if indexed and frame.columns.nlevels == frame.index.nlevels == 1:  # the index's name in the row of the others
        frame = frame.rename_axis(index=None, columns=frame.index.name)
    table = frame.to_html(index=indexed, float_format="{:.3g}".format, border=0, sparsify=not dim)
    names = " ".join(f"dim{i}" for i in dim)
    return f'<style>{style}</style><div class="{names}"><b>{html.escape(caption)}</b>{table}</div>'


def open(name: str, variables: dict) -> Notebook:  # noqa: A001 (reads as notebook.open)
    """Check the notebook's parameters, set threads, seeds and style, and print which job, profile and device run."""
    declared = notebook_parameters(name)
    for key, parameter in declared.items():
        check_value(key, variables[key], parameter, f"the parameters of {name}")
    parameters = {key: variables[key] for key in declared}
    notebook = Notebook(name, parameters)
    threads = runtime.use_threads()
    runtime.seed_all(parameters.get("seed", 0))
    figures.use_style()
    print(f"{notebook.job} · profile {parameters['profile']} · {runtime.device()}, {threads} threads")
    return notebook


def contents() -> list[dict[str, str]]:
    """Every notebook with the question in its title, read from the notebooks themselves."""
    titles = {name: "".join(read_notebook(name)["cells"][0]["source"]).splitlines()[0] for name in notebook_names()}
    return [{"notebook": name, "question": title.split("·")[-1].strip()} for name, title in titles.items()]
