import json

import pytest

from synpos_lib.core.errors import Problem
from synpos_lib.lab import parameters
from synpos_lib.workflow import profiles

CELL = """\
profile = "quick"  # which set of parameters
epochs = 20  # passes over the data
w = 0.1  # weight of the noise
method = "simclr"  # which method
dataset = "folder:a/b"  # which images
retrain = False  # train again
layers = ["mid"]  # which blocks
limit = None  # rows, or all
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A notebooks folder with one notebook, and a way to set its parameters cell and profile."""
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", str(tmp_path))
    (tmp_path / "profiles").mkdir()

    def write(block="{}", cell=CELL, name="07_ssl_training"):
        cells = [
            {
                "cell_type": "code",
                "metadata": {"tags": ["parameters"]},
                "execution_count": None,
                "source": cell,
                "outputs": [],
            }
        ]
        notebook = {
            "cells": cells,
            "metadata": {"kernelspec": {"name": "python3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 4,
        }
        (tmp_path / f"{name}.ipynb").write_text(json.dumps(notebook))
        (tmp_path / "profiles" / "quick.yaml").write_text(f"{name}: {block}\n")

    write()
    return write


def only_job(**changed):
    (job,) = profiles.jobs("quick", **changed)
    return job


def refused(place, block, *words):
    place(block)
    with pytest.raises(Problem) as problem:
        profiles.jobs("quick")
    assert all(word in str(problem.value) for word in words), str(problem.value)
    return str(problem.value)


def test_declared_parameters(place):
    declared = parameters.notebook_parameters("07_ssl_training")
    assert list(declared) == ["profile", "epochs", "w", "method", "dataset", "retrain", "layers", "limit"]
    assert declared["w"] == parameters.Parameter("w", 0.1, "weight of the noise")


def test_defaults_and_overrides(place):
    place("{epochs: 3, w: 1, limit: 5}")
    job = only_job()
    assert job.name == job.notebook == "07_ssl_training"
    assert job.parameters["epochs"] == 3 and job.parameters["limit"] == 5 and job.parameters["method"] == "simclr"
    assert job.parameters["profile"] == "quick"
    assert type(job.parameters["w"]) is float  # so that 1 and 1.0 are the same job


def test_lists_make_one_job_per_combination(place):
    place("{method: [simclr, byol], epochs: [1, 2], layers: [mid, up]}")
    names = [job.name for job in profiles.jobs("quick")]
    assert names[0] == "07_ssl_training-method=simclr-epochs=1" and len(names) == 4
    assert all(job.parameters["layers"] == ["mid", "up"] for job in profiles.jobs("quick"))
    place("{layers: [[mid], [mid, up]], dataset: ['folder:a/b', cifar10], w: [1e-3, -1]}")
    assert profiles.jobs("quick")[0].name == "07_ssl_training-layers=mid-dataset=folder_a_b-w=0.001"
    assert profiles.jobs("quick")[-1].name == "07_ssl_training-layers=mid+up-dataset=cifar10-w=-1"


def test_yaml_is_that_of_1_2(place):
    place("{w: 1e-3, method: no}")
    assert only_job().parameters["w"] == 0.001 and only_job().parameters["method"] == "no"


def test_the_hours_of_a_profile_stand_in_its_file_and_are_no_notebook(place):
    place()
    assert profiles.gpu_hours("quick") == ""
    place("{}\nabout: 'GPU-hours: many'")
    assert [job.name for job in profiles.jobs("quick")] == ["07_ssl_training"]
    assert profiles.gpu_hours("quick") == "GPU-hours: many"
    place("{}\nabout: 1200")
    with pytest.raises(Problem, match="'about' in profile 'quick' must be text"):
        profiles.gpu_hours("quick")


def test_several_blocks_are_several_products(place):
    place("[{method: [simclr, byol], epochs: [1, 2]}, {method: [dino], epochs: [1], w: 0.5}]")
    made = {job.name.removeprefix("07_ssl_training-"): job.parameters["w"] for job in profiles.jobs("quick")}
    assert made == {
        "method=simclr-epochs=1": 0.1,
        "method=simclr-epochs=2": 0.1,
        "method=byol-epochs=1": 0.1,
        "method=byol-epochs=2": 0.1,
        "method=dino-epochs=1": 0.5,
    }
    refused(
        place, "[{method: [simclr], w: 0.5}, {method: [simclr]}]", "'07_ssl_training-method=simclr' twice", "[value]"
    )
    refused(place, "[{epochs: 1}, {epoch: 1}]", "unknown parameter 'epoch'")


def test_retrain_is_set_where_it_exists(place):
    assert only_job(retrain=["07_ssl_training"]).parameters["retrain"] is True
    place(cell='profile = "quick"  # set of parameters\n')
    assert only_job(retrain=["07_ssl_training"]).parameters == {"profile": "quick"}


def test_unknown_parameter_names_the_nearest(place):
    message = refused(place, "{epoch: 3}")
    assert message == "unknown parameter 'epoch' in profile 'quick' for 07_ssl_training (did you mean 'epochs'?)"


@pytest.mark.parametrize(
    "block",
    ["{epochs: 1.5}", "{epochs: true}", "{epochs: ten}", "{w: true}", "{method: 3}", "{retrain: 1}", "{retrain: 'no'}",
     "{layers: [1]}", "{layers: mid}", "{epochs: [1, x]}", "{limit: {a: 1}}", "{epochs: null}", "{w: 2026-01-01}"],
)  # fmt: skip
def test_wrong_types_are_refused(place, block):
    refused(place, block, "must be", "profile 'quick' for 07_ssl_training")


def test_other_mistakes_in_a_profile(place):
    refused(place, "{epochs: []}", "empty list")
    refused(place, "{epochs: [1, 1]}", "twice")
    refused(place, "{epochs: 1, epochs: 2}", "line 1 is not valid YAML", 'duplicate key "epochs"')
    refused(place, "{profile: cifar}", "set by the workflow")
    for block in ("[1]", "[]", "[{}, 1]", ""):
        refused(place, block, "must be `name: value` lines")
    refused(place, "{a: ", "not valid YAML")
    refused(place, "{}\n07_ssl_trainin: {}", "unknown notebook '07_ssl_trainin'", "did you mean '07_ssl_training'?")
    with pytest.raises(Problem, match="unknown profile 'quik' .did you mean 'quick'"):
        profiles.jobs("quik")


@pytest.mark.parametrize(
    "line",
    ["x = a.b  # a name", "x = 1 + y  # derived", "x = 1", 'x = "a#b"  # hash', 'x = "a=b"  # equals', "x = 1  # a = b",
     "x: int = 1  # annotated", "x = (1, 2)  # a tuple", "print(1)", "x = {1: 2}  # a dictionary", "x = [",
     "x = y = 1  # c"],
)  # fmt: skip
def test_what_papermill_would_misread_is_refused(place, line):
    place(cell=CELL + line)
    with pytest.raises(Problem):
        parameters.notebook_parameters("07_ssl_training")


def test_the_cell_means_the_same_to_papermill(place, tmp_path):
    import papermill

    inspected = papermill.inspect_notebook(str(tmp_path / "07_ssl_training.ipynb"))
    declared = parameters.notebook_parameters("07_ssl_training")
    assert {name: entry["help"] for name, entry in inspected.items()} == {n: p.comment for n, p in declared.items()}
    assert {name: eval(entry["default"]) for name, entry in inspected.items()} == {
        name: parameter.default for name, parameter in declared.items()
    }


def test_a_notebook_that_is_none(place, tmp_path):
    (tmp_path / "07_ssl_training.ipynb").write_text("{")
    with pytest.raises(Problem, match="is not a notebook"):
        profiles.jobs("quick")
    place(cell="epochs = 1  # no profile\n")
    with pytest.raises(Problem, match="lacks the line `profile"):
        profiles.jobs("quick")
