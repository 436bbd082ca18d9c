import json
import os
import time

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


RANGES = """\
profile = "quick"  # which set
epochs = 20  # passes over the data, at least 1
w = 0.1  # share of the noise, from 0 to 1; the paper has 0.5
rate = 1e-3  # at the peak, above 0, at most 1.5
sampler = "dpm++"  # or ddim, as in the paper; or ddpm
editor = "x"  # the folder of an editor, or its name on the hub
weights = [0.0, 0.5]  # values of w, from 0 to 1, with 0 among them
seeds = [0]  # of the trainings, at least 0
prompts = []  # of the editor; empty takes all
images = 5  # at least 2, or 0 for all
"""
PLACE = "in profile 'quick' for 07_ssl_training must be"


@pytest.mark.parametrize(
    "block, message",
    [
        ("{epochs: 0}", f"parameter 'epochs' {PLACE} at least 1, not 0"),
        ("{epochs: [3, -1]}", f"parameter 'epochs' {PLACE} at least 1, not -1"),
        ("{w: -0.01}", f"parameter 'w' {PLACE} at least 0 and at most 1, not -0.01"),
        ("{w: 2}", f"parameter 'w' {PLACE} at least 0 and at most 1, not 2"),
        ("{rate: 0}", f"parameter 'rate' {PLACE} above 0 and at most 1.5, not 0"),
        ("{rate: .nan}", f"parameter 'rate' {PLACE} a number of usual size, not nan"),
        ("{epochs: 1" + 400 * "0" + "}", "a number of usual size, not 1"),
        ("{sampler: ddmi}", f"parameter 'sampler' {PLACE} dpm++ or ddim or ddpm, not 'ddmi'"),
        ("{weights: [[0, 0.5], [0, 1.1]]}", f"parameter 'weights' {PLACE} at least 0 and at most 1, not 1.1"),
        ("{weights: [0.5]}", f"parameter 'weights' {PLACE} a list with 0 among its values, not [0.5]"),
        ("{images: [0, 1]}", f"parameter 'images' {PLACE} at least 2 or 0, not 1"),
        ("{seeds: [-1]}", f"parameter 'seeds' {PLACE} at least 0, not -1"),
        ("{seeds: []}", f"parameter 'seeds' {PLACE} a list of at least one value, not []"),
        ('{editor: "a\\nb"}', "printable text, not 'a\\nb'"),
        ('{editor: "\\ud800"}', "printable text, not '\\ud800'"),
    ],
)
def test_a_value_out_of_the_range_that_its_comment_states_is_refused(place, block, message):
    place(block, RANGES)
    with pytest.raises(Problem) as problem:
        profiles.jobs("quick")
    assert message in str(problem.value)


def test_the_ends_of_a_range_are_in_it(place):
    ends = "{epochs: [1, 2000], w: [0, 1], rate: 1.5, images: 0, sampler: [dpm++, ddpm], weights: [1, 0], prompts: []}"
    place(ends, RANGES)
    assert len(profiles.jobs("quick")) == 8
    place(cell=RANGES.replace("epochs = 20", "epochs = 0"))
    with pytest.raises(Problem, match="'epochs' in the parameters cell of 07_ssl_training must be at least 1, not 0"):
        profiles.jobs("quick")


def test_a_profile_of_too_many_jobs_is_counted_before_they_are_made(place):
    numbers = list(range(1, 401))
    place(f"{{epochs: {numbers}, w: {numbers}, limit: {numbers}}}")
    start = time.monotonic()
    with pytest.raises(Problem, match="'quick' has 64,000,000 jobs, more than 2,000: shorten its lists"):
        profiles.jobs("quick")
    assert time.monotonic() - start < 5
    place(f"[{{epochs: {numbers}, limit: [1, 2, 3, 4, 5]}}, {{w: [0.5]}}]")
    with pytest.raises(Problem, match="has 2,001 jobs"):
        profiles.jobs("quick")
    place(f"{{epochs: {numbers}, limit: [1, 2, 3, 4, 5]}}")
    assert len(profiles.jobs("quick")) == 2000


