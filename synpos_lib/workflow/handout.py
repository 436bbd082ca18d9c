"""Two copies of the notebooks for a class: `student/` without solutions, `teacher/` with them as cells that run.

Both come from the one source, where a solution is the cell `solution`, folded, after the cell `exercise-stub`.
"""

import json
import re
from pathlib import Path

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.lab.parameters import notebook_names, read_notebook

SOLUTION = re.compile(r"```python\n(?P<code>.*?)```", re.DOTALL)


def write(folder: Path) -> list[Path]:
    """Write every notebook into folder/student and folder/teacher; never over work that is there."""
    student, teacher = copies = [folder / "student", folder / "teacher"]
    for copy in copies:
        if copy.exists():
            raise Problem(f"{copy} exists already, perhaps with somebody's work in it: name another folder")
    for name in notebook_names():
        notebook = read_notebook(name)
        cells = notebook["cells"]
        exercises = [cell for cell in cells if cell.get("id") != "solution"]
        for copy, part in ((student, exercises), (teacher, with_solution(cells))):
            text = json.dumps(notebook | {"cells": part}, indent=1, ensure_ascii=False) + "\n"
            files.write_bytes(copy / f"{name}.ipynb", text.encode(errors="backslashreplace"))  # half a character too
    return copies


def with_solution(cells: list[dict]) -> list[dict]:
    """What a teacher gets: the solution as a cell that runs its check, and the words about it."""
    code = "\n".join("".join(cell["source"]) for cell in cells)
    check = re.search(r"^exercises\.check_.*", code, re.MULTILINE)
    copy: list[dict] = []
    for cell in cells:
        if cell.get("id") != "solution":
            copy.append(cell)
            continue
        text = re.sub(r"</?details>|<summary>.*?</summary>", "", "".join(cell["source"]))
        answer = "".join(f"{match['code']}\n\n" for match in SOLUTION.finditer(text)) + (check[0] if check else "")
        words = SOLUTION.sub("", text).strip() or "The cell above."
        runs: dict = {"cell_type": "code", "execution_count": None, "outputs": []}
        copy.append({**runs, "id": "solution", "metadata": {}, "source": answer})
        note = {"cell_type": "markdown", "id": "solution-words", "metadata": {}}
        copy.append({**note, "source": f"**Solution.** {words}"})
    return copy
