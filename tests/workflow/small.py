"""A laboratory of small notebooks in a folder of its own, to try the workflow on."""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

AFTER = {"01_first": [], "02_left": ["01_first"], "03_right": ["01_first"], "04_last": ["02_left", "03_right"]}
PARAMETERS = """\
profile = "small"  # which set of parameters
value = 1.0  # what is added
pause = 0.0  # seconds to wait
fail = False  # whether to stop with an error
retrain = False  # whether to begin anew
"""
WORK = """\
import json
import os
import time
from pathlib import Path

from synpos_lib.core import files
from synpos_lib.core.errors import Problem

here = Path(os.environ["SYNPOS_OUTPUTS"]) / profile
name = os.environ["SYNPOS_JOB"]
(here / "order.txt").open("a").write(f"{name} {os.environ['SYNPOS_THREADS']}\\n")
time.sleep(pause)
if fail:
    raise Problem("the value is not to my liking")
above = {"02_left": ["01_first"], "03_right": ["01_first"], "04_last": ["02_left", "03_right"]}.get(name, [])
texts = [(here / "tables" / f"{other}.sum.csv").read_text() for other in above]
total = value + sum(float(text.split(",")[-1]) for text in texts)
files.write_bytes(here / "tables" / f"{name}.sum.csv", f"total,{total}".encode())
parameters = {"profile": profile, "value": value, "pause": pause, "fail": fail, "retrain": retrain}
note = {"text": "The <sum>", "job": name, "notebook": name, "parameters": parameters, "order": 0, "runs": []}
digests = {f"{name}.sum.csv": files.sha256(here / "tables" / f"{name}.sum.csv")}
origin = {"commit": "c", "hardware": "h", "time": "t", "python": "p", "versions": {}, "instructions": "i"}
note |= {"files": digests, "provenance": origin | {"precision": "p", "threads": 1}}
files.write_json(here / "tables" / f"{name}.sum.json", note)
"""


class Laboratory:
    """Notebooks, profiles and outputs in one temporary folder, run through the command line."""

    def __init__(self, folder: Path):
        self.notebooks, self.outputs = folder / "notebooks", folder / "outputs"
        (self.notebooks / "profiles").mkdir(parents=True)
        for name in AFTER:
            self.write_notebook(name)
        self.workflow = self.notebooks / "workflow.smk"
        self.workflow.write_text((REPOSITORY / "notebooks" / "workflow.smk").read_text())
        (self.notebooks / "graph.yaml").write_text(json.dumps(AFTER))  # JSON is YAML
        self.profile()

    def write_notebook(self, name: str, parameters: str = PARAMETERS, work: str = WORK) -> None:
        """Write one notebook: a title, its parameters, its work."""
        cells = [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {name}: is $x^2 \\ge 0$?"},
            {"cell_type": "code", "id": "parameters", "metadata": {"tags": ["parameters"]}, "source": parameters},
            {"cell_type": "code", "id": "work", "metadata": {}, "source": work},
        ]
        for cell in cells[1:]:
            cell |= {"outputs": [], "execution_count": None}
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (self.notebooks / f"{name}.ipynb").write_text(json.dumps(notebook))

    def profile(self, name: str = "small", **blocks: dict) -> None:
        """Write a profile with every notebook; a keyword like `_02_left` sets that block."""
        given = {key.lstrip("_"): block for key, block in blocks.items()}
        lines = json.dumps({notebook: given.get(notebook, {}) for notebook in AFTER})  # JSON is YAML
        (self.notebooks / "profiles" / f"{name}.yaml").write_text(lines)

    @property
    def environment(self) -> dict[str, str]:
        places = {"SYNPOS_NOTEBOOKS": str(self.notebooks), "SYNPOS_OUTPUTS": str(self.outputs)}
        ours = {key: value for key, value in os.environ.items() if key != "SYNPOS_THREADS"}  # the workflow shares cores
        return {**ours, **places, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "synpos_lib.workflow.cli", *words]

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """Run the command line to its end."""
        return subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=300, cwd="/"
        )

    def ran(self) -> list[str]:
        """The jobs that have run since this was last asked, in order."""
        path = self.outputs / "small" / "order.txt"
        names = [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []
        path.unlink(missing_ok=True)
        return names

    def total(self, name: str) -> float:
        """The number that a job's table holds."""
        return float((self.outputs / "small" / "tables" / f"{name}.sum.csv").read_text().split(",")[-1])