def test_lists_make_one_job_per_combination(place):
    place("{method: [simclr, byol], epochs: [1, 2], layers: [mid, up]}")
    names = [job.name for job in profiles.jobs("quick")]
    assert names[0] == "07_ssl_training-method=simclr-epochs=1" and len(names) == 4
    assert all(job.parameters["layers"] == ["mid", "up"] for job in profiles.jobs("quick"))
    place("{layers: [[mid], [mid, up]], dataset: ['folder:a/b', cifar10], w: [1e-3, -1]}")
    assert profiles.jobs("quick")[0].name == "07_ssl_training-layers=mid-dataset=folder_a_b-w=0.001"
    assert profiles.jobs("quick")[-1].name == "07_ssl_training-layers=mid+up-dataset=cifar10-w=-1"
    place(f"{{dataset: ['folder:{'x' * 250}', 'folder:{'x' * 249}y'], epochs: [1, 2]}}")
    names = {job.name for job in profiles.jobs("quick")}
    assert len(names) == 4 and max(map(len, names)) <= 160, "so that the names of their files are not too long"


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
    "text, message",
    [
        ("{epochs: \xff}", "line 1 is not valid YAML: 'utf-8' codec can't decode byte 0xff"),
        ("{}\n#\n#\xff", "line 3 is not valid YAML: 'utf-8' codec"),
        ("{epochs: 2024-13-45}", "line 1 is not valid YAML: this is no timestamp (month must be"),
        ("\n  epochs: !!int abc", "line 2 is not valid YAML: this is no int"),
        ("\n  w: 1\n  epochs: !!bool x", "line 3 is not valid YAML: this is no bool"),
        ("{epochs: " + 5000 * "1" + "}", "line 1 is not valid YAML: this is no int"),
        (2000 * "[" + 2000 * "]", "is not valid YAML: maximum recursion depth exceeded"),
        ("\n  epochs: \x01", "line 2 is not valid YAML: special characters are not allowed"),
        ("!!python/object:os.system x", "line 1 is not valid YAML: could not determine a constructor"),
        ("{epochs: !!binary aGk=}", "must be a whole number, as in 20, not b'hi'"),
        ("{epochs: 2024-10-05}", "must be a whole number"),
        (
            "{epochs: &e [&d [&c [&b [&a [1, 1, 1, 1, 1, 1, 1, 1, 1]"
            + "".join(8 * f", *{k}" + "]" for k in "abcde")
            + "}",
            "",
        ),
        ("&x {epochs: *x}", "must be a whole number"),
        ("{epochs: 1:30}", "must be a whole number, as in 20, not '1:30'"),
        ("{1: 2}", "must be `name: value` lines"),
        ("{}\n1: {}", "must be one block per notebook"),
        ("{}\n? [a]\n: b", "must be one block per notebook"),
    ],
)
def test_whatever_the_parser_meets_is_one_sentence_with_its_place(place, tmp_path, text, message):
    (tmp_path / "profiles" / "quick.yaml").write_bytes(b"07_ssl_training: " + text.encode("latin-1"))
    with pytest.raises(Problem) as problem:
        profiles.jobs("quick")
    assert message in str(problem.value) and len(str(problem.value)) < 500 and "\n" not in str(problem.value)


def test_a_zero_before_a_number_changes_nothing(place):
    place("{epochs: 010}")
    assert only_job().parameters["epochs"] == 10


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "null", "about: 'much'"])
def test_an_empty_profile_is_refused(place, tmp_path, text):
    (tmp_path / "profiles" / "quick.yaml").write_text(text)
    with pytest.raises(Problem, match="must be one block per notebook"):
        profiles.jobs("quick")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_only_a_file_is_read(place, tmp_path, make):
    for name, word in (("profiles/quick.yaml", "quick"), ("07_ssl_training.ipynb", "quick")):
        place()
        (tmp_path / name).unlink()
        make(tmp_path / name)
        with pytest.raises(Problem, match=f"{name} is not a file, or leads to none"):
            profiles.jobs(word)
        (tmp_path / name).rmdir() if (tmp_path / name).is_dir() else (tmp_path / name).unlink()


@pytest.mark.parametrize("name", ["my profile", ".hidden", "a\nb", "recorded"])
def test_the_name_of_a_profile_can_be_that_of_its_results(place, tmp_path, name):
    (tmp_path / "profiles" / "quick.yaml").rename(tmp_path / "profiles" / f"{name}.yaml")
    with pytest.raises(Problem, match="has a name that its results cannot have"):
        profiles.jobs(name)


def test_a_folder_of_notebooks_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("SYNPOS_NOTEBOOKS", "/nonexistent")
    with pytest.raises(Problem, match="folder of the notebooks, /nonexistent, is not there: correct SYNPOS_NOTEBOOKS"):
        profiles.profile_names()


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
    cell = {"cell_type": "code", "metadata": {}, "source": ""}
    shapes = [{}, [], None, {"cells": []}, {"cells": [cell, {}]}, {"cells": [3]}]
    shapes += [{"cells": [cell | change]} for change in ({"source": 3}, {"source": [3]}, {"metadata": {"tags": 3}})]
    shapes += [{"cells": [{key: cell[key] for key in cell if key != lost}]} for lost in cell]
    texts = [json.dumps(shape).encode() for shape in shapes]
    for text in [*texts, b"", b"{", b"\xff", 100_000 * b"[", json.dumps({"cells": [cell]}).encode("utf-16")]:
        (tmp_path / "07_ssl_training.ipynb").write_bytes(text)
        with pytest.raises(Problem, match="07_ssl_training.ipynb is not a notebook .*: restore it"):
            profiles.jobs("quick")
    place(cell="epochs = 1  # no profile\n")
    with pytest.raises(Problem, match="lacks the line `profile"):
        profiles.jobs("quick")
