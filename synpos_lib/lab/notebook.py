"""What a notebook needs from the library: `open`, `figure`, `table`, `close`, nothing else to learn.

nb = notebook.open("02_latent_tsne", globals())
nb.figure(fig, "tsne", "Bottleneck features fall into ten groups, one per species")
nb.table(frame, "probes", "kNN accuracy by block and timestep")
nb.close()
"""

import base64
import html
import io
import os
import time
from collections.abc import Iterable
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.lab.parameters import check_value, notebook_names, notebook_parameters, read_notebook

KEPT = {"figures": ("png", "svg"), "tables": ("csv", "html")}


class Notebook:
    """An open notebook: its parameters, where its results go, and how they are shown and kept."""

    def __init__(self, name: str, parameters: dict):
        self.name, self.parameters = name, parameters
        self.job = os.environ.get("SYNPOS_JOB", name)
        self.folder = runtime.outputs() / parameters["profile"]
        self._since = time.monotonic()
        self._kept: list[str] = []

    def run_folder(self, name: str) -> Path:
        """Where the run of that name lives in this profile; one of `folder:PATH` gets a name without slashes."""
        return self.folder / "runs" / name.replace("/", "_").replace(":", "_")

    def figure(self, figure, name: str, alt: str, runs: Iterable = ()) -> None:
        """Show a figure and keep it as PNG and SVG, with a note of what made it; `alt` says what is to be seen."""
        import matplotlib.pyplot as plt
        from IPython.display import HTML, display

        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind)
            files.write_bytes(self.folder / "figures" / f"{self.job}.{name}.{kind}", buffer.getvalue())
        plt.close(figure)
        self._note("figures", name, alt, runs)
        picture = (self.folder / "figures" / f"{self.job}.{name}.png").read_bytes()
        width = int(figure.get_figwidth() * 96)
        source = "data:image/png;base64," + base64.b64encode(picture).decode()
        style = f"width:{width}px;max-width:100%;background:white"
        display(HTML(f'<img src="{source}" style="{style}" alt="{html.escape(alt)}">'))

    def table(self, frame, name: str, caption: str, runs: Iterable = (), tidy=None) -> None:
        """Show a DataFrame and keep it as CSV; `tidy` is the form kept when it differs from the form shown."""
        from IPython.display import HTML, display

        kept = frame if tidy is None else tidy
        data = kept.to_csv(index=kept.index.name is not None).encode()
        shown = _as_html(frame, caption)
        files.write_bytes(self.folder / "tables" / f"{self.job}.{name}.csv", data)
        files.write_bytes(self.folder / "tables" / f"{self.job}.{name}.html", shown.encode())
        self._note("tables", name, caption, runs)
        display(HTML(shown))

    def close(self) -> None:
        """Say what was kept and what it cost."""
        seconds = time.monotonic() - self._since
        print(f"{self.job}: {len(self._kept)} results in {self.folder}, {runtime.minutes(seconds)}")
        for name in self._kept:
            print("  ", name)

    def _note(self, kind: str, name: str, text: str, runs: Iterable) -> None:
        made = [self.folder / kind / f"{self.job}.{name}.{ending}" for ending in KEPT[kind]]
        note = {
            "text": text,
            "job": self.job,
            "notebook": self.name,
            "parameters": self.parameters,
            "order": len(self._kept),
            "runs": [run if isinstance(run, str) else run.name for run in runs],
            "files": {path.name: files.sha256(path) for path in made},
            "provenance": runtime.provenance(),
        }
        files.write_json(self.folder / kind / f"{self.job}.{name}.json", note)
        self._kept.append(f"{kind}/{self.job}.{name}")


def _as_html(frame, caption: str) -> str:
    """A table as it is shown; columns of recorded numbers are dimmed, so that nobody takes them for this run's."""
    indexed = frame.index.name is not None
    dim = [i for i, column in enumerate(frame.columns, 1 + indexed) if "recorded" in str(column)]
    style = "".join(f".dim{i} td:nth-child({i}) {{ opacity: 0.55 }} " for i in dim)
    if indexed and frame.columns.nlevels == frame.index.nlevels == 1:  # the index's name in the row of the others
        frame = frame.rename_axis(index=None, columns=frame.index.name)
    table = frame.to_html(index=indexed, float_format="{:.3g}".format, border=0)
    names = " ".join(f"dim{i}" for i in dim)
    return f'<style>{style}</style><div class="{names}"><b>{html.escape(caption)}</b>{table}</div>'


def open(name: str, variables: dict) -> Notebook:  # noqa: A001 (reads as notebook.open)
    """Check the notebook's parameters, set threads, seeds and style, and say where the results will go."""
    from synpos_lib.lab import figures

    declared = notebook_parameters(name)
    parameters = {key: variables[key] for key in declared}
    for key, parameter in declared.items():
        check_value(key, parameters[key], parameter, f"the parameters of {name}")
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
