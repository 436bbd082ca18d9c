"""Two copies of the notebooks for a class: `student/` without solutions, `teacher/` with them laid open and runnable.

Both are made from the one source, where a solution is the cell `solution`, folded, after the cell `exercise-stub`.
"""

import json
import re
from pathlib import Path

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.lab.parameters import notebook_names, read_notebook

SOLUTION = re.compile(r"```python\n(?P<code>.*?)```", re.DOTALL)


def write(folder: Path) -> list[Path]:
    """Write both copies of every notebook into folder/student and folder/teacher; never over work that is there."""
    for copy in ("student", "teacher"):
        if (folder / copy).exists():
            raise Problem(f"{folder / copy} exists already, perhaps with somebody's work in it: name another folder")
    made = []
    for name in notebook_names():
        cells = read_notebook(name)["cells"]
        for copy, change in {"student": without_solution, "teacher": with_solution}.items():
            path = folder / copy / f"{name}.ipynb"
            content = {**read_notebook(name), "cells": change(cells)}
            files.write_bytes(path, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
            made.append(path)
    return made


def without_solution(cells: list[dict]) -> list[dict]:
    """What a student gets."""
    return [cell for cell in cells if cell["id"] != "solution"]


def with_solution(cells: list[dict]) -> list[dict]:
    """What a teacher gets: the solution as a cell that runs its check, and what is to be said about it."""
    check = next((found[0] for cell in cells if (found := re.search(r"^exercises\.check_.*", _text(cell), re.M))), "")
    opened = []
    for cell in cells:
        if cell["id"] != "solution":
            opened.append(cell)
            continue
        words = re.sub(r"</?details>|<summary>.*?</summary>", "", _text(cell))
        code = SOLUTION.search(words)["code"]
        answer = {"cell_type": "code", "id": "solution", "metadata": {}, "execution_count": None, "outputs": []}
        opened.append({**answer, "source": f"{code}\n\n{check}"})
        said = SOLUTION.sub("", words).strip()
        note = f"**Solution.** {said}" if said else "**Solution.** The cell above."
        opened.append({"cell_type": "markdown", "id": "solution-words", "metadata": {}, "source": note})
    return opened


def _text(cell: dict) -> str:
    return "".join(cell["source"])
