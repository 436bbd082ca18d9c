"""What a recorded number depends on: the cells and modules that compute it, not those that draw."""

import dataclasses
import json
import shutil

import pytest

from synpos_lib import methods
from synpos_lib.core import fingerprint
from synpos_lib.lab import parameters, recorded

CELLS = {
    "setup": "from synpos_lib.data import scenes\nfrom synpos_lib.lab import figures, notebook\nnb = notebook.open()",
    "data": "fish = scenes.render(9)",
    "mark": "rows = []\nshapes = {}",
    "train": "from synpos_lib.train.pretrain import pretrain\npretrain(nb.folder, fish)",
    "count": "for name in fish:\n    rows.append(len(name))",
    "size": "figure, axis = figures.panel(6)\nsize = 3\nnb.figure(figure, 'sizes')",
    "draw": "figure, axis = figures.panel(4)\naxis.plot(rows, color='red')\nnb.figure(figure, 'rows')",
    "show": "def show(rows):\n    nb.table(rows, 'some')",
    "both": "figure, axis = figures.panel(5)\naxis.plot(rows)\nnb.figure(figure, 'b')\nnb.table(rows[:size], 'b')",
    "some": "show([len(rows)])",
    "sums": "total = sum(rows)\nprint(total)",
    "play": "figures.play(shapes)",
}


def test_cells_count_that_keep_a_table_feed_one_or_train():
    chosen = recorded.result_cells([*CELLS.values()])
    names = [name for name, cell in CELLS.items() if cell in chosen]
    assert names == ["setup", "data", "mark", "train", "count", "size", "show", "both", "some"]


@pytest.mark.parametrize(
    "change",
    ["x.append(1)", "x[0] = 1", "x.size = 1", "x += [1]", "x = [1]", "def x():\n    pass", "for x in [1]:\n    pass"],
)
def test_every_way_to_change_what_a_table_holds_is_seen(change):
    table = "nb.table([x for _ in range(3)])"
    assert recorded.result_cells([change, table]) == [change, table]
    assert recorded.result_cells([change, "x = 2", table]) == ["x = 2", table]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A copy of the notebooks, and a way to edit those cells of one that a condition chooses; returns their number."""
    folder = shutil.copytree(parameters.notebooks_folder(), tmp_path / "notebooks")
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(folder))

    def edit(name, condition, before, after):
        path = folder / f"{name}.ipynb"
        content = json.loads(path.read_text())
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        chosen = [cell for cell in cells if condition("".join(cell["source"])) and before in "".join(cell["source"])]
        for cell in chosen:
            cell["source"] = "".join(cell["source"]).replace(before, after)
        path.write_text(json.dumps(content))
        return len(chosen)

    return edit


def test_doubled_numbers_of_a_cell_that_also_draws_change_what_a_recording_rests_on(notebooks):
    code = recorded.results_code("11_mixdiff", [])
    assert notebooks("11_mixdiff", lambda text: "nb.figure" in text, "nb.table(", "nb.table(2 * ")
    assert recorded.results_code("11_mixdiff", []) != code


def test_another_colour_in_a_cell_that_only_draws_changes_nothing(notebooks):
    code = recorded.results_code("01_diffusion", [])
    assert notebooks("01_diffusion", lambda text: "nb.table" not in text, "figures.WHERE", "'#123456'")
    assert recorded.results_code("01_diffusion", []) == code


@pytest.mark.parametrize(("ran", "changed"), [(["05_synthetic_positives"], True), (["08_linear_and_knn"], False)])
def test_only_notebooks_that_ran_before_change_what_a_recording_rests_on(notebooks, ran, changed):
    code = recorded.results_code("10_ablations", ran)  # which comes after 07, which comes after 05
    assert notebooks("05_synthetic_positives", lambda text: True, "nb.table(", "nb.table(2 * ")
    assert (recorded.results_code("10_ablations", ran) != code) is changed


@pytest.mark.parametrize("name", parameters.notebook_names())
def test_no_table_of_a_notebook_is_left_out(name):
    cells = parameters.code_cells(name)
    chosen = recorded.result_cells(cells)
    assert all(cell in chosen for cell in cells if "nb.table" in cell)
    science = [cell for cell in cells if any(f"synpos_lib.{room}" in cell for room in ("train", "mixing"))]
    assert all(cell in chosen for cell in science if "nb.figure" not in cell)


def test_methods_that_a_notebook_builds_by_name_count():
    assert "swav" in parameters.trained_methods("from synpos_lib.train import pretrain")
    assert "swav" in parameters.trained_methods("from synpos_lib import methods")
    assert not parameters.trained_methods("x = 'synpos_lib.train.pretrain'")
    named = parameters.trained_methods("from synpos_lib.train import pretrain", ["byol", 3, "scenes"])
    assert {"byol", "clsp-byol", "mixdiff-byol"} < named.keys() and "swav" not in named


def test_a_recipe_counts_as_code_of_the_notebooks_that_train_the_method(monkeypatch):
    source = "from synpos_lib.train import pretrain"
    codes = [parameters.notebook_fingerprint(source, [name]) for name in ("byol", "swav")]
    swav = dataclasses.replace(methods.recipe("swav"), learning_rate=0.7)
    monkeypatch.setitem(methods.load("table.METHODS"), "swav", swav)
    changed = [parameters.notebook_fingerprint(source, [name]) for name in ("byol", "swav")]
    assert changed[0] == codes[0] and changed[1] != codes[1]


def test_numbers_without_a_notebook_rest_on_their_sources():
    assert recorded.sources_code(["tests/nearly.py"]) != recorded.sources_code(["tests/children.py"])
    assert fingerprint.room("synpos_lib.data.scenes") == "data" and fingerprint.room("torch.nn") == ""
