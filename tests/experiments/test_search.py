"""Eight tries for every row, decided by validation images alone, and the library trains by what was recorded."""

import math
from dataclasses import replace

import pytest

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import images_fingerprint
from synpos_lib.evaluate import linear
from synpos_lib.experiments import search
from synpos_lib.lab import recorded
from synpos_lib.methods.short import CHOICES
from synpos_lib.train import pretrain
from synpos_lib.train.pretrain import Config

CONFIG = Config(encoder="tiny", epochs=1, batch=8, optimizer="adamw", views=("vicreg", "vicreg"), seed=5)
ROWS = search.rows()


def study(folder, split="val", n=30):
    return search.Search(folder, catalog.load("scenes", "train", n=40), catalog.load("scenes", split, n=n), CONFIG)


def steps(point):
    """Four times or a quarter of the rate, twice or half the knob."""
    rate, factor = point
    return {(4 * rate, factor), (rate / 4, factor), (rate, 2 * factor), (rate, factor / 2)}


def test_each_try_is_a_step_from_the_best_before_it_that_has_one_left(tmp_path):
    table = study(tmp_path).tries("barlow")
    knn = dict(zip(zip(table.learning_rate, table.factor, strict=True), table.knn, strict=True))
    tries = list(knn)
    assert len(tries) == search.TRIES and tries[0] == search.START
    for i in range(1, len(tries)):
        before = set(tries[:i])
        reached = {point: steps(point) - before for point in before}
        best = max(knn[point] for point in before if reached[point])
        assert tries[i] in set().union(*(reached[point] for point in before if knn[point] == best))
    tried = [read_run(tmp_path / name) for name in table.run]
    assert [run.results["knn"] for run in tried] == list(table.knn)
    lambdas = [run.config["hyperparameters"].get("lambda_", 0.0051) for run in tried]
    assert lambdas == pytest.approx([0.0051 * factor for factor in table.factor])
    assert list(table.index[table.chosen]) == [list(table.knn).index(max(table.knn))]


def test_the_walk_finds_a_top_that_three_rates_would_miss():
    def height(point):  # best at rate 0.128 and twice the knob
        return -abs(math.log(point[0] / 0.128, 4)) - abs(math.log2(point[1] / 2))

    assert max(search.walk(height), key=height) == (0.128, 2.0)
    level = list(search.walk(lambda point: 0.0))
    assert level[0] == search.START and set(level[1:5]) == steps(search.START)


def test_a_training_that_diverges_is_worth_less_than_any_other(tmp_path, monkeypatch):
    def step(self, *arguments):
        loss, parts = real(self, *arguments)
        return (loss * math.nan, parts) if self.config.learning_rate > limit else (loss, parts)

    real, limit = pretrain.Training.step, search.START[0]
    monkeypatch.setattr(pretrain.Training, "step", step)
    table = study(tmp_path).tries("simclr")
    assert table.learning_rate.max() == 4 * search.START[0]  # no step was taken from there
    assert list(table.knn.isna()) == list(table.learning_rate > search.START[0])
    assert table.knn[table.chosen].item() == table.knn.max()
    limit = 0.0
    with pytest.raises(Problem, match="every try of 'simclr' diverged"):
        study(tmp_path / "all").tries("simclr")


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


def test_every_row_is_a_method_with_a_knob_and_the_kind_of_positives_that_it_needs():
    assert set(CHOICES) == set(ROWS)
    for row in ROWS:
        method, _, kind = row.partition(" ")
        assert CHOICES[row][1] == search.knob(row) and search.knob(row) in methods.hyperparameters(method)
        assert search.positives_of(row) == (kind or "positives" * methods.recipe(method).needs_positives)


def test_the_library_trains_by_what_the_recorded_search_found():
    tries = recorded.load("06b_search.tries").query("recorded == 'thorough-search'")
    assert set(tries.method) == set(ROWS)
    assert set(tries.groupby("method").size()) == {search.TRIES}
    for name, rows in tries.groupby("method"):
        best = rows.loc[rows.knn.idxmax()]
        assert (best.learning_rate, best.knob, best.factor) == CHOICES[name]


def test_the_penalty_of_the_linear_layer_is_the_best_of_the_recorded_table():
    table = recorded.load("06b_search.penalty").query("recorded == 'thorough-search'").set_index("lambda")
    assert table["mean"].idxmax() == linear.LAMBDA
    assert table["mean"].tolist() == pytest.approx(((table.untrained + table.simclr) / 2).tolist(), abs=1e-4)


def test_a_row_with_positives_learns_from_them(tmp_path):
    tries = study(tmp_path)
    store = tries.images.images.flip(2)[:, None]
    run = read_run(tmp_path / tries.tries("clsp-simclr oracle", store).run[0])
    assert run.name == "search-scenes-clsp-simclr-oracle-0.008-temperaturex1"
    assert run.config["method"] == "clsp-simclr" and run.config["positives"] == images_fingerprint(store)


def test_the_configuration_of_a_try_differs_only_in_what_is_searched(tmp_path):
    table = study(tmp_path).tries("simclr")
    configs = [read_run(tmp_path / name).config for name in table.run]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ == {"learning_rate", "hyperparameters", "recipe"}
    assert replace(CONFIG, method="simclr").seed == configs[0]["seed"] == 5
