"""The copies for a class: students get no answer, teachers get one that runs."""

import json
import re

import nbformat
import pytest

from synpos_lib.lab import exercises, parameters
from synpos_lib.workflow import cli, handout


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    assert cli.main(["handout", str(folder)]) == 0
    return folder


def code(path):
    return {cell.id: cell.source for cell in nbformat.read(path, 4).cells}


@pytest.mark.parametrize("name", parameters.notebook_names())
def test_students_get_no_answer_and_teachers_get_one_that_runs(copies, name):
    student, teacher = (code(copies / copy / f"{name}.ipynb") for copy in ("student", "teacher"))
    source = {cell["id"]: "".join(cell["source"]) for cell in parameters.read_notebook(name)["cells"]}
    assert student == {key: text for key, text in source.items() if key != "solution"}
    if "solution" not in source:
        assert teacher == source
        return
    check = re.search(r"exercises\.(check_\w+)\(", teacher["solution"])[1]
    assert hasattr(exercises, check) and check in student["exercise-stub"]
    compile(teacher["solution"], name, "exec")
    assert "..." not in teacher["solution"].split("exercises.")[0]
    assert "<details>" not in teacher["solution-words"] and "```python" not in teacher["solution-words"]
    for path in (copies / copy / f"{name}.ipynb" for copy in ("student", "teacher")):
        nbformat.validate(nbformat.read(path, 4))


def test_work_is_never_written_over(copies, capsys):
    assert cli.main(["handout", str(copies)]) == 2
    assert "exists already, perhaps with somebody's work in it" in capsys.readouterr().err


def test_a_folder_must_be_named(capsys):
    assert cli.main(["handout"]) == 2
    assert "`./run_all.sh handout FOLDER`" in capsys.readouterr().err
    assert cli.main(["handout", "x", "--jobs", "2"]) == 2


def test_words_beside_the_code_are_kept():
    cells = [
        {"id": "exercise-stub", "source": "def f(): ...\n\n\nexercises.check_f(f, 3)"},
        {
            "id": "solution",
            "source": ["<details><summary>S</summary>\n\n```python\ndef f():\n    return 1\n```\n\nWhy."],
        },
    ]
    stub, answer, words = handout.with_solution(cells)
    assert answer["source"] == "def f():\n    return 1\n\n\nexercises.check_f(f, 3)"
    assert words["source"] == "**Solution.** Why."


def test_a_copy_is_a_plain_notebook_whatever_its_cells_hold(tmp_path, monkeypatch):
    cell = {"cell_type": "markdown", "metadata": {}, "source": "Ä half \ud800"}  # without an id, as older ones are
    (tmp_path / "01_a.ipynb").write_text(json.dumps({"cells": [cell]}))
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path))
    for copy in handout.write(tmp_path / "class"):
        text = (copy / "01_a.ipynb").read_text(encoding="utf-8")
        assert json.loads(text) == {"cells": [cell]} and "Ä half \\ud800" in text
