"""What can be said about every notebook and profile without running one."""

import json
import re

import pytest

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.diffusion import model
from synpos_lib.diffusion.sampling import SAMPLERS
from synpos_lib.experiments import mixdiff
from synpos_lib.lab import parameters
from synpos_lib.train import classify
from synpos_lib.workflow import graph as workflow
from synpos_lib.workflow import profiles

NAMES = parameters.notebook_names()
every_notebook = pytest.mark.parametrize("name", NAMES)


def cells(name: str, kind: str | None = None) -> list[dict]:
    found = parameters.read_notebook(name)["cells"]
    return [cell for cell in found if kind in (None, cell["cell_type"])]


def text(cell: dict) -> str:
    return "".join(cell["source"])


@every_notebook
def test_it_is_stripped(name):
    code = cells(name, "code")
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    metadata = parameters.read_notebook(name)["metadata"]
    assert set(metadata) <= {"kernelspec", "language_info"} and metadata["kernelspec"]["name"] == "python3"
    assert all(set(cell["metadata"]) <= {"tags", "jupyter"} for cell in cells(name))


@every_notebook
def test_cell_ids_are_stable_and_mean_something(name):
    ids = [cell["id"] for cell in cells(name)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", i) for i in ids)
    assert not [i for i in ids if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}.*)?", i)], "an id made at random"


@every_notebook
def test_it_opens_as_every_notebook(name):
    first, second = cells(name)[:2]
    title = text(first).splitlines()[0]
    assert title.startswith("# ") and title.rstrip().endswith("?"), "the title is one question"
    assert first["cell_type"] == second["cell_type"] == "markdown"
    assert "quick" in text(first), "the time per profile"
    assert "After this notebook you can" in text(second)
    code = cells(name, "code")
    assert [cell["id"] for cell in code[:2]] == ["parameters", "setup"]
    assert "parameters" in code[0]["metadata"]["tags"]
    assert f'notebook.open("{name}", globals())' in text(code[1])


@every_notebook
def test_it_ends_as_every_notebook(name):
    found = cells(name)
    assert any("Check yourself" in text(cell) for cell in found)
    assert any("<details>" in text(cell) for cell in found), "a collapsed solution"
    assert any(text(cell).strip().endswith("nb.close()") for cell in cells(name, "code")[-1:])
    assert any(re.search(r"^## What held here$", text(cell), re.MULTILINE) for cell in found)


@every_notebook
def test_it_has_a_good_size(name):
    code, prose = cells(name, "code"), cells(name, "markdown")
    lines = [line for cell in code for line in text(cell).splitlines() if line.strip()]
    words = sum(len(text(cell).split()) for cell in prose)
    assert len((parameters.notebooks_folder() / f"{name}.ipynb").read_bytes()) < 40_000
    assert 12 <= len(cells(name)) <= 40 and len(lines) <= 180 and words <= 2_400
    longest = max(code, key=lambda cell: len(text(cell).splitlines()))
    assert len(text(longest).splitlines()) <= 20, longest["id"]


@every_notebook
def test_it_holds_nothing_that_belongs_in_the_library(name):
    for cell in cells(name, "code"):
        assert not re.search(r"^\s*class |^[!%]", text(cell), re.MULTILINE), cell["id"]
    for cell in cells(name, "markdown"):
        assert not re.search(r"!\[[^]]*\]\(http|<img[^>]+http", text(cell)), "a picture from elsewhere"


@every_notebook
def test_its_links_lead_somewhere(name):
    for cell in cells(name, "markdown"):
        for target in re.findall(r"\]\(([\w./-]+\.(?:ipynb|md|py))\)", text(cell)):
            assert (parameters.notebooks_folder() / target).exists(), target


@every_notebook
def test_papermill_reads_its_parameters_as_we_do(name):
    import papermill

    inspected = papermill.inspect_notebook(str(parameters.notebooks_folder() / f"{name}.ipynb"))
    assert list(inspected) == list(parameters.notebook_parameters(name))


