"""Five tries for every method, decided by validation images alone, and the library trains by what was recorded."""

from dataclasses import replace

import pytest

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.experiments import search
from synpos_lib.lab import recorded
from synpos_lib.methods.table import METHODS, SEARCHED
from synpos_lib.train.pretrain import Config

CONFIG = Config(encoder="tiny", epochs=1, batch=8, optimizer="adamw", views=("vicreg", "vicreg"), seed=5)
ALONE = [name for name, recipe in METHODS.items() if recipe.role == "none"]


def study(folder, split="val", n=30):
    return search.Search(folder, catalog.load("scenes", "train", n=40), catalog.load("scenes", split, n=n), CONFIG)


def test_each_rate_is_tried_and_then_the_knob_at_the_best_rate(tmp_path):
    table = study(tmp_path).tries("barlow")
    assert list(table.learning_rate[:3]) == list(search.RATES) and set(table.factor[:3]) == {1.0}
    first = table[:3].set_index("learning_rate").knn
    assert set(table.learning_rate[3:]) == {first.idxmax()} and set(table.factor[3:]) == set(search.FACTORS)
    tried = [read_run(tmp_path / name) for name in table.run]
    assert [run.results["knn"] for run in tried] == list(table.knn)
    lambdas = [run.config["hyperparameters"].get("lambda_") for run in tried]
    assert lambdas == [None, None, None, 0.0051 / 2, 0.0051 * 2]
    assert list(table.index[table.chosen]) == [list(table.knn).index(max(table.knn))]


def test_only_validation_images_decide(tmp_path):
    for split in ("train", "test"):
        with pytest.raises(Problem, match=f"not by those of '{split}'"):
            study(tmp_path, split)
    images, other = study(tmp_path / "a"), study(tmp_path / "b", n=25)  # other validation images, other numbers
    assert list(images.tries("simclr").knn) != list(other.tries("simclr").knn)


def test_the_test_images_are_not_even_loaded(tmp_path, monkeypatch):
    """The cells of notebook 06b that load images and search, run with a catalogue that has no test split."""
    from synpos_lib.lab import parameters

    def load(name, split, **options):
        assert split != "test", "a search looked at test images"
        return real(name, split, **options)

    real = catalog.load
    monkeypatch.setattr(catalog, "load", load)
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    variables = {key: each.default for key, each in parameters.notebook_parameters("06b_search").items()}
    variables |= {"profile": "smoke", "images": 60, "anchors": 40, "epochs": 1, "batch": 8, "val_images": 30}
    for cell in parameters.code_cells("06b_search"):
        exec(cell, variables)  # noqa: S102 (the notebook's own code)
        if "tries" in variables:
            return
    raise AssertionError("no cell has searched")


def test_every_method_has_the_same_number_of_tries_and_a_knob_of_its_own():
    assert set(SEARCHED) == set(ALONE)
    for name in ALONE:
        assert search.knob(name) in methods.hyperparameters(name)
        assert SEARCHED[name][1] == search.knob(name)


def test_the_library_trains_by_what_the_recorded_search_found():
    tries = recorded.load("06b_search.tries")
    assert set(tries.method) == set(ALONE)
    assert set(tries.groupby("method").size()) == {len(search.RATES) + len(search.FACTORS)}
    for name, rows in tries.groupby("method"):
        best = rows.loc[rows.knn.idxmax()]
        assert (best.learning_rate, best.knob, best.factor) == SEARCHED[name]


def test_the_configuration_of_a_try_differs_only_in_what_is_searched(tmp_path):
    table = study(tmp_path).tries("simclr")
    configs = [read_run(tmp_path / name).config for name in table.run]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ == {"learning_rate", "hyperparameters", "recipe"}
    assert replace(CONFIG, method="simclr").seed == configs[0]["seed"] == 5