@every_notebook
def test_every_number_states_its_range_and_its_default_is_in_it(name):
    for parameter in parameters.notebook_parameters(name).values():
        values = parameter.default if isinstance(parameter.default, list) else [parameter.default]
        if {int, float} & set(map(type, values)):
            assert parameter.limits, f"{parameter.name}: write `at least`, `above`, `at most` or `from … to …`"
        parameters.check_value(parameter.name, parameter.default, parameter, name)


@pytest.mark.parametrize(
    "name, table, others",
    [
        ("sampler", SAMPLERS, set()),
        ("conditional_recipe", model.RECIPES, set()),
        ("recipe 11_mixdiff", mixdiff.TRAININGS, set()),
        ("recipe 12_diffusemix", classify.SETTINGS, set()),
    ],
)
def test_a_choice_of_words_is_that_of_the_library(name, table, others):
    name, _, only = name.partition(" ")
    declared = [parameters.notebook_parameters(each).get(name) for each in NAMES if only in each]
    for parameter in filter(None, declared):
        assert {parameter.default, *parameter.others} == {*table, *others}


@pytest.mark.parametrize("profile", profiles.profile_names())
def test_every_profile_is_valid(profile):
    steps = workflow.plan(profile)
    assert {step.job.notebook for step in steps.values()} <= set(NAMES)
    assert all(step.job.parameters["profile"] == profile for step in steps.values())


def test_the_profiles_are_those_of_the_readme():
    rows = re.findall(r"^\| `([\w-]+)(…?)` \|(.*)", (runtime.REPOSITORY / "README.md").read_text(), re.M)
    ends = [re.findall(r"`-(\w+)`", text) if more else [""] for _, more, text in rows]  # of `thorough-…` in its text
    listed = [start + end for (start, _, _), row in zip(rows, ends, strict=True) for end in row]
    assert listed[:2] == ["smoke", "quick"] and sorted(listed) == profiles.profile_names()


def test_smoke_and_quick_run_every_notebook_but_the_one_that_needs_a_download():
    for profile in ("smoke", "quick"):
        assert {job.notebook for job in profiles.jobs(profile)} == set(NAMES) - {"05a_published_positives"}


def test_every_notebook_has_its_place_in_the_graph():
    assert set(parameters.predecessors()) == set(NAMES)


def test_the_report_comes_after_everything_else():
    after, chain, waiting = parameters.predecessors(), set(), ["13_report"]
    while waiting:
        chain.add(name := waiting.pop())
        waiting += after[name]
    assert chain == set(NAMES)


def small_graph(tmp_path, monkeypatch, after: str) -> None:
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path))
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": 'profile = "p"  # the profile'}
    for name in ("01_a", "02_b", "03_c"):
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"cells": [cell]}))
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "p.yaml").write_text("01_a: {}\n03_c: {}\n")
    (tmp_path / "graph.yaml").write_text(after)


@pytest.mark.parametrize(
    "after, said",
    [
        ("{01_a: [], 02_b: [01_a], 03_c: [02_x]}", "unknown notebook '02_x' in .*graph.yaml.*did you mean"),
        ("{01_a: [03_c], 02_b: [], 03_c: [01_a]}", "01_a cannot come after 03_c in .*graph.yaml"),
        ("{01_a: []}", "03_c is missing in graph.yaml"),
        ("01_a: 02_b", "in one line `name: "),
        ("01_a: [3]", "in one line `name: "),
        ("01_a: [[]]", "in one line `name: "),
        ("", "in one line `name: "),
        ("[]", "in one line `name: "),
        ("3: []", "unknown notebook '3' in .*graph.yaml"),
        ("01_a: [", "graph.yaml, line 1 is not valid YAML"),
    ],
)
def test_mistakes_in_the_graph_are_named(tmp_path, monkeypatch, after, said):
    small_graph(tmp_path, monkeypatch, after)
    with pytest.raises(Problem, match=said):
        workflow.plan("p")


def test_a_notebook_the_profile_leaves_out_is_looked_through(tmp_path, monkeypatch):
    small_graph(tmp_path, monkeypatch, "{01_a: [], 02_b: [01_a], 03_c: [02_b]}")
    assert workflow.plan("p")["03_c"].after == ["01_a"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_files_have_one_rule(name):
    """A run that one notebook writes is found by the next, whatever the name of the data set."""
    assert '.replace("/"' not in "\n".join(parameters.code_cells(name))
